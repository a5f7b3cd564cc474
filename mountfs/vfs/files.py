"""Open files: opening, reading, writing, closing, and when what changed is committed.

A file is committed by fsync(2), by close(2), by a truncation that nobody's handle
waits for, and by the last release if bytes came after the last close (mmap). How, and
what becomes of a file that cannot be, is in `mountfs.vfs.filecommits`. The program that
asked gets the error.
"""

import errno
import itertools
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.readahead import ReadStream
from mountfs.storage.errors import (
    NotFound,
    PreconditionFailed,
    StoreError,
    VersionChanged,
)
from mountfs.storage.types import Object
from mountfs.vfs.attributes import Change, changed
from mountfs.vfs.errors import fail
from mountfs.vfs.filecommits import FileCommits
from mountfs.vfs.filenodes import (
    condition_of,
    is_another,
    is_unlinked,
    key_of,
    regular,
)
from mountfs.vfs.filestate import Clean, Dirty, FileState
from mountfs.vfs.inodes import Node
from mountfs.vfs.openers import Openers
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.unlinked import Unlinked
from mountfs.vfs.volume import Volume
from mountfs.vfs.walks import Walks

log = logging.getLogger(__name__)

READ_TRIES_MAX = 3
"""A file may be renamed or committed while it is read; then the read begins anew."""


@dataclass(slots=True, eq=False)
class OpenFile:
    """One open(2): which file, what for, and by whom (thread id).

    `errors_told` is how many of the file's late errors need not be told to it.
    """

    handle: int
    node: Node
    file: FileState
    can_write: bool
    pid: int
    stream: ReadStream
    errors_told: int
    closes: int = 0
    """How often a descriptor of it was closed."""


class Files:
    """The open files of one volume."""

    def __init__(
        self,
        volume: Volume,
        resolver: Resolver,
        openers: Openers,
        unlinked: Unlinked,
        commits: FileCommits,
        walks: Walks,
    ) -> None:
        self._volume = volume
        self._resolver = resolver
        self._openers = openers
        self._unlinked = unlinked
        self._commits = commits
        self._walks = walks
        self._open: dict[int, OpenFile] = {}
        self._handles = itertools.count(1)

    def get(self, handle: int) -> OpenFile:
        """Return the open file of a handle. Raises EBADF."""
        if (opened := self._open.get(handle)) is None:
            fail(errno.EBADF)
        return opened

    def being_written(self) -> set[int]:
        """Return the inodes that are open for writing."""
        return {each.node.inode for each in self if each.can_write}

    # --- opening and closing ----------------------------------------------------

    async def open(self, node: Node, flags: int, pid: int, uid: int) -> OpenFile:
        """Open a file. Raises ESTALE if a foreign client replaced or removed it: the
        kernel looks the name up again and opens what is there now.
        """
        file = regular(node)
        if node.is_lost or node.has_left_its_name:
            # The kernel hears of that from another thread, perhaps later than this.
            fail(errno.ESTALE, "a foreign client replaced the object")
        can_write = flags & os.O_ACCMODE != os.O_RDONLY
        if not can_write and not flags & os.O_TRUNC:
            self._walks.note_opened(node)
            return await self._open_checked(node, file, flags, pid, uid)
        self._volume.check_writable()
        self._walks.note_changed(node)
        async with file.closed_to_pushes():
            return await self._open_checked(node, file, flags, pid, uid)

    async def _open_checked(
        self, node: Node, file: FileState, flags: int, pid: int, uid: int
    ) -> OpenFile:
        can_write = flags & os.O_ACCMODE != os.O_RDONLY
        await self._volume.believed(partial(self._check_current, node, file))
        if can_write or flags & os.O_TRUNC:
            await self._resolver.learn(node)
        if can_write and flags & os.O_APPEND and not flags & os.O_TRUNC:
            self._check_append(file)
        if flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_NOATIME:
            self._volume.note_reading(node)
        opened = self._register(node, file, can_write=can_write, pid=pid)
        if flags & os.O_TRUNC:
            try:
                await self._empty(node, file, uid)
            except BaseException:
                await self.release(opened)
                raise
        return opened

    def open_new(self, node: Node, pid: int) -> OpenFile:
        """Open a file that was just made."""
        return self._register(node, regular(node), can_write=True, pid=pid)

    async def flush(self, opened: OpenFile) -> None:
        """Commit at close(2), unless a later close of the same file is certain."""
        node, file = opened.node, opened.file
        opened.closes += 1
        if not file.needs_commit or is_unlinked(node):
            self._tell_late_error(opened)
            return
        if self._may_be_closed_again(opened) and await self._openers.holds(
            opened.pid, node.inode, node.name
        ):
            return
        try:
            await self._commits.commit(node)
        except PreconditionFailed as error:
            if file.writers <= opened.can_write:
                await self._commits.keep(node, file, error)
                await self._commits.leave_name_to_others(node, file)
            opened.errors_told = file.late_errors
            raise
        except (StoreError, OSError):
            opened.errors_told = file.late_errors
            raise

    def _may_be_closed_again(self, opened: OpenFile) -> bool:
        """Tell whether to look for more descriptors before a commit.

        That takes as long as a commit which waits for the local disk alone, and nearly
        always there are none. Shells close their first copy before anybody writes.
        """
        is_first = opened.closes == 1 and opened.file.has_bytes_here
        return not (is_first and self._volume.writeback.waits_for_disk)

    async def fsync_open(self, opened: OpenFile) -> None:
        """Commit at fsync(2); raises an error that came too late for any call."""
        try:
            await self.fsync(opened.node)
        except (StoreError, OSError):
            opened.errors_told = opened.file.late_errors
            raise
        self._tell_late_error(opened)

    async def fsync(self, node: Node) -> None:
        """Commit whatever the store does not have yet."""
        if node.file is not None and node.file.needs_commit and not is_unlinked(node):
            await self._commits.commit(node)

    def note_late_error(self, key: str, error: StoreError | None) -> None:
        """Let who has a file open hear of an error at its next fsync or close.

        None: there is no error any more, so who was not told yet need not be.
        """
        nodes = {each.node for each in self if not each.node.is_nameless}
        for node in nodes:
            if node.key() != key or node.file is None:
                continue
            if error is None:
                node.file.late_error = None
            else:
                node.file.note_late_error(error)

    def _tell_late_error(self, opened: OpenFile) -> None:
        """Raise the newest late error of a file, once to each handle."""
        file = opened.file
        is_new = opened.errors_told != file.late_errors
        opened.errors_told = file.late_errors
        if is_new and file.late_error is not None and not is_unlinked(opened.node):
            raise file.late_error

    async def release(self, opened: OpenFile) -> None:
        """Take back a handle; with the last one, see to what is still uncommitted."""
        node, file = opened.node, opened.file
        self._open.pop(opened.handle, None)
        if opened.can_write:
            file.note_closed()
        try:
            if node.opens == 1:
                await self._last_release(node, file)
        finally:
            self._volume.inodes.release(node)

    # --- bytes ------------------------------------------------------------------

    async def read(
        self, opened: OpenFile, offset: int, size: int
    ) -> bytes | memoryview:
        """Return bytes of one version of the file, cut at its end.

        Raises ESTALE if that version is gone from the store and not kept here.
        """
        for _ in range(READ_TRIES_MAX):
            state = opened.file.state
            try:
                return await self._read(state, opened.stream, offset, size)
            except (NotFound, VersionChanged):
                # Somebody here may be moving the file just now: wait, look again.
                async with opened.file.lock:
                    if opened.file.state is state:
                        break
        node = opened.node
        if not node.is_nameless:
            self._volume.metadata.expire(node.key())
            self._volume.say_outdated(node)
        fail(errno.ESTALE, "a foreign client replaced the object")

    async def write(self, opened: OpenFile, offset: int, data: bytes) -> int:
        """Take in bytes; they go to the store with the next commit."""
        node, file = opened.node, opened.file
        async with file.lock:
            dirty = self._dirty(node, file)
            try:
                self._volume.check_size(offset + len(data))
                await self._volume.writeback.write(
                    dirty, offset, data, metadata=lambda: self._volume.metadata_of(node)
                )
            except (StoreError, OSError) as error:
                file.note_refused(offset, len(data), error)
                raise
            file.note_taken(offset, len(data))
        # Its time is the kernel's: it says so before the bytes are committed.
        return len(data)

    async def truncate(
        self, node: Node, size: int, times: Change | None = None
    ) -> None:
        """Cut or extend a file, at the time that `times` names, or now; committed at
        once if nobody has it open for writing.
        """
        file = regular(node)
        self._volume.check_writable()
        self._volume.check_size(size)
        self._commits.check_not_lost(node)
        async with file.closed_to_pushes():
            async with file.lock:
                dirty = self._dirty(node, file)
                await self._volume.writeback.truncate(dirty, size)
                file.note_cut(size)
                if file.needs_commit:
                    self._note_change_of_size(node, times or Change())
            if file.writers == 0:
                await self.fsync(node)
                await self._commits.drop_if_unchanged(node, file)

    # --- inside -----------------------------------------------------------------

    def _register(
        self, node: Node, file: FileState, *, can_write: bool, pid: int
    ) -> OpenFile:
        opened = OpenFile(
            next(self._handles),
            node,
            file,
            can_write,
            pid,
            ReadStream(),
            file.late_errors,
        )
        self._open[opened.handle] = opened
        node.opens += 1
        if can_write:
            file.writers += 1
        return opened

    async def _check_current(self, node: Node, file: FileState) -> None:
        """See that the object is still the one we know. Raises ESTALE."""
        state = file.state
        if node.is_nameless or not isinstance(state, Clean) or not node.object:
            return
        key = node.key()
        known = self._volume.metadata.lookup(key)
        if known is not None:
            if is_another(node, state.object, known):
                fail(errno.ESTALE, "a foreign client replaced the object")
            return
        newest = await self._resolver.newest(node.object)
        if file.state is not state:
            return  # changed here while we asked
        if newest is None or newest.version is None:
            fail(errno.ESTALE)
        version = state.object.version
        if version is not None and newest.version.content != version.content:
            fail(errno.ESTALE)

    def _check_append(self, file: FileState) -> None:
        store = self._volume.store
        can_append = store.features.virtual_append or store.capabilities.append
        if file.size > 0 and not can_append:
            fail(errno.EOPNOTSUPP, "virtual_append is off")

    async def _empty(self, node: Node, file: FileState, uid: int) -> None:
        """Cut a file to nothing at open, keeping only the version it replaces."""
        async with file.lock:
            if isinstance(file.state, Dirty):
                # What we stored of it early, or may have stored, is ours to replace.
                await self._volume.writeback.truncate(file.state.file, 0)
            else:
                file.become_dirty(self._begin(node, None))
            file.note_cut(0)
        if uid != 0:
            # The kernel clears these at write and truncate, but not at O_TRUNC.
            mode = (node.attributes.mode or 0) & ~(stat.S_ISUID | stat.S_ISGID)
            node.attributes = replace(node.attributes, mode=mode)
        self._note_change_of_size(node, Change())

    def _note_change_of_size(self, node: Node, times: Change) -> None:
        now_ns = self._volume.now_ns()
        change = Change(
            mtime_ns=now_ns if times.mtime_ns is None else times.mtime_ns,
            ctime_ns=now_ns if times.ctime_ns is None else times.ctime_ns,
        )
        node.attributes = changed(node.attributes, change)

    def _dirty(self, node: Node, file: FileState) -> DirtyFile:
        if isinstance(file.state, Dirty):
            return file.state.file
        dirty = self._begin(node, file.state.object)
        file.become_dirty(dirty)
        # Nothing has changed yet: the revision it starts with is what the store has.
        file.committed_revision = dirty.revision
        return dirty

    def _begin(self, node: Node, base: Object | None) -> DirtyFile:
        return self._volume.writeback.begin(
            key_of(node),
            base,
            inherit=node.object,
            condition=condition_of(node),
        )

    async def _read(
        self, state: Clean | Dirty, stream: ReadStream, offset: int, size: int
    ) -> bytes | memoryview:
        match state:
            case Clean(object):
                return await self._volume.blocks.view(
                    object, offset, size, stream=stream
                )
            case Dirty(dirty):
                return await self._volume.writeback.read(dirty, offset, size)

    async def _last_release(self, node: Node, file: FileState) -> None:
        if not is_unlinked(node) and isinstance(file.state, Dirty):
            if not file.needs_commit:
                await self._commits.drop_if_unchanged(node, file)
            elif file.refusal is not None and not node.is_nameless:
                self._commits.give_up(node, file.refusal)
            elif file.failure and not self._volume.writeback.waits_for_disk:
                await self._commits.keep(node, file, file.failure)
            else:  # the disk, too, may be in order again: to keep is to write to it
                await self._commits.commit_or_keep(node, file)
            await self._commits.leave_name_to_others(node, file)
        if node.is_nameless:  # perhaps since a moment ago
            async with file.lock:
                if node.opens == 1:
                    await self._unlinked.drop(node, file)

    def __iter__(self) -> Iterator[OpenFile]:
        return iter(list(self._open.values()))
