"""A commit: how a dirty file becomes one object, and what is true of it afterwards.

Chooses between the file's stream and a plan, marks each commit with an id of its own,
and tells an object that such a commit has left, although its reply was lost, from
somebody else's. Who calls holds the file's lock (`DirtyFile.changing`).
"""

import dataclasses
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.extents import Extents
from mountfs.cache.plan import Plan, SendParts, plan_commit
from mountfs.cache.spool import Spool
from mountfs.cache.streamer import Streamer, rebase
from mountfs.cache.uploader import Uploader
from mountfs.storage.errors import (
    BucketNotFound,
    NotFound,
    PreconditionFailed,
    StoreError,
    UploadNotFound,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ABSENT, Metadata, Object

log = logging.getLogger(__name__)

_OFFER_SMALL = 64 << 10
_OFFER_MAX = 64 << 20
_OFFER_SIZE = 8 << 20
_OFFER_LATER = 8 << 20
"""A commit of so many bytes does not wait until the block cache has them."""


class Commits:
    """Carries out the commits of all dirty files."""

    def __init__(
        self,
        store: Storager,
        blocks: BlockCache,
        budget: Budget,
        uploader: Uploader,
        streamer: Streamer,
        *,
        put_size_max: int,
        part_size: int,
    ) -> None:
        self._store = store
        self._blocks = blocks
        self._budget = budget
        self._uploader = uploader
        self._streamer = streamer
        self._put_size_max = put_size_max
        self._part_size = part_size

    def plan(self, dirty: DirtyFile, *, may_copy: bool = True) -> Plan:
        """Choose the requests that store a file.

        Without `may_copy` none of them names the base, which may be gone from its key.
        """
        able = self._store.capabilities
        if not may_copy:
            able = dataclasses.replace(able, multipart_copy=False, append=False)
        elif not _is_in_its_place(dirty):
            able = dataclasses.replace(able, append=False)
        return plan_commit(
            dirty.size,
            dirty.extents,
            dirty.base_size,
            able,
            is_base_whole=dirty.is_base_whole,
            put_size_max=self._put_size_max,
            part_size=self._part_size,
        )

    async def store(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Store a file; a conflict with a lost commit of our own is none.

        Raises `PreconditionFailed` if somebody else was there first.
        """
        try:
            return await self._store_once(dirty, metadata)
        except (PreconditionFailed, UploadNotFound) as error:
            found = await self._own_object(dirty)
            if found is None:
                raise
            commit_id = found.metadata.commit_id if found.metadata else None
            if dirty.commit_ids.get(commit_id or "") == dirty.revision:
                return await self._stored(dirty, found)
            if isinstance(error, UploadNotFound):
                raise  # some of its bytes were in that upload alone
            # It holds an earlier state of this file: wherever nothing was written
            # since the old base, both have the same bytes.
            rebase(dirty, found, dirty.base_size)
            dirty.condition = found.version
            return await self._store_once(dirty, metadata)

    async def store_elsewhere(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Store a file under a key that is not that of its base.

        What is not here is read from the cache, or from the base as long as the store
        has that version. Raises `VersionChanged` or `NotFound` if nobody has it.
        """
        metadata = dataclasses.replace(metadata, commit_id=secrets.token_hex(16))
        plan = self.plan(dirty, may_copy=False)
        return await self._execute(plan, dirty, metadata)

    async def store_metadata(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Finish a file of which every byte was stored ahead of its commit."""
        assert dirty.base is not None
        object = dirty.base
        if self._store.capabilities.set_metadata:
            stored = await self._store.set_metadata(object, metadata)
            object = self.rebase(dirty, stored)
        dirty.stored_revision = dirty.revision
        return object

    def rebase(self, dirty: DirtyFile, base: Object) -> Object:
        """Note that the same bytes of the base have another key or version now."""
        old = dirty.base
        assert old is not None
        self._blocks.rekey(old, base)
        base = dataclasses.replace(base, size=old.size)
        rebase(dirty, base, dirty.base_size)
        return base

    async def _store_once(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Store the file by its stream or by a plan, and note the outcome."""
        commit_id = dirty.commit_id or secrets.token_hex(16)
        metadata = dataclasses.replace(metadata, commit_id=commit_id)
        stream = dirty.stream
        if stream is not None:
            with _noted(dirty, stream.metadata.commit_id):
                object = await self._streamer.finish(dirty, metadata, dirty.condition)
            if object is not None:
                object = await self._stored(dirty, object)
                try:
                    mended = await self._streamer.mend_metadata(
                        stream, object, metadata
                    )
                except StoreError as error:
                    error.is_ambiguous = True  # the object is there
                    raise
                if mended is object:
                    return object
                if dirty.is_promised:
                    # Not its base: it stays what was promised, until its row is gone.
                    self._blocks.rekey(object, mended)
                    return dataclasses.replace(mended, size=object.size)
                return self.rebase(dirty, mended)
        return await self._execute(self.plan(dirty), dirty, metadata)

    async def _execute(
        self, plan: Plan, dirty: DirtyFile, metadata: Metadata
    ) -> Object:
        attempt = await self._uploader.attempt_of(dirty, metadata, dirty.inherit)
        if attempt is None:
            await self.give_up_attempt(dirty)
        else:
            plan = SendParts(attempt.pieces)
            metadata = dataclasses.replace(metadata, commit_id=attempt.upload.commit_id)
        with _noted(dirty, metadata.commit_id):
            try:
                object = await self._uploader.execute(
                    plan,
                    dirty,
                    metadata=metadata,
                    inherit=dirty.inherit,
                    condition=dirty.condition,
                )
            except BucketNotFound:
                raise
            except UploadNotFound:
                if attempt is None:
                    raise
                object = None  # somebody has aborted it since
            except NotFound as gone:
                # Whether for its bytes or as the condition: what failed is the base.
                raise VersionChanged("the object is gone", key=dirty.key) from gone
        if object is None:
            metadata = dataclasses.replace(metadata, commit_id=secrets.token_hex(16))
            return await self._execute(self.plan(dirty), dirty, metadata)
        return await self._stored(dirty, object)

    async def give_up_attempt(self, dirty: DirtyFile) -> None:
        """Forget an upload that was cut short, before the bytes of its file change."""
        upload = await self._uploader.give_up(dirty)
        if upload is not None:
            self._streamer.abort_later(upload)

    async def _own_object(self, dirty: DirtyFile) -> Object | None:
        """Return the object under the key if a commit of ours put it there."""
        if not dirty.commit_ids:
            return None
        try:
            found = await self._store.stat(dirty.key)
        except StoreError:
            return None
        commit_id = found.metadata.commit_id if found.metadata is not None else None
        return found if commit_id in dirty.commit_ids else None

    async def _stored(self, dirty: DirtyFile, object: Object) -> Object:
        """Put the new object under the file, and empty the spool."""
        object = dataclasses.replace(object, size=dirty.size)
        whole, dirty.whole = dirty.whole, None
        with trio.CancelScope(shield=True):
            size = dirty.extents.total
            is_later = dirty.may_change_spool and size >= _OFFER_LATER
            if whole is not None:
                self._blocks.put_small(object, whole)
            elif not is_later:
                await self._offer(dirty.spool, dirty.extents, object)
            if dirty.is_promised:
                # Its row speaks of these bytes: they stay until that is gone.
                return object
            rebase(dirty, object, dirty.size)
            dirty.commit_ids.clear()
            dirty.stored_revision = dirty.revision
            dirty.stream_refused = False
            if is_later:
                self._leave_to_the_cache(dirty, object)
                return object
            dirty.extents.clear()
            await dirty.readers.wait_for_readers()
            if dirty.spool.is_open:
                await dirty.spool.resize(0)
            self._budget.release_dirty(size)
        return object

    def _leave_to_the_cache(self, dirty: DirtyFile, object: Object) -> None:
        """Give the file an empty spool; from the old one the cache takes the bytes.

        Crash before it is removed: a spool file that no row names, which the next mount
        removes. The store has the bytes.
        """
        spool, extents = dirty.spool, dirty.extents
        dirty.spool, dirty.extents = Spool(spool.directory), Extents()

        async def offer() -> None:
            with self._budget.freeing():
                await dirty.readers.wait_for_readers()
                try:
                    await self._offer(spool, extents, object)
                finally:
                    with trio.CancelScope(shield=True):
                        await _remove(spool)
                    self._budget.release_dirty(extents.total)

        self._streamer.start_soon(offer)

    async def _offer(self, spool: Spool, extents: Extents, object: Object) -> None:
        """Let the block cache have what was written, as far as there is room."""
        left = _OFFER_MAX
        try:
            if (object.size or 0) <= _OFFER_SMALL and list(extents) == [
                (0, object.size)
            ]:
                whole = await spool.read(0, object.size or 0)
                self._blocks.put_small(object, whole)
                return
            for start, end in extents:
                while start < end and left > 0:
                    # Cut at a multiple of the size, so that no block falls between two.
                    stop = min(end, (start // _OFFER_SIZE + 1) * _OFFER_SIZE)
                    piece = await spool.read(start, stop - start)
                    await self._blocks.put(object, start, piece)
                    left -= stop - start
                    start = stop
        except StoreError as error:
            log.info("written bytes could not be cached: %s", error)


def _is_in_its_place(dirty: DirtyFile) -> bool:
    """Tell whether the base is what a commit replaces, and not what was renamed."""
    is_there = dirty.base is not None and dirty.base.key == dirty.key
    return is_there and dirty.condition is not ABSENT


async def _remove(spool: Spool) -> None:
    """Remove a spool that nobody needs; nobody waits for it, so an error is told."""
    try:
        await spool.remove()
    except OSError as error:
        log.warning(
            "%s takes room until the next mount: it cannot be removed (%s)",
            spool.path,
            error.strerror,
        )


@contextmanager
def _noted(dirty: DirtyFile, commit_id: str | None) -> Iterator[None]:
    """Remember a commit whose outcome is unknown, so that it can be told later."""
    # A promised commit has one id for all attempts, and an earlier one may have won.
    is_first = commit_id not in dirty.commit_ids
    if commit_id is not None:
        dirty.commit_ids[commit_id] = dirty.revision
    try:
        yield
    except StoreError as error:
        if commit_id is not None and is_first and not error.is_ambiguous:
            dirty.commit_ids.pop(commit_id, None)
        raise
