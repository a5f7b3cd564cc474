"""The one limit on local disk space: clean, dirty and open bytes together.

The limit is a number of bytes, and for clean ones also the free space of the disk (see
`mountfs.cache.floor`).

Bytes are reserved here *before* they are written to the disk and released after they
are gone from it. Clean bytes can be fetched again, so they give way to dirty ones;
dirty bytes give way to nothing. Who holds bytes that it could give back registers as
a `Reclaimer`; who is about to free dirty bytes says so (`freeing`), and a writer that
finds no room waits for that.

Invariant: between two awaits `clean + dirty <= size_max`, except for what was forced
(bytes that must be on the disk for an upload to go on, at most a part for each
upload, and what an earlier mount left behind).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from mountfs.cache.floor import DiskFloor
from mountfs.storage.errors import QuotaExceeded


class Reclaimer(Protocol):
    """Somebody who holds bytes on the disk and can do without some of them."""

    async def reclaim(self, size: int) -> int:
        """Free about `size` bytes, release them here, and return how many it were."""
        ...


class Budget:
    """Counts the bytes on the local disk and keeps them below one hard limit."""

    def __init__(self, size_max: int, floor: DiskFloor | None = None) -> None:
        self.size_max = size_max
        self.floor = floor
        """How much of the disk clean bytes leave to others, if that is limited."""
        self._clean = 0
        self._dirty = 0
        self._clean_holders: list[Reclaimer] = []
        self._dirty_holders: list[Reclaimer] = []
        self._freeing = 0
        self._changed = trio.Event()

    @property
    def clean(self) -> int:
        """Bytes that can be fetched again."""
        return self._clean

    @property
    def dirty(self) -> int:
        """Bytes that exist nowhere else."""
        return self._dirty

    @property
    def is_half_dirty(self) -> bool:
        """Whether bytes that exist nowhere else take more than half of the room."""
        return 2 * self._dirty > self.size_max

    @property
    def clean_max(self) -> int:
        """How many bytes that can be fetched again have room now, with those here."""
        most = max(0, self.size_max - self._dirty)
        spare = self.floor.spare if self.floor is not None else None
        return most if spare is None else min(most, self._clean + spare)

    @property
    def free(self) -> int:
        """Bytes that nobody has reserved."""
        return max(0, self.size_max - self._clean - self._dirty)

    async def resize(self, size_max: int) -> None:
        """Set another limit. Clean bytes go until it is kept; dirty ones stay, however
        many they are, and nothing more is taken in until enough of them are stored.
        """
        self.size_max = size_max
        while (over := self._clean + self._dirty - size_max) > 0:
            if not await self.evict(over):
                break
        self._wake()

    def register_clean(self, holder: Reclaimer) -> None:
        """Ask `holder` first when there is no room."""
        self._clean_holders.append(holder)

    def register_dirty(self, holder: Reclaimer) -> None:
        """Ask `holder` when no clean byte is left."""
        self._dirty_holders.append(holder)

    async def reserve_dirty(self, size: int) -> None:
        """Reserve room for bytes that exist nowhere else.

        Evicts clean bytes, then waits while uploads under way will free room. Raises
        `QuotaExceeded` if dirty bytes alone fill the limit and nothing will free any.
        """
        while size > self.free:
            missing = size - self.free
            changed = self._changed
            if await self._reclaim(missing):
                continue
            if size <= self.free or changed.is_set():
                continue  # something was released while we asked
            if size > self.size_max or not self._freeing:
                raise QuotaExceeded(
                    f"{self._dirty} bytes that are not yet stored fill the local cache "
                    f"of {self.size_max} bytes"
                )
            await changed.wait()
        self._dirty += size
        self._note_written(size)

    async def reserve_clean(self, size: int, *, may_evict: bool = True) -> bool:
        """Reserve room for bytes that can be fetched again, or return False.

        Never waits for an upload; evicts other clean bytes if it may. There is none on
        a disk that is as good as full.
        """
        if self.floor is not None and not self.floor.allows(size):
            return False
        if size > self.free and may_evict:
            for holder in self._clean_holders:
                if size > self.free:
                    await holder.reclaim(size - self.free)
        if size > self.free:
            return False
        self._clean += size
        self._note_written(size)
        return True

    async def evict(self, size: int) -> int:
        """Free clean bytes because the disk itself is full; return how many it were."""
        freed = 0
        for holder in self._clean_holders:
            if freed < size:
                freed += await holder.reclaim(size - freed)
        return freed

    def force_clean(self, size: int) -> None:
        """Count clean bytes that are on the disk already."""
        self._clean += size

    def force_dirty(self, size: int) -> None:
        """Count dirty bytes that must be on the disk whatever the limit is."""
        self._dirty += size

    def release_clean(self, size: int) -> None:
        """Give back room after clean bytes left the disk."""
        self._clean -= size
        if self.floor is not None:
            self.floor.note_removed(size)
        assert self._clean >= 0
        self._wake()

    def release_dirty(self, size: int) -> None:
        """Give back room after dirty bytes left the disk."""
        self._dirty -= size
        assert self._dirty >= 0
        self._wake()

    @contextmanager
    def freeing(self) -> Iterator[None]:
        """Promise that at exit bytes are released, or can be evicted that cannot now.

        The promise may turn out to be empty.
        """
        self._freeing += 1
        try:
            yield
        finally:
            self._freeing -= 1
            self._wake()

    def _note_written(self, size: int) -> None:
        if self.floor is not None:
            self.floor.note_written(size)

    async def _reclaim(self, size: int) -> int:
        """Ask the holders in turn until one gives something."""
        for holder in (*self._clean_holders, *self._dirty_holders):
            freed = await holder.reclaim(size)
            if freed:
                return freed
        return 0

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
