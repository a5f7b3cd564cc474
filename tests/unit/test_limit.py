"""Limits: how many requests of each class are under way, and that none starves."""

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mountfs.backends.gcs_options import GcsOptions
from mountfs.backends.memory import MemoryStore
from mountfs.backends.s3_options import S3Options
from mountfs.storage.body import BytesBody
from mountfs.storage.deadline import seconds_left
from mountfs.storage.errors import InvalidRequest, StoreError
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.types import NO_METADATA, Append, Object, Part, Upload
from mountfs.storage.wrapper import StoragerWrapper
from tests.fakes.faulty import FaultyStore, hang
from tests.fakes.flat_store import FlatStore

UPLOAD = Upload("a", "upload")
OBJECT = Object(key="a")
BODY = BytesBody(b"x")

Step = Callable[[LimitStorager], Awaitable[object]]

CALLS: dict[str, list[tuple[str, Step]]] = {
    "metadata": [
        ("stat", lambda store: store.stat("a")),
        ("list", lambda store: store.list("")),
        ("delete", lambda store: store.delete("a")),
        ("delete_many", lambda store: store.delete_many(["a"])),
        ("make_dir", lambda store: store.make_dir("a/")),
        ("make_link", lambda store: store.make_link("a", "b")),
        ("create_multipart", lambda store: store.create_multipart("a")),
        ("list_parts", lambda store: store.list_parts(UPLOAD)),
        ("list_uploads", lambda store: store.list_uploads()),
        ("abort_multipart", lambda store: store.abort_multipart(UPLOAD)),
        ("create_append", lambda store: store.create_append("a")),
    ],
    "reads": [("read", lambda store: store.read("a"))],
    "uploads": [
        ("write", lambda store: store.write("a", BODY)),
        ("write_part", lambda store: store.write_part(UPLOAD, 0, BODY)),
        ("write_append", lambda store: store.write_append(Append("a", 0), BODY)),
        ("commit_append", lambda store: store.commit_append(Append("a", 0))),
    ],
    "copies": [
        ("copy", lambda store: store.copy("a", "b")),
        ("move", lambda store: store.move("a", "b")),
        ("set_metadata", lambda store: store.set_metadata(OBJECT, NO_METADATA)),
        ("copy_part", lambda store: store.copy_part(UPLOAD, 0, OBJECT, 0, 1)),
        (
            "complete_multipart",
            lambda store: store.complete_multipart(UPLOAD, [Part(0, 1, "e")]),
        ),
    ],
}


@pytest.mark.parametrize(
    ("pool", "call", "step"),
    [
        pytest.param(pool, call, step, id=call)
        for pool, calls in CALLS.items()
        for call, step in calls
    ],
)
async def test_each_call_waits_in_its_own_pool(
    pool: str, call: str, step: Step
) -> None:
    """A hanging call holds a place in its pool; calls of all other pools get by."""
    first = CALLS[pool][0]
    faulty = FaultyStore(MemoryStore(), hang(call))
    store = LimitStorager(faulty, Limits(metadata=1, reads=1, uploads=1, copies=1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step, store)
        await wait_all_tasks_blocked()
        for other, calls in CALLS.items():
            if other != pool:
                nursery.start_soon(_attempt, calls[0][1], store)
        nursery.start_soon(_attempt, first[1], store)
        await wait_all_tasks_blocked()

        sent = [name for name, _ in faulty.times]
        assert sent.count(first[0]) == (1 if first[0] == call else 0)
        assert len(sent) == len(CALLS)
        nursery.cancel_scope.cancel()


async def _attempt(step: Step, store: LimitStorager) -> None:
    try:
        await step(store)
    except StoreError:
        return


async def test_places_are_given_back_after_an_error() -> None:
    """A request that fails frees its place."""
    store = LimitStorager(MemoryStore(), Limits(metadata=1))

    await _attempt(lambda store: store.stat("absent"), store)

    assert (await store.list("")).objects == ()


async def test_no_more_requests_than_places(autojump_clock: MockClock) -> None:
    """With two places three reads need two turns."""
    faulty = FaultyStore(MemoryStore(), hang("read"), hang("read"))
    store = LimitStorager(faulty, Limits(reads=2))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(_attempt, lambda store: store.read("a"), store)
        await wait_all_tasks_blocked()
        assert len(faulty.times) == 2
        nursery.cancel_scope.cancel()


async def test_what_needs_no_place_passes() -> None:
    """Signing and closing send nothing that could be limited."""
    passed: list[str] = []

    class Signing(MemoryStore):
        async def sign_read(self, key: str, *, expires_s: int) -> str:
            return f"https://store.invalid/{key}?expires={expires_s}"

        async def close(self) -> None:
            passed.append("close")

    store = LimitStorager(Signing(), Limits())

    assert await store.sign_read("a", expires_s=1)
    await store.close()

    assert passed == ["close"]


def test_limit_of_nothing_is_refused() -> None:
    """A pool without places would wait forever."""
    with pytest.raises(InvalidRequest):
        Limits(reads=0)


async def test_base_of_wrappers_changes_nothing() -> None:
    """What a wrapper does not override reaches the inner store as it is."""
    flat = FlatStore()
    wrapper = StoragerWrapper(flat)

    assert wrapper.capabilities is flat.capabilities
    assert wrapper.features == flat.features
    with pytest.raises(StoreError):
        await wrapper.move("a", "b")
    with pytest.raises(StoreError):
        await wrapper.make_dir("d/")
    assert await wrapper.delete_many(["a"]) == {}
    assert flat.requests == ["move", "make_dir", "delete_many"]


def test_without_a_deadline_all_time_is_left() -> None:
    """Outside of any deadline nothing hurries."""
    assert seconds_left() == math.inf


@pytest.mark.parametrize("options", [S3Options(), GcsOptions()])
def test_a_store_has_a_thread_for_each_request(options: S3Options | GcsOptions) -> None:
    """Else one class of requests would keep the others waiting after all."""
    most = Limits()

    let_through = most.metadata + most.reads + most.uploads + most.copies
    assert options.requests_max >= let_through
