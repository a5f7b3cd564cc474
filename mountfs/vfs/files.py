"""Open files: reading, writing, and the commit that puts the bytes into the store.

A file is committed by fsync(2), by close(2), by a truncation that nobody's handle
waits for, and by the last release if bytes came after the last close (mmap). Commits
are conditional on the version that the file started from, so that no foreign change is
overwritten unseen; who loses a race goes on as a conflict copy, if that is the policy,
and the name means what the other client stored. After a failed commit the bytes stay:
the program gets the error, the next fsync tries again, and the last close hands them
to the state directory.
"""

import errno
import itertools
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from mountfs.cache.conflicts import Policy
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.incidents import IncidentKind
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
from mountfs.vfs.filenodes import (
    condition_of,
    is_another,
    is_unlinked,
    key_of,
    regular,
)
from mountfs.vfs.filestate import Clean, Dirty, FileState
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.openers import Openers
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.tree import changing
from mountfs.vfs.unlinked import Unlinked
from mountfs.vfs.volume import Volume
from mountfs.vfs.walks import Walks

log = logging.getLogger(__name__)

READ_TRIES_MAX = 3
"""A file may be renamed or committed while it is read; then the read begins anew."""


class _StoredBeside(Exception):
    """A commit lost a race, and its bytes became a conflict copy."""

    def __init__(self, copy: Object) -> None:
        super().__init__(copy.key)
        self.copy = copy


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
        hard_links: HardLinks,
        walks: Walks,
    ) -> None:
        self._volume = volume
        self._resolver = resolver
        self._openers = openers
        self._unlinked = unlinked
        self._hard_links = hard_links
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
            await self.commit(node)
        except PreconditionFailed as error:
            if file.writers <= opened.can_write:
                await self._keep(node, file, error)
                await self._leave_name_to_others(node, file)
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
            await self.commit(node)

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
            file.writers -= 1
        try:
            if node.opens == 1:
                await self._last_release(node, file)
        finally:
            self._volume.inodes.release(node)

    async def commit_all(self) -> None:
        """Commit every file that is left, at unmount; failures are kept and logged."""
        for node in self._volume.inodes.loaded():
            file = node.loaded_file
            if file is None or not file.needs_commit or is_unlinked(node):
                continue
            if file.refusal is not None and not node.is_nameless:
                self._give_up(node, file.refusal)
            else:
                await self._commit_or_keep(node, file)

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
        self._check_not_lost(node)
        async with file.closed_to_pushes():
            async with file.lock:
                dirty = self._dirty(node, file)
                await self._volume.writeback.truncate(dirty, size)
                file.note_cut(size)
                if file.needs_commit:
                    self._note_change_of_size(node, times or Change())
            if file.writers == 0:
                await self.fsync(node)
                await self._settle(node, file)

    # --- commit -----------------------------------------------------------------

    async def commit(self, node: Node) -> None:
        """Put everything that was changed into the store, or raise its error."""
        file = regular(node)
        async with changing(node), file.lock:
            if file.needs_commit:
                self._check_not_lost(node)
            if not is_unlinked(node):
                await self.commit_locked(node)

    async def settle_names(self, *nodes: Node) -> None:
        """Commit the files that have several names; their locks are held.

        Before one of those goes or moves, since bytes that are only here belong to
        the first of them. Raises ESTALE if one lost its names over that.
        """
        for node in nodes:
            if node.file is not None and node.attributes.group is not None:
                await self.commit_in_place(node)

    async def commit_in_place(self, node: Node) -> None:
        """As `commit_locked`; raises ESTALE if the file lost its name over that."""
        key = node.key()
        await self.commit_locked(node)
        if node.is_nameless or node.key() != key:
            fail(errno.ESTALE, "a foreign client replaced the object")

    async def commit_locked(self, node: Node) -> None:
        """As `commit`, by who holds the file's lock and has announced the change."""
        file = regular(node)
        if not isinstance(file.state, Dirty) or not file.needs_commit:
            return
        dirty = file.state.file
        key = dirty.key
        try:
            file.check_whole()
            if node.attributes.group is None:
                await self._store(node, dirty, key)
            else:
                async with self._hard_links.following(node, "bytes"):
                    await self._store(node, dirty, key)
        except _StoredBeside as beside:
            self._go_on_as_copy(node, key, beside.copy)
        except (StoreError, OSError) as error:
            file.note_failure(error)
            raise
        assert node.object is not None
        file.become_clean(node.object)
        await self._volume.writeback.discard(dirty)

    # --- inside -----------------------------------------------------------------

    async def _store(self, node: Node, dirty: DirtyFile, key: str) -> None:
        """Store a file, and note what the store has; raises if it is a copy beside."""
        object = await self._volume.writeback.commit(
            dirty,
            metadata=self._volume.metadata_of(node),
            inherit=node.object,
            condition=condition_of(node),
        )
        if object.key != key:
            raise _StoredBeside(object)
        if node.object is not None and node.parent and not node.is_nameless:
            self._volume.busy.note_file(node.parent.key())  # a new file is a new name
        self._volume.adopt(node, object)

    def _go_on_as_copy(self, node: Node, lost_key: str, copy: Object) -> None:
        """Give a file the name of its conflict copy, and its old one to the store.

        Who has it open goes on with it; a file of several names is one of its own now.
        """
        volume, inodes = self._volume, self._volume.inodes
        volume.say_outdated(node)
        volume.metadata.expire(lost_key)
        prefix, _, component = copy.key.rpartition("/")
        parent, name = node.parent, volume.names.name(component)
        if parent is None or node.is_nameless or node.attributes.group is not None:
            inodes.detach(node)
            node.attributes = replace(node.attributes, group=None)
            node.links = 1
            parent = volume.known_directory(prefix)
            if parent is not None:
                inodes.add_name(node, parent, name, component)
        else:
            inodes.move((parent, node.name), parent, name, component)
        node.has_left_its_name = True
        if parent is not None:
            volume.touch(parent)
        volume.adopt(node, copy)

    def _check_not_lost(self, node: Node) -> None:
        """Refuse to take in bytes that no commit could store. Raises ESTALE."""
        if node.is_lost and self._volume.writeback.conflict is Policy.FAIL:
            fail(errno.ESTALE, "a foreign client replaced the object")

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
                await self._settle(node, file)
            elif file.refusal is not None and not node.is_nameless:
                self._give_up(node, file.refusal)
            elif file.failure is not None:
                await self._keep(node, file, file.failure)
            else:
                await self._commit_or_keep(node, file)
            await self._leave_name_to_others(node, file)
        if node.is_nameless:  # perhaps since a moment ago
            async with file.lock:
                if node.opens == 1:
                    await self._unlinked.drop(node, file)

    def _give_up(self, node: Node, error: StoreError | OSError) -> None:
        """Take the name from changes that are not whole: the store keeps what it has.

        The kernel drops bytes that we refuse, tells the program at close(2) or
        fsync(2), and then releases the file as if nothing had happened.
        """
        log.error(
            "%r is not stored: bytes that a program wrote were refused (%s) and the "
            "program was told; the store keeps what it had",
            node.key(),
            error,
        )
        self._volume.incidents.note(IncidentKind.REFUSED, node.key(), str(error))
        self._volume.metadata.expire(node.key())
        self._volume.say_outdated(node)
        self._volume.inodes.detach(node)

    async def _leave_name_to_others(self, node: Node, file: FileState) -> None:
        """Let the name of a file that lost a race mean what the store has.

        It cannot win any more: else each use of the name would fail, for ever. Its
        bytes are in the state directory, until a newer write of the name is stored.
        """
        if not (node.is_lost or isinstance(file.failure, PreconditionFailed)):
            return
        async with file.lock:
            if not isinstance(file.state, Dirty):
                return
            if not self._volume.writeback.leave_failed(file.state.file):
                return  # they could not be kept: then they are at least readable
            key = key_of(node)
            node.object = node.object or Object(key=key, size=0)
            error = file.late_error
            file.become_clean(node.object)
            file.late_error = error  # others who have it open are still to be told
        if not node.is_nameless:
            self._volume.metadata.expire(key)
            self._volume.say_outdated(node)
            self._volume.inodes.detach(node)

    async def _settle(self, node: Node, file: FileState) -> None:
        """Forget a change that came to nothing, or foreign ones would never be seen."""
        async with file.lock:
            if not isinstance(file.state, Dirty) or node.object is None:
                return
            if not file.writers and not file.needs_commit:
                dirty = file.state.file
                file.become_clean(node.object)
                await self._volume.writeback.discard(dirty)

    async def _commit_or_keep(self, node: Node, file: FileState) -> None:
        try:
            await self.commit(node)
        except (StoreError, OSError) as error:
            await self._keep(node, file, error)
        except Exception as error:  # whatever it is, it must not cost other files
            log.exception("a bug in mountfs: %r could not be committed", node.name)
            await self._keep(node, file, StoreError(str(error)))

    async def _keep(
        self, node: Node, file: FileState, error: StoreError | OSError
    ) -> None:
        """Put what could not be committed into the state directory, and say so."""
        if not isinstance(file.state, Dirty):
            return
        log.error(
            "%r is not in the store (%s); its bytes are kept in the state directory "
            "and are sent again at the next mount or fsync",
            key_of(node),
            error,
        )
        try:
            await self._volume.writeback.keep_failed(
                file.state.file,
                error if isinstance(error, StoreError) else StoreError(str(error)),
                self._volume.metadata_of(node),
            )
        except StoreError as lost:
            log.exception("the bytes of %r cannot be kept either", key_of(node))
            if file.state.file.spool.is_lost:
                self._give_up(node, lost)

    def __iter__(self) -> Iterator[OpenFile]:
        return iter(list(self._open.values()))
