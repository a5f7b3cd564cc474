"""Moving a file where that takes more than one request: the journal knows of it.

On a store that copies and deletes, a crash between the two leaves the file under both
names; the next mount deletes the old one. It tells a copy by its commit id, and by
bytes of one version where there is none. If the copy had not been made, nobody was told
that it was: the rename has not happened.

On a store that removes what is at the new name before it moves, a crash in between
leaves the old name alone; the next mount moves that.

An error is no crash: what fails is over.
"""

import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mountfs.cache.conflicts import copy_keys
from mountfs.cache.phases import reached
from mountfs.storage.errors import (
    AlreadyExists,
    NotFound,
    StoreError,
    VersionChanged,
)
from mountfs.storage.types import Call, Object
from mountfs.vfs.volume import EXCHANGES, Volume

log = logging.getLogger(__name__)

_ONTO_ANOTHER = "onto another"
"""The phase of a move that may have removed what was at the new name."""


class FileMoves:
    """Moves of single files in one volume that a crash may cut short."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    @asynccontextmanager
    async def journaled(
        self, old_key: str, new_key: str, *, is_onto_another: bool
    ) -> AsyncIterator[None]:
        """Move within the block; there may be something at the new name."""
        able = self._volume.store.capabilities
        clears = able.move_clears and is_onto_another
        if able.move_dir and not clears:
            yield  # what moves directories in one step moves files so, too
            return
        journal = self._volume.journal
        phase = _ONTO_ANOTHER if clears else "begun"
        id = await journal.begin_rename(old_key, new_key, phase)
        reached("file-move.begun")
        try:
            yield
        except StoreError:
            await journal.end_rename(id)
            raise
        reached("file-move.done")
        await journal.end_rename(id)

    async def finish(self, old_key: str, new_key: str, phase: str) -> None:
        """Let one name have the file, as far as a crash has left that open."""
        if phase == _ONTO_ANOTHER:
            await self._move_on(old_key, new_key)
        else:
            await self._delete_copied(old_key, new_key)

    async def carry_on(self, source: str, target: str) -> None:
        """Move a file as a step of an exchange that was cut short.

        If it could not be taken back, a name was missing, and somebody may have made it
        anew: that stays, and what lies aside, where nobody looks, goes beside it.
        Of what is no copy for certain that is believed: the same size proves nothing.
        """
        store = self._volume.store
        try:
            old = await store.stat(source)
        except NotFound:
            return  # the crash came after this step
        new: Object | None = None
        with contextlib.suppress(NotFound):
            new = await store.stat(target)
        if new is None or _is_copy(new, old):
            with contextlib.suppress(NotFound, VersionChanged):
                await store.move(source, target, source_version=old.version)
        elif source.startswith(EXCHANGES):
            beside = await self._free_beside(target)
            log.warning(
                "%r was made anew when an exchange had failed: what was to have"
                " the name is in %r",
                target,
                beside,
            )
            await store.move(source, beside, source_version=old.version)

    async def _free_beside(self, key: str) -> str:
        """Return a key beside another that nothing has."""
        store = self._volume.store
        limit = store.capabilities.key_size_max
        for beside in copy_keys(key, socket.gethostname(), time.time_ns(), limit):
            try:
                await store.stat(beside)
            except NotFound:
                return beside
        raise AlreadyExists("no name beside it is free", key=key)

    async def _move_on(self, old_key: str, new_key: str) -> None:
        """Move the old name if the new one was made free for it, and is."""
        store = self._volume.store
        try:
            old = await store.stat(old_key)
        except NotFound:
            return  # it has moved
        try:
            await store.stat(new_key)
        except NotFound:
            # Crash in here: the next mount does the same.
            with contextlib.suppress(NotFound, VersionChanged):
                await store.move(old_key, new_key, source_version=old.version)

    async def _delete_copied(self, old_key: str, new_key: str) -> None:
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
