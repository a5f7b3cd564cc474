"""The free space of the cache's disk, of which clean bytes leave some to others.

Below the floor clean bytes are evicted, and none are kept; what exists nowhere else may
go on until the disk is really full. Other programs fill a disk without a word to us, so
it is measured again and again; between two measurements our own writes are counted.
"""

import logging
import os
from pathlib import Path
from typing import Protocol

import trio

from mountfs.cache.spool import on_disk

log = logging.getLogger(__name__)

INTERVAL_S, INTERVAL_MAX_S = 1.0, 15.0
"""How often the disk is measured: seldom while nothing could fill it before long. Each
round wakes the processor three times, in every mount of the host."""
FILLED_PER_S = 2 << 30
"""No more bytes than that do others write in a second."""
PAUSE_S = 0.1
"""The least time between two rounds, however fast bytes are written."""
EVICTED_AT_ONCE = 16 << 20
"""Eviction goes in steps, between which reads get their turn at the disk. Bytes."""


class Evictable(Protocol):
    """Who holds clean bytes on the disk."""

    async def reclaim(self, size: int) -> int:
        """Free about `size` bytes, and return how many it were."""
        ...


class DiskFloor:
    """Watches the disk of a directory. Everything but the measuring is atomic."""

    def __init__(self, directory: Path, size: int) -> None:
        self.size = size
        self._directory = directory
        self._free: int | None = None
        """None until it was measured once, or if it cannot be: then nobody is held."""
        self._hurry = trio.Event()

    def resize(self, size: int) -> None:
        """Leave so much to others from now on."""
        self.size = size
        self._hurry.set()

    @property
    def missing(self) -> int:
        """How many bytes must go from the disk until the floor is free again."""
        return 0 if self._free is None else max(0, self.size - self._free)

    @property
    def spare(self) -> int | None:
        """How many clean bytes the disk has room for; None if that is not known."""
        return None if self._free is None else max(0, self._free - self.size)

    def allows(self, size: int) -> bool:
        """Tell whether so many clean bytes may be put on the disk."""
        return self._free is None or self._free - size >= self.size

    def note_written(self, size: int) -> None:
        """Count bytes that go to the disk now; evict at once if it gets full."""
        if self._free is not None:
            self._free -= size
            if self._free < self.size:
                self._hurry.set()

    def note_removed(self, size: int) -> None:
        """Count bytes that are gone from the disk."""
        if self._free is not None:
            self._free += size

    async def watch(self, holder: Evictable) -> None:
        """Measure, and evict what must go, until cancelled."""
        while True:
            self._hurry = trio.Event()
            await self.measure()
            while self.missing and await holder.reclaim(
                min(self.missing, EVICTED_AT_ONCE)
            ):
                await self.measure()
            # If nothing is left to evict, the disk is somebody else's: no hurry then.
            soonest_s = trio.current_time() + PAUSE_S
            with trio.move_on_after(self._interval_s()):
                await self._hurry.wait()
            if trio.current_time() < soonest_s:
                await trio.sleep_until(soonest_s)

    def _interval_s(self) -> float:
        """Return how long the disk need not be looked at."""
        safe_s = (self.spare or 0) / FILLED_PER_S
        return min(max(INTERVAL_S, safe_s), INTERVAL_MAX_S)

    async def measure(self) -> None:
        """Ask the disk; what was known stays if this host has no memory for that."""
        try:
            self._free = await on_disk(_free_space, self._directory)
        except (RuntimeError, MemoryError):  # no thread can be started
            log.warning("the disk of %s cannot be measured now", self._directory)


def _free_space(directory: Path) -> int | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        return None  # somebody deleted it; it is made anew with the next block
    return found.f_bavail * found.f_frsize
