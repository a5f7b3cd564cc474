"""Writing and deleting: bodies, sizes, versions, times."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

from mountfs.storage.body import BytesBody, FileBody
from mountfs.storage.errors import (
    BodyTooShort,
    InvalidRequest,
    NotFound,
    ObjectTooLarge,
    StoreError,
)
from mountfs.storage.protocol import Storager
from tests.conformance.steps import get, is_absent, put, put_all
from tests.conformance.stores import Quirk, Subject


class LyingBody:
    """A body that ends before the size that it states."""

    size = 10

    def open(self) -> BinaryIO:
        """Return half of what was promised."""
        return io.BytesIO(b"12345")


class HugeBody:
    """A body that must not be opened, for it is too large to be sent."""

    def __init__(self, size: int) -> None:
        self.size = size

    def open(self) -> BinaryIO:
        """Fail: the size was known before."""
        raise AssertionError("a body over the limit was opened")


async def test_what_was_written_is_read(store: Storager) -> None:
    """The bytes come back, and stat and the answer agree on the object."""
    written = await put(store, "dir/file", b"some bytes")

    known = await store.stat("dir/file")
    assert await get(store, "dir/file") == b"some bytes"
    assert written.key == known.key == "dir/file"
    assert written.size == known.size == len(b"some bytes")
    assert written.version is not None
    assert known.version is not None
    assert written.version.content == known.version.content


async def test_a_longer_body_is_cut(store: Storager) -> None:
    """Only `size` bytes of a longer body are stored."""
    written = await store.write("file", BytesBody(b"0123456789"), size=4)

    assert written.size == 4
    assert await get(store, "file") == b"0123"


@pytest.mark.parametrize("body", [BytesBody(b"12345"), LyingBody()])
async def test_a_shorter_body_stores_nothing(
    store: Storager, body: BytesBody | LyingBody
) -> None:
    """A body that ends too early raises `BodyTooShort` and changes nothing."""
    await put(store, "old", b"old")

    for key in ("new", "old"):
        with pytest.raises(BodyTooShort):
            await store.write(key, body, size=10)

    assert await is_absent(store, "new")
    assert await get(store, "old") == b"old"


async def test_no_body_is_an_empty_object(store: Storager) -> None:
    """Neither body nor size, no body with size 0, and size 0 of a body: all empty."""
    await store.write("none", None)
    await store.write("zero", None, size=0)
    await store.write("cut", BytesBody(b"cut away"), size=0)

    for key in ("none", "zero", "cut"):
        assert await get(store, key) == b""
        assert (await store.stat(key)).size == 0


async def test_bytes_without_a_body_are_refused(store: Storager) -> None:
    """A size without a body raises `BodyTooShort`, and nothing is created."""
    with pytest.raises(BodyTooShort):
        await store.write("file", None, size=3)

    assert await is_absent(store, "file")


async def test_a_negative_size_is_refused(store: Storager) -> None:
    """A negative size raises `InvalidRequest`."""
    with pytest.raises(InvalidRequest):
        await store.write("file", BytesBody(b"bytes"), size=-1)


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(
    store: Storager,
) -> None:
    """Over `write_size_max` nothing is opened or sent; without one all sizes go."""
    limit = store.capabilities.write_size_max
    if limit is None:
        await store.write("file", BytesBody(b"x" * (9 << 20)))
        assert (await store.stat("file")).size == 9 << 20
        return

    with pytest.raises(ObjectTooLarge):
        await store.write("file", HugeBody(limit + 1))

    assert await is_absent(store, "file")


async def test_a_range_of_a_file_is_a_body(store: Storager, tmp_path: Path) -> None:
    """A body in a file on disk is sent from its offset."""
    path = tmp_path / "spool"
    path.write_bytes(b"0123456789" * 100_000)

    await store.write("file", FileBody(path, offset=5, size=600_000))

    assert await get(store, "file") == (b"5678901234" * 60_000)


async def test_a_write_replaces_the_whole_object(store: Storager) -> None:
    """A shorter write leaves nothing of the longer object, and the version changes."""
    first = await put(store, "file", b"a long first version")
    second = await put(store, "file", b"short")

    assert await get(store, "file") == b"short"
    assert first.version is not None
    assert second.version is not None
    assert first.version.content != second.version.content


async def test_times_are_those_of_the_writes(store: Storager, subject: Subject) -> None:
    """The time of change is that of the write, by the clock of the store."""
    before = time.time_ns()
    await put(store, "file", b"bytes")
    first = (await store.stat("file")).mtime_ns
    await put(store, "file", b"other bytes")
    second = (await store.stat("file")).mtime_ns

    assert first is not None
    assert second is not None
    slack = 2_000_000_000 if Quirk.CLOCK_IN_SECONDS in subject.quirks else 0
    assert before - slack <= first <= second <= time.time_ns() + slack


async def test_two_store_objects_see_each_other(
    store: Storager, again: Storager
) -> None:
    """What one store object writes and deletes, another sees at once."""
    await put(store, "file", b"bytes")
    assert await get(again, "file") == b"bytes"
    await again.delete("file")

    assert await is_absent(store, "file")


async def test_writes_at_once_leave_one_of_them(store: Storager) -> None:
    """Of many writes of one key at once exactly one is there in the end, whole."""
    bodies = [bytes([number]) * 100_000 for number in range(10)]
    async with trio.open_nursery() as nursery:
        for data in bodies:
            nursery.start_soon(put, store, "file", data)

    assert await get(store, "file") in bodies


async def test_a_cancelled_write_is_whole_or_nothing(store: Storager) -> None:
    """After a cancelled write the old bytes or the new ones are there."""
    await put(store, "file", b"old")
    with trio.CancelScope() as scope:
        scope.cancel()
        await put(store, "file", b"new")

    assert await get(store, "file") in {b"old", b"new"}
    await put(store, "file", b"newest")
    assert await get(store, "file") in {b"new", b"newest"}


@pytest.mark.parametrize(
    "request_of",
    [
        lambda store: store.stat("file"),
        lambda store: store.read("file"),
        lambda store: store.list(""),
        lambda store: store.delete("file"),
    ],
    ids=["stat", "read", "list", "delete"],
)
async def test_every_request_can_be_cancelled(
    store: Storager, request_of: Callable[[Storager], object]
) -> None:
    """In a cancelled scope a request ends at once, and the store stays usable."""
    await put(store, "file", b"bytes")

    with trio.CancelScope() as scope:
        scope.cancel()
        await request_of(store)  # type: ignore[misc]  # any awaitable will do

    assert scope.cancelled_caught
    await put(store, "other", b"bytes")
    assert await get(store, "other") == b"bytes"


async def test_deleting_twice_is_success(store: Storager) -> None:
    """Delete removes the object; what is absent is deleted already."""
    await put(store, "dir/file", b"bytes")
    await store.delete("dir/file")
    await store.delete("dir/file")
    await store.delete("never/there")

    with pytest.raises(NotFound):
        await store.stat("dir/file")


async def test_delete_removes_exactly_one_object(store: Storager) -> None:
    """Keys that begin like the deleted one stay."""
    await put_all(store, ["a", "ab", "b/a"])

    await store.delete("a")

    assert await get(store, "ab") == b"ab"
    assert await get(store, "b/a") == b"b/a"


async def test_many_are_deleted_in_one_call(store: Storager) -> None:
    """More keys than one request takes are deleted, absent ones among them."""
    keys = [f"file-{number:04}" for number in range(1005)]
    await put_all(store, [*keys[::100], "stays"])

    assert await store.delete_many(keys) == {}

    page = await store.list("", limit=5)
    while not page.objects:
        page = await store.list("", token=page.token, limit=5)
    assert [found.key for found in page.objects] == ["stays"]


async def test_nothing_is_deleted_by_an_empty_list(store: Storager) -> None:
    """`delete_many` of nothing does nothing."""
    assert await store.delete_many([]) == {}


async def test_an_empty_key_is_refused(store: Storager) -> None:
    """No object has the empty key."""
    for request in (store.stat, store.read, store.delete):
        with pytest.raises(InvalidRequest):
            await request("")
    with pytest.raises(InvalidRequest):
        await put(store, "", b"bytes")


async def test_what_cannot_be_deleted_is_named(store: Storager) -> None:
    """`delete_many` returns the error of each key that it could not delete."""
    await put(store, "file", b"bytes")

    errors = await store.delete_many(["file", ""])

    assert set(errors) == {""}
    assert isinstance(errors[""], StoreError)
    assert await is_absent(store, "file")
