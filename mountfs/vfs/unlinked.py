"""Files that lost their name while they were open: they work until the last close.

The store deletes or replaces an object at once, so its bytes must go somewhere first:
those of a small file into the spool, those of a large one aside in the store, by a
server-side copy under `.mountfs/unlinked/`, which the last close deletes. Those of a
local-only file stay here, whatever their size.
"""

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

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

    @asynccontextmanager
    async def losing_name(self, node: Node, file: FileState) -> AsyncIterator[None]:
        """See to the bytes of a file while its name goes; the file's lock is held.

        If the name cannot be taken away, the file is left as it was: it goes on being
        committed under that name.
        """
        before = file.state
        dirty = before.file if isinstance(before, Dirty) else None
        key, base = (dirty.key, dirty.base) if dirty is not None else ("", None)
        try:
            if node.opens:
                await self._keep_bytes(node, file)
            yield
        except BaseException:
            with trio.CancelScope(shield=True):
                if dirty is not None and dirty.key != key:
                    await self._take_back_dirty(dirty, key, base)
                elif isinstance(before, Clean) and file.state is not before:
                    await self._take_back_clean(file, before)
                await self._delete_aside(self._aside.pop(node, None))
            raise
        if not node.opens:
            await self.drop(node, file)
        elif dirty is not None:
            # Crash before this: a file whose close had failed comes back with its name.
            await self._volume.writeback.forget_failed(dirty.key)

    async def _take_back_dirty(
        self, dirty: DirtyFile, key: str, base: Object | None
    ) -> None:
        writeback = self._volume.writeback
        if base is not None and dirty.base is not None and dirty.base is not base:
            writeback.rebase(dirty, base)
        await writeback.retarget(dirty, key)

    async def _take_back_clean(self, file: FileState, before: Clean) -> None:
        if isinstance(file.state, Dirty):
            await self._volume.writeback.discard(file.state.file)
        file.become_clean(before.object)

    async def _keep_bytes(self, node: Node, file: FileState) -> None:
        """Make an open file independent of its object."""
        match file.state:
            case Clean(object):
                if not object.size:
                    file.become_dirty(self._volume.writeback.begin("", None))
                elif object.size <= SPOOLED_SIZE_MAX or self._is_local_only(object):
                    await self._spool(file, object)
                else:
                    file.state = Clean(await self._set_aside(node, object))
            case Dirty(dirty):
                if not await self._volume.writeback.become_nameless(dirty):
                    await self._set_dirty_aside(node, dirty)

    def _is_local_only(self, object: Object) -> bool:
        waiting = self._volume.waiting_for(object)
        return waiting is not None and waiting.is_local_only

    async def drop(self, node: Node, file: FileState) -> None:
        """Forget the bytes of a file that nobody has open any more."""
        key = self._aside.pop(node, None)
        is_aside = key is not None
        if isinstance(file.state, Dirty):
            is_aside = is_aside and file.state.file.committed_any
            await self._volume.writeback.discard(file.state.file)
            file.become_clean(node.object or Object(key="", size=0))
        await self._delete_aside(key if is_aside else None)

    async def _delete_aside(self, key: str | None) -> None:
        if key is None:
            return
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
        try:
            for offset in range(0, object.size or 0, READ_SIZE):
                data = await self._volume.blocks.read(object, offset, READ_SIZE)
                await writeback.write(dirty, offset, data, metadata=Metadata)
        except BaseException:
            await writeback.discard(dirty)
            raise
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
