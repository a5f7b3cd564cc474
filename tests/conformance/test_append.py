"""Appends: create, write, commit."""

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import NotFound, StoreError, Unsupported, VersionChanged
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Metadata, Object
from tests.conformance.steps import get, is_absent, part_bytes, put

KEY = "dir/log"


async def _append(
    store: Storager,
    *pieces: bytes,
    base: Object | None = None,
    metadata: Metadata | None = None,
) -> Object:
    append = await store.create_append(
        KEY, base=base, metadata=metadata or Metadata(commit_id="id1")
    )
    for piece in pieces:
        append = await store.write_append(append, BytesBody(piece))
    return await store.commit_append(append)


async def test_an_append_without_the_capability_is_refused(store: Storager) -> None:
    """A store that cannot append raises `Unsupported` when one begins."""
    if store.capabilities.append:
        await _append(store, b"bytes")
        assert await get(store, KEY) == b"bytes"
        return

    with pytest.raises(Unsupported):
        await _append(store, b"bytes")
    assert await is_absent(store, KEY)


@pytest.fixture
def appender(store: Storager) -> Storager | None:
    """The store if it can append; the test above asserts the refusal of the others."""
    return store if store.capabilities.append else None


async def test_two_pieces_follow_each_other(appender: Storager | None) -> None:
    """The pieces of one append make one object, in their order."""
    if appender is None:
        return
    done = await _append(appender, b"first,", b"second,", b"third")

    assert await get(appender, KEY) == b"first,second,third"
    assert done.size == len(b"first,second,third")


async def test_an_append_without_base_replaces(appender: Storager | None) -> None:
    """Without a base it starts at nothing, whatever was there."""
    if appender is None:
        return
    await put(appender, KEY, b"a long old object")
    await _append(appender, b"new")

    assert await get(appender, KEY) == b"new"


async def test_an_append_without_bytes_is_an_empty_object(
    appender: Storager | None,
) -> None:
    """An append that was committed at once left an empty object."""
    if appender is None:
        return
    await _append(appender)

    assert await get(appender, KEY) == b""


@pytest.mark.parametrize("is_large", [False, True])
async def test_an_append_goes_on_behind_its_base(
    appender: Storager | None, is_large: bool
) -> None:
    """With a base the pieces come behind its bytes, however many those are."""
    if appender is None:
        return
    old = part_bytes(appender, b"old") * 2 if is_large else b"old"
    base = await put(appender, KEY, old)
    done = await _append(appender, b"new", b"newer", base=base)

    assert await get(appender, KEY) == old + b"newnewer"
    found = await appender.stat(KEY)
    assert found.size == done.size == len(old) + 8
    assert base.version is not None
    assert found.version is not None
    assert done.version is not None
    assert found.version.content == done.version.content != base.version.content


async def test_offsets_are_told(appender: Storager | None) -> None:
    """Each step says where the next byte goes."""
    if appender is None:
        return
    base = await put(appender, KEY, b"12345")
    append = await appender.create_append(KEY, base=base)
    assert append.offset == 5
    append = await appender.write_append(append, BytesBody(b"678"))
    assert append.offset == 8
    await appender.commit_append(append)


async def test_a_replaced_base_is_told(appender: Storager | None) -> None:
    """An object that is another by now is never made longer."""
    if appender is None:
        return
    base = await put(appender, KEY, b"old")
    await put(appender, KEY, b"another")

    with pytest.raises(VersionChanged):
        await _append(appender, b"tail", base=base)
    assert await get(appender, KEY) == b"another"


async def test_a_deleted_base_is_told(appender: Storager | None) -> None:
    """An object that is gone does not come back as its tail."""
    if appender is None:
        return
    base = await put(appender, KEY, b"old")
    await appender.delete(KEY)

    with pytest.raises((NotFound, VersionChanged)):
        await _append(appender, b"tail", base=base)
    assert await is_absent(appender, KEY)


async def test_appends_at_once_lose_nothing_in_silence(
    appender: Storager | None, again: Storager
) -> None:
    """Of two appends to one base one wins, and the other is told."""
    if appender is None:
        return
    base = await put(appender, KEY, b"base,")
    first = await appender.create_append(KEY, base=base)
    second = await again.create_append(KEY, base=base)
    first = await appender.write_append(first, BytesBody(b"first"))
    await appender.commit_append(first)

    with pytest.raises(StoreError):
        await again.commit_append(await again.write_append(second, BytesBody(b"2nd")))
    assert await get(appender, KEY) == b"base,first"


async def test_an_append_sets_metadata(appender: Storager | None) -> None:
    """Metadata given at the start are there in the end, over those of the base."""
    if appender is None:
        return
    base = await put(appender, KEY, b"old", Metadata(user={"a": "1", "b": "1"}))
    await _append(
        appender, b"new", base=base, metadata=Metadata(user={"b": "2"}, commit_id="c")
    )

    found = (await appender.stat(KEY)).metadata
    assert found is not None
    assert found.user == {"a": "1", "b": "2"}
    assert found.commit_id == "c"
