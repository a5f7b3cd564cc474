"""What the parts of one mounted file system share. No behaviour of its own but the
way from a node to its newest object.
"""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from mountfs.cache.blocks import BlockCache
from mountfs.cache.journal import Journal
from mountfs.cache.learnt import Learnt
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.writeback import WriteBack
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    Attributes,
    Metadata,
    Object,
    ObjectKind,
)
from mountfs.vfs.attributes import Defaults, effective
from mountfs.vfs.errors import fail
from mountfs.vfs.filestate import Clean, FileState
from mountfs.vfs.inodes import InodeTable, Node
from mountfs.vfs.listings import component_of
from mountfs.vfs.names import NAME_SIZE_MAX, Entry, Names, ShortEntry

RESERVED = ".mountfs"
"""The directory of the root that is ours: hidden, and not to be made by programs."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """A name whose meaning a foreign client changed; the kernel is to forget it."""

    parent: int
    name: bytes


@dataclass(slots=True, kw_only=True)
class Volume:
    """One mounted file system: the store, what is kept of it here, and its nodes."""

    store: Storager
    metadata: MetadataCache
    learnt: Learnt | None = None
    blocks: BlockCache
    writeback: WriteBack
    journal: Journal
    defaults: Defaults
    outdated: "trio.MemorySendChannel[Outdated]"
    is_read_only: bool = False
    requests_max: int = 64
    now_ns: Callable[[], int] = time.time_ns
    inodes: InodeTable
    names: Names

    @property
    def keeps_attributes(self) -> bool:
        """Whether mode, owner and times are kept with an object."""
        return (
            self.store.features.virtual_object_metadata
            or self.store.capabilities.attributes
        )

    def metadata_of(self, node: Node) -> Metadata:
        """Return the metadata that travel with an object of this node."""
        return self.metadata_with(node.attributes)

    def metadata_with(self, attributes: Attributes) -> Metadata:
        """Return metadata with these attributes, if the store is to keep them."""
        return Metadata(attributes=attributes if self.keeps_attributes else None)

    def check_writable(self) -> None:
        """Refuse a change on a read-only mount. Raises EROFS."""
        if self.is_read_only:
            fail(errno.EROFS)

    def entry(self, parent: Node, name: bytes) -> Entry | ShortEntry:
        """Return what a name stands for. Raises ENAMETOOLONG, before any request."""
        if len(name) > NAME_SIZE_MAX:
            fail(errno.ENAMETOOLONG)
        entry = self.names.entry(name)
        if isinstance(entry, Entry):
            self.check_key(parent.key() + entry.component)
        return entry

    def check_key(self, key: str) -> None:
        """Refuse a key that the store cannot hold. Raises ENAMETOOLONG."""
        limit = self.store.capabilities.key_size_max
        if limit is not None and len(key.encode(errors="surrogateescape")) > limit:
            fail(errno.ENAMETOOLONG)

    def check_size(self, size: int) -> None:
        """Refuse a size that no object can have. Raises EFBIG."""
        limit = self.store.capabilities.object_size_max
        if limit is not None and size > limit:
            fail(errno.EFBIG)

    def new_entry(self, parent: Node, name: bytes) -> Entry:
        """As `entry`, for something that is to be made under this name."""
        self.check_writable()
        if parent.is_nameless:
            fail(errno.ENOENT)
        entry = self.entry(parent, name)
        if isinstance(entry, ShortEntry):
            fail(errno.EPERM, "this name is reserved")
        if entry.is_shadowed or (not parent.key() and entry.component == RESERVED):
            fail(errno.EPERM, "this name is reserved")
        return entry

    def attach(self, parent: Node, name: bytes, object: Object) -> Node:
        """Return the node of a name whose object is known, made or brought up to date.

        A foreign client may have put another object there: then the name gets a new
        node, and the old one keeps its version for those who have it open. (The
        kernel owns the size of a file that it knows; a new number is what makes it
        look again.)
        """
        node = parent.children.get(name)
        if node is not None and not self._still_means(node, object):
            self.inodes.detach(node)
            node = None
        if node is None:
            entry = self.names.entry(name)
            if isinstance(entry, ShortEntry):  # what for, only its object tells
                component = component_of(object)
            else:
                component = entry.component
            node = self.inodes.add(
                parent,
                name,
                component,
                object.kind,
                is_shadowed=entry.is_shadowed,
            )
            if object.kind is ObjectKind.FILE:
                node.file = FileState(Clean(object))
            self._take_in(node, object)
        elif object is not node.object:
            self._bring_up_to_date(node, object)
        return node

    def adopt(self, node: Node, object: Object) -> None:
        """Note that the store now holds this object for a node, by our own doing."""
        node.object = self.metadata.put(object)

    def say_outdated(self, node: Node) -> None:
        """Ask that the kernel forget the name of a node; drop it if many wait."""
        if node.parent is not None:
            try:
                self.outdated.send_nowait(Outdated(node.parent.inode, node.name))
            except trio.WouldBlock:
                return  # the kernel finds out when its time to live ends

    def touch(self, directory: Node) -> None:
        """Note that the entries of a directory changed now."""
        now_ns = self.now_ns()
        directory.attributes = replace(
            directory.attributes, mtime_ns=now_ns, ctime_ns=now_ns
        )

    def _still_means(self, node: Node, object: Object) -> bool:
        if node.kind is not object.kind:
            return node.is_only_here
        if node.file is None:
            return True
        if node.file.holds_changes:
            return True
        known = node.object
        if known is None or known.version is None or object.version is None:
            return True
        same_bytes = known.version.content == object.version.content
        return same_bytes and known.size == object.size

    def _bring_up_to_date(self, node: Node, object: Object) -> None:
        known = node.object
        if node.file is not None and node.file.holds_changes:
            return
        if node.kind is not object.kind:
            return  # a directory that is only here
        if object.metadata is None or (
            known is not None and known.metadata == object.metadata
        ):
            node.object = object
            return
        self._take_in(node, object)

    def _take_in(self, node: Node, object: Object) -> None:
        node.object = object
        node.attributes = effective(object, self.defaults)
        if node.file is not None and isinstance(node.file.state, Clean):
            node.file.state = Clean(object)
