"""Waiting until the store has what is pending.

Who waits makes it due, and is told of the first error of an attempt that began since:
entries are tried again for ever, but nobody waits for ever. Nothing is carried out
here, `Drain` (mountfs.cache.drain) does that.

No lock may be held by who waits: a flight needs that of its key to land.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from mountfs.cache.entries import Entry
from mountfs.cache.ledger import Ledger
from mountfs.cache.localonly import enough
from mountfs.storage.errors import StoreError, Unreachable
from mountfs.storage.health import Health, State

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""How long somebody waits for a store that is out of reach."""


class Settling:
    """Waits for entries of a ledger to be stored."""

    def __init__(self, ledger: Ledger, health: Health) -> None:
        self._ledger = ledger
        self._health = health
        self._has_told_shortage = False

    async def settle(self, is_meant: Callable[[str], bool]) -> None:
        """Return when the store has what is pending now of these keys.

        Not what is local-only. Raises the first error of an attempt that began since.
        """
        waiting = [
            entry
            for entry in self._ledger.table
            if is_meant(entry.key) and not entry.is_local_only
        ]
        await self.settle_entries(waiting)

    async def settle_entries(self, waiting: Iterable[Entry]) -> None:
        """As `settle`, for entries, and for local-only ones as well.

        Raises `Unreachable` if the store stays away.
        """
        waiting = list(waiting)
        if not waiting:
            return
        attempts = {entry.id: entry.attempts for entry in self._ledger.table}
        self.hurry()
        while True:
            look = self._ledger.news.look()
            waiting = [entry for entry in map(_newest, waiting) if not entry.is_over]
            if not waiting:
                return
            # What has taken the place of one since may be local-only again.
            await self._ledger.release(each for each in waiting if each.is_local_only)
            error = self._what_stops(waiting, attempts)
            if error is not None:
                raise error
            self._hurry_new(waiting, attempts)
            with trio.move_on_after(PATIENCE_S) as patience:
                await look.wait_for_news()
            if patience.cancelled_caught and self._health.state is State.OFFLINE:
                raise Unreachable("the store is out of reach", key=waiting[0].key)

    def _hurry_new(self, waiting: list[Entry], attempts: dict[int, int]) -> None:
        """Make those due that have come since somebody began to wait."""
        for entry in waiting:
            if entry.id not in attempts:
                attempts[entry.id] = entry.attempts
                entry.due_s = min(entry.due_s, self._ledger.now_s())
                self._ledger.burst.cut_short()
                self._ledger.news.tell()

    def _what_stops(
        self, waiting: list[Entry], attempts: dict[int, int]
    ) -> StoreError | None:
        """Return why entries are not stored, if each of them was tried, or can't be."""
        tried = {
            entry.id: entry.error
            for entry in self._ledger.table
            if entry.error is not None and entry.attempts > attempts.get(entry.id, 0)
        }
        if not tried:
            return None
        for entry in waiting:
            if entry.id not in tried and self._ledger.table.may_be_tried(entry):
                return None
        own = [tried[entry.id] for entry in waiting if entry.id in tried]
        return own[0] if own else next(iter(tried.values()))

    async def settle_name(self, key: str) -> None:
        """Return when the store has what was promised under a key so far, and nothing
        that is promised needs the bytes which are there now.
        """
        table = self._ledger.table
        await self.settle_entries([*table.at(key), *table.needing(key)])

    async def free_for_change(self, key: str) -> None:
        """See that what is stored under a key may be replaced in its turn.

        Bytes that a pending copy needs may be: the copy goes first. What the store
        cannot copy at all must be moved before.
        """
        if self._ledger.store.capabilities.copy:
            return
        await self.settle_entries(self._ledger.table.needing(key))

    async def store_local_only(self, size: int) -> int:
        """Store local-only entries of so many bytes, since there is no room for them.

        Returns how many that were. They are lost to nobody: a full disk would cost a
        program its write.
        """
        table = self._ledger.table
        oldest = (each for each in table if each.is_local_only and each.size)
        chosen = [(entry, entry.size) for entry in enough(oldest, size)]
        if not chosen:
            return 0
        if not self._has_told_shortage:
            self._has_told_shortage = True
            log.warning(
                "there is no room here for more: local-only files go to the store, the"
                " oldest first; now %r",
                chosen[0][0].key,
            )
        with suppress(StoreError):
            await self.settle_entries(entry for entry, _ in chosen)
        return sum(size for entry, size in chosen if entry.is_over)

    def hurry(self) -> None:
        """Make everything due now: somebody waits."""
        for entry in self._ledger.table:
            entry.due_s = min(entry.due_s, self._ledger.now_s())
        self._ledger.burst.cut_short()
        self._ledger.news.tell()


def _newest(entry: Entry) -> Entry:
    """Return what has taken the place of an entry by now."""
    while entry.is_over and entry.successor is not None:
        entry = entry.successor
    return entry
