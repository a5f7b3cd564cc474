"""Word that something happened to what is pending, for who waits for it.

Nobody is told what happened: who is woken looks again. A look and the wait that follows
it miss nothing that happened since the look began.
"""

import time

import trio

REST_SHARE = 4.0
REST_MAX_S = 0.05


class News:
    """That something happened, to any entry."""

    def __init__(self) -> None:
        self._next = trio.Event()
        self.told = 0
        """How often there was news."""

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self.told += 1
        self._next.set()
        self._next = trio.Event()

    async def wait(self) -> None:
        """Return when something happened to an entry."""
        await self._next.wait()

    def look(self) -> "Look":
        """Begin to look at the entries."""
        return Look(self)


class Look:
    """One look at all entries, and the wait for the next.

    A look may take long if there are many entries, and news come with each of them: so
    a rest follows, in proportion.
    """

    def __init__(self, news: News) -> None:
        self._news = news
        self._told = news.told
        self._began_s = time.perf_counter()

    async def wait_for_news(self) -> None:
        """Return when something has happened since the look began."""
        spent_s = time.perf_counter() - self._began_s
        await trio.sleep(min(REST_MAX_S, REST_SHARE * spent_s))
        while self._news.told == self._told:
            await self._news.wait()
