"""What is not ours survives: one test per field and per way to replace an object.

Another tool, plain boto3, puts an object with the field; the store edits, copies or
changes it; boto3 looks again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mountfs.backends.s3 import open_s3
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import Attributes, Features, Metadata
from mountfs.storage.virtual import VirtualStorager
from tests.conformance.stores import S3_QUIRKS, Quirk
from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fakes.strict_shim import StrictShim

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
UNTIL = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
Look = Callable[["S3Client", str, str], object]


def _head(name: str) -> Look:
    return lambda client, bucket, key: client.head_object(Bucket=bucket, Key=key).get(
        name
    )


def _tags(client: "S3Client", bucket: str, key: str) -> object:
    found = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in found}


def _readers(client: "S3Client", bucket: str, key: str) -> object:
    grants = client.get_object_acl(Bucket=bucket, Key=key)["Grants"]
    return [grant["Grantee"].get("URI") for grant in grants]


def _foreign(client: "S3Client", bucket: str, key: str) -> object:
    return client.head_object(Bucket=bucket, Key=key)["Metadata"].get("foreign")


@dataclass(frozen=True)
class Field:
    """Something that other tools put with an object."""

    put: Mapping[str, Any]
    look: Look
    expected: object
    quirk: Quirk | None = None
    """What keeps some servers from keeping it."""
    instead: object = None
    """What is found there instead."""
    header: str = ""
    """How it is sent, where a server may ignore it."""


FIELDS = {
    "content-type": Field({"ContentType": "text/x"}, _head("ContentType"), "text/x"),
    "content-encoding": Field({"ContentEncoding": "x"}, _head("ContentEncoding"), "x"),
    "content-language": Field(
        {"ContentLanguage": "mi"}, _head("ContentLanguage"), "mi"
    ),
    "content-disposition": Field(
        {"ContentDisposition": "inline"}, _head("ContentDisposition"), "inline"
    ),
    "cache-control": Field(
        {"CacheControl": "no-store"}, _head("CacheControl"), "no-store"
    ),
    "expires": Field({"Expires": UNTIL}, _head("Expires"), UNTIL),
    "user-metadata": Field({"Metadata": {"foreign": "theirs"}}, _foreign, "theirs"),
    "storage-class": Field(
        {"StorageClass": "STANDARD_IA"}, _head("StorageClass"), "STANDARD_IA"
    ),
    "tags": Field({"Tagging": "a=1&b=2%203"}, _tags, {"a": "1", "b": "2 3"}),
    "acl": Field(
        {"GrantRead": f'uri="{EVERYBODY}"'},
        _readers,
        [EVERYBODY],
        Quirk.DROPS_ACLS_AND_REDIRECTS,
        instead=[None],  # the owner
    ),
    "retention": Field(
        {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": UNTIL},
        _head("ObjectLockRetainUntilDate"),
        UNTIL,
        Quirk.HOLDS_BY_PUT_ALONE,
        header="x-amz-object-lock-retain-until-date",
    ),
    "legal-hold": Field(
        {"ObjectLockLegalHoldStatus": "ON"},
        _head("ObjectLockLegalHoldStatus"),
        "ON",
        Quirk.HOLDS_BY_PUT_ALONE,
        header="x-amz-object-lock-legal-hold",
    ),
    "redirect": Field(
        {"WebsiteRedirectLocation": "/there"},
        _head("WebsiteRedirectLocation"),
        "/there",
        Quirk.DROPS_ACLS_AND_REDIRECTS,
    ),
    "encryption": Field(
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "a-key"},
        _head("SSEKMSKeyId"),
        "a-key",
        Quirk.HAS_NO_KMS,
    ),
}


async def _write(store: Storager) -> str:
    old = await store.stat("file")
    await store.write("file", BytesBody(b"edited"), inherit=old)
    return "file"


async def _set_metadata(store: Storager) -> str:
    old = await store.stat("file")
    assert old.metadata is not None
    user = {**old.metadata.user, "mode": "33188"}
    await store.set_metadata(old, Metadata(user=user))
    return "file"


async def _copy(store: Storager) -> str:
    await store.copy("file", "copy")
    return "copy"


async def _copy_with_metadata(store: Storager) -> str:
    old = await store.stat("file")
    assert old.metadata is not None
    await store.copy("file", "copy", metadata=Metadata(user=old.metadata.user))
    return "copy"


async def _multipart(store: Storager) -> str:
    old = await store.stat("file")
    upload = await store.create_multipart("file", inherit=old)
    part = await store.write_part(upload, 0, BytesBody(b"a new whole"))
    await store.complete_multipart(upload, [part], inherit=old)
    return "file"


def _mounted(store: Storager) -> Storager:
    return VirtualStorager(RetryStorager(store, RetryPolicy()), Features.for_mounts())


async def _chmod(store: Storager) -> str:
    mounted = _mounted(store)
    old = await mounted.stat("file")
    assert old.metadata is not None
    wanted = old.metadata.with_attributes(Attributes(mode=0o600))
    await mounted.set_metadata(old, wanted)
    return "file"


async def _rename(store: Storager) -> str:
    mounted = _mounted(store)
    await mounted.list("")
    await mounted.move("file", "new")
    return "new"


async def _append(store: Storager) -> str:
    mounted = _mounted(store)
    old = await mounted.stat("file")
    append = await mounted.create_append("file", base=old)
    append = await mounted.write_append(append, BytesBody(b"more"))
    await mounted.commit_append(append)
    return "file"


WAYS: dict[str, Callable[[Storager], Awaitable[str]]] = {
    "write": _write,
    "set_metadata": _set_metadata,
    "copy": _copy,
    "copy-with-metadata": _copy_with_metadata,
    "multipart": _multipart,
    "chmod": _chmod,
    "rename": _rename,
    "append": _append,
}


BY_PUT = {"write", "append"}
BY_COPY = {"set_metadata", "copy", "copy-with-metadata", "chmod", "rename"}


@pytest.fixture
def client(s3_server: S3Server) -> Iterator["S3Client"]:
    client = s3_server.client()
    yield client
    client.close()


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    with s3_servers.bucket(s3_server, object_lock=True, acls=True) as name:
        yield name


@pytest.fixture
async def store(s3_shim: StrictShim, bucket: str) -> AsyncIterator[Storager]:
    store = open_s3(
        f"s3://{bucket}",
        {"endpoint_url": s3_shim.endpoint_url, "addressing_style": "path"},
    )
    yield store
    await store.close()


# Where there is no KMS, nothing encrypted by it can be put in the first place; the
# tests of encryption show that.
CASES = [
    pytest.param(server, name, id=f"{server}-{name}")
    for server, quirks in S3_QUIRKS.items()
    for name, foreign in FIELDS.items()
    if foreign.quirk is not Quirk.HAS_NO_KMS or foreign.quirk not in quirks
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("s3_server", "field_name"), CASES, indirect=["s3_server"])
async def test_a_foreign_field_survives(
    store: Storager,
    client: "S3Client",
    bucket: str,
    s3_server: S3Server,
    s3_shim: StrictShim,
    field_name: str,
    way: str,
) -> None:
    """A field that another tool put is there after an edit, a change or a copy."""
    foreign = FIELDS[field_name]
    client.put_object(Bucket=bucket, Key="file", Body=b"old bytes", **foreign.put)
    quirk = foreign.quirk if foreign.quirk in S3_QUIRKS[s3_server.name] else None

    if quirk is Quirk.HOLDS_BY_PUT_ALONE and way in BY_COPY:
        # Nothing of it is lost: the object stays as it is.
        with pytest.raises(InvalidRequest):
            await WAYS[way](store)
        key, wanted = "file", foreign.expected
    else:
        key = await WAYS[way](store)
        is_kept = quirk is None or (quirk is Quirk.HOLDS_BY_PUT_ALONE and way in BY_PUT)
        wanted = foreign.expected if is_kept else foreign.instead

    assert foreign.look(client, bucket, key) == wanted
    if foreign.header:
        assert any(foreign.header in seen.headers for seen in s3_shim.requests())


async def test_old_knowledge_is_not_written_over_a_newer_object(
    store: Storager, client: "S3Client", bucket: str
) -> None:
    """A change of metadata without a condition takes its headers from the newest."""
    client.put_object(Bucket=bucket, Key="file", Body=b"1", CacheControl="no-store")
    old = await store.stat("file")
    client.put_object(Bucket=bucket, Key="file", Body=b"22", CacheControl="private")

    await store.set_metadata(old, Metadata(user={"mode": "1"}))

    found = client.head_object(Bucket=bucket, Key="file")
    assert (found["CacheControl"], found["ContentLength"]) == ("private", 2)
    assert found["Metadata"] == {"mode": "1"}
