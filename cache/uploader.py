"""The requests that carry a dirty file into the store.

Executes plans; decides nothing about files. Every multipart upload is journaled before
and after it is opened, and taken out when it is complete or aborted: a crash in between
leaves a row. The next mount goes on with what it names, if the bytes are still here, or
aborts it (`mountfs.cache.attempts`, `mountfs.cache.orphans`).

All parts and large files share `uploads_max`, and small files `small_uploads_max`: of
those the way there and back is what takes time, not the bytes. Fewer go at once while
the line is too slow for that (`mountfs.cache.places`).
"""

import dataclasses
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import trio

from mountfs.cache.attempts import Attempt, from_text, mark_of
from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.extents import Range
from mountfs.cache.gathered import gathered
from mountfs.cache.journal import Intent, Journal, JournaledUpload
from mountfs.cache.phases import reached
from mountfs.cache.places import Places
from mountfs.cache.plan import (
    AppendTail,
    CopyPart,
    Piece,
    Plan,
    PutWhole,
    SendPart,
    SendParts,
)
from mountfs.cache.zeros import HOLES_MIN, Zeros
from mountfs.storage.body import BytesBody
from mountfs.storage.conditions import look_first
from mountfs.storage.errors import (
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    StoreError,
    UploadNotFound,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    Call,
    Condition,
    Metadata,
    Object,
    Part,
    Upload,
)

log = logging.getLogger(__name__)

_FILL_SIZE = 8 << 20
_COPIES_MAX = 16
_SMALL_SIZE = 256 << 10
_ABORT_DEADLINE_S = 30

_IN_VAIN = (PreconditionFailed, NotFound)
"""After these an upload never becomes the object that it was begun for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How bytes are cut into requests, and how many of those go at once."""

    put_size_max: int = 8 << 20
    part_size: int = 8 << 20
    uploads_max: int = 8
    small_uploads_max: int = 32


DEFAULT_SENDING = Sending()


class Uploader:
    """Sends the bytes of dirty files."""

    def __init__(
        self,
        store: Storager,
        blocks: BlockCache,
        journal: Journal,
        budget: Budget,
        *,
        sending: Sending,
    ) -> None:
        self._store = store
        self._blocks = blocks
        self._journal = journal
        self._budget = budget
        self._places = Places(sending.uploads_max, sending.small_uploads_max)
        self._uploads_max = sending.uploads_max
        self._zeros = Zeros(store)
        self._left: dict[str, JournaledUpload] = {}
        self._opening: set[str] = set()
        self._opened: set[str] = set()

    def expect(self, row: JournaledUpload) -> None:
        """Take note of an upload that an earlier mount has begun for a spool file."""
        assert row.spool is not None
        self._left[row.spool] = row

    def is_opening(self, commit_id: str) -> bool:
        """Tell whether an upload is being opened just now, by this process."""
        return commit_id in self._opening

    def has_opened(self, id: str) -> bool:
        """Tell whether an upload that may still be open is of this process."""
        return id in self._opened

    async def attempt_of(
        self, dirty: DirtyFile, metadata: Metadata, inherit: Object | None
    ) -> Attempt | None:
        """Return the upload that this commit goes on with, if it can with any.

        An attempt at something else stays with the file: see `give_up`.
        """
        if dirty.attempt is None:
            row = self._left.pop(dirty.spool.name, None)
            if row is not None:
                dirty.attempt = await self._restored(row)
        attempt = dirty.attempt
        if attempt is None or attempt.mark != _mark(dirty, metadata, inherit):
            return None
        if dirty.commit_id not in (None, attempt.upload.commit_id):
            return None  # its object is to carry the id that was promised
        return attempt

    async def give_up(self, dirty: DirtyFile) -> Upload | None:
        """Forget what was begun, before the bytes change; return what to abort."""
        attempt, dirty.attempt = dirty.attempt, None
        row = self._left.pop(dirty.spool.name, None)
        upload = attempt.upload if attempt is not None else _upload_of(row)
        if upload is not None:
            await self._journal.give_up_upload(upload.key, upload.id)
        return upload

    async def _restored(self, row: JournaledUpload) -> Attempt | None:
        """Return what is left of an attempt, with the parts that the store has."""
        upload = Upload(row.key, row.id, row.commit_id)
        attempt = from_text(upload, row.pieces or "")
        if attempt is not None and self._lists_parts:
            try:
                await self._take_stock(attempt)
            except NotFound:
                attempt = None
        if attempt is None:
            await self.abort(upload)
        return attempt

    async def _take_stock(self, attempt: Attempt) -> None:
        listed = await self._store.list_parts(attempt.upload)
        attempt.parts.clear()
        attempt.take(listed)

    @property
    def _lists_parts(self) -> bool:
        limits = self._store.capabilities.multipart
        return limits is None or limits.lists

    async def execute(
        self,
        plan: Plan,
        dirty: DirtyFile,
        *,
        metadata: Metadata,
        inherit: Object | None,
        condition: Condition,
    ) -> Object:
        """Store the whole file as the plan says; all of it or an error."""
        if isinstance(plan, PutWhole):
            return await self._put(plan, dirty, metadata, inherit, condition)
        await dirty.spool.resize(dirty.size)
        match plan:
            case AppendTail():
                return await self._append(plan, dirty, metadata)
            case SendParts():
                return await self._send_parts(plan, dirty, metadata, inherit, condition)

    async def create(
        self,
        key: str,
        metadata: Metadata,
        inherit: Object | None,
        *,
        spool: str | None = None,
        pieces: str | None = None,
    ) -> Upload:
        """Open a multipart upload and journal it.

        `spool` and `pieces` let the next mount go on with it.
        """
        commit_id = metadata.commit_id or secrets.token_hex(16)
        intent = Intent(commit_id, key, time.time_ns())
        self._opening.add(commit_id)
        try:
            await self._journal.begin_upload(intent)
            # Crash after this: recovery looks for an upload, and finds none.
            reached("upload-intended")
            upload = await self._open(intent, metadata, inherit)
            # Crash after this: an upload without a row; recovery looks for it.
            reached("upload-opened")
            try:
                await self._journal.add_upload(
                    JournaledUpload(
                        upload.key, upload.id, upload.commit_id, spool, pieces
                    ),
                    commit_id,
                )
            except BaseException:
                await self.abort(upload)
                raise
            # Crash after this: recovery goes on with the upload, or aborts it.
            reached("upload-journaled")
        finally:
            self._opening.discard(commit_id)
        return upload

    async def _open(
        self, intent: Intent, metadata: Metadata, inherit: Object | None
    ) -> Upload:
        try:
            upload = await self._store.create_multipart(
                intent.key, metadata=metadata, inherit=inherit
            )
        except StoreError as error:
            if not error.is_ambiguous:
                await self._journal.end_intent(intent.commit_id)
            raise
        self._opened.add(upload.id)
        return upload

    async def send(
        self,
        upload: Upload,
        index: int,
        dirty: DirtyFile,
        offset: int,
        size: int,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Part:
        """Send a range of the spool as a part, if it is still wanted by then."""
        async with self._places.taken():
            if not is_wanted():
                raise UploadNotFound("the upload was given up", key=upload.key)
            body = dirty.spool.body(offset, size)
            return await self._store.write_part(upload, index, body)

    async def complete(
        self,
        upload: Upload,
        parts: list[Part],
        inherit: Object | None,
        condition: Condition,
    ) -> Object:
        """Make the parts the object."""
        condition = await look_first(self._store, Call.COMPLETE, upload.key, condition)
        object = await self._store.complete_multipart(
            upload, parts, inherit=inherit, condition=condition
        )
        with trio.CancelScope(shield=True):
            await self._journal.end_upload(upload.key, upload.id)
        self._opened.discard(upload.id)
        return object

    async def abort(self, upload: Upload) -> bool:
        """Drop an upload; if that fails, its row remains for the next mount."""
        with trio.CancelScope(shield=True):
            try:
                with trio.fail_after(_ABORT_DEADLINE_S):
                    await self._store.abort_multipart(upload)
            except (StoreError, trio.TooSlowError) as error:
                log.info(
                    "the upload %s of %r could not be aborted, the next mount tries "
                    "again: %s",
                    upload.id,
                    upload.key,
                    error,
                )
                return False
            await self._journal.end_upload(upload.key, upload.id)
            self._opened.discard(upload.id)
        return True

    async def drop(self, dirty: DirtyFile, ranges: Iterable[Range]) -> int:
        """Take ranges out of the spool; what is under them takes their place."""
        with trio.CancelScope(shield=True):
            gone = [
                piece
                for start, end in ranges
                for piece in dirty.extents.within(start, end)
            ]
            for start, end in gone:
                dirty.extents.remove(start, end)
            await dirty.readers.wait_for_readers()
            for start, end in gone:
                await dirty.spool.punch(start, end)
            freed = sum(end - start for start, end in gone)
            self._budget.release_dirty(freed)
        return freed

    # Plans.

    async def _put(
        self,
        plan: PutWhole,
        dirty: DirtyFile,
        metadata: Metadata,
        inherit: Object | None,
        condition: Condition,
    ) -> Object:
        async with gathered(plan, dirty, self._blocks) as whole:
            if whole is None:
                await dirty.spool.resize(dirty.size)
                await self._fill(dirty, plan.fills, is_forced=False)
                await dirty.spool.check()
            condition = await look_first(self._store, Call.WRITE, dirty.key, condition)
            body = BytesBody(whole) if whole else dirty.spool.body(0, plan.size)
            is_small = plan.size <= _SMALL_SIZE
            async with self._places.taken(is_small=is_small):
                with self._budget.freeing():
                    object = await self._store.write(
                        dirty.key,
                        body if plan.size else None,
                        size=plan.size,
                        metadata=metadata,
                        inherit=inherit,
                        condition=condition,
                    )
        dirty.whole = whole
        return object

    async def _append(
        self,
        plan: AppendTail,
        dirty: DirtyFile,
        metadata: Metadata,
    ) -> Object:
        """Let the store continue the base; the base's version is the condition."""
        base = dirty.base
        assert base is not None
        body = dirty.spool.body(plan.offset, plan.size)
        async with self._places.taken():
            with self._budget.freeing():
                append = await self._store.create_append(
                    dirty.key, base=base, metadata=metadata
                )
                append = await self._store.write_append(append, body)
                await dirty.spool.check()
                return await self._store.commit_append(append)

    async def _send_parts(
        self,
        plan: SendParts,
        dirty: DirtyFile,
        metadata: Metadata,
        inherit: Object | None,
        condition: Condition,
    ) -> Object:
        self._want_fills(dirty, plan.parts)
        attempt = dirty.attempt or await self._begin(plan, dirty, metadata, inherit)
        try:
            with self._budget.freeing():
                object = await self._finish(attempt, dirty, inherit, condition)
        except _IN_VAIN:
            # What it was to replace or to copy from is not there any more, or the
            # upload itself. After any other error the next commit goes on with it.
            dirty.attempt = None
            await self.abort(attempt.upload)
            raise
        dirty.attempt = None
        return object

    async def _finish(
        self,
        attempt: Attempt,
        dirty: DirtyFile,
        inherit: Object | None,
        condition: Condition,
    ) -> Object:
        """Send what is missing of an upload, and complete it.

        A request that we have given up may be carried out late, and put a part of the
        same bytes in the place of the one that was sent since: to many stores that is
        another part. Who held on to what was told then could never complete it.
        """
        upload = attempt.upload
        await self._send_missing(attempt, dirty)
        reached("parts-sent")
        try:
            return await self.complete(upload, attempt.ordered(), inherit, condition)
        except InvalidRequest:
            if not await self._has_other_parts(attempt):
                raise
        await self._send_missing(attempt, dirty)
        return await self.complete(upload, attempt.ordered(), inherit, condition)

    async def _has_other_parts(self, attempt: Attempt) -> bool:
        """Tell whether the store has other parts than are noted, and note those."""
        noted = dict(attempt.parts)
        if self._lists_parts:
            await self._take_stock(attempt)
        return attempt.parts != noted

    async def _send_missing(self, attempt: Attempt, dirty: DirtyFile) -> None:
        upload = attempt.upload
        missing = attempt.missing()
        copies = [x for x in missing if isinstance(x[1], CopyPart)]
        sends = [x for x in missing if isinstance(x[1], SendPart)]
        later = {
            first[0]: second[1]
            for first, second in zip(sends, sends[self._uploads_max :], strict=False)
        }
        holes = {index for index, piece in missing if _is_hole(piece, dirty)}
        if len(holes) < HOLES_MIN or not self._zeros.are_copied:
            holes = set()

        async def send(item: tuple[int, Piece]) -> None:
            index, piece = item
            part: Part | None = None
            if index in holes:
                async with self._places.taken():
                    part = await self._zeros.copied(upload, index, piece.size)
            if part is None:
                part = await self._send_piece(
                    upload, index, piece, dirty, later.get(index)
                )
            attempt.parts[index] = part
            if not self._lists_parts:
                # Crash before this: the part is sent again, and lies where it lay.
                await self._journal.note_parts(upload.key, upload.id, attempt.to_text())
            # Crash after this: the next mount asks which parts there are, or knows.
            reached("part-sent")

        async with self._zeros.needed():
            # No byte of a copy is on our line.
            groups = [(sends, self._uploads_max), (copies, _COPIES_MAX)]
            await for_each(send, groups)
        await dirty.spool.check()

    async def _begin(
        self,
        plan: SendParts,
        dirty: DirtyFile,
        metadata: Metadata,
        inherit: Object | None,
    ) -> Attempt:
        mark = _mark(dirty, metadata, inherit)
        planned = Attempt(Upload(dirty.key, ""), plan.parts, mark)
        upload = await self.create(
            dirty.key,
            metadata,
            inherit,
            spool=dirty.spool.name,
            pieces=planned.to_text(),
        )
        dirty.attempt = dataclasses.replace(planned, upload=upload)
        return dirty.attempt

    async def _send_piece(
        self,
        upload: Upload,
        index: int,
        piece: Piece,
        dirty: DirtyFile,
        later: Piece | None,
    ) -> Part:
        if isinstance(piece, CopyPart):
            assert dirty.base is not None
            return await self._store.copy_part(
                upload, index, dirty.base, piece.offset, piece.size
            )
        fills = _fills(dirty, piece)
        await self._fill(dirty, fills, is_forced=True)
        if later is not None:
            # What gets this place next is fetched while this one is sent.
            self._want_fills(dirty, [later])
        part = await self.send(upload, index, dirty, piece.offset, piece.size)
        if fills:
            # What was filled in equals the base, so it need not stay.
            await self.drop(dirty, fills)
        return part

    def _want_fills(self, dirty: DirtyFile, pieces: Iterable[Piece]) -> None:
        """Ask for what the first parts lack of the base, while an upload is opened."""
        if dirty.base is None:
            return
        sends = [piece for piece in pieces if isinstance(piece, SendPart)]
        for piece in sends[: self._uploads_max]:
            self._blocks.want(dirty.base, _fills(dirty, piece))

    async def _fill(
        self, dirty: DirtyFile, ranges: Sequence[Range], *, is_forced: bool
    ) -> None:
        """Bring ranges of the base into the spool, so that they can be sent.

        A part at a time is forced past the budget, because sending is what frees
        room; a whole file is not.
        """
        if is_forced and dirty.base is not None:
            self._blocks.want(dirty.base, ranges)
        for start, end in ranges:
            for offset in range(start, end, _FILL_SIZE):
                size = min(_FILL_SIZE, end - offset)
                if is_forced:
                    self._budget.force_dirty(size)
                else:
                    await self._budget.reserve_dirty(size)
                try:
                    assert dirty.base is not None
                    filled = await self._blocks.view(dirty.base, offset, size)
                    await dirty.spool.write(offset, filled)
                except BaseException:
                    self._budget.release_dirty(size)
                    raise
                dirty.extents.add(offset, offset + size)


def _is_hole(piece: Piece, dirty: DirtyFile) -> bool:
    """Tell whether nobody has ever written to a range."""
    if isinstance(piece, CopyPart) or piece.offset < dirty.base_size:
        return False
    return not dirty.extents.overlaps(piece.offset, piece.offset + piece.size)


def _fills(dirty: DirtyFile, piece: SendPart) -> list[Range]:
    """Return what must be read before a part can be sent.

    As of now: an attempt before this one may have filled some of it.
    """
    end = min(piece.offset + piece.size, dirty.base_size)
    return dirty.extents.gaps(piece.offset, max(piece.offset, end))


def _mark(dirty: DirtyFile, metadata: Metadata, inherit: Object | None) -> str:
    return mark_of(
        dirty.key, dirty.size, dirty.base, dirty.base_size, metadata, inherit
    )


def _upload_of(row: JournaledUpload | None) -> Upload | None:
    return None if row is None else Upload(row.key, row.id, row.commit_id)


async def for_each(
    call: Callable[[tuple[int, Piece]], Awaitable[None]],
    groups: Iterable[tuple[Sequence[tuple[int, Piece]], int]],
) -> None:
    """Call for all items of all groups, so many at once of each.

    The first error is raised.
    After an error nothing new begins. What is under way may end, for it need not be
    done again, unless the error says that all of it is in vain.
    """
    errors: list[StoreError] = []

    async def work(nursery: trio.Nursery, pending: Iterator[tuple[int, Piece]]) -> None:
        for item in pending:
            if errors:
                return
            try:
                await call(item)
            except StoreError as error:
                errors.append(error)
                if isinstance(error, _IN_VAIN):
                    nursery.cancel_scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for items, tasks_max in groups:
            pending = iter(items)
            for _ in range(min(tasks_max, len(items))):
                nursery.start_soon(work, nursery, pending)
    if errors:
        raise next((each for each in errors if isinstance(each, _IN_VAIN)), errors[0])
