"""The end of an upload in parts whose answer is lost, or is no answer."""

import pytest

from mountfs.backends import _http
from mountfs.backends.s3 import open_s3
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import Features, Object, Part, Upload
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.scripted_server import ScriptedServer

pytestmark = pytest.mark.usefixtures("s3_credentials")

COMMIT = "0123456789abcdef"
UPLOAD = Upload(key="k", id="u", commit_id=COMMIT)
CHUNKED = b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
"""How an answer begins that ends with its connection, too early."""
FAILED = b"\n<Error><Code>InternalError</Code></Error>"
MADE = (
    b"<CompleteMultipartUploadResult><ETag>&quot;a-1&quot;</ETag>"
    b"</CompleteMultipartUploadResult>"
)
GONE = b"<Error><Code>NoSuchUpload</Code></Error>"


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer with a body of a length that is told."""
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def head(commit: str) -> bytes:
    """Return what a server says of the object, made by some commit."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n"
        b'etag: "a-1"\r\nx-amz-meta-mountfs-commit: %b\r\n\r\n' % commit.encode()
    )


async def complete(server: ScriptedServer, client: str) -> Object:
    """Complete the upload, as a mount does."""
    address = {"endpoint_url": server.url, "addressing_style": "path"}
    store = open_s3("s3://bucket", {**address, "s3_client": client})
    retrying = RetryStorager(
        VirtualStorager(store, Features.for_mounts()),
        RetryPolicy(backoff_base_s=0.001),
    )
    try:
        return await retrying.complete_multipart(UPLOAD, [Part(0, 3, "e")])
    finally:
        await retrying.close()


def methods(server: ScriptedServer) -> list[bytes]:
    return [each.partition(b" ")[0] for each in server.heads]


LOST = [
    pytest.param(None, id="none"),
    pytest.param(CHUNKED + b"1\r\n\n\r\n", id="white space"),
    pytest.param(CHUNKED + b"40\r\n<Complete", id="cut"),
    pytest.param(answer(FAILED), id="error"),
    pytest.param(answer(b"<CompleteMultipart"), id="half"),
    pytest.param(answer(b""), id="empty"),
]


@pytest.mark.parametrize("client", ["light", "boto3"])
@pytest.mark.parametrize("lost", LOST)
async def test_upload_that_was_completed_is_not_completed_again(
    lost: bytes | None, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for, and what is found is the answer."""
    monkeypatch.setattr(_http, "READY", 1)
    with ScriptedServer([lost, head(COMMIT)]) as server:
        made = await complete(server, client)

    assert made.version is not None
    assert made.version.content == "a-1"
    assert methods(server) == [b"POST", b"HEAD"]


@pytest.mark.parametrize("lost", LOST)
async def test_upload_that_was_not_completed_is_completed(
    lost: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is the object of somebody else, or the one before."""
    monkeypatch.setattr(_http, "READY", 1)
    with ScriptedServer([lost, head("another"), answer(MADE)]) as server:
        await complete(server, "light")

    assert methods(server) == [b"POST", b"HEAD", b"POST"]


async def test_upload_that_is_gone_was_completed_if_its_object_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process that sent it first may have died before the answer."""
    monkeypatch.setattr(_http, "READY", 1)
    gone = answer(GONE, b"404 Not Found")
    with ScriptedServer([gone, head(COMMIT)]) as server:
        assert (await complete(server, "light")).size == 3
