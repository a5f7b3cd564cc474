"""Files that lost their name while they were open: they work until the last close.

The store deletes or replaces an object at once, so its bytes must go somewhere first:
those of a small file into the spool, those of a large one aside in the store, by a
server-side copy under `.mountfs/unlinked/`, which the last close deletes.
"""

import logging
import uuid
from dataclasses import replace

from mountfs.cache.dirty import DirtyFile
from mountfs.storage.errors import NotFound, StoreError
from mountfs.storage.types import Metadata, Object
from mountfs.vfs.filestate import Clean, Dirty, FileState
from mountfs.vfs.inodes import Node
from mountfs.vfs.volume import RESERVED, Volume

log = logging.getLogger(__name__)

SPOOLED_SIZE_MAX = 32 << 20
"""Larger objects are set aside in the store and not fetched. Bytes."""

READ_SIZE = 1 << 20


class Unlinked:
    """Sees to open files whose name goes away.

    `owner` names the state directory of this mount: what a crash left aside in the
    store is deleted by the next mount with the same state directory, and by no other.
    """

    def __init__(self, volume: Volume, owner: str) -> None:
        self._volume = volume
        self._prefix = f"{RESERVED}/unlinked/{owner}/"
        self._aside: dict[Node, str] = {}

    async def keep_bytes(self, node: Node, file: FileState) -> None:
        """Make an open file independent of its object; the file's lock is held."""
        match file.state:
            case Clean(object):
                if not object.size:
                    file.become_dirty(self._volume.writeback.begin("", None))
                elif object.size <= SPOOLED_SIZE_MAX:
                    await self._spool(file, object)
                else:
                    file.state = Clean(await self._set_aside(node, object))
            case Dirty(dirty):
                await self._set_dirty_aside(node, dirty)

    async def drop(self, node: Node, file: FileState) -> None:
        """Forget the bytes of a file that nobody has open any more."""
        key = self._aside.pop(node, None)
        is_aside = key is not None
        if isinstance(file.state, Dirty):
            is_aside = is_aside and file.state.file.committed_any
            await self._volume.writeback.discard(file.state.file)
            file.become_clean(node.object or Object(key="", size=0))
        if key is not None and is_aside:
            try:
                await self._volume.store.delete(key)
            except StoreError as error:
                log.warning(
                    "%r, set aside for an unlinked file, could not be deleted (%s); "
                    "the next mount deletes it",
                    key,
                    error,
                )

    async def clean_up(self) -> None:
        """Delete what an earlier, killed mount of ours left aside in the store."""
        token: str | None = None
        while True:
            try:
                page = await self._volume.store.list(self._prefix, token=token)
            except NotFound:
                return
            keys = [object.key for object in page.objects]
            failed = await self._volume.store.delete_many(keys) if keys else {}
            for key, error in failed.items():
                log.warning("%r could not be deleted: %s", key, error)
            if page.token is None:
                return
            token = page.token

    async def _spool(self, file: FileState, object: Object) -> None:
        writeback = self._volume.writeback
        dirty = writeback.begin("", object, size=object.size)
        for offset in range(0, object.size or 0, READ_SIZE):
            data = await self._volume.blocks.read(object, offset, READ_SIZE)
            await writeback.write(dirty, offset, data, metadata=Metadata)
        file.become_dirty(dirty)

    async def _set_aside(self, node: Node, object: Object) -> Object:
        # Crash after the copy and before the delete of its source: the file is still
        # there under its name; clean_up removes the copy.
        copy = await self._volume.store.copy(
            object.key, self._aside_key(node), source_version=object.version
        )
        copy = replace(copy, size=object.size)
        self._volume.blocks.rekey(object, copy)
        return copy

    async def _set_dirty_aside(self, node: Node, dirty: DirtyFile) -> None:
        """Give a changed file a key of its own: what is stored of it early, because
        it is large, must not come back under the name that is going away.
        """
        base = dirty.base
        key = self._aside_key(node)
        await self._volume.writeback.retarget(dirty, key)
        if base is not None and dirty.base is base:
            copy = await self._volume.store.copy(
                base.key, key, source_version=base.version
            )
            self._volume.writeback.rebase(dirty, copy)

    def _aside_key(self, node: Node) -> str:
        """Return the key that a nameless file has in the store, if it has any."""
        if node not in self._aside:
            self._aside[node] = self._prefix + uuid.uuid4().hex
        return self._aside[node]
