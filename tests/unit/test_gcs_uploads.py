"""Uploads in parts to Google Cloud Storage, and appends: what a crash leaves."""

import os
from collections.abc import AsyncIterator

import pytest

from mountfs.backends import gcs_leftovers, open_store
from mountfs.backends.gcs_keys import UPLOADS
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    ServiceFailed,
    StoreError,
    Throttled,
    UploadNotFound,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import ABSENT, ListMode, Metadata, Object, Part, Upload
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_requests import refusal
from tests.fakes.gcs_server import GcsServer

KEY = "dir/file"
MIB = 1 << 20


def opened(server: GcsServer, **options: object) -> Storager:
    """Return a store of the server, as one more process would have it."""
    fixed = {"endpoint_url": server.endpoint_url, "no_sign_request": True}
    return open_store(f"gs://{GCS_BUCKET}/pre", {**fixed, **options})


@pytest.fixture
async def store(gcs_server: GcsServer) -> AsyncIterator[Storager]:
    """A store below a prefix."""
    found = opened(gcs_server)
    yield found
    await found.close()


def hidden(server: GcsServer) -> list[str]:
    """Return what lies where parts lie."""
    return [name for name in server.objects(GCS_BUCKET) if UPLOADS in name]


def fail(server: GcsServer, *operations: str) -> None:
    """Let some operations fail for good, and carry out nothing of them."""
    server.fault = lambda operation, _: (
        refusal(500, "backendError") if operation in operations else None
    )


async def begun(store: Storager, count: int = 3) -> tuple[Upload, list[Part]]:
    """Send some parts of an upload that carries a commit id."""
    upload = await store.create_multipart(KEY, metadata=Metadata(commit_id="ours"))
    return upload, [
        await store.write_part(upload, index, BytesBody(b"%d" % index))
        for index in range(count)
    ]


@pytest.mark.parametrize(("count", "composes"), [(1, 1), (32, 1), (33, 3), (100, 5)])
async def test_any_number_of_parts_is_composed(
    store: Storager, gcs_server: GcsServer, count: int, composes: int
) -> None:
    """A compose takes 32 sources; more of them take another level."""
    upload, parts = await begun(store, count)
    gcs_server.clear()

    done = await store.complete_multipart(upload, parts)

    stored = gcs_server.objects(GCS_BUCKET)[f"pre/{KEY}"].data
    assert stored == b"".join(b"%d" % index for index in range(count))
    assert done.size == len(stored)
    assert hidden(gcs_server) == []
    counts = gcs_server.counts()
    assert counts == {"objects.compose": composes, "batch": -(-count // 99)}


async def test_a_crash_before_the_compose_leaves_an_upload(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Another process finds it by its key, with the commit id, and goes on."""
    upload, parts = await begun(store)
    later = opened(gcs_server)

    (listed,) = await later.list_uploads("dir/")
    assert (listed.key, listed.id, listed.commit_id) == (KEY, upload.id, "ours")
    assert await later.list_parts(listed) == tuple(parts)
    await later.complete_multipart(listed, parts, condition=ABSENT)
    assert hidden(gcs_server) == []
    await later.close()


async def test_a_crash_after_the_compose_is_found_out(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Completing again removes the parts and knows the object as its own."""
    upload, parts = await begun(store)
    fail(gcs_server, "batch")
    done = await store.complete_multipart(upload, parts, condition=ABSENT)
    assert len(hidden(gcs_server)) == 4
    gcs_server.fault = None
    later = RetryStorager(opened(gcs_server), RetryPolicy())

    again = await later.complete_multipart(upload, parts, condition=ABSENT)

    assert again.version == done.version
    assert hidden(gcs_server) == []
    assert await later.list_uploads("") == ()
    await later.close()


async def test_what_could_not_be_removed_is_removed_at_the_end(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The upload is complete all the same."""
    upload, parts = await begun(store)
    fail(gcs_server, "batch")
    await store.complete_multipart(upload, parts)
    assert len(hidden(gcs_server)) == 4
    gcs_server.fault = None
    await store.close()

    assert hidden(gcs_server) == []


async def test_what_a_complete_upload_has_left_goes_with_the_next_write(
    store: Storager, gcs_server: GcsServer
) -> None:
    """A later process has seen it in a listing; what is not complete stays."""
    other = await store.create_multipart("other", metadata=Metadata(commit_id="x"))
    upload, parts = await begun(store)
    fail(gcs_server, "batch")
    await store.complete_multipart(upload, parts)
    gcs_server.fault = None
    later = opened(gcs_server)
    await later.list("")
    assert len(hidden(gcs_server)) == 5
    gcs_server.clear()
    for _ in range(2):
        await later.write("small", BytesBody(b"bytes"))

    assert hidden(gcs_server) == [f"pre/{UPLOADS}{other.id}"]
    assert gcs_server.counts() == {"objects.insert": 2}
    await later.close()


async def test_a_lost_answer_to_the_compose_is_no_conflict(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The object that is there is the one that was to be made."""
    retrying = RetryStorager(store, RetryPolicy(backoff_base_s=0.0))
    upload, parts = await begun(retrying)
    gcs_server.loses_replies.add("objects.compose")

    await retrying.complete_multipart(upload, parts, condition=ABSENT)

    assert gcs_server.objects(GCS_BUCKET)[f"pre/{KEY}"].data == b"012"
    (compose,) = gcs_server.requests("objects.compose")
    assert compose.status == 200


async def test_parts_without_a_manifest_are_an_upload(
    store: Storager, gcs_server: GcsServer
) -> None:
    """A crash amid the removal leaves what is listed and can be aborted."""
    upload, _ = await begun(store)
    gcs_server.remove(GCS_BUCKET, f"pre/{UPLOADS}{upload.id}")
    later = opened(gcs_server)

    (listed,) = await later.list_uploads(KEY)
    assert (listed.key, listed.commit_id) == (KEY, "ours")
    with pytest.raises(UploadNotFound):
        await later.list_parts(listed)
    await later.abort_multipart(listed)
    assert hidden(gcs_server) == []
    await later.close()


async def test_a_part_whose_answer_was_lost_is_removed_too(
    store: Storager, gcs_server: GcsServer
) -> None:
    """An attempt that nobody knows of is found in the listing of the upload."""
    retrying = RetryStorager(store, RetryPolicy(backoff_base_s=0.0))
    upload = await retrying.create_multipart(KEY)
    gcs_server.loses_replies.add("objects.insert")
    part = await retrying.write_part(upload, 0, BytesBody(b"bytes"))
    assert len(hidden(gcs_server)) == 3

    await retrying.complete_multipart(upload, [part])

    assert hidden(gcs_server) == []


async def test_what_is_hidden_cannot_be_named(
    store: Storager, gcs_server: GcsServer
) -> None:
    """No listing has it, of the prefix or of what lies above, and no call takes it."""
    await begun(store)
    above = open_store(
        f"gs://{GCS_BUCKET}",
        {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True},
    )

    for place, prefix in ((store, ""), (above, ""), (above, "pre/")):
        for mode in ListMode:
            found = (await place.list(prefix, mode=mode)).objects
            assert not [entry for entry in found if UPLOADS in entry.key]
    with pytest.raises(StoreError):
        await store.read(f"{UPLOADS}x")
    await above.close()


@pytest.mark.parametrize("size", [9 * MIB, 20 * MIB + 7])
@pytest.mark.parametrize("breaks", [[0], [3 * MIB], [3 * MIB, MIB, 2 * MIB]])
async def test_a_broken_connection_does_not_send_all_again(
    store: Storager,
    gcs_server: GcsServer,
    size: int,
    breaks: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session goes on where the service says that it ended."""
    monkeypatch.setattr("mountfs.backends.gcs_uploads.PAUSE_S", 0.0)
    data = os.urandom(size)
    gcs_server.breaks_after = list(breaks)

    written = await store.write(KEY, BytesBody(data))

    assert gcs_server.objects(GCS_BUCKET)[f"pre/{KEY}"].data == data
    assert written.size == size
    pieces = [r for r in gcs_server.requests("session.put") if r.size]
    assert len(pieces) == len(breaks) + 1
    assert pieces[-1].size == size - sum(breaks)


async def test_a_session_that_gets_nowhere_ends(
    store: Storager, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without progress it is given up, and the error may be tried again."""
    monkeypatch.setattr("mountfs.backends.gcs_uploads.PAUSE_S", 0.0)
    gcs_server.breaks_after = [0] * 20

    with pytest.raises(StoreError) as caught:
        await store.write(KEY, BytesBody(bytes(9 * MIB)))

    assert caught.value.is_retryable
    assert caught.value.is_ambiguous
    assert len(gcs_server.breaks_after) == 15


async def test_an_upload_of_which_nothing_is_told_may_have_been_stored(
    store: Storager, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bytes were not answered, and who asks is told to slow down."""
    monkeypatch.setattr("mountfs.backends.gcs_uploads.PAUSE_S", 0.0)
    gcs_server.loses_replies = {"session.put"}
    gcs_server.fault = lambda operation, call: (
        refusal(429, "rateLimitExceeded")
        if operation == "session.put" and not call.body
        else None
    )

    with pytest.raises(Throttled) as caught:
        await store.write(KEY, BytesBody(bytes(9 * MIB)))

    assert f"pre/{KEY}" in gcs_server.objects(GCS_BUCKET)
    assert caught.value.is_ambiguous


async def _append(store: Storager, base: Object, data: bytes) -> Object:
    append = await store.create_append(KEY, base=base)
    return await store.commit_append(await store.write_append(append, BytesBody(data)))


async def test_an_append_moves_the_new_bytes_alone(
    store: Storager, gcs_server: GcsServer
) -> None:
    """One component, one compose, one removal; metadata stay."""
    old = await store.write(
        KEY, BytesBody(bytes(3 * MIB)), metadata=Metadata(user={"a": "b"})
    )
    gcs_server.clear()

    done = await _append(store, old, b"tail")

    stored = gcs_server.objects(GCS_BUCKET)[f"pre/{KEY}"]
    assert stored.data == bytes(3 * MIB) + b"tail"
    assert stored.metadata == {"a": "b"}
    assert done.metadata is not None
    counts = gcs_server.counts()
    assert counts == {"objects.insert": 1, "objects.compose": 1, "batch": 1}
    assert sum(entry.size for entry in gcs_server.requests()) < 4096
    assert hidden(gcs_server) == []


async def test_a_lost_append_leaves_nothing(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Who was too late is told, and the component goes."""
    old = await store.write(KEY, BytesBody(b"old"))
    await opened(gcs_server).write(KEY, BytesBody(b"another"))

    with pytest.raises(VersionChanged):
        await _append(store, old, b"tail")
    assert gcs_server.objects(GCS_BUCKET)[f"pre/{KEY}"].data == b"another"
    assert hidden(gcs_server) == []


async def test_what_a_crash_of_an_append_left_goes_a_day_later(
    store: Storager, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first append of a later process removes it, and nothing that is younger."""
    old = await store.write(KEY, BytesBody(b"old"))
    append = await store.create_append(KEY, base=old)
    await store.write_append(append, BytesBody(b"tail"))
    assert len(hidden(gcs_server)) == 1

    second = opened(gcs_server)
    await _append(second, old, b"1")
    assert len(hidden(gcs_server)) == 1
    monkeypatch.setattr(gcs_leftovers, "ORPHAN_NS", -(10**12))
    third = opened(gcs_server)
    await _append(third, await third.stat(KEY), b"2")
    assert hidden(gcs_server) == []
    await second.close()
    await third.close()


async def test_a_part_of_many_that_was_composed_wrongly_is_one_error(
    store: Storager, gcs_server: GcsServer
) -> None:
    """More than 32 are composed to parts first, several at once."""
    upload, parts = await begun(store, 70)
    gcs_server.garbles = True

    with pytest.raises(StoreError, match="composed"):
        await store.complete_multipart(upload, parts, condition=ABSENT)
    assert f"pre/{KEY}" not in gcs_server.objects(GCS_BUCKET)


async def test_what_was_composed_wrongly_is_not_ours(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The checksum tells, and a later look does not take it for a lost answer."""
    retrying = RetryStorager(store, RetryPolicy(backoff_base_s=0.0))
    upload, parts = await begun(retrying)
    gcs_server.garbles = True

    with pytest.raises(StoreError, match="composed"):
        await retrying.complete_multipart(upload, parts, condition=ABSENT)
    with pytest.raises(AlreadyExists):
        await retrying.complete_multipart(upload, parts, condition=ABSENT)
    assert len(hidden(gcs_server)) == 4


async def test_a_failing_service_fails_the_part(
    store: Storager, gcs_server: GcsServer
) -> None:
    """An error of the service is one, whatever the request."""
    upload, _ = await begun(store)
    fail(gcs_server, "objects.insert")

    with pytest.raises(ServiceFailed):
        await store.write_part(upload, 5, BytesBody(b"bytes"))
