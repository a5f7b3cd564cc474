"""What the parts of one mounted file system share. No behaviour of its own but the
way from a node to its newest object.
"""

import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import trio

from mountfs.cache.activity import Activity
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.blocks import BlockCache
from mountfs.cache.entries import Entry as PendingEntry
from mountfs.cache.incidents import Incidents
from mountfs.cache.journal import Journal
from mountfs.cache.journaled import Journaled
from mountfs.cache.learnt import Learnt
from mountfs.cache.lock import Lock
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.writeback import WriteBack
from mountfs.storage.errors import Unreachable
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    Attributes,
    Metadata,
    Object,
    ObjectKind,
)
from mountfs.storage.watched import HealthStorager
from mountfs.vfs.attributes import (
    Defaults,
    after_read,
    effective,
    is_same_special,
    with_later_ctime,
    with_later_times,
)
from mountfs.vfs.busy import Busy
from mountfs.vfs.courses import Courses
from mountfs.vfs.errors import fail
from mountfs.vfs.filestate import Clean
from mountfs.vfs.groups import Group, Groups
from mountfs.vfs.inodes import InodeTable, Node
from mountfs.vfs.names import NAME_SIZE_MAX, Entry, Names, ShortEntry
from mountfs.vfs.pages import component_of
from mountfs.vfs.touched import Touched

T = TypeVar("T")

RESERVED = ".mountfs"
"""The directory of the root that is ours: hidden, and not to be made by programs."""
EXCHANGES = f"{RESERVED}/exchange"
"""Where the first of two names lies while they change places."""

_CLOCK_REALTIME_COARSE = 5  # clock_gettime(2); Python has no name for it


def kernel_now_ns() -> int:
    """Return the time by the clock that the kernel takes the times of files from.

    It goes in steps of some milliseconds. By a finer one, what we set would be later
    than what the kernel sets after it.
    """
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


@dataclass(frozen=True, slots=True)
class Outdated:
    """A name whose meaning a foreign client changed; the kernel is to forget it."""

    parent: int
    name: bytes


@dataclass(slots=True)
class Hearing:
    """How it goes with what the store tells of what others change."""

    trouble: str = ""
    """Why nothing is told; empty if it is."""


@dataclass(slots=True, kw_only=True)
class Volume:
    """One mounted file system: the store, what is kept of it here, and its nodes."""

    store: Storager
    metadata: MetadataCache
    learnt: Learnt | None = None
    index: AttributeIndex | None = None
    blocks: BlockCache
    writeback: WriteBack
    journal: Journal
    defaults: Defaults
    outdated: "trio.MemorySendChannel[Outdated]"
    is_read_only: bool = False
    notes_reading: bool = True
    """Whether reading sets the atime."""
    requests_max: int = 64
    now_ns: Callable[[], int] = kernel_now_ns
    journaled: Journaled | None = None
    """What is acknowledged and not stored yet, if anything may be."""
    watched: HealthStorager | None = None
    """The store itself, for what is only told to people."""
    hearing: Hearing | None = None
    """None if the store tells nothing of what others change."""
    url_of: Callable[[str], str] = str
    """Returns the URL of the object with a key."""
    inodes: InodeTable
    names: Names
    activity: Activity = field(default_factory=Activity)
    busy: Busy = field(default_factory=Busy)
    courses: Courses = field(default_factory=Courses)
    groups: Groups = field(init=False)
    touched: Touched = field(init=False)
    _storing: dict[Node, Lock] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.groups = Groups(
            self.direct,
            ttl_s=self.metadata.ttl_s,
            requests_max=self.requests_max,
            believes_all=self.metadata.believes_all,
            as_stored=self.as_stored,
        )
        self.touched = Touched(self.inodes)
        self.inodes.home.derive = partial(effective, defaults=self.defaults)

    def believe_for(self, ttl_s: float) -> None:
        """Believe the store's answers for another time, what is known by now too.

        What the kernel was told it keeps for as long as it was told then.
        """
        self.metadata.believe_for(ttl_s)
        self.groups.believe_for(ttl_s)
        if self.index is not None:
            self.index.believe_for(ttl_s)

    @property
    def incidents(self) -> Incidents:
        """What went wrong behind a program's back."""
        return self.writeback.incidents

    def waiting(self) -> tuple[PendingEntry, ...]:
        """Return what is acknowledged and not stored yet."""
        return () if self.journaled is None else tuple(self.journaled.ledger.table)

    def waiting_for(self, object: Object) -> PendingEntry | None:
        """Return the entry that is to be this object in the store, if it waits."""
        if self.journaled is None:
            return None
        return self.journaled.ledger.table.of_version(object.version)

    @property
    def direct(self) -> Storager:
        """The store past what is pending, for what only it can tell or do."""
        return self.store if self.journaled is None else self.journaled.direct

    def as_stored(self, object: Object) -> Object:
        """Return an object with the version that the store gave it, if it has one."""
        if self.journaled is None:
            return object
        return self.journaled.ledger.aliases.resolved(object) or object

    @property
    def keeps_attributes(self) -> bool:
        """Whether mode, owner and times are kept with an object."""
        return self.store.capabilities.attributes

    def metadata_of(self, node: Node) -> Metadata:
        """Return the metadata that travel with an object of this node."""
        return self.metadata_with(node.attributes)

    def metadata_with(self, attributes: Attributes) -> Metadata:
        """Return metadata with what the store is to keep of these attributes."""
        return Metadata(attributes=self.store.capabilities.kept(attributes))

    async def believed(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask; once more if the store went out of reach meanwhile.

        The second time what is known is believed, if the user wants that.
        """
        try:
            return await ask()
        except Unreachable:
            if not self.metadata.believes_all():
                raise
        return await ask()

    def check_writable(self) -> None:
        """Refuse a change on a read-only mount. Raises EROFS."""
        if self.is_read_only:
            fail(errno.EROFS)

    def known_directory(self, path: str) -> Node | None:
        """Return the directory of a key (without its slash), if it is in memory."""
        node: Node | None = self.inodes.root
        for component in path.split("/") if path else ():
            node = node.children.get(self.names.name(component)) if node else None
        return node if node is not None and node.is_directory else None

    def entry(self, parent: Node, name: bytes) -> Entry | ShortEntry:
        """Return what a name stands for. Raises ENAMETOOLONG, before any request."""
        if len(name) > NAME_SIZE_MAX:
            fail(errno.ENAMETOOLONG)
        entry = self.names.entry(name)
        if isinstance(entry, Entry):
            self.check_key(parent.key() + entry.component)
        return entry

    def check_key(self, key: str) -> None:
        """Refuse a key that the store cannot hold. Raises ENAMETOOLONG, EINVAL.

        Here, because a journal takes any key, and would keep this one for ever.
        """
        able = self.store.capabilities
        limit = able.key_size_max
        if limit is not None and len(key.encode(errors="surrogateescape")) > limit:
            fail(errno.ENAMETOOLONG)
        if able.key_check is not None:
            able.key_check(key)

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

    def new_file_entry(self, parent: Node, name: bytes) -> Entry:
        """As `new_entry`, for something that is no directory."""
        entry = self.new_entry(parent, name)
        self.check_file_name(name)
        return entry

    def check_file_name(self, name: bytes) -> None:
        """Refuse the name of the empty component to all but directories.

        The key of such a file would be that of its directory, which has a marker there.
        """
        if self.names.entry(name) == Entry(""):
            fail(errno.EPERM, "this name is reserved")

    def attach(
        self, parent: Node, name: bytes, object: Object, *, packed: bytes | None = None
    ) -> Node:
        """Return the node of a name whose object is known, made or brought up to date.

        A foreign client may have put another object there: then the name gets a new
        node, and the old one keeps its version for those who have it open. (The
        kernel owns the size of a file that it knows; a new number is what makes it
        look again.) `packed` is the object, if somebody has it in that form.
        """
        node = parent.children.get(name)
        group = self._group(object, node)
        if node is not None and not self._still_means(node, object, group):
            self.inodes.detach_name(parent, name)
            node = None
        if node is None and group is not None:
            node = self._other_name(group, object)
            if node is not None:
                self._add_name(node, parent, name, object)
        if node is None:
            node = self._add(parent, name, object, group, packed)
        elif not node.is_packed_as(object):
            self._bring_up_to_date(node, object)
        if group is not None:
            self.inodes.join_group(node, group.id)
            node.links = len(group.names)
            ctime_ns = max(node.attributes.ctime_ns or 0, group.ctime_ns)
            node.attributes = replace(node.attributes, ctime_ns=ctime_ns)
        else:
            node.pack(packed or self.metadata.packed(object.key))
        return node

    def group_of(self, node: Node) -> Group | None:
        """Return the group of hard links that a file is known to have."""
        id = node.group
        return self.groups.known(id) if id is not None else None

    def _add(
        self,
        parent: Node,
        name: bytes,
        object: Object,
        group: Group | None,
        packed: bytes | None,
    ) -> Node:
        component = component_of(object)
        # Names are a bijection: what is its own component is no other's.
        is_other = name != component.encode("utf-8", "surrogateescape")
        node = self.inodes.add(
            parent,
            name,
            component,
            object.kind,
            is_shadowed=is_other and self.names.entry(name).is_shadowed,
            group=group.id if group is not None else None,
        )
        is_plain = object.attributes is None or object.attributes.group is None
        if packed is None or not is_plain or not node.begin_packed(object, packed):
            self._take_in(node, object)
        return node

    def _group(self, object: Object, node: Node | None = None) -> Group | None:
        """Return the group that an object belongs to, if it really does.

        An object of unknown metadata is what its name was, if the record agrees.
        """
        if object.metadata is None and node is not None:
            id = node.group
        else:
            id = object.attributes.group if object.attributes is not None else None
        group = self.groups.known(id) if id is not None else None
        return group if group is not None and self.groups.has(group, object) else None

    def _other_name(self, group: Group, object: Object) -> Node | None:
        """Return the node that other names of a group have, if it has these bytes."""
        node = self.inodes.group(group.id)
        if node is None or node.kind is not object.kind:
            return None
        known = node.object
        if node.holds_changes or (known is not None and self.groups.has(group, known)):
            return node
        return None

    def _add_name(self, node: Node, parent: Node, name: bytes, object: Object) -> None:
        """Give a file one more name; if it has none, its bytes are under this key."""
        is_first = node.is_nameless
        self.inodes.add_name(node, parent, name, component_of(object))
        known = node.object
        if is_first and known is not None and known.key != object.key:
            self.blocks.rekey(known, object)
            node.object = object
            file = node.loaded_file
            if file is not None and isinstance(file.state, Clean):
                file.state = Clean(object)

    def store_of(self, node: Node) -> Storager:
        """Return who is to change the names of a file.

        The record of a group of hard links speaks of versions that the store has given.
        """
        return self.store if node.group is None else self.direct

    def outdate(self, key: str) -> None:
        """Note that the store has something under a key that nobody here knows of."""
        self.metadata.expire(key)
        node: Node | None = self.inodes.root
        for component in key.rstrip("/").split("/"):
            node = node.children.get(self.names.name(component)) if node else None
        if node is not None:
            self.say_outdated(node)

    async def store_has(self, node: Node) -> None:
        """Wait until the store has a file, and know it by the version it has there."""
        known = node.object
        if self.journaled is None or known is None or known.version is None:
            return
        aliases = self.journaled.ledger.aliases
        await self.journaled.settling.settle_name(known.key)
        real = aliases.inward(known)
        aliases.retire(known.key, known.version)
        self.blocks.rekey(known, real)
        node.object = self.metadata.put(real)
        file = node.loaded_file
        if file is not None and isinstance(file.state, Clean):
            file.state = Clean(real)

    def adopt(self, node: Node, object: Object) -> None:
        """Note that the store now holds this object for a node, by our own doing."""
        node.object = self.metadata.put(object)

    def say_outdated(self, node: Node) -> None:
        """Ask that the kernel forget the names of a node; drop it if many wait."""
        for each in node.names():
            try:
                self.outdated.send_nowait(Outdated(each.parent.inode, each.name))
            except (trio.WouldBlock, trio.BrokenResourceError):
                return  # the kernel finds out when its time to live ends, or it is gone

    def touch(self, directory: Node) -> None:
        """Note that the entries of a directory changed now."""
        now_ns = self.now_ns()
        directory.attributes = replace(
            directory.attributes, mtime_ns=now_ns, ctime_ns=now_ns
        )
        if not directory.is_nameless:
            self.busy.note(directory.key())
        if self.keeps_attributes:
            self.touched.note(directory)

    def note_change(self, node: Node) -> None:
        """Note that an inode changed now, but for its bytes: its name, its links."""
        node.attributes = replace(node.attributes, ctime_ns=self.now_ns())
        self.inodes.keep(node)

    def note_reading(self, node: Node) -> None:
        """Note that somebody opened a file to read it; the atime is not stored yet."""
        if self.notes_reading and self.keeps_attributes and not self.is_read_only:
            node.attributes = after_read(node.attributes, self.now_ns())
            self.inodes.keep(node)

    async def store_directory_attributes(
        self, directory: Node, attributes: Attributes
    ) -> None:
        """Put the attributes of a directory into the store, where it keeps any.

        A directory without a marker gets one, unless its attributes are kept beside
        it, as those of the root always are. The node itself is not changed.
        """
        able, is_root = self.store.capabilities, directory.parent is None
        if not (able.root_metadata if is_root else able.dir_metadata):
            return
        metadata = self.metadata_with(attributes)
        known = Object(key="", kind=ObjectKind.DIRECTORY)
        async with self._alone(directory):
            if is_root:
                await self.store.set_metadata(known, metadata)
                return
            known = directory.object or replace(known, key=directory.key())
            if known.version is not None or known.kind in able.indexed:
                object = await self.store.set_metadata(known, metadata)
            else:
                object = await self.store.make_dir(directory.key(), metadata=metadata)
                if object.attributes != metadata.attributes:
                    # It has a marker by now, which is left as it is.
                    object = await self.store.set_metadata(object, metadata)
            self.adopt(directory, object)

    @asynccontextmanager
    async def _alone(self, directory: Node) -> AsyncIterator[None]:
        """Store one state after the other: an older one must not overtake a newer."""
        lock = self._storing.setdefault(directory, Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._storing.pop(directory, None)

    def _still_means(self, node: Node, object: Object, group: Group | None) -> bool:
        if node.kind is not object.kind:
            return node.is_only_here
        if node.kind is ObjectKind.SPECIAL and not is_same_special(
            node.attributes, effective(object, self.defaults)
        ):
            return False
        if node.holds_changes:
            return True
        known = node.object
        if group is not None or node.group is not None:
            return self._is_same_file(node, object, group)
        if node.kind is not ObjectKind.FILE or known is None:
            return True
        if known.version is None or object.version is None:
            return True
        same_bytes = known.version.content == object.version.content
        return same_bytes and known.size == object.size

    def _is_same_file(self, node: Node, object: Object, group: Group | None) -> bool:
        """Tell whether a name still leads to a node, one of which has several names."""
        known = node.object
        if group is None or known is None:
            return False
        if node.group is None:
            # Somebody else gave the file another name since.
            is_alone = self.inodes.group(group.id) in {None, node}
            return (
                is_alone and known.key == object.key and self.groups.has(group, known)
            )
        return node.group == group.id and self.groups.has(group, known)

    def _bring_up_to_date(self, node: Node, object: Object) -> None:
        known = node.object
        if node.holds_changes:
            return
        if node.kind is not object.kind:
            return  # a directory that is only here
        if known is not None and known.key != object.key:
            # Another name of the file: it tells the attributes, not the bytes.
            if object.attributes is not None and object.attributes != known.attributes:
                told = effective(object, self.defaults)
                node.attributes = with_later_ctime(told, node.attributes)
                node.object = replace(known, metadata=object.metadata)
            return
        if object.metadata is None or (
            known is not None and known.metadata == object.metadata
        ):
            node.object = object
            return
        before = node.attributes
        self._take_in(node, object)
        node.attributes = with_later_ctime(node.attributes, before)
        if node in self.touched:
            # What the store tells is older than what happened here.
            node.attributes = with_later_times(node.attributes, before)
        elif node.is_directory and known is not None and known.metadata is None:
            # A listing had told nothing, and entries may have changed here since.
            has_changed = before != effective(known, self.defaults)
            later = with_later_times(node.attributes, before)
            node.attributes = later if has_changed else node.attributes

    def _take_in(self, node: Node, object: Object) -> None:
        node.object = object
        attributes = effective(object, self.defaults)
        if attributes.group is not None and self._group(object) is None:
            # A copy of a name that some other program made: a file of its own.
            attributes = replace(attributes, group=None)
            node.links = 1
        node.attributes = attributes
        file = node.loaded_file
        if file is not None and isinstance(file.state, Clean):
            file.state = Clean(object)
