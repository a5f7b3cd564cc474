"""Retries: what is sent again, when, and what a lost reply comes to."""

import dataclasses
import math
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from mountfs.backends.memory import MemoryStore
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    Corrupt,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ServiceFailed,
    StoreError,
    Throttled,
    TimedOut,
    Unreachable,
    UploadNotFound,
    VersionChanged,
)
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Append,
    Capabilities,
    Condition,
    Metadata,
    Object,
    ObjectKind,
    Upload,
)
from tests.fakes.faulty import Fault, FaultyStore, hang
from tests.fakes.flat_store import KEY_STORE, FlatStore

POLICY = RetryPolicy(attempts=4, backoff_base_s=1.0, backoff_max_s=3.0)


class HighestChance(random.Random):
    """Draws the longest pause."""

    def random(self) -> float:
        return 1.0


def retrying(
    flat: FlatStore, *faults: Fault, policy: RetryPolicy = POLICY
) -> tuple[RetryStorager, FaultyStore]:
    faulty = FaultyStore(flat, *faults)
    return RetryStorager(faulty, policy, chance=HighestChance()), faulty


def lost(call: str) -> Fault:
    return Fault(call, Unreachable("cut"), is_after=True)


def cut(call: str) -> Fault:
    return Fault(call, Unreachable("cut"))


@pytest.fixture
def flat() -> FlatStore:
    return FlatStore()


Step = Callable[[RetryStorager, FlatStore], Awaitable[object]]


async def _create(store: RetryStorager, flat: FlatStore) -> object:
    return await store.write("new", BytesBody(b"mine"), condition=ABSENT)


async def _replace(store: RetryStorager, flat: FlatStore) -> object:
    old = await flat.stat("old")
    return await store.write("old", BytesBody(b"mine"), condition=old.version)


async def _copy_with_metadata(store: RetryStorager, flat: FlatStore) -> object:
    return await store.copy("old", "new", metadata=Metadata(), condition=ABSENT)


async def _copy(store: RetryStorager, flat: FlatStore) -> object:
    return await store.copy("old", "new", condition=ABSENT)


async def _complete(store: RetryStorager, flat: FlatStore) -> object:
    upload = await store.create_multipart("new")
    part = await store.write_part(upload, 0, BytesBody(b"mine"))
    return await store.complete_multipart(upload, [part], condition=ABSENT)


async def _delete(store: RetryStorager, flat: FlatStore) -> object:
    old = await flat.stat("old")
    await store.delete("old", condition=old.version)
    return None


async def _set_metadata(store: RetryStorager, flat: FlatStore) -> object:
    old = await flat.stat("old")
    return await store.set_metadata(
        old, Metadata(user={"a": "b"}), condition=old.version
    )


CONDITIONAL = [
    pytest.param("write", _create, id="create"),
    pytest.param("write", _replace, id="replace"),
    pytest.param("copy", _copy, id="copy"),
    pytest.param("copy", _copy_with_metadata, id="copy-with-metadata"),
    pytest.param("complete_multipart", _complete, id="complete"),
    pytest.param("delete", _delete, id="delete"),
    pytest.param("set_metadata", _set_metadata, id="set-metadata"),
]


@pytest.mark.parametrize(("call", "step"), CONDITIONAL)
async def test_lost_reply_is_success_with_one_effect(
    call: str, step: Step, flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A conditional change whose reply is lost succeeds and is not sent again."""
    flat.put("old", b"old")
    store, _faulty = retrying(flat, lost(call))

    answer = await step(store, flat)

    assert flat.requests.count(call) == 1
    if call == "delete":
        assert "old" not in flat.objects
    else:
        assert isinstance(answer, Object)
        assert answer.version == (await flat.stat(answer.key)).version


@pytest.mark.parametrize(("call", "step"), CONDITIONAL)
async def test_every_reply_lost_and_every_look_lost_once_is_still_success(
    call: str, step: Step, flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A look that fails is asked again before anything is sent again."""
    flat.put("old", b"old")
    store, _faulty = retrying(flat, lost(call), cut("stat"))

    await step(store, flat)

    assert flat.requests.count(call) == 1


@pytest.mark.parametrize(("call", "step"), CONDITIONAL)
async def test_request_cut_before_its_effect_is_sent_again(
    call: str, step: Step, flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A request that never arrived is sent again after a look."""
    flat.put("old", b"old")
    store, _faulty = retrying(flat, cut(call), Fault(call, Throttled()))

    await step(store, flat)

    assert flat.requests.count(call) == 1


class Racing(FaultyStore):
    """Lets a foreign client write when the first request is cut."""

    def __init__(self, flat: FlatStore, call: str, key: str) -> None:
        super().__init__(flat, cut(call))
        self._flat = flat
        self._call = call
        self._key = key

    async def _pass(
        self, call: str, request: Callable[[], Awaitable[object]]
    ) -> object:
        try:
            return await super()._pass(call, request)
        except Unreachable:
            self._flat.put(self._key, b"foreign")
            raise


@pytest.mark.parametrize(
    ("call", "step", "key"),
    [
        pytest.param("write", _create, "new", id="create"),
        pytest.param("write", _replace, "old", id="replace"),
        pytest.param("copy", _copy, "new", id="copy"),
        pytest.param("copy", _copy_with_metadata, "new", id="copy-with-metadata"),
        pytest.param("complete_multipart", _complete, "new", id="complete"),
        pytest.param("delete", _delete, "old", id="delete"),
        pytest.param("set_metadata", _set_metadata, "old", id="set-metadata"),
    ],
)
async def test_foreign_change_between_attempts_is_a_conflict(
    call: str, step: Step, key: str, flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A real conflict comes up although the first request was ambiguous."""
    flat.put("old", b"old")
    store = RetryStorager(Racing(flat, call, key), POLICY)

    with pytest.raises(PreconditionFailed):
        await step(store, flat)

    assert flat.objects[key].data == b"foreign"


async def test_conflict_on_the_first_request_is_not_looked_into(
    flat: FlatStore,
) -> None:
    """A first refusal is a real conflict and costs no other request."""
    flat.put("new", b"foreign")
    store, _faulty = retrying(flat)

    with pytest.raises(AlreadyExists):
        await store.write("new", BytesBody(b"mine"), condition=ABSENT)

    assert flat.requests == ["write"]


async def test_refusal_of_a_resumed_commit_is_looked_into(flat: FlatStore) -> None:
    """After a crash a given commit id resolves even the first refusal."""
    store, _faulty = retrying(flat)
    metadata = Metadata(commit_id="c1")
    first = await store.write(
        "new", BytesBody(b"mine"), metadata=metadata, condition=ABSENT
    )

    again = await store.write(
        "new", BytesBody(b"mine"), metadata=metadata, condition=ABSENT
    )

    assert again.version == first.version


async def test_complete_after_a_crash_finds_its_object(flat: FlatStore) -> None:
    """An upload that is gone because it was completed earlier is success."""
    store, _faulty = retrying(flat)
    upload = await store.create_multipart("new")
    part = await store.write_part(upload, 0, BytesBody(b"mine"))
    await store.complete_multipart(upload, [part])

    again = await store.complete_multipart(upload, [part])

    assert again.size == 4


async def test_complete_of_an_aborted_upload_fails(flat: FlatStore) -> None:
    """An upload that is gone for another reason stays an error."""
    store, _faulty = retrying(flat)
    upload = await store.create_multipart("new")
    await store.abort_multipart(upload)

    with pytest.raises(UploadNotFound):
        await store.complete_multipart(upload, [])


@pytest.mark.parametrize("change", ["write", "set_metadata"])
async def test_commit_id_of_the_replaced_object_is_not_used_again(
    change: str, flat: FlatStore, autojump_clock: MockClock
) -> None:
    """Passing on the old metadata never makes the old object pass for the new one."""
    store, _faulty = retrying(flat, cut(change))
    old = await store.stat((flat.put("a", b"old", Metadata(commit_id="c1"))).key)
    assert old.metadata is not None

    if change == "write":
        new = await store.write(
            "a", BytesBody(b"new"), metadata=old.metadata, inherit=old
        )
        assert flat.objects["a"].data == b"new"
    else:
        new = await store.set_metadata(old, old.metadata)

    assert new.metadata is not None
    assert new.metadata.commit_id not in {None, "c1"}


async def test_unanswered_write_on_a_store_without_metadata_is_sent_again(
    autojump_clock: MockClock,
) -> None:
    """Without metadata nothing can be looked up; the same bytes are sent again."""
    flat = FlatStore(Capabilities(service="bare"))
    store, _faulty = retrying(flat, lost("write"))

    await store.write("a", BytesBody(b"x"))

    assert flat.requests == ["write", "write"]


@pytest.mark.parametrize(
    "error", [PermissionDenied(), NotFound(), InvalidRequest(), VersionChanged()]
)
async def test_final_error_is_raised_at_once(
    error: StoreError, flat: FlatStore
) -> None:
    """What cannot succeed later is not sent again."""
    store, faulty = retrying(flat, Fault("read", error))

    with pytest.raises(type(error)):
        await store.read("a")

    assert len(faulty.times) == 1


async def test_damaged_read_is_read_again(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """Bytes that do not match their checksum are fetched anew."""
    flat.put("a", b"bytes")
    store, _faulty = retrying(flat, Fault("read", Corrupt()))

    assert (await store.read("a")).data == b"bytes"


async def test_pauses_double_up_to_their_bound(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """Pauses are 1, 2 and 3 s: doubled, then bounded."""
    flat.put("a", b"")
    store, faulty = retrying(flat, *[Fault("stat", ServiceFailed())] * 3)
    begun = trio.current_time()

    await store.stat("a")

    assert [time - begun for _, time in faulty.times] == pytest.approx([0, 1, 3, 6])


async def test_attempts_are_bounded(flat: FlatStore, autojump_clock: MockClock) -> None:
    """After the last attempt the store's own error is raised."""
    store, faulty = retrying(flat, *[Fault("stat", ServiceFailed())] * 9)

    with pytest.raises(ServiceFailed):
        await store.stat("a")

    assert len(faulty.times) == POLICY.attempts


async def test_retry_after_is_honoured(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A service that names a pause gets it."""
    flat.put("a", b"")
    store, _faulty = retrying(flat, Fault("stat", Throttled(retry_after_s=7.5)))
    begun = trio.current_time()

    await store.stat("a")

    assert trio.current_time() - begun == pytest.approx(7.5)


async def test_pause_beyond_the_deadline_is_not_waited_for(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """If the pause outlasts the deadline, the error is raised at once."""
    store, _faulty = retrying(flat, Fault("stat", Throttled(retry_after_s=60)))
    begun = trio.current_time()

    with pytest.raises(Throttled):
        await store.stat("a")

    assert trio.current_time() == begun


async def test_hanging_read_ends_at_its_deadline(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A request without an answer is `TimedOut`, and plainly so for a read."""
    store, _faulty = retrying(flat, hang("stat"))
    begun = trio.current_time()

    with pytest.raises(TimedOut) as caught:
        await store.stat("a")

    assert trio.current_time() - begun == pytest.approx(POLICY.metadata_s)
    assert not caught.value.is_ambiguous


async def test_hanging_link_ends_at_its_deadline(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """Some stores are asked for the URL of an object, as for anything else."""
    store, _faulty = retrying(flat, hang("sign_read"))
    begun = trio.current_time()

    with pytest.raises(TimedOut):
        await store.sign_read("a", expires_s=60)

    assert trio.current_time() - begun == pytest.approx(POLICY.metadata_s)


async def test_hanging_write_is_ambiguous(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A write that ran out of time, and is not found, may still arrive."""
    store, _faulty = retrying(flat, hang("write"))
    begun = trio.current_time()

    with pytest.raises(TimedOut) as caught:
        await store.write("a", BytesBody(bytes(1 << 20)))

    assert trio.current_time() - begun == pytest.approx(POLICY.write_s + 1)
    assert caught.value.is_ambiguous


async def test_hanging_write_that_was_carried_out_is_success(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """After the deadline one last look finds what a hanging write stored."""
    store, _faulty = retrying(flat, hang("write", is_after=True))

    written = await store.write("a", BytesBody(b"x"), condition=ABSENT)

    assert written.size == 1


async def test_last_attempt_with_a_lost_reply_is_success(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """The last attempt is looked into as well."""
    faults = [Fault("write", Throttled())] * (POLICY.attempts - 1)
    store, _faulty = retrying(flat, *faults, lost("write"))

    written = await store.write("a", BytesBody(b"x"), condition=ABSENT)

    assert written.size == 1


async def test_refused_look_leaves_the_ambiguous_error(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """If looking is not allowed, the caller learns that the write is uncertain."""
    store, _faulty = retrying(
        flat, lost("write"), *[Fault("stat", PermissionDenied())] * 2
    )

    with pytest.raises(Unreachable) as caught:
        await store.write("a", BytesBody(b"x"), condition=ABSENT)

    assert caught.value.is_ambiguous


async def test_look_without_an_answer_leaves_the_ambiguous_error(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """If no look is answered, the first failure is told; nothing is sent again."""
    store, faulty = retrying(flat, lost("write"), *[Fault("stat", ServiceFailed())] * 9)

    with pytest.raises(Unreachable) as caught:
        await store.write("a", BytesBody(b"x"), condition=ABSENT)

    assert caught.value.is_ambiguous
    assert [call for call, _ in faulty.times].count("write") == 1


async def test_copy_is_known_by_the_commit_id_of_its_source(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A copy carries its source's commit id, whatever version the store gave it."""
    flat.put("old", b"old", Metadata(commit_id="c1"))
    store, _faulty = retrying(flat, lost("copy"))

    await store.copy("old", "new", condition=ABSENT)

    assert flat.requests.count("copy") == 1


async def test_copy_without_commit_ids_is_known_by_its_content(
    autojump_clock: MockClock,
) -> None:
    """Where no metadata are kept, a lost copy is found by version and size."""
    flat = FlatStore(_capabilities(metadata=False))
    flat.put("old", b"old")
    store, _faulty = retrying(flat, lost("copy"))

    await store.copy("old", "new", condition=ABSENT)

    assert flat.requests.count("copy") == 1


async def test_copy_that_cannot_be_known_is_a_conflict(
    autojump_clock: MockClock,
) -> None:
    """A store that tells no versions cannot show whose copy is there."""

    class Silent(FlatStore):
        async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
            found = await super().stat(key, kind=kind)
            return dataclasses.replace(found, version=None)

    flat = Silent()
    flat.put("old", b"old")
    store, _faulty = retrying(flat, lost("copy"))

    with pytest.raises(AlreadyExists):
        await store.copy("old", "new", condition=ABSENT)


async def test_upload_knows_the_commit_id_of_its_object() -> None:
    """An upload carries its commit id even if the backend did not put it there."""

    class Forgetful(FlatStore):
        async def create_multipart(
            self,
            key: str,
            *,
            metadata: Metadata = NO_METADATA,
            inherit: Object | None = None,
        ) -> Upload:
            upload = await super().create_multipart(key, metadata=metadata)
            return dataclasses.replace(upload, commit_id=None)

    store = RetryStorager(Forgetful(), POLICY, commit_ids=lambda: "c1")

    assert (await store.create_multipart("a")).commit_id == "c1"


async def test_refusal_that_cannot_be_looked_into_is_no_conflict(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A refused retry without a look is reported as uncertain, not as a conflict."""
    store, _faulty = retrying(
        flat,
        Fault("write", Throttled()),
        Fault("write", AlreadyExists()),
        Fault("stat", PermissionDenied()),
    )

    with pytest.raises(PermissionDenied) as caught:
        await store.write("a", BytesBody(b"x"), condition=ABSENT)

    assert caught.value.is_ambiguous


async def test_repeatable_calls_are_repeated(autojump_clock: MockClock) -> None:
    """Listings, parts, aborts, moves and directories survive a lost reply."""
    flat = FlatStore(_capabilities(move=True, native_dirs=True, native_links=True))
    flat.put("a", b"x" * 20)
    calls = ["list", "create_multipart", "write_part", "copy_part", "list_parts"]
    calls += ["list_uploads", "abort_multipart", "delete", "move"]
    calls += ["make_dir", "make_link"]
    store, faulty = retrying(flat, *[lost(call) for call in calls])

    assert (await store.list("")).objects
    base = await store.stat("a")
    upload = await store.create_multipart("up")
    await store.write_part(upload, 0, BytesBody(b"y" * 10))
    await store.copy_part(upload, 1, base, 0, 10)
    assert [part.index for part in await store.list_parts(upload)] == [0, 1]
    assert upload.id in {known.id for known in await store.list_uploads("up")}
    await store.abort_multipart(upload)
    await store.move("a", "b")
    assert (await store.make_dir("d/")).kind is ObjectKind.DIRECTORY
    assert (await store.make_link("l", "b", condition=ABSENT)).link_target == "b"
    await store.delete("b")

    assert faulty.script == []
    assert set(flat.objects) == {"d/", "l"}


async def test_move_that_was_not_carried_out_is_sent_again(
    autojump_clock: MockClock,
) -> None:
    """A move whose source is still there did not happen."""
    flat = FlatStore(_capabilities(move=True))
    flat.put("a", b"x")
    store, _faulty = retrying(flat, cut("move"))

    await store.move("a", "b")

    assert set(flat.objects) == {"b"}


async def test_move_of_nothing_is_not_found(autojump_clock: MockClock) -> None:
    """A move whose source and target are both absent fails, also on a retry."""
    store, _faulty = retrying(FlatStore(_capabilities(move=True)), cut("move"))

    with pytest.raises(NotFound):
        await store.move("a", "b")


async def test_appends_are_repeated_only_if_not_carried_out(
    autojump_clock: MockClock,
) -> None:
    """A throttled append is sent again; one with a lost reply is not."""
    flat = FlatStore(_capabilities(append=True))
    throttled = [
        Fault(call, Throttled())
        for call in ("create_append", "write_append", "commit_append")
    ]
    store, faulty = retrying(flat, *throttled)

    append = await store.create_append("a")
    append = await store.write_append(append, BytesBody(b"x"))
    faulty.script.append(lost("write_append"))
    with pytest.raises(Unreachable):
        await store.write_append(append, BytesBody(b"y"))
    assert flat.requests.count("write_append") == 2
    assert (await store.commit_append(append)).size == 1


async def test_hanging_append_is_ambiguous(autojump_clock: MockClock) -> None:
    """An append that runs out of time may have been carried out."""
    store, _faulty = retrying(FlatStore(), hang("commit_append"))

    with pytest.raises(TimedOut) as caught:
        await store.commit_append(Append("a", 0))

    assert caught.value.is_ambiguous


async def test_refused_append_is_not_repeated(autojump_clock: MockClock) -> None:
    """What cannot succeed later is not sent again."""
    store, faulty = retrying(FlatStore())

    with pytest.raises(StoreError):
        await store.create_append("a")

    assert len(faulty.times) == 1


class Grudging(FlatStore):
    """Deletes only what it is told to in this request; the rest gets an error."""

    def __init__(self, *answers: dict[str, Exception]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[tuple[str, ...]] = []

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        self.asked.append(tuple(keys))
        await super().delete_many(keys)
        return self.answers.pop(0) if self.answers else {}


async def test_only_failed_keys_are_deleted_again(autojump_clock: MockClock) -> None:
    """Of many keys only those that may succeed later go into the next request."""
    refused = PermissionDenied()
    flat = Grudging({"b": ServiceFailed(), "c": refused})
    store = RetryStorager(flat, POLICY)

    assert await store.delete_many(["a", "b", "c"]) == {"c": refused}
    assert flat.asked == [("a", "b", "c"), ("b",)]


async def test_keys_that_never_succeed_keep_their_error(
    autojump_clock: MockClock,
) -> None:
    """When the attempts are used up, the error of each key is returned."""
    failed = ServiceFailed()
    store = RetryStorager(
        Grudging({"b": failed}, {"b": failed}, {"b": failed}, {"b": failed}), POLICY
    )

    assert await store.delete_many(["a", "b"]) == {"b": failed}


async def test_delete_many_without_any_answer_raises(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """If no request is answered there is nothing to tell about single keys."""
    store, _faulty = retrying(flat, *[cut("delete_many")] * 9)

    with pytest.raises(Unreachable):
        await store.delete_many(["a"])


class _Silent(FlatStore):
    """Answers writes without metadata, as S3 does."""

    def _put(
        self, key: str, data: bytes, metadata: Metadata, condition: Condition
    ) -> Object:
        stored = super()._put(key, data, metadata, condition)
        return dataclasses.replace(stored, metadata=None)


async def test_answer_without_metadata_gets_those_that_were_sent() -> None:
    """A write tells its metadata even if the service does not repeat them."""
    store = RetryStorager(_Silent(), POLICY, commit_ids=lambda: "c1")

    written = await store.write("a", None, metadata=Metadata(user={"x": "y"}))
    replaced = await store.write("a", None, inherit=written)

    assert written.metadata == Metadata(user={"x": "y"}, commit_id="c1")
    assert replaced.metadata is None


async def test_cancelled_request_leaves_nothing_behind(flat: FlatStore) -> None:
    """Cancelling a hanging request frees its place in the pool."""
    limited = LimitStorager(FaultyStore(flat, hang("stat")), Limits(metadata=1))
    store = RetryStorager(limited, POLICY)
    flat.put("a")

    with trio.move_on_after(0.01) as scope:
        await store.stat("a")

    assert scope.cancelled_caught
    assert (await store.stat("a")).key == "a"


async def test_queueing_does_not_count_against_the_deadline(
    flat: FlatStore, autojump_clock: MockClock
) -> None:
    """A request that waits for a place of ours longer than its deadline is not late."""
    flat.put("a", b"x")
    hanging = FaultyStore(flat, hang("stat"))
    store = RetryStorager(LimitStorager(hanging, Limits(metadata=1)), POLICY)
    answers: list[Object] = []

    async def second() -> None:
        await trio.sleep(1)
        answers.append(await store.stat("a"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(second)
        with pytest.raises(TimedOut):
            await store.stat("a")
        await trio.sleep(1)

    assert len(answers) == 1


@pytest.mark.parametrize(
    "fields", [{"attempts": 0}, {"bytes_per_s": 0.0}, {"backoff_base_s": -1.0}]
)
def test_senseless_policy_is_refused(fields: dict[str, float]) -> None:
    """A policy that could not work is not built."""
    with pytest.raises(InvalidRequest):
        RetryPolicy(**fields)  # type: ignore[arg-type]


def _capabilities(**more: bool) -> Capabilities:
    return dataclasses.replace(KEY_STORE, **more)  # type: ignore[arg-type]


async def test_an_outage_is_outlasted(autojump_clock: MockClock) -> None:
    """If they may be without end only the deadline ends the attempts, and no pause is
    long; a store that answers with failures is not asked for ever.
    """
    policy = RetryPolicy(outage_attempts=math.inf)
    faults = [Fault("stat", Unreachable("gone")) for _ in range(1000)]
    faulty = FaultyStore(MemoryStore(), *faults)
    store = RetryStorager(faulty, policy, chance=random.Random(1))
    with pytest.raises(Unreachable):
        await store.stat("a")
    assert trio.current_time() > 8
    assert len(faulty.calls) > policy.attempts

    faulty = FaultyStore(
        MemoryStore(), *[Fault("stat", ServiceFailed("500")) for _ in range(1000)]
    )
    store = RetryStorager(faulty, policy, chance=random.Random(1))
    with pytest.raises(ServiceFailed):
        await store.stat("a")
    assert len(faulty.calls) == policy.attempts
