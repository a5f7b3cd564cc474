"""How many bodies go to the store at once: fewer while the line is too slow for them.

A request has its time, whatever else is on the line. More of them than it carries in
that time would all be given up, and begun again together, for ever. So half as many
go when one was not answered in time, and one more when as many as go have arrived.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from mountfs.storage.errors import StayedOffline, TimedOut


class _Kind:
    """The places of bodies that take a similar time."""

    def __init__(self, most: int) -> None:
        self.limiter = trio.CapacityLimiter(most)
        self._most = most
        self._arrived = 0

    @property
    def count(self) -> int:
        return int(self.limiter.total_tokens)

    def narrow(self) -> None:
        self.limiter.total_tokens = max(1, self.count // 2)
        self._arrived = 0

    def note_arrived(self) -> None:
        self._arrived += 1
        if self._arrived >= self.count < self._most:
            self.limiter.total_tokens = self.count + 1
            self._arrived = 0


class Places:
    """The places of all bodies: those of large ones, and those of small ones."""

    def __init__(self, large: int, small: int) -> None:
        self._large = _Kind(large)
        self._small = _Kind(small)
        self._narrowed = 0

    @asynccontextmanager
    async def taken(self, *, is_small: bool = False) -> AsyncIterator[None]:
        """Have a place during the block, which sends one body."""
        kind = self._small if is_small else self._large
        place = object()
        await kind.limiter.acquire_on_behalf_of(place)
        narrowed = self._narrowed
        try:
            yield
            kind.note_arrived()
        except StayedOffline:
            raise  # nothing was sent
        except TimedOut:
            # Those that went with it tell the same: it counts once.
            if narrowed == self._narrowed:
                self._narrowed += 1
                self._large.narrow()
                self._small.narrow()
            raise
        finally:
            kind.limiter.release_on_behalf_of(place)
