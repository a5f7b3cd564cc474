"""Uploads that were cut short: what is sent again, and what is given up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from mountfs.backends.memory import MemoryStore
from mountfs.cache import attempts
from mountfs.cache.attempts import Attempt
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.journal import Intent, JournaledUpload
from mountfs.cache.orphans import AGE_NS, Orphans
from mountfs.cache.plan import CopyPart, SendPart
from mountfs.cache.streaming import Slot, SlotState
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import InvalidRequest, ServiceFailed, Unreachable
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Attributes,
    Metadata,
    Object,
    Part,
    Upload,
)
from mountfs.storage.wrapper import StoragerWrapper
from tests.fakes.cache_stack import (
    PART_SIZE,
    TINY_LIMITS,
    Stack,
    open_stack,
    tiny_store,
)
from tests.fakes.faulty import Fault, FaultyStore

SIZE = 200
CONTENT = bytes(index % 251 for index in range(SIZE))


class Place:
    """A store in memory whose requests are counted."""

    def __init__(self, directory: Path) -> None:
        self.memory = MemoryStore(capabilities=tiny_store(multipart_copy=False))
        self.store = FaultyStore(self.memory)
        self.directory = directory

    def stored(self, key: str) -> bytes:
        return self.memory.bucket.entries[key].data

    def requests(self, call: str) -> int:
        """Return how many of a kind there were since the last look."""
        count = self.store.calls.count(call)
        self.store.times.clear()
        return count


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def written(stack: Stack, *, is_streamed: bool) -> DirtyFile:
    """Write a file of a dozen parts; without a stream its last byte comes first."""
    dirty = stack.writeback.begin("a", None, condition=ABSENT)
    dirty.stream_refused = not is_streamed
    for offset in range(0, SIZE, 20):
        await stack.writeback.write(
            dirty, offset, CONTENT[offset : offset + 20], metadata=lambda: NO_METADATA
        )
    return dirty


async def commit(
    stack: Stack, dirty: DirtyFile, metadata: Metadata = NO_METADATA
) -> Object:
    return await stack.writeback.commit(
        dirty, metadata=metadata, inherit=None, condition=ABSENT
    )


def fail_parts(place: Place, first: int, *, until: int = 40) -> None:
    """Let all parts from the nth on fail."""
    place.store.script = [
        Fault("write_part", ServiceFailed("no"), nth=first) for _ in range(until)
    ]


async def failed_upload(
    place: Place, stack: Stack, *, is_streamed: bool, first: int = 7
) -> tuple[DirtyFile, int]:
    """Commit a file whose parts fail from the nth on; return how many are there."""
    fail_parts(place, first)
    dirty = await written(stack, is_streamed=is_streamed)
    with pytest.raises(ServiceFailed):
        await commit(stack, dirty)
    place.store.script.clear()
    place.store.times.clear()
    (upload,) = await place.memory.list_uploads()
    return dirty, len(await place.memory.list_parts(upload))


async def parts_in_all(place: Place, *, is_streamed: bool) -> int:
    """Return how many parts such a file has."""
    async with open_stack(place.store, place.directory / "counted") as stack:
        dirty = await written(stack, is_streamed=is_streamed)
        await commit(stack, dirty)
        await stack.writeback.discard(dirty)
    await place.memory.delete("a")
    place.store._counts.clear()
    return place.requests("write_part")


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_the_next_commit_sends_what_is_missing(
    place: Place, is_streamed: bool
) -> None:
    """An upload that failed at the seventh part goes on there."""
    parts = await parts_in_all(place, is_streamed=is_streamed)
    async with open_stack(place.store, place.directory) as stack:
        dirty, done = await failed_upload(place, stack, is_streamed=is_streamed)
        assert 0 < done < parts
        await commit(stack, dirty)

        assert place.requests("write_part") == parts - done
        assert await stack.journal.uploads() == ()
    assert place.stored("a") == CONTENT
    assert await place.memory.list_uploads() == ()


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_the_next_mount_sends_what_is_missing(
    place: Place, is_streamed: bool
) -> None:
    """What a failed close has kept goes on in the upload that was cut short."""
    parts = await parts_in_all(place, is_streamed=is_streamed)
    async with open_stack(place.store, place.directory) as stack:
        dirty, done = await failed_upload(place, stack, is_streamed=is_streamed)
        await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)
    place.store.times.clear()

    async with open_stack(place.store, place.directory) as stack:
        (found,) = await stack.writeback.recover()
        assert found.error is None
        assert place.requests("write_part") == parts - done
        assert await stack.journal.uploads() == ()
    assert place.stored("a") == CONTENT
    assert await place.memory.list_uploads() == ()


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_recovery_that_is_cut_short_is_gone_on_with(
    place: Place, is_streamed: bool
) -> None:
    """Also if that is cut short itself, again and again: no part is sent twice."""
    parts = await parts_in_all(place, is_streamed=is_streamed)
    fail_parts(place, 3)
    async with open_stack(place.store, place.directory) as stack:
        dirty = await written(stack, is_streamed=is_streamed)
        await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)
        failed = 40 - len(place.store.script)
        sent = place.requests("write_part")
    while True:
        place.store._counts.clear()
        fail_parts(place, 4)
        async with open_stack(place.store, place.directory) as stack:
            (found,) = await stack.writeback.recover()
        failed += 40 - len(place.store.script)
        if found.error is None:
            break

    assert place.stored("a") == CONTENT
    assert failed > 0
    assert place.store.calls.count("create_multipart") == int(not is_streamed)
    assert sent + place.store.calls.count("write_part") - failed == parts


@pytest.mark.parametrize("change", ["write", "truncate", "metadata", "rename"])
async def test_what_has_changed_is_begun_anew(place: Place, change: str) -> None:
    """Parts of other bytes, and uploads for another object, are of no use."""
    metadata = Metadata(attributes=Attributes(mode=0o600))
    async with open_stack(place.store, place.directory) as stack:
        dirty, _ = await failed_upload(place, stack, is_streamed=False)
        writeback = stack.writeback
        deeds: dict[str, Callable[[], object]] = {
            "write": lambda: writeback.write(dirty, 3, b"x", metadata=lambda: metadata),
            "truncate": lambda: writeback.truncate(dirty, SIZE - 1),
            "rename": lambda: writeback.retarget(dirty, "b"),
        }
        if change in deeds:
            await deeds[change]()  # type: ignore[misc]  # one of three coroutines
        is_told = change == "metadata"
        await commit(stack, dirty, metadata if is_told else NO_METADATA)
        await stack.writeback.discard(dirty)

        assert place.requests("create_multipart") == 1
    expected = {
        "write": CONTENT[:3] + b"x" + CONTENT[4:],
        "truncate": CONTENT[:-1],
    }
    assert place.stored("b" if change == "rename" else "a") == expected.get(
        change, CONTENT
    )
    assert await place.memory.list_uploads() == ()


async def test_the_journal_knows_before_bytes_change(place: Place) -> None:
    """A crash after the write must not find old parts to go on with."""
    async with open_stack(place.store, place.directory) as stack:
        dirty, _ = await failed_upload(place, stack, is_streamed=False)
        (row,) = await stack.journal.uploads()
        assert row.spool == dirty.spool.path.name
        place.store.script.append(Fault("abort_multipart", Unreachable("no")))
        await stack.writeback.write(dirty, 3, b"x", metadata=lambda: NO_METADATA)

        (row,) = await stack.journal.uploads()
        assert row.spool is None


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_what_was_kept_is_not_mixed_with_what_comes_later(
    place: Place, is_streamed: bool
) -> None:
    """A crash amid later changes leaves the file whole, as its close had failed."""
    async with open_stack(place.store, place.directory) as stack:
        dirty, _ = await failed_upload(place, stack, is_streamed=is_streamed)
        await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)
        await stack.writeback.write(dirty, 3, b"new", metadata=lambda: NO_METADATA)
        await stack.writeback.truncate(dirty, 100)
        assert (
            await stack.writeback.read(dirty, 0, 8)
            == CONTENT[:3] + b"new" + (CONTENT[6:8])
        )
        assert len(await stack.journal.failed()) == 1

    async with open_stack(place.store, place.directory) as stack:
        (found,) = await stack.writeback.recover()
        assert found.error is None
    assert place.stored("a") == CONTENT


@pytest.mark.parametrize("end", ["commit", "fail"])
async def test_a_newer_state_takes_the_place_of_what_was_kept(
    place: Place, end: str
) -> None:
    """When it is stored, or fails itself; there is never more than one."""
    async with open_stack(place.store, place.directory) as stack:
        dirty, _ = await failed_upload(place, stack, is_streamed=False)
        await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)
        await stack.writeback.write(dirty, 3, b"new", metadata=lambda: NO_METADATA)
        if end == "commit":
            await commit(stack, dirty)
        else:
            await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)

        assert len(await stack.journal.failed()) == (0 if end == "commit" else 1)
        assert stack.budget.dirty == (0 if end == "commit" else SIZE)
    async with open_stack(place.store, place.directory) as stack:
        await stack.writeback.recover()
    assert place.stored("a") == CONTENT[:3] + b"new" + CONTENT[6:]


async def test_an_upload_that_somebody_has_aborted_is_begun_anew(place: Place) -> None:
    """Say by a rule of the bucket that removes what is unfinished for a week."""
    async with open_stack(place.store, place.directory) as stack:
        dirty, _ = await failed_upload(place, stack, is_streamed=False)
        (upload,) = await place.memory.list_uploads()
        await place.memory.abort_multipart(upload)

        await commit(stack, dirty)
    assert place.stored("a") == CONTENT


class LateParts(StoragerWrapper):
    """Carries a part out once more before it completes an upload.

    So do servers, and threads, with a request whose client has given it up.
    """

    def __init__(self, inner: Storager, bodies: dict[int, bytes]) -> None:
        super().__init__(inner)
        self.bodies = bodies
        self.listings = 0

    async def complete_multipart(
        self, upload: Upload, parts: Sequence[Part], **options: Any
    ) -> Object:
        while self.bodies:
            index, body = self.bodies.popitem()
            await self._inner.write_part(upload, index, BytesBody(body))
        return await self._inner.complete_multipart(upload, parts, **options)

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        self.listings += 1
        return await super().list_parts(upload)


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_part_that_comes_late_is_the_one_that_counts(
    place: Place, is_streamed: bool
) -> None:
    """The store takes no other for it, though both have the same bytes."""
    late = LateParts(place.store, {})
    async with open_stack(late, place.directory) as stack:
        dirty = await written(stack, is_streamed=is_streamed)
        if dirty.stream is not None:
            await dirty.stream.settle()
        late.bodies = {0: CONTENT[:PART_SIZE]}
        await commit(stack, dirty)
        assert not late.bodies
    assert place.stored("a") == CONTENT
    assert await place.memory.list_uploads() == ()


async def test_a_part_that_comes_late_may_have_no_bytes_here_any_more(
    place: Place,
) -> None:
    late = LateParts(place.store, {})
    async with open_stack(late, place.directory) as stack:
        dirty = await written(stack, is_streamed=True)
        assert dirty.stream is not None
        await dirty.stream.settle()
        await stack.writeback.reclaim(PART_SIZE)
        assert dirty.stream.punched
        late.bodies = {0: CONTENT[:PART_SIZE]}
        await commit(stack, dirty)
        assert not late.bodies
    assert place.stored("a") == CONTENT


def test_a_part_without_bytes_here_is_not_taken_for_older_ones() -> None:
    slot = Slot(0, 0, 16, SlotState.SENT, Part(0, 16, "ours"), is_punched=True)
    slot.was_touched = True
    slot.take_stock(Part(0, 16, "another"))
    assert slot.part == Part(0, 16, "ours")


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_an_upload_that_is_refused_is_not_sent_again(
    place: Place, is_streamed: bool
) -> None:
    """All its parts are as they were told: the reason is another one."""
    late = LateParts(place.store, {})
    async with open_stack(late, place.directory) as stack:
        dirty = await written(stack, is_streamed=is_streamed)
        place.store.script = [Fault("complete_multipart", InvalidRequest("no"))]
        with pytest.raises(InvalidRequest):
            await commit(stack, dirty)
        assert late.listings == 1
        place.store.script.clear()
        place.store.times.clear()
        await commit(stack, dirty)
        # A stream sends its last part, which may have grown, with each commit.
        assert place.requests("write_part") == int(is_streamed)
    assert place.stored("a") == CONTENT


async def test_a_store_that_lists_no_parts_is_not_asked_for_them(
    tmp_path: Path,
) -> None:
    limits = replace(TINY_LIMITS, lists=False)
    memory = MemoryStore(capabilities=tiny_store(multipart=limits))
    store = FaultyStore(memory)
    async with open_stack(store, tmp_path) as stack:
        dirty = await written(stack, is_streamed=False)
        store.script = [Fault("complete_multipart", InvalidRequest("no"))]
        with pytest.raises(InvalidRequest):
            await commit(stack, dirty)
        assert "list_parts" not in store.calls
        store.script.clear()
        await commit(stack, dirty)
    assert memory.bucket.entries["a"].data == CONTENT


async def test_what_is_discarded_is_aborted(place: Place) -> None:
    """A file that nobody wants any more leaves no upload."""
    async with open_stack(place.store, place.directory) as stack:
        dirty, _ = await failed_upload(place, stack, is_streamed=False)
        await stack.writeback.discard(dirty)
    assert await place.memory.list_uploads() == ()


async def test_an_upload_whose_bytes_are_gone_is_aborted(place: Place) -> None:
    """Without the spool file nobody can go on with it."""
    async with open_stack(place.store, place.directory) as stack:
        await failed_upload(place, stack, is_streamed=False)
    # The process died before anything was kept: no row names the spool file.
    async with open_stack(place.store, place.directory) as stack:
        assert await stack.writeback.recover() == ()
        assert await stack.journal.uploads() == ()
    assert await place.memory.list_uploads() == ()


async def test_parts_of_older_bytes_are_not_taken(place: Place) -> None:
    """What the store lists under an index that was used before is sent again."""
    async with open_stack(place.store, place.directory) as stack:
        dirty = await written(stack, is_streamed=True)
        assert dirty.stream is not None
        await dirty.stream.settle()
        await stack.writeback.truncate(dirty, 50)
        for offset in range(50, SIZE, 20):
            data = bytes(min(20, SIZE - offset))
            place.store.script = [Fault("write_part", ServiceFailed("no"))]
            await stack.writeback.write(
                dirty, offset, data, metadata=lambda: NO_METADATA
            )
        await stack.writeback.keep_failed(dirty, ServiceFailed("no"), NO_METADATA)
    place.store.script.clear()

    async with open_stack(place.store, place.directory) as stack:
        (found,) = await stack.writeback.recover()
        assert found.error is None
    assert place.stored("a") == CONTENT[:50] + bytes(SIZE - 50)


def test_an_attempt_survives_as_text() -> None:
    """Pieces and mark; the parts are the store's to tell, if they fit."""
    upload = Upload("a", "1", "c")
    attempt = Attempt(upload, (CopyPart(0, 7), SendPart(7, 3)), "mark")
    again = attempts.from_text(upload, attempt.to_text())

    assert again == attempt
    assert again is not None
    again.take([Part(0, 7, "x"), Part(1, 4, "another size"), Part(2, 1, "no piece")])
    assert again.missing() == [(1, SendPart(7, 3))]
    pieces = (SendPart(0, 5), SendPart(5, 5), SendPart(10, 3))
    noted = Attempt(upload, pieces, "mark", {1: Part(1, 5, "x"), 2: Part(2, 3, "y")})
    again = attempts.from_text(upload, noted.to_text())
    assert again is not None
    assert again.parts == {1: Part(1, 5, "x")}  # the last may wait for the completion
    for damaged in ("", "[]", "{}", '{"mark": "m", "pieces": [1]}'):
        assert attempts.from_text(upload, damaged) is None


# --- uploads without a row ----------------------------------------------------------


class TerseStore(StoragerWrapper):
    """Lists uploads as S3 does: with their time, and without their commit ids."""

    begun_ns: "dict[str, int]"

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        found = await super().list_uploads(prefix)
        return tuple(
            Upload(each.key, each.id, begun_ns=self.begun_ns.get(each.id, 0))
            for each in found
        )


NOW_NS = 1_800_000_000 * 10**9


async def orphaned(place: Place, stack: Stack) -> Upload:
    """Leave an upload as a process does that dies before it has journaled the id."""
    await stack.journal.begin_upload(Intent("ours", "a", NOW_NS))
    return await place.memory.create_multipart("a", metadata=Metadata(commit_id="ours"))


async def test_an_upload_with_our_id_is_aborted_and_no_other(place: Place) -> None:
    """Where the store lists commit ids they prove whose an upload is."""
    async with open_stack(place.store, place.directory) as stack:
        await orphaned(place, stack)
        foreign = await place.memory.create_multipart("a")
        longer = await place.memory.create_multipart("ab")

    async with open_stack(place.store, place.directory) as stack:
        await stack.writeback.recover()
        assert await stack.journal.intents() == ()
    assert set(await place.memory.list_uploads()) == {foreign, longer}


@pytest.mark.parametrize("case", ["alone", "young", "begun", "two", "earlier", "known"])
async def test_an_upload_without_an_id_is_aborted_if_nobody_can_miss_it(
    place: Place, case: str
) -> None:
    """Of our key and time, the only one, empty, and a day old; else it stays."""
    terse = TerseStore(place.memory)
    async with open_stack(terse, place.directory) as stack:
        ours = await orphaned(place, stack)
        terse.begun_ns = {ours.id: NOW_NS}
        if case == "begun":
            await place.memory.write_part(ours, 0, BytesBody(b"x" * 20))
        if case == "two":
            other = await place.memory.create_multipart("a")
            terse.begun_ns[other.id] = NOW_NS
        if case == "earlier":
            terse.begun_ns[ours.id] = NOW_NS - AGE_NS
        if case == "known":
            await stack.journal.add_upload(JournaledUpload("a", ours.id))
        aborted: list[str] = []

        async def abort(upload: Upload) -> bool:
            await trio.lowlevel.checkpoint()
            aborted.append(upload.id)
            return True

        age_ns = 1000 if case == "young" else AGE_NS
        orphans = Orphans(terse, stack.journal, abort, now_ns=lambda: NOW_NS + age_ns)
        await orphans.abort_all()

        assert aborted == ([ours.id] if case == "alone" else [])
        left = await stack.journal.intents()
        assert len(left) == (1 if case == "young" else 0)


async def test_a_store_that_does_not_answer_is_asked_at_the_next_mount(
    place: Place,
) -> None:
    """The intent stays until somebody has looked."""
    async with open_stack(place.store, place.directory) as stack:
        await orphaned(place, stack)
        place.store.script.append(Fault("list_uploads", Unreachable("no")))
        await stack.writeback.recover()
        assert len(await stack.journal.intents()) == 1

        await stack.writeback.recover()
        assert await stack.journal.intents() == ()
    assert await place.memory.list_uploads() == ()


async def test_a_late_recovery_leaves_what_is_under_way(place: Place) -> None:
    """A mount may recover only when the store is reached; files are open by then."""
    async with open_stack(place.store, place.directory) as stack:
        streamed = await written(stack, is_streamed=True)
        assert streamed.stream is not None
        await stack.writeback.recover()
        await commit(stack, streamed)
        assert place.requests("create_multipart") == 1
        await stack.writeback.discard(streamed)
        await place.memory.delete("a")

        planned = await written(stack, is_streamed=False)
        async with trio.open_nursery() as nursery:
            place.store.script.append(Fault("create_multipart", delay_s=0.05))
            nursery.start_soon(commit, stack, planned)
            while not await stack.journal.intents():
                await trio.lowlevel.checkpoint()
            await stack.writeback.recover()
    assert place.stored("a") == CONTENT


@pytest.mark.parametrize("is_ambiguous", [False, True])
async def test_an_opening_that_fails_is_looked_for_if_it_may_have_worked(
    place: Place, is_ambiguous: bool
) -> None:
    """A lost reply may leave an upload; a refusal does not."""
    error = ServiceFailed("no", is_ambiguous=is_ambiguous)
    place.store.script.append(Fault("create_multipart", error, is_after=is_ambiguous))
    async with open_stack(place.store, place.directory) as stack:
        dirty = await written(stack, is_streamed=False)
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty)
        assert len(await stack.journal.intents()) == int(is_ambiguous)
        assert len(await place.memory.list_uploads()) == int(is_ambiguous)

    async with open_stack(place.store, place.directory) as stack:
        await stack.writeback.recover()
    assert await place.memory.list_uploads() == ()
