"""The memory store beyond the contract: its knobs."""

import dataclasses
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.backends.memory_bucket import Bucket
from mountfs.storage.body import BytesBody, FileBody
from mountfs.storage.errors import (
    InvalidRequest,
    ObjectTooLarge,
    QuotaExceeded,
    StoreError,
    Unsupported,
)
from mountfs.storage.types import ABSENT, Append, ListMode, Metadata, Object


async def test_the_clock_can_be_given() -> None:
    """Times of change come from the clock that the store was given."""
    clock = itertools.count(100)
    store = MemoryStore(now_ns=lambda: next(clock))

    first = await store.write("a", None)
    second = await store.write("b", None)

    assert (first.mtime_ns, second.mtime_ns) == (100, 101)


async def test_a_full_store_says_so() -> None:
    """Over its capacity a store refuses bytes, and room comes back with deletions."""
    store = MemoryStore(Bucket(capacity_bytes=10))
    await store.write("a", BytesBody(b"12345"))
    with pytest.raises(QuotaExceeded):
        await store.write("b", BytesBody(b"123456"))
    await store.write("a", BytesBody(b"1234567890"))
    await store.delete("a")

    await store.write("b", BytesBody(b"1234567890"))
    assert [found.key for found in (await store.list("")).objects] == ["b"]


async def test_bodies_on_disk_are_read(tmp_path: Path) -> None:
    """A body that reads a file is read in a thread."""
    path = tmp_path / "spool"
    path.write_bytes(b"0123456789")
    store = MemoryStore()
    await store.write("key", FileBody(path, 2, 3))

    assert (await store.read("key")).data == b"234"


async def test_other_views_share_the_bucket() -> None:
    """Two stores over one bucket are one place."""
    bucket = Bucket()
    await MemoryStore(bucket).write("key", BytesBody(b"bytes"))

    assert (await MemoryStore(bucket).read("key")).data == b"bytes"


DENIED: dict[str, tuple[dict[str, object], Callable[[MemoryStore], Awaitable[object]]]]
DENIED = {
    "copy": ({"copy": False}, lambda store: store.copy("a", "b")),
    "move": ({"move": False}, lambda store: store.move("a", "b")),
    "append": ({"append": False}, lambda store: store.create_append("b")),
    "multipart": ({"multipart": None}, lambda store: store.create_multipart("b")),
    "user": (
        {"metadata": False},
        lambda store: store.write("a", None, metadata=Metadata(user={"a": "b"})),
    ),
    "pairs": (
        {"pairs": frozenset()},
        lambda store: store.write("a", None, metadata=Metadata(pairs={"expires": "x"})),
    ),
    "conditions": (
        {"conditions": frozenset()},
        lambda store: store.write("b", None, condition=ABSENT),
    ),
    "set-metadata": (
        {"set_metadata": False},
        lambda store: store.set_metadata(Object(key="a"), Metadata()),
    ),
}


@pytest.mark.parametrize("name", DENIED)
async def test_what_the_capabilities_deny_is_unsupported(name: str) -> None:
    """A store whose capabilities were narrowed refuses what they deny."""
    changes, request = DENIED[name]
    narrow = dataclasses.replace(MEMORY_CAPABILITIES, **changes)  # type: ignore[arg-type]  # each fits its field
    store = MemoryStore(capabilities=narrow)
    await store.write("a", BytesBody(b"bytes"))

    with pytest.raises(Unsupported):
        await request(store)


async def test_listings_can_come_without_metadata() -> None:
    """Without `list_metadata` entries say that their metadata are unknown."""
    narrow = dataclasses.replace(MEMORY_CAPABILITIES, list_metadata=False)
    store = MemoryStore(capabilities=narrow)
    await store.write("a", None, metadata=Metadata(user={"a": "b"}))

    for mode in ListMode:
        (entry,) = (await store.list("", mode=mode)).objects
        assert entry.metadata is None


async def test_object_limits_are_checked() -> None:
    """An object over the limit is refused."""
    narrow = dataclasses.replace(MEMORY_CAPABILITIES, object_size_max=4)
    with pytest.raises(ObjectTooLarge):
        await MemoryStore(capabilities=narrow).write("a", BytesBody(b"12345"))


async def test_utf8_can_be_demanded() -> None:
    """With `utf8_keys` a key of other bytes is refused."""
    narrow = dataclasses.replace(MEMORY_CAPABILITIES, utf8_keys=True)
    with pytest.raises(InvalidRequest):
        await MemoryStore(capabilities=narrow).write("a\udcff", None)


@pytest.mark.parametrize("token", ["not base64!", "a"])
async def test_a_token_of_nobody_is_refused(token: str) -> None:
    """Only tokens of listings resume a listing."""
    with pytest.raises(InvalidRequest):
        await MemoryStore().list("", token=token)


async def test_an_append_can_send_its_last_piece_again() -> None:
    """The same offset again replaces what followed it; a gap is refused."""
    store = MemoryStore()
    begun = await store.create_append("a")
    await store.write_append(begun, BytesBody(b"lost reply"))
    append = await store.write_append(begun, BytesBody(b"again"))
    with pytest.raises(InvalidRequest):
        await store.write_append(Append("a", 99, begun.id), BytesBody(b"gap"))
    await store.commit_append(append)

    assert (await store.read("a")).data == b"again"
    with pytest.raises(StoreError):
        await store.commit_append(append)
