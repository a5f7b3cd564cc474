"""The bytes of one regular file: as the store has them, or changed here.

One state per inode, shared by all its handles. `lock` is held over every write,
truncation and commit, so that none of them overlaps another of the same file; reads
take no lock.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.extents import Extents
from mountfs.cache.lock import Lock
from mountfs.storage.errors import StoreError
from mountfs.storage.types import Object


@dataclass(frozen=True, slots=True)
class Clean:
    """The bytes are those of this version of the object."""

    object: Object


@dataclass(frozen=True, slots=True)
class Dirty:
    """Bytes were written here; the spool and the base object hold them together."""

    file: DirtyFile


class FileState:
    """What is true of a file at this moment.

    `committed_revision` is the revision of the dirty bytes that the store has;
    `failure` is why it refused them, so that the last close does not try the same
    again at once. `late_error` is the newest error that concerned them, `late_errors`
    how many there were, so that each handle is told once. `refusal` is why bytes of a
    write(2) were not even taken in here, or got lost here before any commit: then what
    is here is not what the program wrote. `has_new_attributes` says that the attributes
    of the node are to travel with the next commit.
    """

    __slots__ = (
        "_failed_revision",
        "_failure",
        "_lock",
        "_push",
        "_refused",
        "_unpushable",
        "committed_revision",
        "has_new_attributes",
        "late_error",
        "late_errors",
        "refusal",
        "state",
        "writers",
    )

    def __init__(self, state: Clean | Dirty) -> None:
        self.state = state
        self._lock: Lock | None = None
        self.writers = 0
        self._push: trio.Event | None = None
        self._unpushable = 0
        self.committed_revision: int | None = None
        self._failed_revision: int | None = None
        self._failure: StoreError | OSError | None = None
        self.refusal: StoreError | OSError | None = None
        # Which bytes, and why, as long as who writes may not know: mostly none.
        self._refused: tuple[Extents, StoreError | OSError] | None = None
        self.has_new_attributes = False
        self.late_error: StoreError | OSError | None = None
        self.late_errors = 0

    def begin_push(self, object: Object) -> bool:
        """Begin to put bytes of an object into the kernel's cache, if that is safe.

        It is for these bytes, as long as no program can write to the file or has it
        cut. See `mountfs.vfs.pushes`.
        """
        if self.writers or self._unpushable or self._push is not None:
            return False
        if not isinstance(self.state, Clean):
            return False
        known, other = self.state.object.version, object.version
        if known is None or other is None or known.content != other.content:
            return False
        if self.state.object.size != object.size:
            return False
        self._push = trio.Event()
        return True

    def end_push(self) -> None:
        """Note that the kernel has the bytes, or will never get them."""
        assert self._push is not None
        self._push.set()
        self._push = None

    @asynccontextmanager
    async def closed_to_pushes(self) -> AsyncIterator[None]:
        """Wait for a push under way, and let none begin until the block ends."""
        self._unpushable += 1
        try:
            while self._push is not None:
                await self._push.wait()
            yield
        finally:
            self._unpushable -= 1

    @property
    def lock(self) -> Lock:
        """What is held over every change of the file."""
        if self._lock is None:
            self._lock = Lock()
        return self._lock

    @property
    def holds_changes(self) -> bool:
        """Whether anything is here that the store does not have."""
        return isinstance(self.state, Dirty)

    @property
    def has_bytes_here(self) -> bool:
        """Whether bytes were written that the store does not have."""
        return isinstance(self.state, Dirty) and bool(self.state.file.extents)

    @property
    def is_stored_early(self) -> bool:
        """Whether bytes went to the store before any commit, to make room here."""
        return isinstance(self.state, Dirty) and self.state.file.is_ahead

    @property
    def may_be_stored(self) -> bool:
        """Whether a commit that failed may have been carried out all the same."""
        return isinstance(self.state, Dirty) and bool(self.state.file.commit_ids)

    @property
    def needs_commit(self) -> bool:
        """Whether the store lacks bytes, the file itself, or new attributes."""
        if not isinstance(self.state, Dirty):
            return False
        revision = self.state.file.revision
        return self.committed_revision != revision or self.has_new_attributes

    @property
    def failure(self) -> StoreError | OSError | None:
        """Why the store refused just these bytes, if it did."""
        if not isinstance(self.state, Dirty):
            return None
        is_same = self._failed_revision == self.state.file.revision
        return self._failure if is_same else None

    def note_failure(self, error: StoreError | OSError) -> None:
        """Remember why the bytes as they are now are not in the store."""
        if isinstance(self.state, Dirty):
            self._failed_revision = self.state.file.revision
            self._failure = error
            if self.state.file.spool.is_lost:
                self.refusal = error
        self.note_late_error(error)

    def note_refused(self, start: int, size: int, error: StoreError | OSError) -> None:
        """Remember that bytes of a write(2) were not taken in."""
        self.refusal = error
        ranges = self._refused[0] if self._refused else Extents()
        ranges.add(start, start + size)
        self._refused = ranges, error

    def note_taken(self, start: int, size: int) -> None:
        """Note that bytes were taken in, perhaps such as had been refused."""
        if self._refused is not None:
            self._refused[0].remove(start, start + size)
            self._judge_refusal()

    def note_cut(self, size: int) -> None:
        """Note that the file ends there now, whatever was to be behind that."""
        if self._refused is not None:
            self._refused[0].cut(size)
        self._judge_refusal()

    def _judge_refusal(self) -> None:
        """Say that the file is not whole, or no more, when its bytes have changed."""
        is_lost = isinstance(self.state, Dirty) and self.state.file.spool.is_lost
        ranges, error = self._refused or (None, None)
        if ranges and ranges.overlaps(0, self.size):
            self.refusal = error
        elif not (ranges or is_lost):
            self.refusal = self._refused = None

    def note_closed(self) -> None:
        """Note that one writer has gone; who comes anew knows what there is."""
        self.writers -= 1
        if not self.writers and isinstance(self.state, Clean):
            self._refused = None

    def check_whole(self) -> None:
        """Raise why bytes were refused if others lie behind them.

        Were the file stored so, it would have zeros there, or older bytes. The kernel
        tells of bytes that it could not send once, and then sends the next close(2) as
        if nothing had been. If the file ends before them it is as on a disk that got
        full, and who closes it gets that.
        """
        if self._refused is not None:
            ranges, error = self._refused
            if ranges.overlaps(0, self.size):
                raise error

    def note_late_error(self, error: StoreError | OSError) -> None:
        """Remember an error for every handle that is open now."""
        self.late_error = error
        self.late_errors += 1

    @property
    def size(self) -> int:
        """The size that programs see, in bytes."""
        match self.state:
            case Clean(object):
                return object.size or 0
            case Dirty(file):
                return file.size

    def become_clean(self, object: Object) -> None:
        """Forget the dirty state: the store has all of it in this object.

        What was refused behind its end whoever still writes may not know.
        """
        self.state = Clean(object)
        self.committed_revision = None
        self._failed_revision = None
        self._failure = None
        self.refusal = None
        if not self.writers:
            self._refused = None
        self.has_new_attributes = False
        self.late_error = None

    def become_dirty(self, file: DirtyFile) -> None:
        """Begin to collect changes."""
        self.state = Dirty(file)
        self.committed_revision = None
        self._failed_revision = None
        self._failure = None
