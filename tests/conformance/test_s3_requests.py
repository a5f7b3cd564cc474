"""What the S3 backend puts on the wire: how many requests, with what, and when none."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
import trio

from mountfs.backends.s3 import open_s3, open_s3_service
from mountfs.storage.body import BytesBody, FileBody
from mountfs.storage.errors import (
    Archived,
    BodyTooShort,
    BucketNotFound,
    Corrupt,
    CredentialsRejected,
    DirectoryNotEmpty,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ReadOnlyStore,
    StoreError,
    TimedOut,
    Unreachable,
    Unsupported,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import (
    Call,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Upload,
    Version,
)
from tests.fakes.cutting_proxy import (
    CuttingProxy,
    Fault,
    Stall,
    answer,
    corrupt,
    cut_request,
    truncate,
)
from tests.fakes.s3_servers import S3Server
from tests.fakes.strict_shim import StrictShim

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
Open = Callable[..., Storager]


@pytest.fixture(params=["light", "boto3"])
async def open_at_shim(
    moto_shim: StrictShim, moto_bucket: str, request: pytest.FixtureRequest
) -> AsyncIterator[Open]:
    """Opens stores at the counting shim, and closes them."""
    async with AsyncExitStack() as stack:

        def open_store(endpoint_url: str = "", **options: object) -> Storager:
            address = {
                "endpoint_url": endpoint_url or moto_shim.endpoint_url,
                "addressing_style": "path",
                "s3_client": request.param,
            }
            store = open_s3(f"s3://{moto_bucket}", {**address, **options})
            stack.push_async_callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(open_at_shim: Open) -> Storager:
    return open_at_shim()


@pytest.fixture
def client(moto_server: S3Server) -> Iterator["S3Client"]:
    client = moto_server.client()
    yield client
    client.close()


@pytest.fixture
def proxy(moto_shim: StrictShim) -> Iterator[CuttingProxy]:
    with closing(CuttingProxy(moto_shim.server)) as proxy:
        yield proxy


async def test_opening_sends_nothing(store: Storager, moto_shim: StrictShim) -> None:
    """A store is opened without a request, and closed without one."""
    assert store.capabilities.service == "s3"
    await store.close()

    assert moto_shim.requests() == []


async def test_each_operation_is_one_request(
    store: Storager, moto_shim: StrictShim
) -> None:
    """PUT, HEAD, GET, LIST, COPY and DELETE are one each, chmod and rename too."""
    await store.write("d/file", BytesBody(b"bytes"))
    known = await store.stat("d/file")
    await store.read("d/file")
    await store.list("d/")
    await store.set_metadata(known, Metadata(user={"mode": "33188"}))
    await store.copy("d/file", "d/new")
    await store.delete("d/file")
    await store.stat("d/", kind=ObjectKind.DIRECTORY)

    assert moto_shim.counts() == {
        "PutObject": 1,
        "HeadObject": 1,
        "GetObject": 1,
        "ListObjectsV2": 2,
        "CopyObject": 2,
        "DeleteObject": 1,
    }


async def test_a_directory_that_was_listed_is_copied_without_looking_again(
    open_at_shim: Open, moto_shim: StrictShim
) -> None:
    """A listing tells the storage classes, so N copies are N requests."""
    keys = [f"d/{number}" for number in range(5)]
    for key in keys:
        await open_at_shim().write(key, BytesBody(b"bytes"))
    store = open_at_shim()
    await store.list("d/", mode=ListMode.PREFIX)
    moto_shim.clear()

    for key in keys:
        await store.copy(key, key.replace("d/", "e/"))
    assert await store.delete_many(keys) == {}

    assert moto_shim.counts() == {"CopyObject": 5, "DeleteObjects": 1}


async def test_a_copy_of_an_unknown_object_asks_first(
    open_at_shim: Open, moto_shim: StrictShim
) -> None:
    """Its storage class would be lost otherwise."""
    await open_at_shim().write("file", BytesBody(b"bytes"))
    moto_shim.clear()

    await open_at_shim().copy("file", "copy")

    assert moto_shim.counts() == {"HeadObject": 1, "CopyObject": 1}


async def test_the_reason_of_a_request_is_on_the_wire(
    store: Storager, moto_shim: StrictShim
) -> None:
    """Background requests can be told from those that a program waits for."""
    await store.write("file", BytesBody(b"bytes"))
    with because(Reason.PREFETCH):
        await store.read("file")

    assert moto_shim.counts() == {"PutObject": 1}
    assert moto_shim.counts(reason="prefetch") == {"GetObject": 1}


async def test_a_read_only_store_sends_no_change(
    open_at_shim: Open, moto_shim: StrictShim
) -> None:
    """Every operation that changes something is refused before it is sent."""
    store = open_at_shim(read_only="on")
    known = Object(key="key", version=Version("tag"))
    upload = Upload(key="key", id="id")
    changes = [
        store.write("key", None),
        store.delete("key"),
        store.delete_many(["key"]),
        store.copy("key", "new"),
        store.set_metadata(known, Metadata()),
        store.create_multipart("key"),
        store.write_part(upload, 0, BytesBody(b"")),
        store.copy_part(upload, 0, known, 0, 1),
        store.complete_multipart(upload, []),
        store.abort_multipart(upload),
    ]

    for change in changes:
        with pytest.raises(ReadOnlyStore):
            await change

    assert moto_shim.requests() == []


async def test_policies_go_with_every_request(
    open_at_shim: Open, moto_shim: StrictShim
) -> None:
    """Payer and owner are on each request, copies name the owner of the source too."""
    store = open_at_shim(request_payer=True, expected_bucket_owner="123456789012")

    await store.write("file", BytesBody(b"bytes"))
    await store.stat("file")
    await store.copy("file", "copy")
    await store.list("")

    for entry in moto_shim.requests(reason="foreground"):
        assert entry.headers["x-amz-request-payer"] == "requester"
        assert entry.headers["x-amz-expected-bucket-owner"] == "123456789012"
    (copy,) = moto_shim.requests("CopyObject")
    assert copy.headers["x-amz-source-expected-bucket-owner"] == "123456789012"


async def test_a_store_without_the_newer_checksums_gets_none(
    open_at_shim: Open, moto_shim: StrictShim
) -> None:
    """With `checksums=off` only Content-MD5 is sent, where a checksum must be."""
    store = open_at_shim(checksums="off")

    await store.write("file", BytesBody(b"bytes"))
    assert (await store.read("file")).data == b"bytes"
    assert await store.delete_many(["file"]) == {}

    names = {name for entry in moto_shim.requests() for name in entry.headers}
    assert not {name for name in names if "checksum" in name or "trailer" in name}
    (deletion,) = moto_shim.requests("DeleteObjects")
    assert "content-md5" in deletion.headers


async def test_uploads_carry_a_checksum(store: Storager, moto_shim: StrictShim) -> None:
    """By default S3 can check what arrives."""
    await store.write("file", BytesBody(b"bytes"))

    (put,) = moto_shim.requests("PutObject")
    assert "x-amz-checksum-crc32" in put.headers


async def test_a_new_object_gets_type_and_storage_class(
    open_at_shim: Open, moto_bucket: str, client: "S3Client"
) -> None:
    """The name suggests the type; the option names the class; both can be off."""
    await open_at_shim(storage_class="STANDARD_IA").write("a.png", None)
    await open_at_shim(content_types="off").write("b.png", None)

    first = client.head_object(Bucket=moto_bucket, Key="a.png")
    second = client.head_object(Bucket=moto_bucket, Key="b.png")
    assert (first["ContentType"], first["StorageClass"]) == ("image/png", "STANDARD_IA")
    assert second["ContentType"] == "binary/octet-stream"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "text/html"), ("text/x-mine", "text/x-mine")],
    ids=["guessed", "foreign"],
)
async def test_a_rename_guesses_the_type_anew(
    open_at_shim: Open,
    moto_shim: StrictShim,
    moto_bucket: str,
    client: "S3Client",
    given: str | None,
    expected: str,
) -> None:
    """What rsync renames gets the type of its last name; what was set stays."""
    store = open_at_shim()
    pairs = {} if given is None else {"content-type": given}
    metadata = Metadata(user={"foreign": "1"}, pairs=pairs)
    made = await store.write(".page.html.Xy12", BytesBody(b"<p>"), metadata=metadata)
    moto_shim.clear()

    await store.copy(".page.html.Xy12", "page.html", source_version=made.version)

    found = client.head_object(Bucket=moto_bucket, Key="page.html")
    assert (found["ContentType"], found["Metadata"]["foreign"]) == (expected, "1")
    assert moto_shim.counts() == {"CopyObject": 1}


async def test_a_copy_over_the_limit_is_made_in_parts(
    open_at_shim: Open, moto_shim: StrictShim, moto_bucket: str, client: "S3Client"
) -> None:
    """Bytes, metadata, tags and commit id are those of the source."""
    data = bytes(range(256)) * 12 * 4096
    client.put_object(
        Bucket=moto_bucket,
        Key="big",
        Body=data,
        Tagging="a=1",
        CacheControl="no-store",
        Metadata={"foreign": "1", "mountfs-commit": "id"},
    )
    store = open_at_shim(copy_size_max=5 * MIB)
    moto_shim.clear()

    made = await store.copy("big", "copy")

    found = await store.stat("copy")
    tags = client.get_object_tagging(Bucket=moto_bucket, Key="copy")["TagSet"]
    assert moto_shim.counts()["UploadPartCopy"] == 3
    assert (made.size, found.size) == (len(data), len(data))
    assert (await store.read("copy")).data == data
    assert tags == [{"Key": "a", "Value": "1"}]
    assert found.metadata is not None
    assert found.metadata.user == {"foreign": "1"}
    assert found.metadata.commit_id == "id"
    assert found.metadata.pairs["cache-control"] == "no-store"


async def test_a_copy_in_parts_that_fails_leaves_no_upload(
    open_at_shim: Open, proxy: CuttingProxy
) -> None:
    """A failing part ends the copy with its own error, and its parts are dropped."""
    store = open_at_shim(proxy.endpoint_url, copy_size_max=5 * MIB)
    await store.write("big", BytesBody(bytes(12 * MIB)))
    proxy.fail("UploadPartCopy", answer(403, "AccessDenied"), nth=2)

    with pytest.raises(PermissionDenied):
        await store.copy("big", "copy")

    assert await store.list_uploads() == ()


async def test_a_change_of_metadata_over_the_limit_is_made_in_parts(
    open_at_shim: Open, moto_shim: StrictShim
) -> None:
    """Metadata of an object that is too large for one copy can be changed."""
    store = open_at_shim(copy_size_max=5 * MIB)
    old = await store.write("big", BytesBody(bytes(6 * MIB)), metadata=Metadata())

    await store.set_metadata(old, Metadata(user={"mode": "1"}), condition=old.version)

    found = await store.stat("big")
    assert found.metadata is not None
    assert found.metadata.user == {"mode": "1"}
    assert moto_shim.counts()["UploadPartCopy"] == 2


async def test_a_file_goes_out_in_whole(store: Storager, tmp_path: Path) -> None:
    """A large body is streamed from its file."""
    data = bytes(range(256)) * 9 * 4096 + b"end"
    (tmp_path / "file").write_bytes(b"skip" + data)

    await store.write("file", FileBody(tmp_path / "file", 4, len(data)))

    found = (await store.read("file")).data
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


async def test_a_large_body_that_ends_early_stores_nothing(
    store: Storager, tmp_path: Path
) -> None:
    """A file that is shorter than said breaks the request off."""
    (tmp_path / "file").write_bytes(bytes(9 * MIB))

    with pytest.raises(BodyTooShort):
        await store.write("file", FileBody(tmp_path / "file", 0, 10 * MIB))

    with pytest.raises(NotFound):
        await store.stat("file")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (truncate(2), StoreError),
        (corrupt, Corrupt),
        (cut_request, Unreachable),
        (answer(403, "ExpiredToken"), CredentialsRejected),
    ],
    ids=["truncated", "corrupt", "cut", "expired"],
)
async def test_a_damaged_read_is_an_error(
    open_at_shim: Open, proxy: CuttingProxy, fault: Fault, error: type[StoreError]
) -> None:
    """Fewer bytes, or other ones, than were stored are never returned."""
    store = open_at_shim(proxy.endpoint_url)
    await store.write("file", BytesBody(b"bytes"))
    proxy.fail("GetObject", fault)

    with pytest.raises(error) as caught:
        await store.read("file")

    assert caught.value.is_retryable == (error is not CredentialsRejected)


async def test_a_silent_server_is_a_timeout(
    open_at_shim: Open, proxy: CuttingProxy
) -> None:
    """After the read timeout the request fails, and may have been carried out."""
    store = open_at_shim(proxy.endpoint_url, read_timeout_s=0.2)
    proxy.fail("PutObject", Stall())

    with pytest.raises(TimedOut) as caught:
        await store.write("file", BytesBody(b"bytes"))

    assert caught.value.is_ambiguous


async def test_a_cancelled_request_is_left_at_once(
    open_at_shim: Open, proxy: CuttingProxy
) -> None:
    """Nobody waits for a thread whose answer is not wanted any more."""
    store = open_at_shim(proxy.endpoint_url, requests_max=2)
    await store.write("file", BytesBody(b"bytes"))
    stall = Stall()
    proxy.fail("GetObject", stall)

    with trio.move_on_after(0.1) as scope:
        await store.read("file")

    assert scope.cancelled_caught
    assert (await store.stat("file")).size == 5
    stall.release()


async def test_a_refused_connection_carried_nothing_out(open_at_shim: Open) -> None:
    """Nobody listens: the request can be sent again without a look."""
    store = open_at_shim("http://127.0.0.1:9")

    with pytest.raises(Unreachable, match=r"no connection to 127\.0\.0\.1:9") as caught:
        await store.write("file", BytesBody(b"bytes"))

    assert not caught.value.is_ambiguous


async def test_an_archived_object_says_so(
    store: Storager, moto_bucket: str, client: "S3Client"
) -> None:
    """Reading cold storage is an error of its own; its attributes can be read."""
    client.put_object(
        Bucket=moto_bucket, Key="cold", Body=b"bytes", StorageClass="GLACIER"
    )

    with pytest.raises(Archived):
        await store.read("cold")

    found = await store.stat("cold")
    assert found.metadata is not None
    assert found.metadata.pairs["storage-class"] == "GLACIER"


async def test_a_signed_url_reads_without_credentials(store: Storager) -> None:
    """Anybody with the URL gets the bytes."""
    await store.write("a file ü&+", BytesBody(b"bytes"))

    url = await store.sign_read("a file ü&+", expires_s=60)

    def get() -> bytes:
        with urlopen(url) as reply:
            found: bytes = reply.read()
            return found

    assert await trio.to_thread.run_sync(get) == b"bytes"


async def test_a_url_is_not_signed_in_vain(open_at_shim: Open) -> None:
    """Too long a life, no credentials, or a key that nobody sends: refused."""
    with pytest.raises(InvalidRequest):
        await open_at_shim().sign_read("file", expires_s=8 * 24 * 3600)
    for options in ({"no_sign_request": True}, {"sse": "customer"}):
        store = open_at_shim(**options)
        assert not store.capabilities.signed_urls
        with pytest.raises(Unsupported):
            await store.sign_read("file", expires_s=60)


@pytest.mark.parametrize(
    ("style", "start"),
    [
        ("path", "https://s3.eu-west-1.amazonaws.com/bucket/key?"),
        ("virtual", "https://bucket.s3.eu-west-1.amazonaws.com/key?"),
    ],
)
@pytest.mark.usefixtures("s3_credentials")
async def test_the_bucket_is_in_the_path_or_the_host(style: str, start: str) -> None:
    """Both styles of addresses are spoken."""
    store = open_s3("s3://bucket", {"addressing_style": style, "region": "eu-west-1"})

    url = await store.sign_read("key", expires_s=60)

    await store.close()
    assert url.startswith(start)


async def test_missing_credentials_are_one_sentence(
    open_at_shim: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent without credentials, unless that is asked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(CredentialsRejected, match="no_sign_request"):
        await open_at_shim().list("")
    assert (await open_at_shim(no_sign_request=True).list("")).objects == ()


async def test_an_unknown_profile_is_one_sentence(open_at_shim: Open) -> None:
    """The profile is named."""
    with pytest.raises(InvalidRequest, match="no-such-profile"):
        await open_at_shim(profile="no-such-profile").list("")


async def test_capabilities_follow_the_options(open_at_shim: Open) -> None:
    """What the user says of the service is what the layers above are told."""
    told = open_at_shim(equal_parts="on", conditions="write").capabilities

    assert told.multipart is not None
    assert told.multipart.equal_parts
    assert told.conditions == frozenset({Call.WRITE})


async def test_a_key_that_xml_cannot_hold_is_deleted_alone(
    store: Storager, moto_shim: StrictShim
) -> None:
    """Control characters in a name do not spoil the request for the others."""
    for key in ("a", "b\x01"):
        await store.write(key, None)
    moto_shim.clear()

    assert await store.delete_many(["a", "b\x01"]) == {}

    assert moto_shim.counts() == {"DeleteObjects": 1, "DeleteObject": 1}
    assert (await store.list("")).objects == ()


async def test_buckets_are_made_listed_and_removed(s3_shim: StrictShim) -> None:
    """A bucket that is there is made without an error; a full one stays."""
    options = {"endpoint_url": s3_shim.endpoint_url, "addressing_style": "path"}
    service = open_s3_service("s3://", options)
    await service.create_bucket("made-by-the-service")
    await service.create_bucket("made-by-the-service")
    assert "made-by-the-service" in await service.list_buckets()

    store = open_s3("s3://made-by-the-service", options)
    await store.write("file", None)
    if s3_shim.upstream.name == "moto":  # SeaweedFS removes a bucket with its files
        with pytest.raises(DirectoryNotEmpty):
            await service.delete_bucket("made-by-the-service")
    await store.delete("file")
    await service.delete_bucket("made-by-the-service")

    with pytest.raises(BucketNotFound):
        await service.delete_bucket("made-by-the-service")
    await store.close()
    await service.close()
