"""The locks of keys: who changes what is pending of a key holds that of the key.

They are taken in one order by everybody, so that nobody waits in a circle, and exist
only while somebody uses them. That they are let go is news.
"""

from mountfs.cache.lock import Lock
from mountfs.cache.news import News


class KeyLocks:
    """A lock for each key that is in use."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._locks: dict[str, Lock] = {}

    def held(self, *keys: str) -> "HeldLocks":
        """Hold the locks of keys while a block runs; tell of news at its end."""
        return HeldLocks(self._locks, keys, self._news)

    def is_held(self, key: str) -> bool:
        """Tell whether a change of a key is under way, so that it must not take off."""
        lock = self._locks.get(key)
        return lock is not None and lock.locked()


class HeldLocks:
    """The locks of some keys, held while a block runs."""

    __slots__ = ("_held", "_keys", "_locks", "_news")

    def __init__(
        self, locks: dict[str, Lock], keys: tuple[str, ...], news: News
    ) -> None:
        self._locks = locks
        self._keys = sorted(set(keys)) if len(keys) > 1 else keys
        self._news = news
        self._held: list[tuple[str, Lock]] = []

    async def __aenter__(self) -> None:
        try:
            for key in self._keys:
                lock = self._locks.setdefault(key, Lock())
                await lock.acquire()
                self._held.append((key, lock))
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()
        # After an error, too: who was passed over for the lock may go now.
        self._news.tell()

    def _release(self) -> None:
        for key, lock in reversed(self._held):
            lock.release()
            if not lock.is_used:
                del self._locks[key]
