"""Names: finding, making and removing files, directories, links and special files.

Each change is in the store when it returns, except a new file, which is stored with
its first bytes when it is closed. The kernel holds a directory's lock over each change
in it, so two changes of one name never meet here.
"""

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from mountfs.storage.errors import AlreadyExists
from mountfs.storage.types import (
    ABSENT,
    Attributes,
    Call,
    Condition,
    ListMode,
    Object,
    ObjectKind,
)
from mountfs.vfs.attributes import DEVICE_TYPES, fresh
from mountfs.vfs.errors import fail
from mountfs.vfs.filecommits import FileCommits
from mountfs.vfs.filestate import Dirty, FileState
from mountfs.vfs.foreign import drop_folder, take_over
from mountfs.vfs.foresight import Foresight
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.laterlinks import LaterLinks
from mountfs.vfs.names import Entry, ShortEntry
from mountfs.vfs.pages import component_of, list_all
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.tree import changing, moving
from mountfs.vfs.unlinked import Unlinked
from mountfs.vfs.volume import Volume
from mountfs.vfs.walks import Walks

LINKS_MAX = 4096
"""The most names of one file: each of them costs a copy at every write."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the process (thread id), and whose new files are."""

    pid: int
    uid: int
    gid: int


class Namespace:
    """The names of one volume."""

    def __init__(
        self,
        volume: Volume,
        resolver: Resolver,
        commits: FileCommits,
        unlinked: Unlinked,
        hard_links: HardLinks,
        later: LaterLinks,
        *,
        walks: Walks,
        foresight: Foresight,
    ) -> None:
        self._volume = volume
        self._resolver = resolver
        self._commits = commits
        self._unlinked = unlinked
        self._hard_links = hard_links
        self._later = later
        self._walks = walks
        self._foresight = foresight

    async def lookup(self, parent: Node, name: bytes) -> Node | None:
        """Return the node of a name, or None if there is none."""
        if name in (b".", b".."):
            return parent if name == b"." else (parent.parent or parent)
        while not parent.is_nameless:
            entry = self._volume.entry(parent, name)
            node, prefix = parent.children.get(name), parent.key()
            if node is not None and self._is_as_known(parent, entry, node):
                return node
            object = await self._find(parent, node, entry)
            if object is not None:
                await self._volume.groups.learn([object])
            if parent.children.get(name) is not node or not _is_at(parent, prefix):
                continue  # changed here while we asked
            if node is not None and node.pins:
                return node
            if object is None and node is not None and node.is_only_here:
                return node
            if object is None:
                self._forget_name(parent, name)
                return None
            return self._volume.attach(parent, name, object)
        return None

    def _is_as_known(self, parent: Node, entry: Entry | ShortEntry, node: Node) -> bool:
        """Tell whether a name means this node without a question or anything new."""
        if node.holds_changes or node.pins:
            return True
        if not isinstance(entry, Entry):
            return False
        return self._resolver.confirms(parent, entry, node)

    async def _find(
        self, parent: Node, node: Node | None, entry: Entry | ShortEntry
    ) -> Object | None:
        if isinstance(entry, ShortEntry):
            return await self._find_short(parent, node, entry)
        known = self._resolver.known(parent, entry)
        if known is not None:
            return known if isinstance(known, Object) else None
        is_unknown = node is None and not self._resolver.knows(parent, entry)
        object = await self._resolver.child(parent, entry)
        if is_unknown and object is not None:
            self._walks.note_found(parent)
        return object

    async def _find_short(
        self, parent: Node, node: Node | None, short: ShortEntry
    ) -> Object | None:
        """Find the object of a name in short form, by a listing if it is unknown."""
        if node is not None:
            known = Entry(node.component, node.is_shadowed)
            return await self._resolver.child(parent, known)
        prefix = parent.key()
        listed = self._volume.metadata.listing(prefix)
        objects = listed or await list_all(self._volume.store, prefix)
        components = (component_of(object) for object in objects)
        found = self._volume.names.matching(short, components)
        return None if found is None else await self._resolver.child(parent, found)

    async def create(
        self, parent: Node, name: bytes, mode: int, caller: Caller
    ) -> Node:
        """Make a file here; the store has it when it is closed.

        Raises EEXIST if the name is known to be taken (the caller opens it then, or
        passes the error on for O_EXCL).
        """
        entry = self._volume.new_file_entry(parent, name)
        if await self._exists(parent, name, entry):
            fail(errno.EEXIST)
        async with changing(parent):
            self._forget_name(parent, name)
            node = self._volume.inodes.add(
                parent, name, entry.component, ObjectKind.FILE
            )
            node.attributes = self._new_attributes(
                ObjectKind.FILE, mode, parent, caller
            )
            node.file = FileState(
                Dirty(self._volume.writeback.begin(node.key(), None, condition=ABSENT))
            )
            self._volume.touch(parent)
        return node

    async def mkdir(self, parent: Node, name: bytes, mode: int, caller: Caller) -> Node:
        """Make a directory. Raises EEXIST, EOPNOTSUPP without the gate."""
        entry = self._volume.new_entry(parent, name)
        if await self._exists(parent, name, entry):
            fail(errno.EEXIST)
        attributes = self._new_attributes(ObjectKind.DIRECTORY, mode, parent, caller)
        async with changing(parent):
            key = parent.key() + entry.component + "/"
            self._volume.check_key(key)
            object = await self._volume.store.make_dir(
                key, metadata=self._volume.metadata_with(attributes)
            )
            if self._volume.index is not None:
                self._volume.index.made(key)
            self._forget_name(parent, name)
            begun = self._volume.metadata.begin_listing(key)
            object = self._volume.metadata.put(object)
            self._volume.metadata.put_listing(begun, ())
            node = self._volume.attach(parent, name, object)
            node.attributes = attributes
            node.links = 2
            parent.count_directories(1)
            self._volume.touch(parent)
        return node

    async def symlink(
        self, parent: Node, name: bytes, target: bytes, caller: Caller
    ) -> Node:
        """Make a symbolic link; its target is kept verbatim. Raises EEXIST."""
        attributes = self._new_attributes(ObjectKind.LINK, 0o777, parent, caller)

        async def make(key: str, condition: Condition) -> Object:
            return await self._volume.store.make_link(
                key,
                os.fsdecode(target),
                metadata=self._volume.metadata_with(attributes),
                condition=condition,
            )

        return await self._make_stored(parent, name, attributes, make)

    async def mknod(
        self, parent: Node, name: bytes, mode: int, rdev: int, caller: Caller
    ) -> Node:
        """Make a special file, or an empty regular one; the store has it at once.

        Nobody closes what nobody opens, so it cannot be stored later, as in `create`.
        Raises EEXIST; EPERM for a special file without the gate.
        """
        if stat.S_IFMT(mode) in (0, stat.S_IFREG):
            kind = ObjectKind.FILE
        else:
            kind = ObjectKind.SPECIAL
            if not self._volume.store.capabilities.specials:
                fail(errno.EPERM, "virtual_special is off")
        attributes = self._new_attributes(kind, mode, parent, caller)
        if stat.S_IFMT(mode) in DEVICE_TYPES:
            attributes = replace(attributes, rdev=rdev)

        async def make(key: str, condition: Condition) -> Object:
            return await self._volume.store.write(
                key,
                None,
                metadata=self._volume.metadata_with(attributes),
                condition=condition,
            )

        return await self._make_stored(parent, name, attributes, make)

    async def _make_stored(
        self,
        parent: Node,
        name: bytes,
        attributes: Attributes,
        make: Callable[[str, Condition], Awaitable[Object]],
    ) -> Node:
        """Make what one request makes whole. Raises EEXIST."""
        entry = self._volume.new_file_entry(parent, name)
        if await self._exists(parent, name, entry):
            fail(errno.EEXIST)
        async with changing(parent):
            key = parent.key() + entry.component
            can_check = Call.WRITE in self._volume.store.capabilities.conditions
            if not can_check and await self._resolver.newest(Object(key=key)):
                fail(errno.EEXIST)
            try:
                object = await make(key, ABSENT if can_check else None)
            except AlreadyExists:
                self._volume.metadata.expire(key)
                fail(errno.EEXIST)
            self._forget_name(parent, name)
            node = self._volume.attach(parent, name, self._volume.metadata.put(object))
            node.attributes = attributes
            self._volume.touch(parent)
        return node

    async def readlink(self, node: Node) -> bytes:
        """Return the target of a link. Raises EINVAL for anything else."""
        if node.kind is not ObjectKind.LINK or node.object is None:
            fail(errno.EINVAL)
        target = node.object.link_target
        if target is None:
            newest = await self._resolver.newest(node.object)
            if newest is None or newest.link_target is None:
                fail(errno.ESTALE)
            node.object, target = newest, newest.link_target
        return os.fsencode(target)

    async def unlink(self, parent: Node, name: bytes) -> None:
        """Remove a file or link; who has it open keeps it until the last close."""
        self._volume.check_writable()
        node = await self._existing(parent, name)
        if node.is_directory:
            fail(errno.EISDIR)
        if self._later.is_fixed(node):
            await self._later.settle(node)
        async with changing(parent):
            if node in self._later:
                await self.keep_directory(parent, node.key_at(parent, name))
            if await self._later.lose(node, parent, name):
                self._volume.note_change(node)
            else:
                await self.remove_file(node, parent, name)
            self._volume.touch(parent)
        self._foresight.note_removed(parent, node)

    async def remove_file(self, node: Node, parent: Node, name: bytes) -> None:
        """Take a name of a file out of the store and its directory.

        `changing` is held.
        """
        if parent.children.get(name) is not node:
            fail(errno.ENOENT)
        lost_key = node.key_at(parent, name)
        async with AsyncExitStack() as stack:
            if node.file is not None:
                await stack.enter_async_context(node.file.lock)
            is_last = not await self.keeps_other_name(node, (parent, name))
            if not is_last:
                await self._commits.settle_names(node)
            elif node.file is not None:
                losing_name = self._unlinked.losing_name(node, node.file)
                await stack.enter_async_context(losing_name)
            await self._remove_name(node, parent, name)
            if is_last:
                node.object = None
                self._volume.inodes.retire_group(node)
        self._volume.inodes.detach_name(parent, name)
        self._hard_links.point(node)
        self._volume.note_change(node)
        await self._volume.writeback.forget_failed(lost_key)

    async def _remove_name(self, node: Node, parent: Node, name: bytes) -> None:
        key = node.key_at(parent, name)
        async with self._hard_links.losing(node, key):
            is_stored = node.is_stored or (
                node.file is not None and node.file.may_be_stored
            )
            if is_stored or node.file is None:
                await self._delete(parent, key)

    async def keeps_other_name(self, node: Node, lost: tuple[Node, bytes]) -> bool:
        """Tell whether a file has a name besides the one that it is to lose.

        If somebody still needs the file, one is loaded, so that the file has a key.
        """
        others = await self._hard_links.others(node, node.key_at(*lost))
        if not others:
            return False
        is_needed = node.opens or node.holds_changes
        if is_needed and not node.has_other_name(*lost):
            for key in others:
                if await self._walk(key) is node:
                    break
            else:
                return False  # none of them is there any more
        return True

    async def _walk(self, key: str) -> Node | None:
        """Look up a key step by step, as the kernel does with a path."""
        node: Node | None = self._volume.inodes.root
        for component in key.split("/"):
            if node is None:
                return None
            node = await self.lookup(node, self._volume.names.name(component))
        return node

    async def link(self, node: Node, parent: Node, name: bytes) -> Node:
        """Give a file one more name.

        Raises EPERM without the gate, for directories, and where the store can
        neither copy nor mark an object; EEXIST, EMLINK, ENOENT.
        """
        entry = self._volume.new_file_entry(parent, name)
        self._check_can_link(node)
        if await self._exists(parent, name, entry):
            fail(errno.EEXIST)
        await self._later.settle(node)
        async with changing(node, parent):
            await take_over(self._volume, node)
            key = parent.key() + entry.component
            async with AsyncExitStack() as stack:
                if node.file is not None:
                    await stack.enter_async_context(node.file.lock)
                    self._later.refuse(node)
                    await self._commits.commit_in_place(node)
                    if self._later.takes(node):
                        await self._later.add(node, parent, name, entry.component)
                        self._volume.note_change(node)
                        self._volume.touch(parent)
                        return node
                await self._volume.store_has(node)
                try:
                    await self._hard_links.add(node, key)
                except AlreadyExists:
                    self._volume.metadata.expire(key)
                    fail(errno.EEXIST)
            self._volume.inodes.add_name(node, parent, name, entry.component)
            self._volume.note_change(node)
            self._volume.touch(parent)
        return node

    def _check_can_link(self, node: Node) -> None:
        store = self._volume.store
        if not store.features.virtual_hard_link or node.is_directory:
            fail(errno.EPERM)
        able = store.capabilities
        is_marked = able.groups and able.set_metadata and able.copy
        is_bare = node.kind is ObjectKind.LINK and able.native_links
        if not is_marked or (is_bare and not able.link_metadata):
            fail(errno.EPERM, "the store cannot keep which names are one file")
        if node.links >= LINKS_MAX:
            fail(errno.EMLINK)
        if node.is_nameless:
            fail(errno.ENOENT)

    async def _delete(self, parent: Node, key: str) -> None:
        await self.keep_directory(parent, key)
        await self._volume.store.delete(key)
        self._volume.metadata.put_absent(key)

    async def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory. Raises ENOTEMPTY, ENOTDIR."""
        self._volume.check_writable()
        node = await self._existing(parent, name)
        if not node.is_directory:
            fail(errno.ENOTDIR)
        async with changing(parent):
            await self.check_empty(node)
            # Its times may be on their way, and would make its marker anew.
            async with moving(node):
                await self.remove_directory(node)
            self._volume.touch(parent)

    async def check_empty(self, node: Node) -> None:
        """Ask the store whether a directory is empty. Raises ENOTEMPTY."""
        if any(child.is_only_here for child in node.children.values()):
            fail(errno.ENOTEMPTY)
        if self._later.is_any_in(node):
            fail(errno.ENOTEMPTY)
        # Always asked anew: a foreign client may have put something there. Keys, not
        # children: SeaweedFS goes on listing directories whose last key is gone. Two,
        # since one may be the marker.
        store, key = self._volume.store, node.key()
        native = store.capabilities.native_dirs
        mode = ListMode.DIRECTORY if native else ListMode.PREFIX
        token: str | None = None
        while True:
            page = await store.list(key, mode=mode, token=token, limit=2)
            if any(object.key != key for object in page.objects):
                fail(errno.ENOTEMPTY)
            if page.token is None:
                return
            token = page.token

    async def remove_directory(self, node: Node) -> None:
        """Remove an empty directory; `changing` is held."""
        await self.take_from_store(node)
        self.forget_directory(node)

    async def take_from_store(self, node: Node) -> None:
        """Take an empty directory out of the store, which keeps its name here."""
        parent, key = node.parent, node.key()
        if parent is None:
            fail(errno.ENOENT)
        await self.keep_directory(parent, key)
        # Crash after this: the directory exists by its marker, or not at all.
        await drop_folder(self._volume, key)
        await self._volume.store.delete(key)
        self._volume.metadata.put_absent(key)

    def forget_directory(self, node: Node) -> None:
        """Take the name of a directory that the store has no more."""
        for child_name in list(node.children):
            self._volume.inodes.detach_name(node, child_name)
        node.object = None
        if node.parent is not None:
            node.parent.count_directories(-1)
            self._volume.inodes.detach(node)

    async def keep_directory(self, directory: Node, child_key: str) -> None:
        """Write the marker of a directory whose last child may be about to go.

        Without a marker a directory of a key store exists by its children alone, and
        would vanish with them. Written at most once: then it has a marker.
        """
        store = self._volume.store
        if directory.parent is None or store.capabilities.native_dirs:
            return
        if not store.features.virtual_dir or _has_marker(directory):
            return
        if self._volume.metadata.has_child_beside(child_key):
            return
        # Crash after this and before the child goes: a marker too many, no harm.
        marker = await store.make_dir(
            directory.key(), metadata=self._volume.metadata_of(directory)
        )
        self._volume.adopt(directory, marker)

    async def _existing(self, parent: Node, name: bytes) -> Node:
        node = await self.lookup(parent, name)
        if node is None:
            fail(errno.ENOENT)
        return node

    async def _exists(self, parent: Node, name: bytes, entry: Entry) -> bool:
        if name not in parent.children:
            # The kernel has just looked it up: mostly that is known.
            known = self._resolver.known(parent, entry)
            if known is not None:
                return known is not ABSENT
        found = await self.lookup(parent, name)
        if parent.is_nameless:
            fail(errno.ENOENT)
        return found is not None

    def _forget_name(self, parent: Node, name: bytes) -> None:
        """Take the name from a node that no longer has an object under it."""
        node = parent.children.get(name)
        if node is not None:
            self._volume.inodes.detach_name(parent, name)
            self._hard_links.point(node)

    def _new_attributes(
        self, kind: ObjectKind, mode: int, parent: Node, caller: Caller
    ) -> Attributes:
        parent_mode = parent.attributes.mode or 0
        gid = caller.gid
        if parent_mode & stat.S_ISGID:
            gid = parent.attributes.gid or 0
            if kind is ObjectKind.DIRECTORY:
                mode |= stat.S_ISGID
        uid = caller.uid
        if not self._volume.keeps_attributes:
            defaults = self._volume.defaults
            is_directory = kind is ObjectKind.DIRECTORY
            default = defaults.directory_mode if is_directory else defaults.file_mode
            mode, uid, gid = stat.S_IFMT(mode) | default, defaults.uid, defaults.gid
        made = fresh(kind, mode, uid, gid, self._volume.now_ns())
        # What is new has no extended attributes, which is not the same as unknown ones.
        keeps_xattrs = self._volume.store.capabilities.xattrs
        return replace(made, xattrs={}) if keeps_xattrs else made


def _is_at(directory: Node, key: str) -> bool:
    return not directory.is_nameless and directory.key() == key


def _has_marker(directory: Node) -> bool:
    known: Object | None = directory.object
    return known is not None and known.version is not None
