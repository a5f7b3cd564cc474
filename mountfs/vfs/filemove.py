"""Moving a file of a store that copies and deletes: the journal knows of it.

A crash between the copy and the delete leaves the file under both names; the next mount
deletes the old one. It tells a copy by its commit id, and by bytes of one version where
there is none. If the copy had not been made, nobody was told that it was: the rename
has not happened. An error is no crash: what fails is over.
"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mountfs.cache.phases import reached
from mountfs.storage.errors import NotFound, StoreError, VersionChanged
from mountfs.storage.types import Call, Object
from mountfs.vfs.volume import Volume


class FileMoves:
    """Moves of single files in one volume that a crash may cut short."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    @asynccontextmanager
    async def journaled(self, old_key: str, new_key: str) -> AsyncIterator[None]:
        """Move within the block."""
        if self._volume.store.capabilities.move_dir:
            yield  # what moves directories in one step moves files so, too
            return
        journal = self._volume.journal
        id = await journal.begin_rename(old_key, new_key)
        reached("file-move.begun")
        try:
            yield
        except StoreError:
            await journal.end_rename(id)
            raise
        reached("file-move.done")
        await journal.end_rename(id)

    async def finish(self, old_key: str, new_key: str) -> None:
        """Delete the old name if the new one has its copy."""
        store = self._volume.store
        try:
            old, new = await store.stat(old_key), await store.stat(new_key)
        except NotFound:
            return
        if not _is_copy(new, old):
            return
        can_pin = Call.DELETE in store.capabilities.conditions
        # A foreign client may write there anew: that stays.
        with contextlib.suppress(NotFound, VersionChanged):
            await store.delete(old_key, condition=old.version if can_pin else None)


def _is_copy(new: Object, old: Object) -> bool:
    if new.kind is not old.kind or new.size != old.size:
        return False
    ids = [each.metadata and each.metadata.commit_id for each in (new, old)]
    if any(ids):
        return ids[0] == ids[1]
    versions = [each.version and each.version.content for each in (new, old)]
    return versions[0] is not None and versions[0] == versions[1]
