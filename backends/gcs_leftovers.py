"""What crashes and lost answers leave of uploads, found and removed.

An upload whose object is there was completed, and only its parts are left. Parts of
which nothing else is left belong to an upload or an append that ended long ago, once
they are a day old. Everything else may be somebody's work under way.

It is looked for once, before the first parts of this process are sent, or at the first
write after a listing has shown that something is there; and again when a removal has
failed. A process that only reads removes nothing.
"""

import logging
import time

import trio

from mountfs.backends.gcs_known import Known
from mountfs.backends.gcs_listing import Listings
from mountfs.backends.gcs_multipart import Multipart
from mountfs.storage.errors import NotFound, StoreError
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import Upload

log = logging.getLogger(__name__)

ORPHAN_NS = 24 * 3600 * 10**9
CLOSE_S = 10.0
"""So long the end of a process waits for the removal of what is left."""


class Leftovers:
    """Looks for what is left below one root."""

    def __init__(self, multipart: Multipart, listings: Listings, known: Known) -> None:
        self._multipart = multipart
        self._listings = listings
        self._known = known
        self._has_looked = False
        self._has_written = False

    async def before_a_write(self) -> None:
        """Look, if something was seen."""
        self._has_written = True
        is_seen = self._listings.has_shown_parts and not self._has_looked
        if self._is_due or is_seen:
            await self._look()

    async def before_parts(self) -> None:
        """Look, if that was not done yet."""
        self._has_written = True
        if self._is_due or not self._has_looked:
            await self._look()

    async def before_the_end(self) -> None:
        """Look, if a removal has failed."""
        if self._has_written and self._is_due:
            with trio.move_on_after(CLOSE_S):
                await self._look()

    @property
    def _is_due(self) -> bool:
        return self._multipart.has_failed_to_remove

    async def _look(self) -> None:
        self._has_looked = True
        self._multipart.has_failed_to_remove = False
        try:
            with because(Reason.PROBE):
                open_uploads, orphans = await self._multipart.found()
                for upload in open_uploads:
                    if await self._is_complete(upload):
                        await self._remove(upload)
                for orphan in orphans:
                    if time.time_ns() - (orphan.begun_ns or 0) > ORPHAN_NS:
                        await self._remove(orphan)
        except StoreError as error:
            log.info("parts that a crash has left may be there: %s", error)

    async def _is_complete(self, upload: Upload) -> bool:
        if upload.commit_id is None or self._multipart.is_ours(upload):
            return False
        try:
            there = await self._known.ask(upload.key)
        except NotFound:
            return False
        metadata = there.metadata
        return metadata is not None and metadata.commit_id == upload.commit_id

    async def _remove(self, upload: Upload) -> None:
        await self._multipart.abort(upload)
        log.info("parts of %r that were left over are gone", upload.key)
