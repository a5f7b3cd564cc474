"""Commits: how the bytes of a changed file get into the store, and what if they cannot.

Commits are conditional on the version that the file started from, so that no foreign
change is overwritten unseen; who loses a race goes on as a conflict copy, if that is
the policy, and the name means what the other client stored. After a failed commit the
bytes stay: the next fsync(2) tries again, and the last close hands them to the state
directory. When to commit is decided in `mountfs.vfs.files`.
"""

import errno
import logging
from dataclasses import replace

from mountfs.cache.conflicts import Policy
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.incidents import IncidentKind
from mountfs.storage.errors import PreconditionFailed, StoreError
from mountfs.storage.types import Object
from mountfs.vfs.errors import fail
from mountfs.vfs.filenodes import condition_of, is_unlinked, key_of, regular
from mountfs.vfs.filestate import Dirty, FileState
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.tree import changing
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)


class _StoredBeside(Exception):
    """A commit lost a race, and its bytes became a conflict copy."""

    def __init__(self, copy: Object) -> None:
        super().__init__(copy.key)
        self.copy = copy


class FileCommits:
    """Stores the changed files of one volume."""

    def __init__(self, volume: Volume, hard_links: HardLinks) -> None:
        self._volume = volume
        self._hard_links = hard_links

    async def commit_all(self) -> None:
        """Commit every file that is left, at unmount; failures are kept and logged."""
        for node in self._volume.inodes.loaded():
            file = node.loaded_file
            if file is None or not file.needs_commit or is_unlinked(node):
                continue
            if file.refusal is not None and not node.is_nameless:
                self.give_up(node, file.refusal)
            else:
                await self.commit_or_keep(node, file)

    async def commit(self, node: Node) -> None:
        """Put everything that was changed into the store, or raise its error."""
        file = regular(node)
        async with changing(node), file.lock:
            if file.needs_commit:
                self.check_not_lost(node)
            if not is_unlinked(node):
                await self.commit_locked(node)

    async def settle_names(self, *nodes: Node) -> None:
        """Commit the files that have several names; their locks are held.

        Before one of those goes or moves, since bytes that are only here belong to
        the first of them. Raises ESTALE if one lost its names over that.
        """
        for node in nodes:
            if node.file is not None and node.group is not None:
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
            if node.group is None:
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

    def check_not_lost(self, node: Node) -> None:
        """Refuse to take in bytes that no commit could store. Raises ESTALE."""
        if node.is_lost and self._volume.writeback.conflict is Policy.FAIL:
            fail(errno.ESTALE, "a foreign client replaced the object")

    async def drop_if_unchanged(self, node: Node, file: FileState) -> None:
        """Forget a change that came to nothing, or foreign ones would never be seen."""
        async with file.lock:
            if not isinstance(file.state, Dirty) or node.object is None:
                return
            if not file.writers and not file.needs_commit:
                dirty = file.state.file
                file.become_clean(node.object)
                await self._volume.writeback.discard(dirty)

    async def commit_or_keep(self, node: Node, file: FileState) -> None:
        """As `commit`; what cannot be committed is kept, whatever the error is."""
        try:
            await self.commit(node)
        except (StoreError, OSError) as error:
            await self.keep(node, file, error)
        except Exception as error:  # whatever it is, it must not cost other files
            log.exception("a bug in mountfs: %r could not be committed", node.name)
            await self.keep(node, file, StoreError(str(error)))

    async def keep(
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
                self.give_up(node, lost)

    def give_up(self, node: Node, error: StoreError | OSError) -> None:
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

    async def leave_name_to_others(self, node: Node, file: FileState) -> None:
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
        if parent is None or node.is_nameless or node.group is not None:
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
