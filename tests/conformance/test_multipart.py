"""Multipart uploads."""

import contextlib

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    BodyTooShort,
    InvalidRequest,
    ObjectTooLarge,
    ServiceFailed,
    Unsupported,
    UploadNotFound,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Metadata, Object, Part
from tests.conformance.steps import (
    get,
    is_absent,
    keys_of,
    multipart_limits,
    part_bytes,
    put,
)
from tests.conformance.stores import Quirk, Subject

KEY = "dir/file"


async def test_uploads_are_refused_without_the_capability(store: Storager) -> None:
    """A store without multipart uploads begins none, and lists none."""
    if store.capabilities.multipart is not None:
        upload = await store.create_multipart(KEY)
        await store.abort_multipart(upload)
        return

    with pytest.raises(Unsupported):
        await store.create_multipart(KEY)
    assert await store.list_uploads() == ()


async def test_parts_become_an_object(store: Storager) -> None:
    """Parts in any order of arrival make one object, visible only when complete."""
    first, last = part_bytes(store, b"first"), b"last"
    upload = await store.create_multipart(KEY)
    tail = await store.write_part(upload, 1, BytesBody(last))
    assert await is_absent(store, KEY)
    head = await store.write_part(upload, 0, BytesBody(first))

    done = await store.complete_multipart(upload, [head, tail])

    assert (head.index, head.size) == (0, len(first))
    assert (tail.index, tail.size) == (1, len(last))
    assert await get(store, KEY) == first + last
    found = await store.stat(KEY)
    assert done.key == KEY
    assert done.version is not None
    assert found.version is not None
    assert done.version.content == found.version.content
    assert found.size == len(first + last)


async def test_an_upload_replaces_an_object(store: Storager) -> None:
    """The old object is there until the upload is complete."""
    await put(store, KEY, b"old")
    upload = await store.create_multipart(KEY)
    part = await store.write_part(upload, 0, BytesBody(b"new"))
    assert await get(store, KEY) == b"old"
    await store.complete_multipart(upload, [part])

    assert await get(store, KEY) == b"new"


async def test_a_part_can_be_replaced(store: Storager, subject: Subject) -> None:
    """The same index again takes the place of the first part."""
    upload = await store.create_multipart(KEY)
    await store.write_part(upload, 0, BytesBody(b"wrong bytes"))
    part = await store.write_part(upload, 0, BytesBody(b"right"))
    listed = await store.list_parts(upload)
    if Quirk.LISTS_OLD_PARTS not in subject.quirks:
        assert listed == (part,)
    assert part in listed
    await store.complete_multipart(upload, [part])

    assert await get(store, KEY) == b"right"


async def test_parts_may_have_gaps(store: Storager) -> None:
    """Indexes need to ascend, not to be dense."""
    first = part_bytes(store, b"first")
    upload = await store.create_multipart(KEY)
    parts = [
        await store.write_part(upload, 2, BytesBody(first)),
        await store.write_part(upload, 9, BytesBody(b"last")),
    ]
    if multipart_limits(store.capabilities).in_place:
        with pytest.raises(InvalidRequest):
            await store.complete_multipart(upload, parts)
        return
    await store.complete_multipart(upload, parts)

    assert await get(store, KEY) == first + b"last"


async def test_another_store_object_goes_on(store: Storager, again: Storager) -> None:
    """The upload is completed by who knows key and id alone, and its parts if those
    are not listed.
    """
    first = part_bytes(store, b"first")
    upload = await store.create_multipart(KEY, metadata=Metadata(user={"a": "b"}))
    if multipart_limits(store.capabilities).lists:
        await store.write_part(upload, 1, BytesBody(b"last"))
        await again.write_part(upload, 0, BytesBody(first))
        parts = await again.list_parts(upload)
    else:
        parts = (
            await store.write_part(upload, 0, BytesBody(first)),
            await again.write_part(upload, 1, BytesBody(b"last")),
        )
        assert await again.list_parts(upload) == parts[1:]

    assert [(part.index, part.size) for part in parts] == [(0, len(first)), (1, 4)]
    await again.complete_multipart(upload, parts)

    assert await get(store, KEY) == first + b"last"
    metadata = (await store.stat(KEY)).metadata
    assert metadata is not None
    assert metadata.user["a"] == "b"


async def test_listing_proves_whose_an_upload_is_or_tells_its_time(
    store: Storager,
) -> None:
    """By one of the two an upload that a crash left behind is found."""
    metadata = Metadata(commit_id="ours" if store.capabilities.metadata else None)
    await store.create_multipart(KEY, metadata=metadata)
    if not multipart_limits(store.capabilities).lists:
        assert await store.list_uploads(KEY) == ()
        return

    (listed,) = await store.list_uploads(KEY)

    assert listed.commit_id == metadata.commit_id or listed.begun_ns is not None


async def test_open_uploads_are_listed(store: Storager) -> None:
    """An upload is listed from its creation to its end, by prefix of its key."""
    first = await store.create_multipart(KEY)
    second = await store.create_multipart(KEY)
    other = await store.create_multipart("other")

    async def open_ids(prefix: str) -> set[str]:
        return {upload.id for upload in await store.list_uploads(prefix)}

    assert first.id != second.id
    if not multipart_limits(store.capabilities).lists:
        assert await open_ids("") == set()
        return
    assert await open_ids("dir/") == {first.id, second.id}
    assert await open_ids("") == {first.id, second.id, other.id}
    await store.abort_multipart(first)
    part = await store.write_part(second, 0, BytesBody(b"bytes"))
    await store.complete_multipart(second, [part])
    await store.abort_multipart(other)
    assert await open_ids("") == set()


async def test_an_upload_is_aborted_twice(store: Storager, subject: Subject) -> None:
    """Aborting drops the parts; again is success; nothing goes on after it."""
    upload = await store.create_multipart(KEY)
    part = await store.write_part(upload, 0, BytesBody(b"bytes"))
    await store.abort_multipart(upload)
    await store.abort_multipart(upload)

    is_odd = Quirk.KNOWS_NO_DEAD_UPLOADS in subject.quirks
    gone = ServiceFailed if is_odd else UploadNotFound
    with pytest.raises(gone):
        await store.write_part(upload, 0, BytesBody(b"bytes"))
    with pytest.raises(gone):
        await store.complete_multipart(upload, [part])
    with pytest.raises(UploadNotFound):
        await store.list_parts(upload)
    assert await is_absent(store, KEY)


async def test_unfinished_uploads_are_no_objects(store: Storager) -> None:
    """No listing shows an upload or its parts."""
    upload = await store.create_multipart("file")
    await store.write_part(upload, 0, BytesBody(b"bytes"))

    assert await keys_of(store) == []


async def test_a_short_part_fails_and_can_be_sent_again(store: Storager) -> None:
    """A part whose body ends early raises `BodyTooShort`; the upload lives on."""
    upload = await store.create_multipart(KEY)
    with pytest.raises(BodyTooShort):
        await store.write_part(upload, 0, BytesBody(b"123"), size=10)
    part = await store.write_part(upload, 0, BytesBody(b"1234567890"), size=4)
    await store.complete_multipart(upload, [part])

    assert await get(store, KEY) == b"1234"


async def test_unknown_parts_are_refused(store: Storager, subject: Subject) -> None:
    """Parts that never arrived, and no parts at all, complete nothing."""
    upload = await store.create_multipart(KEY)
    first = await store.write_part(upload, 0, BytesBody(part_bytes(store, b"a")))
    second = await store.write_part(upload, 1, BytesBody(b"b"))
    unknown = Part(2, 5, "0123456789abcdef0123456789abcdef")

    with pytest.raises(InvalidRequest):
        await store.complete_multipart(upload, [])
    if Quirk.COMPLETES_ANYTHING not in subject.quirks:
        with pytest.raises(InvalidRequest):
            await store.complete_multipart(upload, [first, second, unknown])

    assert await is_absent(store, KEY)
    await store.complete_multipart(upload, [first, second])
    assert (await get(store, KEY)).endswith(b"b")


async def test_a_small_part_can_only_be_the_last(store: Storager) -> None:
    """A part below the minimum that is not the last is refused at the latest then."""
    if multipart_limits(store.capabilities).part_size_min <= 1:
        return  # no part can be too small
    upload = await store.create_multipart(KEY)
    parts = [
        await store.write_part(upload, index, BytesBody(b"small")) for index in (0, 1)
    ]

    with pytest.raises(InvalidRequest):
        await store.complete_multipart(upload, parts)


async def test_limits_of_parts_are_checked_before_sending(store: Storager) -> None:
    """An index or a size that no upload can have is refused."""
    limits = multipart_limits(store.capabilities)
    upload = await store.create_multipart(KEY)

    class Huge:
        size = limits.part_size_max + 1

        def open(self) -> None:
            raise AssertionError("a part over the limit was opened")

    with pytest.raises(ObjectTooLarge):
        await store.write_part(upload, 0, Huge())  # type: ignore[arg-type]  # never opened
    for index in (-1, limits.parts_max):
        with pytest.raises(InvalidRequest):
            await store.write_part(upload, index, BytesBody(b"bytes"))


async def test_a_full_part_that_arrived_is_what_it_was(store: Storager) -> None:
    """The same bytes again are no error, whether the first answer was lost or not."""
    upload = await store.create_multipart(KEY)
    body = BytesBody(part_bytes(store, b"first"))
    await store.write_part(upload, 0, body)
    head = await store.write_part(upload, 0, body)
    tail = await store.write_part(upload, 1, BytesBody(b"last"))
    await store.complete_multipart(upload, [head, tail])

    assert await get(store, KEY) == part_bytes(store, b"first") + b"last"


async def test_full_parts_alone_become_an_object(store: Storager) -> None:
    """The last part need not be smaller than others."""
    upload = await store.create_multipart(KEY)
    body = part_bytes(store, b"bytes")
    parts = [await store.write_part(upload, n, BytesBody(body)) for n in (0, 1)]
    await store.complete_multipart(upload, parts)

    assert await get(store, KEY) == body * 2


async def _copies_no_parts(store: Storager, source: Object) -> bool:
    """Tell whether the store copies no ranges, and check that it says so."""
    if store.capabilities.multipart_copy:
        return False
    upload = await store.create_multipart(KEY)
    with pytest.raises(Unsupported):
        await store.copy_part(upload, 0, source, 0, 1)
    await store.abort_multipart(upload)
    return True


async def test_a_range_of_an_object_becomes_a_part(store: Storager) -> None:
    """Part copy takes bytes of an object, also of the one that is replaced."""
    old = part_bytes(store, b"0123456789") * 2
    source = await put(store, KEY, old)
    if await _copies_no_parts(store, source):
        return
    half = len(old) // 2
    upload = await store.create_multipart(KEY)
    parts = [
        await store.copy_part(upload, 0, source, half, half),
        await store.write_part(upload, 1, BytesBody(b"tail")),
    ]
    await store.complete_multipart(upload, parts)

    assert parts[0].size == half
    assert await get(store, KEY) == old[half:] + b"tail"


async def test_a_part_copy_is_pinned(store: Storager) -> None:
    """Once the source is another version, the copy raises `VersionChanged`."""
    source = await put(store, "source", b"old bytes")
    await put(store, "source", b"new bytes")
    if await _copies_no_parts(store, source):
        return
    upload = await store.create_multipart(KEY)

    with pytest.raises(VersionChanged):
        await store.copy_part(upload, 0, source, 0, 9)


async def test_a_part_copy_past_the_end_is_refused(store: Storager) -> None:
    """A range that is not in the source makes no part."""
    source = await put(store, "source", b"bytes")
    if await _copies_no_parts(store, source):
        return
    upload = await store.create_multipart(KEY)

    for offset, size in ((0, 6), (5, 1), (-1, 2)):
        with pytest.raises(InvalidRequest):
            await store.copy_part(upload, 0, source, offset, size)


async def test_an_upload_carries_its_commit_id(store: Storager) -> None:
    """The id of the commit is in the upload, and then in the object."""
    upload = await store.create_multipart(KEY, metadata=Metadata(commit_id="id1"))
    part = await store.write_part(upload, 0, BytesBody(b"bytes"))
    await store.complete_multipart(upload, [part])

    found = (await store.stat(KEY)).metadata
    assert upload.commit_id == "id1"
    assert found is not None
    assert found.commit_id == "id1"


async def test_completing_twice_says_that_it_is_done(store: Storager) -> None:
    """A finished upload is `UploadNotFound`, or resolved as done by its commit id."""
    upload = await store.create_multipart(KEY)
    part = await store.write_part(upload, 0, BytesBody(b"bytes"))
    await store.complete_multipart(upload, [part])
    with contextlib.suppress(UploadNotFound):
        await store.complete_multipart(upload, [part])

    assert await get(store, KEY) == b"bytes"
