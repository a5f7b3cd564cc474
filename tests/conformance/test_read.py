"""Reading: ranges, pins, absence."""

import pytest

from mountfs.storage.errors import InvalidRequest, NotFound, VersionChanged
from mountfs.storage.protocol import Storager
from tests.conformance.steps import get, put

DATA = bytes(range(256)) * 4


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, None, DATA),
        (0, 10, DATA[:10]),
        (100, None, DATA[100:]),
        (100, 50, DATA[100:150]),
        (0, len(DATA), DATA),
        (1000, 500, DATA[1000:]),
        (len(DATA), 10, b""),
        (len(DATA), None, b""),
        (len(DATA) + 500, 10, b""),
        (len(DATA) + 500, None, b""),
        (0, 0, b""),
        (10, 0, b""),
    ],
)
async def test_a_range_is_cut_at_the_end(
    store: Storager, offset: int, size: int | None, expected: bytes
) -> None:
    """A read returns the bytes of the range that exist, however few."""
    await put(store, "file", DATA)

    content = await store.read("file", offset, size)

    assert content.data == expected
    assert content.object.size == len(DATA)


@pytest.mark.parametrize(("offset", "size"), [(-1, None), (0, -1), (-5, 5)])
async def test_a_negative_range_is_refused(
    store: Storager, offset: int, size: int | None
) -> None:
    """A negative offset or size raises `InvalidRequest`."""
    await put(store, "file", DATA)

    with pytest.raises(InvalidRequest):
        await store.read("file", offset, size)


@pytest.mark.parametrize(("offset", "size"), [(0, None), (0, 0), (3, None), (0, 5)])
async def test_an_empty_object_reads_as_nothing(
    store: Storager, offset: int, size: int | None
) -> None:
    """Every range of an empty object is empty."""
    await put(store, "empty")

    assert (await store.read("empty", offset, size)).data == b""


async def test_reading_what_is_absent_says_so(store: Storager) -> None:
    """A key without object raises `NotFound`, also where parents are missing."""
    for key in ("absent", "absent/below"):
        with pytest.raises(NotFound):
            await store.read(key)
        with pytest.raises(NotFound):
            await store.read(key, 0, 0)


async def test_what_was_read_is_what_stat_knows(store: Storager) -> None:
    """The object of a read has the version and the size that stat gives."""
    await put(store, "file", DATA)

    content = await store.read("file", 5, 5)
    known = await store.stat("file")

    assert content.object.version is not None
    assert known.version is not None
    assert content.object.version.content == known.version.content
    assert content.object.size == known.size
    assert content.object.key == "file"


async def test_a_pinned_version_is_read(store: Storager) -> None:
    """A read pinned to the version that is there returns its bytes."""
    written = await put(store, "file", DATA)

    content = await store.read("file", 3, 4, version=written.version)

    assert content.data == DATA[3:7]


@pytest.mark.parametrize("size", [None, 0, 4])
async def test_a_pinned_read_never_returns_another_version(
    store: Storager, again: Storager, size: int | None
) -> None:
    """Once the object is replaced, a pinned read raises `VersionChanged`."""
    old = await put(store, "file", b"old bytes")
    await put(again, "file", b"new bytes")

    with pytest.raises(VersionChanged):
        await store.read("file", 0, size, version=old.version)
    assert await get(store, "file") == b"new bytes"


async def test_reading_a_replaced_object_gives_the_new_one(
    store: Storager, again: Storager
) -> None:
    """A read without a pin sees at once what another store object wrote."""
    await put(store, "file", b"old")
    assert await get(again, "file") == b"old"
    await put(store, "file", b"newer")

    assert await get(again, "file") == b"newer"
