"""Metadata: what is kept, what is refused, and what survives although not ours."""

import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import MetadataTooLarge, NotFound, Unsupported
from mountfs.storage.protocol import Storager
from mountfs.storage.types import NO_METADATA, Attributes, Metadata, Object
from tests.conformance.steps import get, is_absent, put
from tests.conformance.stores import Quirk, Subject

KEY = "dir/file.bin"
PAIRS = {
    "content-type": "text/x-foreign",
    "content-encoding": "x-foreign",
    "content-language": "de",
    "content-disposition": 'attachment; filename="a b.txt"',
    "cache-control": "max-age=77, no-transform",
    "expires": "Wed, 21 Oct 2037 07:28:00 GMT",
    "storage-class": "REDUCED_REDUNDANCY",
}
CLASSES = {"gs": "NEARLINE"}
"""Services know classes of their own."""
USER = {"foreign-name": 'foreign value; with, signs="and" more'}


def _pairs(store: Storager) -> dict[str, str]:
    """Return a value of each pair that the service takes."""
    known = CLASSES.get(store.capabilities.service, PAIRS["storage-class"])
    return {**PAIRS, "storage-class": known}


def _ours(known: Metadata | None, commit_id: str) -> Metadata:
    """Return a change that names nothing foreign but the user metadata it knows."""
    user = dict(known.user) if known is not None else {}
    return Metadata(user={**user, "ours": "yes"}, commit_id=commit_id)


async def _set_metadata(store: Storager, old: Object) -> Object:
    return await store.set_metadata(old, _ours(old.metadata, "c1"))


async def _write(store: Storager, old: Object) -> Object:
    return await store.write(
        KEY, BytesBody(b"new"), metadata=_ours(None, "c2"), inherit=old
    )


async def _write_unknown(store: Storager, old: Object) -> Object:
    unknown = dataclasses.replace(old, metadata=None)
    return await store.write(
        KEY, BytesBody(b"new"), metadata=_ours(None, "c2"), inherit=unknown
    )


async def _copy(store: Storager, old: Object) -> Object:
    return await store.copy(KEY, "copy")


async def _copy_with_metadata(store: Storager, old: Object) -> Object:
    return await store.copy(KEY, "copy", metadata=_ours(old.metadata, "c3"))


async def _multipart(store: Storager, old: Object) -> Object:
    if store.capabilities.multipart is None:
        with pytest.raises(Unsupported):
            await store.create_multipart(KEY, inherit=old)
        return old
    upload = await store.create_multipart(KEY, metadata=_ours(None, "c4"), inherit=old)
    part = await store.write_part(upload, 0, BytesBody(b"new"))
    return await store.complete_multipart(upload, [part], inherit=old)


async def _append(store: Storager, old: Object) -> Object:
    if not store.capabilities.append:
        with pytest.raises(Unsupported):
            await store.create_append(KEY, base=old)
        return old
    append = await store.create_append(KEY, base=old)
    append = await store.write_append(append, BytesBody(b"new"))
    return await store.commit_append(append)


async def _move(store: Storager, old: Object) -> Object:
    if not store.capabilities.move:
        with pytest.raises(Unsupported):
            await store.move(KEY, "moved")
        return old
    return await store.move(KEY, "moved")


CHANGES: dict[str, Callable[[Storager, Object], Awaitable[Object]]] = {
    "set-metadata": _set_metadata,
    "write": _write,
    "write-unknown": _write_unknown,
    "copy": _copy,
    "copy-with-metadata": _copy_with_metadata,
    "multipart": _multipart,
    "append": _append,
    "move": _move,
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@every_change
@pytest.mark.parametrize("name", PAIRS)
async def test_a_foreign_header_survives(
    store: Storager,
    again: Storager,
    name: str,
    change: Callable[[Storager, Object], Awaitable[Object]],
) -> None:
    """Each pair that another program gave an object is there after our change."""
    value = _pairs(store)[name]
    foreign = Metadata(pairs={name: value})
    if name not in store.capabilities.pairs:
        if not store.features.loose_operation:
            with pytest.raises(Unsupported):
                await put(store, KEY, b"old", foreign)
            assert await is_absent(store, KEY)
        return
    await put(again, KEY, b"old", foreign)
    old = await store.stat(KEY)

    changed = await change(store, old)

    found = (await again.stat(changed.key)).metadata
    assert found is not None
    assert found.pairs[name] == value


@every_change
async def test_foreign_user_metadata_survive(
    store: Storager,
    again: Storager,
    change: Callable[[Storager, Object], Awaitable[Object]],
) -> None:
    """User metadata that another program gave an object are there after our change."""
    if not store.capabilities.metadata:
        with pytest.raises(Unsupported):
            await put(store, KEY, b"old", Metadata(user=USER))
        return
    await put(again, KEY, b"old", Metadata(user=USER))
    old = await store.stat(KEY)

    changed = await change(store, old)

    found = (await again.stat(changed.key)).metadata
    assert found is not None
    assert found.user.items() >= USER.items()


async def test_metadata_come_back(store: Storager) -> None:
    """User metadata, all pairs that the store keeps and the commit id come back."""
    pairs = {n: v for n, v in _pairs(store).items() if n in store.capabilities.pairs}
    metadata = Metadata(
        user={"color": "red", "size": "5"}, pairs=pairs, commit_id="id1"
    )

    written = await put(store, KEY, b"bytes", metadata)

    for found in (written, await store.stat(KEY), (await store.read(KEY)).object):
        assert found.metadata is not None
        assert found.metadata.user == metadata.user
        assert found.metadata.pairs.items() >= pairs.items()
        assert found.metadata.commit_id == "id1"


@pytest.mark.parametrize(
    "value", ["", "a b", "caf\u00e9", "\U0001f40d", "a=b; c", "%41", "x" * 500]
)
async def test_values_come_back_verbatim(
    store: Storager, subject: Subject, value: str
) -> None:
    """The values of user metadata are text of any kind."""
    await put(store, KEY, b"bytes", Metadata(user={"name": value}))

    found = (await store.stat(KEY)).metadata
    assert found is not None
    if not value and Quirk.DROPS_EMPTY_VALUES in subject.quirks:
        assert found.user == {}, "the quirk is gone: take it away"
    else:
        assert found.user["name"] == value


async def test_a_plain_write_starts_anew(store: Storager) -> None:
    """Without `inherit` nothing of the old object's user metadata is kept."""
    await put(store, KEY, b"old", Metadata(user=USER))
    await put(store, KEY, b"new")

    found = (await store.stat(KEY)).metadata
    assert found is not None
    assert found.user == {}


async def test_setting_metadata_leaves_the_bytes(
    store: Storager, subject: Subject
) -> None:
    """The content version stays, and the attributes version changes."""
    await put(store, KEY, b"bytes", Metadata(user={"color": "red"}))
    before = await store.stat(KEY)
    changed = await store.set_metadata(before, Metadata(user={"shape": "round"}))

    after = await store.stat(KEY)
    assert await get(store, KEY) == b"bytes"
    assert after.metadata is not None
    assert after.metadata.user["shape"] == "round"
    assert after.size == before.size
    assert before.version is not None
    assert after.version is not None
    assert changed.version is not None
    assert before.version.content == after.version.content == changed.version.content
    if Quirk.CLOCK_IN_SECONDS not in subject.quirks:
        assert before.version.attributes != after.version.attributes


async def test_metadata_of_unknown_state_are_changed(store: Storager) -> None:
    """An object as a listing gave it, metadata unknown, can be changed."""
    written = await put(store, KEY, b"bytes", Metadata(user={"color": "red"}))
    listed = dataclasses.replace(written, metadata=None, version=None)

    await store.set_metadata(listed, Metadata(user={"color": "blue"}))

    found = (await store.stat(KEY)).metadata
    assert found is not None
    assert found.user["color"] == "blue"


async def test_metadata_of_what_is_absent_are_not_changed(store: Storager) -> None:
    """A deleted object is `NotFound`, and does not come back."""
    written = await put(store, KEY, b"bytes")
    await store.delete(KEY)

    with pytest.raises(NotFound):
        await store.set_metadata(written, Metadata(user={"color": "red"}))
    assert await is_absent(store, KEY)


async def test_metadata_over_the_limit_are_refused(store: Storager) -> None:
    """Too much user metadata raises `MetadataTooLarge` in every call that sets any."""
    limit = store.capabilities.metadata_size_max
    assert limit is not None
    written = await put(store, KEY, b"old")
    large = Metadata(user={"a": "x" * (limit // 2), "b": "y" * (limit // 2)})

    with pytest.raises(MetadataTooLarge):
        await put(store, "new", b"new", large)
    if store.capabilities.multipart is not None:
        with pytest.raises(MetadataTooLarge):
            await store.create_multipart("new", metadata=large)
    with pytest.raises(MetadataTooLarge):
        await store.set_metadata(written, large)
    with pytest.raises(MetadataTooLarge):
        await store.copy(KEY, "new", metadata=large)

    assert await is_absent(store, "new")
    assert await get(store, KEY) == b"old"


async def test_attributes_are_kept_or_refused(store: Storager) -> None:
    """POSIX attributes come back, or are refused without the capability."""
    attributes = Attributes(mode=0o640, uid=1000, gid=100, mtime_ns=123_456_789_012)
    metadata = NO_METADATA.with_attributes(attributes)
    if not store.capabilities.attributes:
        with pytest.raises(Unsupported):
            await put(store, KEY, b"bytes", metadata)
        return
    await put(store, KEY, b"bytes", metadata)

    found = (await store.stat(KEY)).attributes
    assert found is not None
    assert found.mode is not None
    assert found.mode & 0o7777 == 0o640
    assert (found.uid, found.gid, found.mtime_ns) == (1000, 100, 123_456_789_012)
