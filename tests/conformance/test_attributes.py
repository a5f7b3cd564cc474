"""Extended attributes, groups of hard links and special files on every store.

A store without the capability refuses them, unless it was told to drop them.
"""

import stat
from collections.abc import Awaitable, Callable

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import Unsupported
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Attributes,
    Metadata,
    Object,
    ObjectKind,
)
from tests.conformance.steps import can_make_dirs, get, put
from tests.conformance.test_metadata import CHANGES

XATTRS = {b"user.empty": b"", b'user.\xff\n,"}': bytes(range(256)), b"trusted.t": b"v"}
LARGE = {b"user.large": bytes(range(256)) * 256, b"user.small": b"s"}
DEVICE = Attributes(mode=stat.S_IFBLK | 0o600, rdev=0x801)


def _metadata(attributes: Attributes) -> Metadata:
    return NO_METADATA.with_attributes(attributes)


async def _put(store: Storager, attributes: Attributes) -> Object | None:
    if store.capabilities.kept(attributes) == attributes:
        return await put(store, "dir/file.bin", b"old", _metadata(attributes))
    if not store.features.loose_operation:
        with pytest.raises(Unsupported):
            await put(store, "dir/file.bin", b"old", _metadata(attributes))
    return None


async def test_extended_attributes_come_back(store: Storager, again: Storager) -> None:
    """Names and values of any bytes are as they were, in every answer."""
    made = await _put(store, Attributes(xattrs=XATTRS))
    if made is None:
        return

    for found in (
        made,
        await again.stat(made.key),
        (await again.read(made.key)).object,
    ):
        assert found.attributes is not None
        assert found.attributes.xattrs == XATTRS


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "known",
    [Attributes(xattrs=XATTRS), Attributes(xattrs=LARGE), Attributes(group="g-1")],
    ids=["xattrs", "large-xattrs", "group"],
)
async def test_attributes_survive_what_does_not_name_them(
    store: Storager,
    again: Storager,
    known: Attributes,
    change: Callable[[Storager, Object], Awaitable[Object]],
) -> None:
    """A change of bytes or of other metadata leaves them as they are."""
    old = await _put(store, known)
    if old is None:
        return

    changed = await change(store, old)

    found = (await again.stat(changed.key)).attributes
    assert found is not None
    assert (found.xattrs or None, found.group) == (known.xattrs, known.group)


async def test_extended_attributes_can_be_taken_away(store: Storager) -> None:
    """Naming none removes what was there, and leaves the bytes."""
    old = await _put(store, Attributes(xattrs=XATTRS))
    if old is None:
        return
    await store.set_metadata(old, _metadata(Attributes(xattrs={})))

    found = await store.stat(old.key)
    assert not (found.attributes and found.attributes.xattrs)
    assert await get(store, old.key) == b"old"


async def test_directory_keeps_extended_attributes(store: Storager) -> None:
    """Where directories keep metadata, those are among them."""
    able = store.capabilities
    if not (able.xattrs and able.dir_metadata and can_make_dirs(store)):
        return
    await store.make_dir("dir/", metadata=_metadata(Attributes(xattrs=XATTRS)))

    found = await store.stat("dir/", kind=ObjectKind.DIRECTORY)
    assert found.attributes is not None
    assert found.attributes.xattrs == XATTRS


async def test_special_file_comes_back(store: Storager, again: Storager) -> None:
    """A write of no bytes whose mode says so makes one, with its device number."""
    if not store.capabilities.specials:
        return
    made = await store.write("null", None, metadata=_metadata(DEVICE))

    for found in (made, await again.stat("null")):
        assert found.kind is ObjectKind.SPECIAL
        assert found.attributes is not None
        assert (found.attributes.mode, found.attributes.rdev) == (DEVICE.mode, 0x801)
    await store.write("null", BytesBody(b"a file now"))
    assert (await again.stat("null")).kind is ObjectKind.FILE
