"""Multipart uploads that a crash has cut off from us, told from those of others.

An upload is opened in three steps: the intent is journaled, the store opens it, its id
is journaled. A process that dies after the second leaves an upload that nobody knows.
It has no parts, since the first part is sent after the third step; so it holds no byte
and costs nothing.

A store that lists the commit id of an upload proves whose it is. The listing of S3
tells key and time alone, which another client's upload may share. There an upload is
aborted only if all of this holds: it is of exactly the key of an intent, was opened
when that was about to be, is the only such one, has no parts, and is a day old. Should
it be another client's after all, that one has sent nothing in a day and loses nothing:
it would have to begin anew what it has not begun. What is younger is left to a later
mount.
"""

import logging
import time
from collections.abc import Awaitable, Callable

from mountfs.cache.journal import Intent, Journal
from mountfs.storage.errors import NotFound, StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Upload

log = logging.getLogger(__name__)

CLOCK_SLACK_NS = 15 * 60 * 10**9
"""Clocks differ; S3 takes requests that are this much off its own."""
OPENING_NS = 60 * 10**9
"""How long it may take until the store has opened an upload."""
AGE_NS = 24 * 3600 * 10**9


class Orphans:
    """Finds and aborts uploads that were opened and never journaled."""

    def __init__(
        self,
        store: Storager,
        journal: Journal,
        abort: Callable[[Upload], Awaitable[bool]],
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._journal = journal
        self._abort = abort
        self._now_ns = now_ns

    async def abort_all(
        self, is_opening: Callable[[str], bool] = lambda _: False
    ) -> None:
        """Look for the upload of each intent that an earlier mount has left.

        `is_opening` tells of the intents of this one.
        """
        for intent in await self._journal.intents():
            if is_opening(intent.commit_id):
                continue
            try:
                is_settled = await self._settle(intent)
            except StoreError as error:
                log.info("an upload of %r may be left over: %s", intent.key, error)
                continue
            if is_settled:
                await self._journal.end_intent(intent.commit_id)

    async def _settle(self, intent: Intent) -> bool:
        """Abort the upload of an intent; False if a later mount is to look again."""
        known = {row.id for row in await self._journal.uploads()}
        found = [
            upload
            for upload in await self._store.list_uploads(intent.key)
            if upload.key == intent.key and upload.id not in known
        ]
        proven = [each for each in found if each.commit_id == intent.commit_id]
        if proven:
            return all([await self._abort(each) for each in proven])
        likely = [
            each
            for each in found
            if each.commit_id is None
            and _is_of(each, intent)
            and await self._is_empty(each)
        ]
        if len(likely) != 1:
            return True  # gone, or not to be told from another client's
        (upload,) = likely
        if self._now_ns() - intent.begun_ns < AGE_NS:
            return False
        log.info("an upload of %r that was never begun is aborted", upload.key)
        return await self._abort(upload)

    async def _is_empty(self, upload: Upload) -> bool:
        try:
            return not await self._store.list_parts(upload)
        except NotFound:
            return False


def _is_of(upload: Upload, intent: Intent) -> bool:
    """Tell whether an upload was opened at the time of an intent."""
    if upload.begun_ns is None or upload.commit_id is not None:
        return False
    after_ns = upload.begun_ns - intent.begun_ns
    return -CLOCK_SLACK_NS <= after_ns <= OPENING_NS + CLOCK_SLACK_NS
