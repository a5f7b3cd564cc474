"""Encryption is a policy of the store: it is on every object, whatever made it."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mountfs.backends.s3 import open_s3
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import InvalidRequest, ServiceFailed, Unsupported
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Features, Metadata
from mountfs.storage.virtual import VirtualStorager
from tests.conformance.stores import S3_QUIRKS, Quirk
from tests.fakes.s3_servers import S3Server
from tests.fakes.strict_shim import StrictShim

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
KEY = secrets.token_bytes(32)
KMS = {"sse_kms_key_id": "a-key", "sse_bucket_key": "on"}


@pytest.fixture
def client(s3_server: S3Server) -> Iterator["S3Client"]:
    client = s3_server.client()
    yield client
    client.close()


def _open(shim: StrictShim, bucket: str, **options: object) -> Storager:
    address = {"endpoint_url": shim.endpoint_url, "addressing_style": "path"}
    return VirtualStorager(
        open_s3(f"s3://{bucket}", {**address, **options}), Features.for_mounts()
    )


async def _make_one_of_each(store: Storager, *, copies_parts: bool) -> list[str]:
    """Return the keys of objects made in every way that there is."""
    old = await store.write("put", BytesBody(b"bytes"))
    await store.write("changed", BytesBody(b"bytes"))
    await store.set_metadata(await store.stat("changed"), Metadata(user={"a": "b"}))
    await store.copy("put", "copied")
    await store.make_dir("directory/")
    await store.make_link("link", "target")
    upload = await store.create_multipart("parts")
    first = await store.write_part(upload, 0, BytesBody(b"x" * 5 * MIB))
    if copies_parts:
        second = await store.copy_part(upload, 1, old, 0, 5)
    else:
        second = await store.write_part(upload, 1, BytesBody(b"bytes"))
    await store.complete_multipart(upload, [first, second])
    await store.move("copied", "moved")
    return ["put", "changed", "moved", "directory/", "link", "parts"]


@pytest.mark.parametrize(
    ("s3_server", "sse", "options"),
    [
        ("seaweedfs", "AES256", {}),
        ("moto", "AES256", {}),
        ("moto", "aws:kms", KMS),
    ],
    indirect=["s3_server"],
)
async def test_every_object_gets_the_encryption_of_the_store(
    s3_shim: StrictShim,
    s3_bucket: str,
    s3_server: S3Server,
    client: "S3Client",
    sse: str,
    options: dict[str, object],
) -> None:
    """PUT, copy, parts, marker and link are all encrypted as the option says."""
    store = _open(s3_shim, s3_bucket, sse=sse, **options)

    keys = await _make_one_of_each(store, copies_parts=True)
    await store.close()

    heads = {key: client.head_object(Bucket=s3_bucket, Key=key) for key in keys}
    told = {key: head.get("ServerSideEncryption") for key, head in heads.items()}
    wanted: dict[str, str | None] = dict.fromkeys(keys, sse)
    if Quirk.HIDES_ENCRYPTION_OF_MARKERS in S3_QUIRKS[s3_server.name]:
        wanted["directory/"] = None
    assert told == wanted
    if options:
        assert {head["SSEKMSKeyId"] for head in heads.values()} == {"a-key"}


@pytest.mark.parametrize("s3_server", ["seaweedfs"], indirect=True)
async def test_encryption_that_a_service_has_not_is_never_left_out(
    s3_shim: StrictShim, s3_bucket: str, s3_server: S3Server
) -> None:
    """Where there is no KMS a write that asks for it fails, and nothing is stored."""
    assert Quirk.HAS_NO_KMS in S3_QUIRKS[s3_server.name]
    store = _open(s3_shim, s3_bucket, sse="aws:kms", **KMS)

    with pytest.raises(ServiceFailed):
        await store.write("put", BytesBody(b"bytes"))

    assert (await store.list("")).objects == ()
    await store.close()


@pytest.fixture
async def with_key(
    s3_shim: StrictShim, s3_bucket: str, tmp_path: Path
) -> AsyncIterator[Storager]:
    """A store whose objects are encrypted with a key of ours."""
    file = tmp_path / "key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    options = {"sse": "customer", "sse_customer_key_file": str(file)}
    store = _open(s3_shim, s3_bucket, **options)
    yield store
    await store.close()


async def test_a_customer_key_goes_with_every_request(
    with_key: Storager, s3_bucket: str, s3_server: S3Server, client: "S3Client"
) -> None:
    """What any request made can be read with the key, and by boto3 only with it."""
    quirks = S3_QUIRKS[s3_server.name]
    copies_parts = Quirk.COPIES_NO_CUSTOMER_PARTS not in quirks
    keys = await _make_one_of_each(with_key, copies_parts=copies_parts)

    assert (await with_key.read("moved")).data == b"bytes"
    assert (await with_key.read("parts", 5 * MIB)).data == b"bytes"
    assert (await with_key.stat("link")).link_target == "target"
    customer: Any = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
    for key in keys:
        client.head_object(Bucket=s3_bucket, Key=key, **customer)
        if s3_server.name == "seaweedfs" and not key.endswith("/"):
            with pytest.raises(client.exceptions.ClientError):
                client.head_object(Bucket=s3_bucket, Key=key)


@pytest.mark.parametrize("s3_server", ["seaweedfs"], indirect=True)
async def test_a_part_that_cannot_be_copied_is_told(
    with_key: Storager, s3_server: S3Server
) -> None:
    """A service that copies no parts of objects with a key says so by an error."""
    assert Quirk.COPIES_NO_CUSTOMER_PARTS in S3_QUIRKS[s3_server.name]
    old = await with_key.write("old", BytesBody(b"bytes"))
    upload = await with_key.create_multipart("parts")

    with pytest.raises(Unsupported):
        await with_key.copy_part(upload, 0, old, 0, 5)

    await with_key.abort_multipart(upload)


async def test_objects_without_the_customer_key_stay_readable(
    with_key: Storager, s3_bucket: str, client: "S3Client"
) -> None:
    """What others stored in plain can be read and copied by a store with a key."""
    client.put_object(Bucket=s3_bucket, Key="plain", Body=b"plain bytes")

    await with_key.copy("plain", "copy")

    assert (await with_key.read("plain")).data == b"plain bytes"
    assert (await with_key.read("copy")).data == b"plain bytes"


async def test_a_missing_customer_key_is_one_sentence(
    s3_shim: StrictShim, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key the first request fails, and says where a key is looked for."""
    monkeypatch.delenv("MOUNTFS_SSE_C_KEY", raising=False)
    store = _open(s3_shim, s3_bucket, sse="customer")

    with pytest.raises(InvalidRequest, match="MOUNTFS_SSE_C_KEY"):
        await store.stat("key")

    await store.close()
