"""Appending where the store cannot: by copied parts, or by writing all again."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.storage import append as append_module
from mountfs.storage.append import pieces_by_copy, pieces_by_rewrite
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    ObjectTooLarge,
    ServiceFailed,
    StoreError,
    VersionChanged,
)
from mountfs.storage.types import (
    Attributes,
    Features,
    Metadata,
    MultipartLimits,
    Object,
)
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.faulty import Fault, FaultyStore
from tests.fakes.flat_store import KEY_STORE, FlatStore

MOUNT = Features.for_mounts()
SOME = Attributes(mode=0o100640, uid=7, gid=8)


def flat_store(**capabilities: object) -> FlatStore:
    return FlatStore(dataclasses.replace(KEY_STORE, **capabilities))  # type: ignore[arg-type]


async def appended(
    store: VirtualStorager,
    key: str,
    *bodies: bytes,
    base: Object | None = None,
    metadata: Metadata | None = None,
) -> Object:
    append = await store.create_append(key, base=base, metadata=metadata or Metadata())
    for body in bodies:
        append = await store.write_append(append, BytesBody(body))
    return await store.commit_append(append)


async def test_large_base_is_copied_by_the_store() -> None:
    """Appending to a large object sends the tail alone."""
    flat = FlatStore()
    store = VirtualStorager(flat, MOUNT)
    flat.put("a", b"b" * 95)
    base = await store.stat("a")
    flat.requests.clear()

    result = await appended(store, "a", b"one", b"two", base=base)

    assert flat.objects["a"].data == b"b" * 95 + b"onetwo"
    assert result.size == 101
    assert flat.requests == [
        "create_multipart",
        *["copy_part"] * 3,
        "write_part",
        "complete_multipart",
    ]


@pytest.mark.parametrize(
    "capabilities",
    [
        pytest.param({}, id="base-below-a-part"),
        pytest.param({"multipart": None}, id="no-multipart"),
        pytest.param({"multipart_copy": False}, id="no-part-copy"),
        pytest.param({"conditions": frozenset()}, id="no-conditions"),
    ],
)
async def test_small_base_is_written_again(capabilities: dict[str, object]) -> None:
    """A small object is read and written in one request; without conditions the store
    is asked whether it is still that object.
    """
    flat = flat_store(**capabilities)
    store = VirtualStorager(flat, MOUNT)
    flat.put("a", b"base")
    base = await store.stat("a")
    flat.requests.clear()

    await appended(store, "a", b"one", b"two", base=base)

    assert flat.objects["a"].data == b"baseonetwo"
    look = ["stat"] if "conditions" in capabilities else []
    assert flat.requests == ["read", *look, "write"]


@pytest.mark.parametrize("old_size", [0, 5, 30, 31, 200])
@pytest.mark.parametrize("new_size", [0, 1, 29, 70])
@pytest.mark.parametrize(
    "limits",
    [
        MultipartLimits(part_size_min=10, part_size_max=40, parts_max=100),
        MultipartLimits(
            part_size_min=10, part_size_max=40, parts_max=100, equal_parts=True
        ),
    ],
)
async def test_rewrite_in_parts_joins_old_and_new(
    old_size: int,
    new_size: int,
    limits: MultipartLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever way is taken, the result is the old bytes and then the new ones."""
    monkeypatch.setattr(append_module, "_WRITE_MAX", 20)
    monkeypatch.setattr(append_module, "_PIECE", 16)
    for has_copy in (True, False):
        flat = flat_store(multipart=limits, multipart_copy=has_copy)
        store = VirtualStorager(flat, MOUNT)
        old, new = bytes(range(old_size)), b"n" * new_size
        flat.put("a", old)

        await appended(store, "a", new, base=await store.stat("a"))

        assert flat.objects["a"].data == old + new
        assert flat.uploads == {}


async def test_without_base_an_object_is_replaced() -> None:
    """An append to nothing begins empty, also where an object is."""
    flat = FlatStore()
    flat.put("a", b"old")
    store = VirtualStorager(flat, MOUNT)

    await appended(store, "a", b"one", b"two")
    assert flat.objects["a"].data == b"onetwo"
    await appended(store, "a")
    assert flat.objects["a"].data == b""


async def test_nothing_is_visible_before_the_commit() -> None:
    """An append that is never committed leaves the store as it was."""
    flat = FlatStore()
    base = flat.put("a", b"old")
    store = VirtualStorager(flat, MOUNT)

    append = await store.create_append("a", base=base)
    append = await store.write_append(append, BytesBody(b"new"))

    assert append.offset == 6
    assert flat.requests == []


async def test_appending_keeps_what_is_not_ours() -> None:
    """Foreign names, pairs, owner and mode go on to the longer object."""
    flat = FlatStore()
    store = VirtualStorager(flat, MOUNT)
    metadata = Metadata(user={"k": "v"}, attributes=SOME)
    for size in (5, 50):
        await store.write("a", BytesBody(b"x" * size), metadata=metadata)
        (listed,) = (await store.list("")).objects

        result = await appended(store, "a", b"new", base=listed)

        assert result.attributes == SOME
        assert result.metadata is not None
        assert result.metadata.user == {"k": "v"}


async def test_appending_nothing_changes_at_most_the_metadata() -> None:
    """An empty append returns the object; attributes given with it are set."""
    flat = FlatStore()
    store = VirtualStorager(flat, MOUNT)
    base = flat.put("a", b"old")

    await appended(store, "a", base=base)
    assert flat.requests == ["stat"]
    changed = await appended(store, "a", base=base, metadata=Metadata(attributes=SOME))

    assert changed.attributes == SOME
    assert flat.objects["a"].data == b"old"


@pytest.mark.parametrize("size", [5, 50])
@pytest.mark.parametrize("conditions", [KEY_STORE.conditions, frozenset()])
async def test_base_that_changed_is_not_overwritten(
    size: int, conditions: frozenset[object]
) -> None:
    """An append is pinned to the version that it began with."""
    flat = flat_store(conditions=conditions)
    store = VirtualStorager(flat, MOUNT)
    base = flat.put("a", b"x" * size)
    flat.put("a", b"foreign")

    with pytest.raises(VersionChanged):
        await appended(store, "a", b"new", base=base)

    assert flat.objects["a"].data == b"foreign"
    assert flat.uploads == {}


async def test_failed_append_leaves_no_upload() -> None:
    """When a part fails the upload is aborted."""
    flat = FlatStore()
    base = flat.put("a", b"x" * 50)
    faulty = FaultyStore(flat, Fault("write_part", ServiceFailed()))

    with pytest.raises(ServiceFailed):
        await appended(VirtualStorager(faulty, MOUNT), "a", b"new", base=base)

    assert flat.uploads == {}


@pytest.mark.parametrize(
    ("capabilities", "size"),
    [
        pytest.param({"multipart": None}, 30, id="too-much-memory"),
        pytest.param({"multipart": None, "write_size_max": 8}, 8, id="too-large"),
    ],
)
async def test_object_that_cannot_be_rewritten_is_too_large(
    capabilities: dict[str, object], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory and the store's limits bound what is written again."""
    monkeypatch.setattr(append_module, "MEMORY_MAX", 20)
    flat = flat_store(**capabilities)
    base = flat.put("a", b"x" * size)

    with pytest.raises(ObjectTooLarge):
        await appended(VirtualStorager(flat, MOUNT), "a", b"new", base=base)


async def test_native_append_is_left_to_the_store() -> None:
    """A store that appends gets the three calls as they are."""
    flat = flat_store(append=True)
    store = VirtualStorager(flat, MOUNT)

    await appended(store, "a", b"one", metadata=Metadata(attributes=SOME))

    assert flat.requests == ["create_append", "write_append", "commit_append"]
    assert (await store.stat("a")).attributes == SOME


async def test_bodies_are_opened_at_the_commit_only() -> None:
    """What is appended stays where it lies until it is sent."""
    opened: list[str] = []

    class Noted:
        size = 3

        def open(self) -> BinaryIO:
            opened.append("open")
            return BytesBody(b"new").open()

    store = VirtualStorager(FlatStore(), MOUNT)
    append = await store.create_append("a")
    append = await store.write_append(append, Noted())
    assert opened == []

    await store.commit_append(append)

    assert opened == ["open"]


@given(
    old_size=st.integers(0, 2000),
    new_size=st.integers(1, 2000),
    smallest=st.integers(1, 40),
    factor=st.integers(2, 5),
    parts_max=st.integers(1, 60),
)
def test_copied_pieces_cover_everything_within_the_limits(
    old_size: int, new_size: int, smallest: int, factor: int, parts_max: int
) -> None:
    """Pieces are in order, without gaps, and only the last is below the minimum."""
    limits = MultipartLimits(
        part_size_min=smallest, part_size_max=smallest * factor, parts_max=parts_max
    )
    capabilities = dataclasses.replace(KEY_STORE, multipart=limits)

    pieces = pieces_by_copy(old_size, new_size, capabilities)

    if pieces is None:
        return
    assert len(pieces) <= parts_max
    assert _joined(piece.old for piece in pieces) == list(range(old_size))
    assert _joined(piece.new for piece in pieces) == list(range(new_size))
    sizes = [len(piece.old) + len(piece.new) for piece in pieces]
    assert all(smallest <= size for size in sizes[:-1])
    assert all(0 < size <= limits.part_size_max for size in sizes)
    assert all(not piece.old or not piece.new for piece in pieces)


@given(
    old_size=st.integers(0, 2000),
    new_size=st.integers(1, 2000),
    smallest=st.integers(1, 40),
    factor=st.integers(1, 5),
    parts_max=st.integers(1, 60),
)
def test_rewritten_pieces_are_equal_but_for_the_last(
    old_size: int, new_size: int, smallest: int, factor: int, parts_max: int
) -> None:
    """All pieces but the last have one size, and together they are everything."""
    limits = MultipartLimits(
        part_size_min=smallest, part_size_max=smallest * factor, parts_max=parts_max
    )
    try:
        pieces = pieces_by_rewrite(old_size, new_size, limits)
    except StoreError:
        assert old_size + new_size > limits.part_size_max * parts_max
        return

    assert len(pieces) <= parts_max
    assert _joined(piece.old for piece in pieces) == list(range(old_size))
    assert _joined(piece.new for piece in pieces) == list(range(new_size))
    sizes = [len(piece.old) + len(piece.new) for piece in pieces]
    assert len(set(sizes[:-1])) <= 1
    assert all(0 < size <= limits.part_size_max for size in sizes)


def _joined(ranges: Iterable[range]) -> list[int]:
    return list(itertools.chain.from_iterable(ranges))
