"""The dirty side of the cache: files that were changed and go into the store.

`WriteBack` owns the spool directory and every `DirtyFile`. Its caller holds a lock
per file over write, truncate, commit, retarget and discard; reads come at any time.
A lock of our own (`DirtyFile.changing`) adds what only we know: a read may have to
fold a stream, which changes the file.

Order of a write: room is reserved, parts that hold the range become stale, the bytes
are written to the spool, the extents say so. A crash in between loses bytes that
nobody was told are safe.

Order of a commit: the store has the object; the block cache is offered the bytes; the
object becomes the base and the extents are empty; when no read looks at the old bytes
any more they leave the spool, and the room is released.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.commits import Commits
from mountfs.cache.conflicts import Conflicts, Policy
from mountfs.cache.directory import DirectoryLock
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.dirtyreads import DirtyReads
from mountfs.cache.incidents import IncidentKind, Incidents
from mountfs.cache.journal import Journal
from mountfs.cache.orphans import Orphans
from mountfs.cache.pendingfiles import PendingFile, oldest_s, pending_files
from mountfs.cache.plan import PutWhole
from mountfs.cache.promised import PromisedFiles, Promises, can_wait
from mountfs.cache.recovery import Failed, FailedFiles, Recovered
from mountfs.cache.spool import Spool
from mountfs.cache.streamer import Streamer
from mountfs.cache.streaming import Stream
from mountfs.cache.uploader import DEFAULT_SENDING, Sending, Uploader
from mountfs.storage.errors import PreconditionFailed, QuotaExceeded, StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Condition, Metadata, Object, Upload

log = logging.getLogger(__name__)

_EVICTED_AT_ONCE = 4 << 20
_STREAM_AFTER_S = 1.0
"""Where a close does not wait for the store, a file that is written within this time is
sent afterwards: while it is written, sending would only make the program slower."""


class WriteBack:
    """Keeps changed files in the spool until the store has them."""

    def __init__(
        self,
        store: Storager,
        blocks: BlockCache,
        journal: Journal,
        budget: Budget,
        directory: Path,
        *,
        sending: Sending = DEFAULT_SENDING,
        conflict: Policy = Policy.COPY,
        incidents: Incidents | None = None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._budget = budget
        self._directory = directory
        self._sending = sending
        self._uploader = Uploader(store, blocks, journal, budget, sending=sending)
        self._streamer = Streamer(
            store,
            self._uploader,
            budget,
            put_size_max=sending.put_size_max,
            part_size=sending.part_size,
        )
        self._commits = Commits(
            store,
            blocks,
            budget,
            self._uploader,
            self._streamer,
            put_size_max=sending.put_size_max,
            part_size=sending.part_size,
        )
        self.incidents = incidents if incidents is not None else Incidents()
        self._conflicts = Conflicts(
            store, self._commits, self._streamer, self.incidents, conflict
        )
        self.promised = PromisedFiles(
            self._commits,
            self._conflicts,
            self._streamer,
            blocks,
            budget,
            directory=directory,
            put_size_max=sending.put_size_max,
            keep=self.keep_failed,
        )
        self.promises: Promises | None = None
        """Who takes over files at their commit; else they are stored at once."""
        self._orphans = Orphans(store, journal, self._uploader.abort)
        self._open: dict[int, DirtyFile] = {}
        self._failed = FailedFiles(journal, directory, self._streamer.ladder)
        self._reads = DirtyReads(blocks, self._fold)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(DirectoryLock(self._directory))
            nursery = await stack.enter_async_context(trio.open_nursery())
            self._nursery = self._streamer.nursery = nursery
            self._budget.register_dirty(self)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Abort what still streams; the bytes of failed files stay on the disk."""
        for dirty in self._open.values():
            if not self._failed.holds(dirty):
                self._streamer.abandon(dirty)
        try:
            # What goes wrong in the body is not to be wrapped by the nursery.
            if error is not None:
                self._nursery.cancel_scope.cancel()
            await self._stack.aclose()
        finally:
            with trio.CancelScope(shield=True):
                failed = {id(item.dirty): item.dirty for item in self._failed}
                for dirty in (self._open | failed).values():
                    await dirty.readers.wait_for_readers()
                    await dirty.spool.close()

    def begin(
        self,
        key: str,
        base: Object | None,
        *,
        size: int | None = None,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> DirtyFile:
        """Return a file that is about to be changed.

        `base` None is a new file, or one truncated to nothing. Nothing of the base is
        fetched. `inherit` and `condition` are used if parts of the file must be
        stored before it is committed.
        """
        if size is None:
            size = (base.size or 0) if base is not None else 0
        dirty = DirtyFile(
            key,
            base,
            size,
            Spool(self._directory),
            inherit=inherit,
            condition=condition,
            is_forced=self._conflicts.policy is Policy.OVERWRITE,
        )
        # A commit will only be acknowledged when the disk has the bytes.
        dirty.spool.is_for_sync = self.waits_for_disk
        self._open[id(dirty)] = dirty
        return dirty

    async def write(
        self,
        dirty: DirtyFile,
        offset: int,
        data: bytes,
        *,
        metadata: Callable[[], Metadata],
    ) -> None:
        """Take bytes into the spool; send parts in the background if it gets large.

        Waits while the budget is full and uploads will free room. Raises
        `QuotaExceeded` if none will, and what went wrong for good with a part.
        """
        if not data:
            return
        async with dirty.changing:
            assert not dirty.is_discarded
            dirty.metadata = metadata
            self._streamer.raise_error(dirty)
            await self._begin_change(dirty)
            end = offset + len(data)
            new = await self._make_room(dirty, offset, end)
            stream = dirty.stream
            try:
                if stream is not None and stream.touch(offset, end):
                    # Else a crash would leave old parts beside new bytes.
                    await self._failed.describe_again(dirty)
                await self._put_into_spool(dirty, offset, data)
            except BaseException:
                self._budget.release_dirty(new)
                raise
            dirty.extents.add(offset, end)
            dirty.size = max(dirty.size, end)
            dirty.revision += 1
            if dirty.stream is not None or self._may_stream(dirty):
                await self._streamer.advance(dirty)

    def _may_stream(self, dirty: DirtyFile) -> bool:
        """Tell whether a file may be sent while it is written."""
        if not self.waits_for_disk:
            return True
        is_large = dirty.extents.total > self._budget.size_max // 4
        is_slow = time.monotonic() - dirty.begun_s > _STREAM_AFTER_S
        return (is_large or is_slow) and not self._is_local_only(dirty)

    def _is_local_only(self, dirty: DirtyFile) -> bool:
        return self.promises is not None and self.promises.keeps_here(dirty)

    @property
    def waits_for_disk(self) -> bool:
        """Whether commits wait for the local disk, and not for the store."""
        return self.promises is not None and self.promises.takes_changes

    async def read(self, dirty: DirtyFile, offset: int, size: int) -> bytes:
        """Return the file's bytes as they are now: see `DirtyReads.read`."""
        return await self._reads.read(dirty, offset, size)

    async def truncate(self, dirty: DirtyFile, size: int) -> None:
        """Give the file another size; what is new of it reads as zeros."""
        async with dirty.changing:
            if size == dirty.size:
                return
            await self._begin_change(dirty)
            if size < dirty.size:
                await self._streamer.cut(dirty, size)
                with trio.CancelScope(shield=True):
                    gone = dirty.extents.cut(size)
                    dirty.base_size = min(dirty.base_size, size)
                    dirty.size = size
                    dirty.revision += 1
                    await dirty.readers.wait_for_readers()
                    await dirty.spool.cut(size)
                    self._budget.release_dirty(gone)
            else:
                await dirty.spool.check_size(size)
                dirty.size = size
                dirty.revision += 1
            await self._failed.describe_again(dirty)

    async def commit(
        self,
        dirty: DirtyFile,
        *,
        metadata: Metadata,
        inherit: Object | None,
        condition: Condition,
    ) -> Object:
        """Store all bytes of the file as one object and return it.

        The object becomes the file's base. If somebody else was there first and the
        policy is to copy, it is a copy beside: then its key is another than that of
        the file, which goes on under that key. After an error nothing is lost and the
        commit may be repeated. Raises `PreconditionFailed` if a race was lost and
        nothing was stored.
        """
        async with dirty.changing:
            assert not dirty.is_discarded
            dirty.inherit = inherit
            if dirty.is_ahead and condition is not None and dirty.base is not None:
                condition = dirty.base.version
            dirty.condition = condition
            if self.promises is not None:
                if self.promises.takes_changes and can_wait(dirty, metadata):
                    return await self._promise(self.promises, dirty, metadata)
                await self._settle_name(dirty.key)
            if dirty.is_ahead and dirty.is_like_base:
                object = await self._commits.store_metadata(dirty, metadata)
            else:
                dirty.may_change_spool = not self._failed.holds(dirty)
                try:
                    object = await self._store_by_policy(dirty, metadata)
                finally:
                    dirty.may_change_spool = False
            # Who hears that the journal is full does not hear of the object.
            dirty.is_ahead = True
            await self._failed.end(dirty)
            await self.forget_failed(dirty.key)
            dirty.is_ahead = False
            self.incidents.clear(dirty.key)
            return object

    @property
    def conflict(self) -> Policy:
        """What becomes of a commit that lost a race."""
        return self._conflicts.policy

    async def _begin_change(self, dirty: DirtyFile) -> None:
        """See to what was begun, or kept, of the bytes as they are now."""
        await self._commits.give_up_attempt(dirty)
        kept = await self._failed.set_aside(dirty)
        if kept is not None:
            self._budget.force_dirty(kept.extents.total)

    async def forget_failed(self, key: str, *, but: DirtyFile | None = None) -> None:
        """Give up what failed under a key: its name was removed, or replaced.

        Who has it open goes on with its bytes, and no later mount stores them.
        """
        for failed in self._failed:
            if failed.dirty.key != key or failed.dirty is but:
                continue
            if not await self._failed.give_up(failed.dirty):
                continue
            self.incidents.clear(key)
            if id(failed.dirty) not in self._open:
                await self._destroy(failed.dirty)

    async def follow(self, dirty: DirtyFile, old_key: str) -> None:
        """Let what failed of a file have its new name, in the next mount as well."""
        async with dirty.changing:  # else its row could name a spool that changes
            await self._failed.follow(dirty, old_key)

    async def store_copy(
        self, dirty: DirtyFile, metadata: Metadata, lost: PreconditionFailed
    ) -> Object:
        """Store a file that lost a race beside the object that has its name now.

        See `Conflicts.store_copy`, which this calls with the file's lock held.
        """
        async with dirty.changing:
            return await self._conflicts.store_copy(dirty, metadata, lost)

    async def _store_by_policy(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        try:
            return await self._commits.store(dirty, metadata)
        except PreconditionFailed as lost:
            return await self._conflicts.settle(dirty, metadata, lost)

    async def _promise(
        self, promises: Promises, dirty: DirtyFile, metadata: Metadata
    ) -> Object:
        """Hand a file over to who stores it later; after an error it is ours again.

        Parts of it may be on their way, and go on: the bytes are all here. Whoever
        reads the row after a crash asks the store which parts it has.
        """
        self._open.pop(id(dirty), None)
        dirty.is_promised = True
        try:
            shown = await promises.promise(dirty, metadata)
        except BaseException:
            dirty.is_promised = False
            self._open[id(dirty)] = dirty
            raise
        # At once: what comes from here on is about the promise, and is news.
        self.incidents.clear(dirty.key)
        await self._failed.end(dirty)
        await self.forget_failed(dirty.key)
        return shown

    async def retarget(self, dirty: DirtyFile, key: str) -> None:
        """Follow a rename: later commits go to the new key.

        If bytes lie only in an open upload under the old key, that upload is
        completed and its object moved; the file's base then says so.
        """
        async with dirty.changing:
            stream = dirty.stream
            if stream is not None and stream.punched:
                await self._fold(dirty)
                await self._settle_name(key)
                self.rebase(dirty, await self._store.move(dirty.key, key))
            else:
                self._streamer.abandon(dirty)
            dirty.key = key

    async def become_nameless(self, dirty: DirtyFile) -> bool:
        """Let a local-only file lose its name; nothing of it can be stored then.

        False if it is none, or there is no room for all of it: nothing has changed.
        """
        async with dirty.changing:
            if self.promises is None or not await self.promises.make_whole(dirty):
                return False
            dirty.key = ""
            return True

    def rebase(self, dirty: DirtyFile, base: Object) -> Object:
        """Note that the same bytes of the base have another key or version now."""
        return self._commits.rebase(dirty, base)

    async def discard(self, dirty: DirtyFile) -> None:
        """Forget the bytes that are not stored, when no read needs them any more."""
        if dirty.is_promised:
            return  # it belongs to who has promised it
        async with dirty.changing:
            if dirty.is_discarded:
                return
            dirty.is_discarded = True
            self._streamer.abandon(dirty)
            await self._commits.give_up_attempt(dirty)
            self._open.pop(id(dirty), None)
            with trio.CancelScope(shield=True):
                await self._failed.end(dirty)
                await self._destroy(dirty)

    async def keep_failed(
        self, dirty: DirtyFile, error: StoreError, metadata: Metadata
    ) -> None:
        """Keep the bytes of a file that could not be stored, for the next mount.

        Returns when they and the intent to store them survive a power cut. The file
        can go on being read, written and committed.
        """
        async with dirty.changing:
            stream = dirty.stream
            if stream is not None:
                await stream.settle()
            if self.promises is not None:
                self.promises.resolve(dirty)
            await self._failed.add(Failed(dirty, metadata, str(error)))
            await self.forget_failed(dirty.key, but=dirty)
            self.incidents.note(IncidentKind.FAILED, dirty.key, str(error))

    def leave_failed(self, dirty: DirtyFile) -> bool:
        """Close a file whose bytes have been kept, and leave them to the next mount.

        False if they have not: then nothing has changed.
        """
        if not self._failed.holds(dirty):
            return False
        self._open.pop(id(dirty), None)
        return True

    def pending(self) -> tuple[PendingFile, ...]:
        """Return the files with bytes that the store does not have."""
        return pending_files(self._open.values(), self._failed, self._is_local_only)

    def oldest_s(self) -> float | None:
        """Return when the oldest of the files to be stored began to be changed."""
        return oldest_s(self._open.values(), self._failed, self._is_local_only)

    async def recover(self) -> tuple[Recovered, ...]:
        """Deal with what earlier mounts left behind; call once.

        Files of this mount that are open, or have failed already, are left alone.
        Failed files are stored if nobody changed their objects since; the others stay.
        Open uploads of ours are gone on with, or aborted. Spool files that nobody
        knows are removed.
        """
        promises = self.promises
        in_use = {dirty.spool.name for dirty in self._open.values()}
        left = await self._failed.load(
            in_use | (promises.spools() if promises else set())
        )
        wanted = (promises.uploads() if promises else set()) | {
            item.dirty.stream.upload.id
            for item in left
            if isinstance(item, Failed) and item.dirty.stream is not None
        }
        left_spools = await self._failed.spools()
        for upload in await self._journal.uploads():
            if upload.id in wanted or self._uploader.has_opened(upload.id):
                continue
            if upload.spool is not None and upload.spool in left_spools:
                self._uploader.expect(upload)
                continue
            await self._uploader.abort(Upload(upload.key, upload.id, upload.commit_id))
        await self._orphans.abort_all(self._uploader.is_opening)
        found = [await self._recover(x) if isinstance(x, Failed) else x for x in left]
        for each in found:
            if each.error is not None:
                self.incidents.note(IncidentKind.FAILED, each.key, each.error)
        return tuple(found)

    async def reclaim(self, size: int) -> int:
        """Give back room of parts that the store has already."""
        freed = 0
        for dirty in list(self._open.values()):
            if freed < size:
                freed += await self._streamer.punch(dirty, size - freed)
        return freed

    # Room.

    async def _put_into_spool(self, dirty: DirtyFile, offset: int, data: bytes) -> None:
        """Write to the disk; if it is full, clean bytes give way once more.

        Others fill a disk faster than it can be measured. Then what is local-only goes.
        """
        try:
            await dirty.spool.write(offset, data)
        except QuotaExceeded:
            if not await self._free_disk(max(len(data), _EVICTED_AT_ONCE)):
                raise
            await dirty.spool.write(offset, data)

    async def _free_disk(self, size: int) -> bool:
        if await self._budget.evict(size):
            return True
        return self.promises is not None and bool(
            await self.promises.store_local_only(size)
        )

    async def _make_room(self, dirty: DirtyFile, start: int, end: int) -> int:
        """Reserve room for a range; return for how many bytes.

        While we wait, parts may be punched, so the count is made again.
        """
        while True:
            stream = dirty.stream
            if stream is not None and stream.cannot_take(start, end):
                await self._part_with_stream(dirty, stream)
            new = end - start - dirty.extents.size_within(start, end)
            try:
                await self._budget.reserve_dirty(new)
            except QuotaExceeded:
                if not await self._spill(dirty):
                    raise
                continue
            stream = dirty.stream
            is_in_the_way = stream is not None and stream.cannot_take(start, end)
            missing = end - start - dirty.extents.size_within(start, end)
            if new == missing and not is_in_the_way:
                return new
            self._budget.release_dirty(new)

    async def _spill(self, dirty: DirtyFile) -> bool:
        """Store a large file before it is complete, because nothing else makes room.

        Returns False if that would not help.
        """
        if dirty.extents.total < min(
            self._sending.part_size, self._budget.size_max // 4
        ):
            return False
        if not dirty.key:
            return False
        if dirty.stream is not None:
            before = dirty.extents.total
            await self._fold(dirty)
            return dirty.extents.total < before
        assert dirty.metadata is not None
        plan = self._commits.plan(dirty)
        if isinstance(plan, PutWhole) and plan.fills:
            return False
        log.debug("%r is stored before its close, to make room", dirty.key)
        await self._settle_name(dirty.key)
        await self._commits.store(dirty, dirty.metadata())
        dirty.is_ahead = True
        dirty.stored_revision = -1
        return True

    async def _part_with_stream(self, dirty: DirtyFile, stream: Stream) -> None:
        """Let bytes change that an upload has already, and cannot have otherwise."""
        if stream.punched:
            await self._fold(dirty)
        else:
            self._streamer.refuse(dirty)

    async def _fold(self, dirty: DirtyFile) -> None:
        """Store the parts of a file that were sent, ahead of its commit."""
        await self._settle_name(dirty.key)
        await self._streamer.fold(dirty)

    async def _settle_name(self, key: str) -> None:
        """Let the store have what was promised under a key, before it is changed there
        past the queue.
        """
        if self.promises is not None:
            await self.promises.settle_name(key)

    async def _destroy(self, dirty: DirtyFile) -> None:
        size = dirty.extents.total
        dirty.extents.clear()
        await dirty.readers.wait_for_readers()
        await dirty.spool.remove()
        self._budget.release_dirty(size)

    # Failed files.

    async def _recover(self, failed: Failed) -> Recovered:
        dirty, key = failed.dirty, failed.dirty.key
        self._budget.force_dirty(dirty.extents.total)
        try:
            async with dirty.changing:
                object = await self._store_by_policy(dirty, failed.metadata)
        except StoreError as error:
            self._failed.note_error(dirty, str(error))
            return Recovered(dirty.key, dirty.size, error=str(error))
        await self._failed.end(dirty)
        await self._destroy(dirty)
        return Recovered(key, dirty.size, object)
