"""Listing directories: a snapshot per handle, so that changes neither skip nor repeat.

What a listing does not tell of its entries is learnt by `mountfs.vfs.learning`.
"""

import dataclasses
import itertools
from dataclasses import dataclass, field
from functools import partial

import trio

from mountfs.cache.packed import pack, unpack
from mountfs.storage.types import ABSENT, Object, ObjectKind
from mountfs.vfs.foreign import shown
from mountfs.vfs.inodes import Node
from mountfs.vfs.laterlinks import LaterLinks
from mountfs.vfs.learning import Learning
from mountfs.vfs.lister import Lister
from mountfs.vfs.pages import component_of
from mountfs.vfs.volume import RESERVED, Volume
from mountfs.vfs.walks import Walks

AT_ONCE = 1000
"""So many entries are looked at before anybody else has a turn."""


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """One opendir(3): its entries, once they are read. Cookies are positions."""

    handle: int
    node: Node
    entries: "list[tuple[bytes, Object | Node]] | None" = field(default=None)


class Directories:
    """The open directories of one volume."""

    def __init__(
        self,
        volume: Volume,
        learning: Learning,
        later: LaterLinks,
        lister: Lister,
        walks: Walks,
    ) -> None:
        self._volume = volume
        self._learning = learning
        self._later = later
        self._lister = lister
        self._walks = walks
        self._open: dict[int, OpenDirectory] = {}
        self._handles = itertools.count(1)

    def open(self, node: Node) -> OpenDirectory:
        """Open a directory; nothing is asked before the first entry is wanted."""
        opened = OpenDirectory(next(self._handles), node)
        self._open[opened.handle] = opened
        node.opens += 1
        return opened

    def get(self, handle: int) -> OpenDirectory:
        """Return the open directory of a handle."""
        return self._open[handle]

    def release(self, handle: int) -> None:
        """Take back a handle."""
        opened = self._open.pop(handle)
        self._volume.inodes.release(opened.node)

    async def entries(
        self, opened: OpenDirectory, *, anew: bool
    ) -> "list[tuple[bytes, Object | Node]]":
        """Return the snapshot of a handle; `anew` takes a new one (rewinddir(3))."""
        if opened.entries is None or anew:
            self._walks.note_listed(opened.node)
            opened.entries = await self._snapshot(opened.node)
        return opened.entries

    def node_of(
        self, directory: Node, name: bytes, what: "Object | Node"
    ) -> Node | None:
        """Return the node of an entry, made if the kernel does not know it yet.

        None if the name is gone since the snapshot was taken. What was learnt since
        is believed, not the snapshot.
        """
        if directory.is_nameless:
            return None
        known = directory.children.get(name)
        if isinstance(what, Node):
            return what if what is known else None
        if known is not None and known.pins:
            return known
        if known is not None and known.holds_changes:
            return known
        tail = "/" if what.kind is ObjectKind.DIRECTORY else ""
        key = directory.key() + component_of(what) + tail
        metadata = self._volume.metadata
        newest = metadata.newest(key)
        if newest is ABSENT and what.has_foreign_name:
            # Of what other tools keep under other names a listing tells nothing.
            is_known_absent = metadata.last_known(key) is ABSENT
            newest = metadata.packed(key) or (ABSENT if is_known_absent else None)
        if newest is ABSENT:
            return None
        if not isinstance(newest, bytes):
            # Out of the cache, or its directory was renamed.
            return known or self._volume.attach(
                directory, name, dataclasses.replace(what, key=key)
            )
        if known is not None and known.is_kept_as(newest):
            return known
        is_same = what.key == key and pack(what) == newest
        object = what if is_same else unpack(key, newest)
        return self._volume.attach(directory, name, object, packed=newest)

    async def _snapshot(self, node: Node) -> "list[tuple[bytes, Object | Node]]":
        if node.is_nameless:
            return []
        found: dict[bytes, Object | Node] = {}
        objects = await self._list(node.key())
        await self._volume.groups.learn(objects)
        directories = {
            component_of(object)
            for object in objects
            if object.kind is ObjectKind.DIRECTORY
        }
        is_root = node.parent is None
        hidden = {RESERVED} if is_root else set()
        node.links = 2 + len(directories - hidden)
        if is_root:
            await self._learning.learn_root()
        known = {object.key for object in objects}
        for number, (component, object) in enumerate(shown(objects)):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()  # others wait, too
            if object.key not in known:
                object = self._volume.metadata.put(object)
            if is_root and component == RESERVED:
                continue
            is_shadowed = (
                object.kind is not ObjectKind.DIRECTORY and component in directories
            )
            name = self._volume.names.name(component, is_shadowed=is_shadowed)
            found[name] = object
        found |= {
            name: child
            for name, child in node.children.items()
            if child.holds_changes or self._later.is_at(node, name)
        }
        return sorted(found.items())

    async def _list(self, prefix: str) -> tuple[Object, ...]:
        return await self._volume.believed(partial(self._lister.entries, prefix))
