"""Files that are acknowledged and not stored yet: what the queue does with their bytes.

Such a file has left the hands of programs: nobody writes to it any more. Its spool file
is what was promised, and stays as it is until the store has the bytes, or a newer state
of the same name has taken them over.
"""

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import trio

from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.commits import Commits
from mountfs.cache.conflicts import Conflicts
from mountfs.cache.dirty import DirtyFile, Own
from mountfs.cache.phases import reached
from mountfs.cache.streamer import Streamer
from mountfs.cache.streaming import Ladder
from mountfs.storage.errors import PreconditionFailed, QuotaExceeded, StoreError
from mountfs.storage.types import Metadata, Object

log = logging.getLogger(__name__)

_PIECE_SIZE = 1 << 20
MERGE_SIZE_MAX = 8 << 20
"""Up to how many bytes of a waiting file are copied to become part of a newer one."""


class Promises(Protocol):
    """Who takes over a file at its commit, and stores it later."""

    takes_changes: bool

    def spools(self) -> set[str]:
        """Return the names of the spool files that are in its hands."""
        ...

    def uploads(self) -> set[str]:
        """Return the ids of the uploads that hold bytes of its files."""
        ...

    def keeps_here(self, dirty: DirtyFile) -> bool:
        """Tell whether a file is not to be sent, and nothing of its name ever was."""
        ...

    async def make_whole(self, dirty: DirtyFile) -> bool:
        """Let a file that stays here do without what was promised of it, if it can."""
        ...

    async def store_local_only(self, size: int) -> int:
        """Free about so many bytes that were to stay here; return how many it were."""
        ...

    async def promise(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Return how the file shows, when it is safe here."""
        ...

    async def settle_name(self, key: str) -> None:
        """Return when the store has what was promised under a key so far."""
        ...

    def resolve(self, dirty: DirtyFile) -> None:
        """Let a file speak of what is stored in the store's own words."""
        ...


class PromisedFiles:
    """What can be done with a file that was promised."""

    def __init__(
        self,
        commits: Commits,
        conflicts: Conflicts,
        streamer: Streamer,
        blocks: BlockCache,
        budget: Budget,
        *,
        directory: Path,
        put_size_max: int,
        keep: Callable[[DirtyFile, StoreError, Metadata], Awaitable[None]],
    ) -> None:
        self._commits = commits
        self._conflicts = conflicts
        self._streamer = streamer
        self._blocks = blocks
        self._budget = budget
        self.directory = directory
        self.put_size_max = put_size_max
        self.keep = keep
        """Leaves a file that lost a race in the state directory (`WriteBack`)."""

    def ladder(self) -> Ladder:
        """Return the sizes of the parts that an open upload still lacks."""
        return self._streamer.ladder()

    def adopt(self, dirty: DirtyFile) -> None:
        """Count the bytes of a file that an earlier mount has promised."""
        dirty.is_promised = True
        self._budget.force_dirty(dirty.extents.total)

    async def store(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Store a file; return its object, which has another key if it lost a race.

        Raises `PreconditionFailed` if somebody else was there first, and the bytes are
        to be kept here; nothing is lost then, nor after any other error.
        """
        async with dirty.changing:
            try:
                return await self._commits.store(dirty, metadata)
            except PreconditionFailed as lost:
                return await self._conflicts.settle(dirty, metadata, lost)

    async def copy_beside(
        self, object: Object, key: str, lost: PreconditionFailed
    ) -> Object:
        """Copy an object beside the key that it was to have, and lost."""
        return await self._conflicts.copy_beside(object, key, lost)

    async def forget(self, dirty: DirtyFile) -> None:
        """Drop the bytes of a file that is stored, or given up.

        What cannot be dropped is left to the next mount, which finds no row that names
        it: what made the bytes needless is in the journal, and must not fail for them.
        """
        async with dirty.changing:
            if dirty.is_discarded:
                return
            dirty.is_discarded = True
            self._streamer.abandon(dirty)
            with _left_to_the_next_mount(dirty):
                await self._commits.give_up_attempt(dirty)
            size = dirty.extents.total
            dirty.extents.clear()
            await dirty.readers.wait_for_readers()
            with _left_to_the_next_mount(dirty):
                await dirty.spool.remove()
            self._budget.release_dirty(size)

    async def merge(self, older: DirtyFile, newer: DirtyFile) -> bool:
        """Let a newer state of a file have what it has in common with an older one.

        The newer one has the older one as its base, and afterwards that one's own base.
        Its lock is held by who commits it. False if there is too much to be copied, or
        if parts of the older one are on their way.
        """
        if older.stream is not None:
            return False
        if _only_adds_to(older, newer):
            await self._share(older, newer)
        elif older.extents.total > MERGE_SIZE_MAX:
            return False
        else:
            await self._copy_beneath(older, newer)
        newer.base_size = min(older.base_size, newer.base_size)
        newer.base = older.base
        return True

    async def make_whole(self, older: DirtyFile, newer: DirtyFile) -> bool:
        """Let a newer state of a file stand alone: copy all that it stands on.

        The older one, which is its base, stands on nothing. False if there is no room;
        then the newer one has some of its bytes besides, and stands on it as before.
        """
        size = older.extents.total
        if (
            older.stream is not None
            or size > self._budget.size_max - self._budget.dirty
        ):
            return False
        await self._budget.evict(size - self._budget.free)
        try:
            await self._copy_beneath(older, newer)
        except QuotaExceeded:
            return False  # the disk has less room than it was to have
        self.put_base(newer, None)
        return True

    async def _copy_beneath(self, older: DirtyFile, newer: DirtyFile) -> None:
        for start, end in newer.extents.gaps(0, newer.base_size):
            for first, last in older.extents.within(start, end):
                await self._copy(older, newer, first, last)

    async def _share(self, older: DirtyFile, newer: DirtyFile) -> None:
        """Put what was appended into the spool of the state that it was appended to.

        Crash before the row of the newer one is synced: the row of the older one says
        where its bytes end, and they are as they were.
        """
        own, shared = newer.spool, older.spool
        await shared.cut(older.size)  # an attempt before this one may have failed
        # What is on the disk must be synced next: together that is one hop to a thread.
        is_one_piece = len(newer.extents) == 1 and newer.extents.total <= _PIECE_SIZE
        for start, end in newer.extents:
            for offset in range(start, end, _PIECE_SIZE):
                size = min(_PIECE_SIZE, end - offset)
                piece = await own.read(offset, size)
                await shared.write(offset, piece, and_sync=is_one_piece)
        reached("queue.bytes-appended")
        lent = older.extents.total
        newer.own = Own(own, newer.extents.copy(), lent)
        newer.spool = shared
        self._budget.force_dirty(lent)
        for start, end in older.extents:
            newer.extents.add(start, end)

    async def hand_over(self, older: Iterable[DirtyFile], newer: DirtyFile) -> None:
        """Give the spool of an older state to the newer one that uses it, for good."""
        for each in older:
            if newer.own is not None and each.spool is newer.spool:
                each.spool, newer.own = newer.own.spool, None
                # Who reads from that, which goes now, began before it was put by.
                await newer.readers.wait_for_readers()

    async def take_apart(self, newer: DirtyFile) -> None:
        """Undo `merge` where that has let two states share a spool."""
        own, newer.own = newer.own, None
        if own is not None:
            newer.spool, newer.extents = own.spool, own.extents
            self._budget.release_dirty(own.lent_bytes)
            await newer.readers.wait_for_readers()

    async def _copy(
        self, older: DirtyFile, newer: DirtyFile, start: int, end: int
    ) -> None:
        for offset in range(start, end, _PIECE_SIZE):
            size = min(_PIECE_SIZE, end - offset)
            self._budget.force_dirty(size)
            try:
                piece = await older.spool.read(offset, size)
                await newer.spool.write(offset, piece)
            except BaseException:
                self._budget.release_dirty(size)
                raise
            newer.extents.add(offset, offset + size)

    def put_base(self, dirty: DirtyFile, base: Object | None) -> None:
        """Let a file lie on another object that has the same bytes as its base."""
        if base is not None and dirty.base is not None:
            base = dataclasses.replace(base, size=dirty.base.size)
        dirty.base = base
        if base is None:
            dirty.base_size = 0

    async def retarget(self, dirty: DirtyFile, key: str) -> None:
        """Let a file be stored under another key; no part of it is only in an upload.

        An upload under the old key is of no use any more.
        """
        async with dirty.changing:
            self._streamer.abandon(dirty)
            dirty.key = key

    def stored(self, object: Object, shown: Object) -> None:
        """Let bytes that were cached of an object be found under its token."""
        self._blocks.rekey(object, shown)

    async def close(self, dirty: DirtyFile) -> None:
        """Close the spool file, and leave it to the next mount."""
        with trio.CancelScope(shield=True):
            await dirty.readers.wait_for_readers()
            await dirty.spool.close()


def _only_adds_to(older: DirtyFile, newer: DirtyFile) -> bool:
    """Tell whether a newer state has bytes only behind the end of an older one."""
    if newer.base_size != older.size or newer.stream is not None or newer.is_kept:
        return False
    return all(start >= older.size for start, _ in newer.extents)


@contextmanager
def _left_to_the_next_mount(dirty: DirtyFile) -> Iterator[None]:
    try:
        yield
    except (OSError, StoreError) as error:
        log.warning(
            "what is left here of %r, which is not needed any more, cannot be removed"
            " (%s); the next mount does it",
            dirty.key,
            error,
        )


def can_wait(dirty: DirtyFile, metadata: Metadata) -> bool:
    """Tell whether a commit may be a promise.

    The record of a group of hard links holds versions that only the store gives. A file
    that was stored in part, to make room here, is nearly there.
    """
    attributes = metadata.attributes
    is_in_group = attributes is not None and attributes.group is not None
    return not is_in_group and not dirty.is_ahead
