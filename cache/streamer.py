"""Sends the parts of large files while they are being written.

A stream begins when a file without a base has two parts' worth of bytes at its
front. Each part that is complete goes out in the background. When the budget is
short, parts that the store has are punched out of the spool; if the file is read or
written there again, the upload is *folded*: completed with what has been sent, so
that its object becomes the base and the file goes on as an edit of it.

A part that fails is sent again when the next one is ready, and at the commit, which
fails with it. An error that will not pass is also told to the next write. Nothing is
completed while a part is missing.
"""

import dataclasses
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import trio

from mountfs.cache.budget import Budget
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.streaming import Ladder, Slot, Stream
from mountfs.cache.uploader import Uploader
from mountfs.storage.errors import (
    InvalidRequest,
    PreconditionFailed,
    StoreError,
    Unreachable,
    UploadNotFound,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Condition, Metadata, Object, Upload

log = logging.getLogger(__name__)


class Streamer:
    """Runs the streams of all dirty files, in a nursery that its owner opens."""

    def __init__(
        self,
        store: Storager,
        uploader: Uploader,
        budget: Budget,
        *,
        put_size_max: int,
        part_size: int,
    ) -> None:
        self._store = store
        self._uploader = uploader
        self._budget = budget
        self._put_size_max = put_size_max
        self._part_size = part_size
        self.nursery: trio.Nursery | None = None

    async def advance(self, dirty: DirtyFile) -> None:
        """Send what has become ready; begin a stream if it is worth it.

        Called after a write, with the file's lock held.
        """
        stream = dirty.stream
        if stream is None:
            if self._is_worth_it(dirty):
                await self._begin(dirty)
            return
        stream.drop_short()
        is_new = False
        covered = dirty.extents.covered_until(stream.end)
        while not stream.is_full and stream.next_end <= covered:
            slot = stream.add(stream.next_end)
            self._start(dirty, stream, slot)
            is_new = True
        if is_new:
            for slot in stream.waiting():
                if slot.error is not None and slot.error.is_retryable:
                    self._start(dirty, stream, slot)
        # Who writes without a pause is not to fill the room before anything is sent.
        await trio.lowlevel.checkpoint()

    def raise_error(self, dirty: DirtyFile) -> None:
        """Raise the error of a part that no repetition will mend, once."""
        if dirty.stream is None:
            return
        for slot in dirty.stream.waiting():
            error = slot.error
            if isinstance(error, UploadNotFound):
                continue  # the commit finds out what became of the upload
            if error is not None and not error.is_retryable:
                slot.error = None
                raise error

    async def finish(
        self, dirty: DirtyFile, metadata: Metadata, condition: Condition
    ) -> Object | None:
        """Send the rest and complete the upload.

        Returns None if the stream turned out to be of no use: the file is then to be
        stored by a plan. After an error the stream is as it was, and may be finished
        later.
        """
        stream = dirty.stream
        assert stream is not None
        if not stream.fits(dirty.size):
            await self.fold(dirty)
            return None
        try:
            await dirty.spool.resize(dirty.size)
            await stream.settle()
            stream.drop_short()
            while stream.end < dirty.size:
                stream.add(dirty.size)
            await self._take_stock(stream)
            object = await self._complete(dirty, stream, condition)
        except (UploadNotFound, PreconditionFailed) as error:
            if await self._adopt(dirty, stream):
                return None
            if stream.punched or not isinstance(error, UploadNotFound):
                raise
            self.abandon(dirty)
            return None
        self._end(dirty, stream)
        return object

    async def _complete(
        self, dirty: DirtyFile, stream: Stream, condition: Condition
    ) -> Object:
        """Send what is missing, and complete the upload.

        As `Uploader` does it: the store may have another part by now, of a request that
        we have given up. That has the same bytes, unless they were changed since.
        """
        upload, inherit = stream.upload, dirty.inherit
        await self._send_waiting(dirty, stream)
        noted = stream.parts()
        try:
            return await self._uploader.complete(upload, noted, inherit, condition)
        except InvalidRequest:
            stream.is_restored = True
            await self._take_stock(stream)
            if not stream.waiting() and stream.parts() == noted:
                raise
        await self._send_waiting(dirty, stream)
        parts = stream.parts()
        return await self._uploader.complete(upload, parts, inherit, condition)

    async def _take_stock(self, stream: Stream) -> None:
        """Ask which parts there are of a stream that is not sure of it any more."""
        if stream.is_restored:
            limits = self._store.capabilities.multipart
            if limits is not None and not limits.lists:
                listed = {slot.index: slot.part for slot in stream.slots if slot.part}
            else:
                told = await self._store.list_parts(stream.upload)
                listed = {part.index: part for part in told}
            for slot in stream.slots:
                slot.take_stock(listed.get(slot.index))
            stream.is_restored = False

    async def mend_metadata(
        self, stream: Stream, object: Object, metadata: Metadata
    ) -> Object:
        """Store the metadata that were not known when the upload was opened."""
        if not _differ(stream, metadata):
            return object
        if not self._store.capabilities.set_metadata:
            return object
        return await self._store.set_metadata(object, metadata)

    async def fold(self, dirty: DirtyFile) -> None:
        """Complete the upload with the parts so far, and go on as an edit of that.

        The file's lock is held. After an error the stream goes on.
        """
        stream = dirty.stream
        assert stream is not None
        await stream.settle()
        async with stream.punching:
            stream.drop_short()
            try:
                object = await self._complete(dirty, stream, dirty.condition)
            except (UploadNotFound, PreconditionFailed):
                if await self._adopt(dirty, stream):
                    return
                raise
            end = stream.end
            self._end(dirty, stream)
            rebase(dirty, dataclasses.replace(object, size=end), end)
            dirty.is_ahead = True
        await self._uploader.drop(dirty, [(0, end)])

    async def _adopt(self, dirty: DirtyFile, stream: Stream) -> bool:
        """Take the object of an upload that was completed although nobody was told.

        Whatever was written since is still in the spool, and so are all bytes that
        were not punched; only the punched ones have to come from the object.
        """
        try:
            found = await self._store.stat(dirty.key)
        except StoreError:
            return False
        commit_id = found.metadata.commit_id if found.metadata is not None else None
        if commit_id is None or commit_id != stream.metadata.commit_id:
            return False
        self.abandon(dirty)
        rebase(dirty, found, stream.punched.end)
        dirty.is_ahead = True
        return True

    async def punch(self, dirty: DirtyFile, size: int) -> int:
        """Give back about `size` bytes of parts that the store has."""
        stream = dirty.stream
        if stream is None or not stream.punchable():
            return 0
        freed = 0
        async with stream.punching:
            while freed < size and dirty.stream is stream:
                slots = stream.punchable()
                if not slots:
                    break
                slot = slots[0]
                slot.is_punched = True
                stream.punched.add(slot.offset, slot.end)
                # No await before `drop` has taken the range out of the extents.
                freed += await self._uploader.drop(dirty, [(slot.offset, slot.end)])
        return freed

    async def cut(self, dirty: DirtyFile, size: int) -> None:
        """Forget the parts that reach past the new, smaller size."""
        stream = dirty.stream
        if stream is None:
            return
        if size == 0:
            self.abandon(dirty)
            return
        # A part of the same index must not be sent while the old one is on its way.
        await stream.settle()
        async with stream.punching:
            is_split = any(
                s.is_punched and s.offset < size for s in stream.behind(size)
            )
            is_refused = not is_split and stream.cannot_take(size, stream.end)
            if not (is_split or is_refused):
                stream.cut(size)
        if is_split or (is_refused and stream.punched):
            await self.fold(dirty)
        elif is_refused:
            self.refuse(dirty)

    def refuse(self, dirty: DirtyFile) -> None:
        """Drop the stream of a file that changes where it was sent, and begin none."""
        self.abandon(dirty)
        dirty.stream_refused = True

    def abandon(self, dirty: DirtyFile) -> None:
        """Drop the stream; its upload is aborted when no part is on its way."""
        stream = dirty.stream
        if stream is None:
            return
        self._end(dirty, stream)
        self.start_soon(partial(self._abort, stream))

    def start_soon(self, work: Callable[[], Awaitable[object]]) -> None:
        """Start what nobody waits for but who closes us."""
        assert self.nursery is not None
        self.nursery.start_soon(_by_itself, work)

    def abort_later(self, upload: Upload) -> None:
        """Abort an upload that is of no use any more, while others go on."""
        self.start_soon(partial(self._uploader.abort, upload))

    async def _abort(self, stream: Stream) -> None:
        await stream.settle()
        await self._uploader.abort(stream.upload)

    def _end(self, dirty: DirtyFile, stream: Stream) -> None:
        stream.is_over = True
        dirty.stream = None

    def _is_worth_it(self, dirty: DirtyFile) -> bool:
        limits = self._store.capabilities.multipart
        if limits is None or dirty.base_size > 0 or dirty.stream_refused:
            return False
        if not dirty.key:
            return False  # nameless: nothing of it is to appear in the store
        parts = 1 if self._budget.is_half_dirty else 2
        covered = dirty.extents.covered_until(0)
        is_worth_parts = covered >= parts * self.ladder().size_of(0)
        return is_worth_parts and covered > self._put_size_max

    def ladder(self) -> Ladder:
        """Return the part sizes of a stream. The store has multipart uploads."""
        limits = self._store.capabilities.multipart
        assert limits is not None
        return Ladder(limits, self._part_size, self._budget.size_max // 4)

    async def _begin(self, dirty: DirtyFile) -> None:
        assert dirty.metadata is not None
        metadata = dataclasses.replace(
            without_times(dirty.metadata()), commit_id=secrets.token_hex(16)
        )
        with self._budget.freeing():  # who finds no room meanwhile waits for the parts
            try:
                upload = await self._uploader.create(dirty.key, metadata, dirty.inherit)
            except StoreError as error:
                # The commit will try again, and tells if that fails as well.
                dirty.stream_refused = True
                log.info("%r cannot be sent while it is written: %s", dirty.key, error)
                return
            dirty.stream = Stream(upload, self.ladder(), metadata, time.time_ns())
            await self.advance(dirty)

    def _start(self, dirty: DirtyFile, stream: Stream, slot: Slot) -> None:
        assert self.nursery is not None
        slot.begin()
        self.nursery.start_soon(self._send, dirty, stream, slot)

    async def _send(self, dirty: DirtyFile, stream: Stream, slot: Slot) -> None:
        part = None
        error: StoreError | None = None
        with self._budget.freeing():
            try:
                part = await self._uploader.send(
                    stream.upload,
                    slot.index,
                    dirty,
                    slot.offset,
                    slot.size,
                    is_wanted=lambda: not stream.is_over,
                )
            except StoreError as failure:
                error = failure
            except Exception as failure:
                error = StoreError(f"a part failed in an unforeseen way: {failure}")
                if not stream.is_over:
                    log.exception("sending a part of %r failed", dirty.key)
            finally:
                slot.finish(part, error)

    async def _send_waiting(self, dirty: DirtyFile, stream: Stream) -> None:
        """Send all parts that are missing. Raises the first error."""
        slots = stream.waiting()
        for slot in slots:
            self._start(dirty, stream, slot)
        await stream.settle()
        _raise_first(slots)
        if stream.waiting():
            raise Unreachable("a part was not sent", key=dirty.key)
        await dirty.spool.check()


async def _by_itself(work: Callable[[], Awaitable[object]]) -> None:
    """Do what nobody waits for: whatever goes wrong, it must not cost the mount."""
    try:
        await work()
    except Exception:
        log.exception("what was left to the background has failed")


def _raise_first(slots: Iterable[Slot]) -> None:
    for slot in slots:
        if slot.error is not None:
            error, slot.error = slot.error, None
            raise error


def rebase(dirty: DirtyFile, object: Object, size: int) -> None:
    """Put an object that was just stored under a dirty file."""
    dirty.base = object
    dirty.base_size = size
    dirty.committed_any = True
    if dirty.condition is not None:
        dirty.condition = object.version


def without_times(metadata: Metadata) -> Metadata:
    """Leave out what is not known before the last byte is written."""
    attributes = metadata.attributes
    if attributes is None:
        return metadata
    return metadata.with_attributes(
        dataclasses.replace(attributes, atime_ns=None, mtime_ns=None, ctime_ns=None)
    )


def _differ(stream: Stream, metadata: Metadata) -> bool:
    """Tell whether an upload was opened with other metadata than it should have.

    A time of change between its opening and now is told well enough by the store's
    own; only an explicit one (utimens) is worth a request.
    """
    sent = dataclasses.replace(stream.metadata, commit_id=None)
    if sent != dataclasses.replace(without_times(metadata), commit_id=None):
        return True
    mtime_ns = metadata.attributes.mtime_ns if metadata.attributes else None
    if mtime_ns is None:
        return False
    return not stream.started_ns - 1_000_000_000 <= mtime_ns <= time.time_ns()
