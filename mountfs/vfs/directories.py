"""Listing directories: a snapshot per handle, so that changes neither skip nor repeat.

A listing of a key store carries no metadata, so a symbolic link or a mode is not seen
in it. If the mount keeps such things, a sample of the entries is asked for theirs, and
only if one of them has any are the others asked, many at once. What was learnt stays
in the metadata cache as long as the version stays.
"""

import dataclasses
import itertools
from dataclasses import dataclass, field
from functools import partial

from mountfs.storage.errors import NotFound
from mountfs.storage.types import ABSENT, NO_METADATA, Object, ObjectKind
from mountfs.vfs.filestate import Dirty
from mountfs.vfs.inodes import Node
from mountfs.vfs.listings import component_of, list_all
from mountfs.vfs.parallel import run_all
from mountfs.vfs.volume import RESERVED, Volume

SAMPLE_SIZE = 32


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """One opendir(3): its entries, once they are read. Cookies are positions."""

    handle: int
    node: Node
    entries: "list[tuple[bytes, Object | Node]] | None" = field(default=None)


class Directories:
    """The open directories of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
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
        if known is not None and known.file is not None and known.file.holds_changes:
            return known
        tail = "/" if what.kind is ObjectKind.DIRECTORY else ""
        key = directory.key() + component_of(what) + tail
        newest = self._volume.metadata.last_known(key)
        if newest is ABSENT:
            return None
        if newest is None:
            # Out of the cache, or its directory was renamed.
            return known or self._volume.attach(
                directory, name, dataclasses.replace(what, key=key)
            )
        return self._volume.attach(directory, name, newest)

    async def _snapshot(self, node: Node) -> "list[tuple[bytes, Object | Node]]":
        if node.is_nameless:
            return []
        found: dict[bytes, Object | Node] = {}
        objects = await self._list(node.key())
        directories = {
            component_of(object)
            for object in objects
            if object.kind is ObjectKind.DIRECTORY
        }
        is_root = node.parent is None
        for object in objects:
            component = component_of(object)
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
            if child.file is not None and isinstance(child.file.state, Dirty)
        }
        return sorted(found.items())

    async def _list(self, prefix: str) -> tuple[Object, ...]:
        known = self._volume.metadata.listing(prefix)
        if known is not None:
            return known
        begun = self._volume.metadata.begin_listing(prefix)
        try:
            objects = await list_all(self._volume.store, prefix)
        except BaseException:
            self._volume.metadata.drop_listing(begun)
            raise
        listed = self._volume.metadata.put_listing(begun, objects)
        return await self._with_metadata(listed)

    async def _with_metadata(self, objects: tuple[Object, ...]) -> tuple[Object, ...]:
        """Learn the metadata of entries whose listing did not tell them."""
        store = self._volume.store
        if store.capabilities.list_metadata or not store.capabilities.metadata:
            return objects
        if not (self._volume.keeps_attributes or store.features.virtual_link):
            return objects
        unknown = [object for object in objects if self._may_have_more(object)]
        learnt = await self._ask(unknown[:SAMPLE_SIZE])
        known_before = any(object.attributes is not None for object in objects)
        if known_before or any(object.attributes for object in learnt.values()):
            learnt |= await self._ask(unknown[SAMPLE_SIZE:])
        return tuple(learnt.get(object.key, object) for object in objects)

    def _may_have_more(self, object: Object) -> bool:
        if object.metadata is not None:
            return False
        if object.kind is ObjectKind.DIRECTORY:
            return self._volume.store.capabilities.dir_metadata
        return True

    async def _ask(self, objects: list[Object]) -> dict[str, Object]:
        deeds = [partial(self._stat, object) for object in objects]
        answers = await run_all(deeds, at_once=self._volume.requests_max)
        return {answer.key: answer for answer in answers}

    async def _stat(self, object: Object) -> Object:
        asked_at = self._volume.metadata.moment(object.key)
        try:
            answer = await self._volume.store.stat(object.key)
        except NotFound:
            if object.kind is ObjectKind.DIRECTORY:
                # No marker: it exists by its children and has no metadata.
                answer = dataclasses.replace(object, metadata=NO_METADATA)
            else:
                return object
        newest = self._volume.metadata.put_answer(object.key, answer, asked_at)
        return newest if isinstance(newest, Object) else object
