"""How Google Cloud Storage is asked: credentials, policy, errors, connections."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from google.oauth2.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from mountfs.backends import open_service, open_store
from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_errors import CLASSES, REASONS, STATUSES, reply_error
from mountfs.backends.gcs_options import GcsOptions, parse_options, split_url
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    BucketNotFound,
    Corrupt,
    CredentialsRejected,
    DirectoryNotEmpty,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    ReadOnlyStore,
    ServiceFailed,
    StoreError,
    Throttled,
    TimedOut,
    Unreachable,
    Unsupported,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, because
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import NO_METADATA, ListMode, Metadata, Object, Version
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_requests import refusal
from tests.fakes.gcs_server import GcsServer
from tests.fakes.http_proxy import Reply
from tests.fakes.scripted_server import ScriptedServer

URL = f"gs://{GCS_BUCKET}/pre"
KMS = "projects/p/locations/l/keyRings/r/cryptoKeys/k"


def opened(server: GcsServer, **options: object) -> Storager:
    """Return a store of the server."""
    fixed = {"endpoint_url": server.endpoint_url, "no_sign_request": True}
    return open_store(URL, {**fixed, **options})


@pytest.fixture
async def store(gcs_server: GcsServer) -> AsyncIterator[Storager]:
    """A store below a prefix."""
    found = opened(gcs_server)
    yield found
    await found.close()


# --- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"no_such": 1}, "no_such"),
        ({"kms_key": "k"}, "cryptoKeys"),
        ({"sse": "AES256"}, "customer"),
        ({"sse_customer_key_file": "/f"}, "needs sse=customer"),
        ({"sse": "customer", "kms_key": KMS}, "exclude"),
        ({"endpoint_url": "host"}, "https://HOST"),
        ({"conditions": "write,fly"}, "none or some of"),
        ({"requests_max": 0}, "whole number"),
        ({"read_timeout_s": "soon"}, "a number"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    options: dict[str, object], says: str
) -> None:
    """The sentence says what would be right."""
    with pytest.raises(InvalidRequest, match=says):
        parse_options(options, {})


@pytest.mark.parametrize("url", ["gs://", "gs:///a", "gs:bucket", "s3://b", "gs://UP"])
def test_a_url_needs_a_bucket(url: str) -> None:
    """What names none is refused."""
    with pytest.raises(InvalidRequest):
        split_url(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:4443", "http://localhost:4443"),
        ("https://here:1/", "https://here:1"),
    ],
)
def test_an_emulator_is_asked_without_credentials(host: str, expected: str) -> None:
    """STORAGE_EMULATOR_HOST is the endpoint, unless another one is given."""
    environ = {"STORAGE_EMULATOR_HOST": host}

    assert parse_options({}, environ) == GcsOptions(
        endpoint_url=expected, no_sign_request=True
    )
    given = parse_options({"endpoint_url": "https://else.where"}, environ)
    assert not given.no_sign_request


# --- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (404, "notFound", NotFound),
        (403, "forbidden", PermissionDenied),
        (401, "required", CredentialsRejected),
        (403, "rateLimitExceeded", Throttled),
        (429, "rateLimitExceeded", Throttled),
        (403, "quotaExceeded", QuotaExceeded),
        (503, "backendError", ServiceFailed),
        (500, "", ServiceFailed),
        (502, "", ServiceFailed),
        (408, "", TimedOut),
        (418, "", InvalidRequest),
    ],
)
def test_the_reason_decides_and_then_the_status(
    status: int, reason: str, expected: type[StoreError]
) -> None:
    """An answer without a body of the service's goes by its status."""
    body = refusal(status, reason).body if reason else b"<html>"

    error = reply_error(status, {}, body, "key")

    assert type(error) is expected
    assert error.key == "key"


def test_what_is_throttled_waits_a_second() -> None:
    """An object takes one change a second; a word of the service goes before."""
    assert reply_error(429, {}, b"").retry_after_s == 1.0
    assert reply_error(429, {"retry-after": "7"}, b"").retry_after_s == 7.0


def test_the_page_of_errors_has_the_tables() -> None:
    """Each reason, status and class is in the page."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
    section = page.read_text().partition("## Google Cloud Storage")[2]

    for reason, meaning in REASONS.items():
        assert f"`{reason}`" in section
        assert f"`{meaning.__name__}`" in section
    for status in STATUSES:
        assert str(status) in section
    for known, _, _ in CLASSES:
        assert f"`{known.__name__}`" in section


async def test_changes_to_one_object_wait_their_turn() -> None:
    """Refused for coming too soon, a change is made a second later."""
    with GcsServer(rate_s=0.3) as server:
        server.make_bucket(GCS_BUCKET)
        store = RetryStorager(opened(server), RetryPolicy())
        for number in range(4):
            written = await store.write("file", BytesBody(b"%d" % number))
            await store.set_metadata(written, Metadata(user={"n": f"{number}"}))
        await store.close()

        stored = server.objects(GCS_BUCKET)["pre/file"]
        assert stored.data == b"3"
        assert stored.metadata["n"] == "3"
        assert 429 in [entry.status for entry in server.requests()]


async def test_a_missing_bucket_is_told(gcs_server: GcsServer) -> None:
    """A listing cannot fail for another reason."""
    fixed = {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True}
    store = open_store("gs://no-such-bucket", fixed)

    with pytest.raises(BucketNotFound):
        await store.list("")
    await store.close()


async def test_another_server_is_no_store() -> None:
    """The page of some web server passes for no answer of the service."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    listing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with ScriptedServer([page, listing]) as server:
        store = open_store(URL, {"endpoint_url": server.url, "no_sign_request": True})
        for _ in range(2):
            with pytest.raises(ServiceFailed):
                await store.list("")
        await store.close()


async def test_nobody_answers() -> None:
    """A refused connection is not ambiguous: nothing was sent."""
    with ScriptedServer([]) as server:
        url = server.url
    store = open_store(URL, {"endpoint_url": url, "no_sign_request": True})

    with pytest.raises(Unreachable) as caught:
        await store.write("file", BytesBody(b"bytes"))
    assert not caught.value.is_ambiguous
    await store.close()


async def test_an_answer_that_does_not_come_is_ambiguous(
    store: Storager, gcs_server: GcsServer
) -> None:
    """The request may have been carried out."""
    gcs_server.loses_replies.add("objects.insert")

    with pytest.raises(Unreachable) as caught:
        await store.write("file", BytesBody(b"bytes"))
    assert caught.value.is_ambiguous


async def test_cancelling_frees_the_thread(
    store: Storager, gcs_server: GcsServer
) -> None:
    """What waits for an answer is cut, and its thread is free."""
    gcs_server.fault = lambda *_: _sleepy()
    with trio.move_on_after(0.2):
        await store.stat("file")
    gcs_server.fault = None

    with trio.fail_after(2):
        while store.busy:  # type: ignore[attr-defined]  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.01)


def _sleepy() -> Reply:
    time.sleep(1.0)
    return refusal(500, "backendError")


# --- policy --------------------------------------------------------------------------


async def test_every_request_names_who_pays(gcs_server: GcsServer) -> None:
    """Also those in a batch, and of sessions."""
    store = opened(gcs_server, user_project="payer")
    await store.write("file", BytesBody(b"bytes"))
    await store.write("large", BytesBody(bytes(9 << 20)))
    await store.copy("file", "copy")
    await store.list("")
    await store.read("file")
    await store.delete_many(["file", "copy"])

    requests = [r for r in gcs_server.requests() if r.reason != "in-batch"]
    told = {r.operation for r in requests if r.query.get("userProject") != "payer"}
    assert told == {"session.put"}  # the session was opened for it
    await store.close()


async def test_every_request_says_why(store: Storager, gcs_server: GcsServer) -> None:
    """The reason is in the User-Agent."""
    with because(Reason.PREFETCH):
        await store.list("")

    (request,) = gcs_server.requests()
    assert request.reason == Reason.PREFETCH.value


async def test_a_key_of_kms_is_named_with_all_that_is_made(
    gcs_server: GcsServer,
) -> None:
    """Writes, copies, components and what is composed of them."""
    store = opened(gcs_server, kms_key=KMS)
    await store.write("file", BytesBody(b"bytes"))
    await store.copy("file", "copy")
    upload = await store.create_multipart("parts")
    part = await store.write_part(upload, 0, BytesBody(b"part"))
    await store.complete_multipart(upload, [part])

    found = gcs_server.objects(GCS_BUCKET)
    keys = {name: each.properties.get("kmsKeyName") for name, each in found.items()}
    assert set(keys.values()) == {f"{KMS}/cryptoKeyVersions/1"}
    assert len(keys) == 3
    await store.close()


async def test_a_key_of_the_object_stays(gcs_server: GcsServer) -> None:
    """A copy and a new version are encrypted as the object was."""
    gcs_server.put(GCS_BUCKET, "pre/file", b"old", {"kmsKeyName": KMS})
    store = opened(gcs_server)
    old = await store.stat("file")
    await store.copy("file", "copy")
    await store.write("file", BytesBody(b"new"), inherit=old)

    for each in gcs_server.objects(GCS_BUCKET).values():
        assert each.properties["kmsKeyName"] == f"{KMS}/cryptoKeyVersions/1"
    await store.close()


async def test_a_customers_key_goes_with_every_byte(
    gcs_server: GcsServer, tmp_path: Path
) -> None:
    """Nothing can be read without it, and everything with it."""
    (tmp_path / "key").write_bytes(os.urandom(32))
    (tmp_path / "key").chmod(0o600)
    keyed = opened(
        gcs_server, sse="customer", sse_customer_key_file=str(tmp_path / "key")
    )
    plain = opened(gcs_server)
    written = await keyed.write("file", BytesBody(b"bytes"))
    await keyed.copy("file", "copy")
    await keyed.write("large", BytesBody(bytes(9 << 20)))
    upload = await keyed.create_multipart("parts")
    part = await keyed.write_part(upload, 0, BytesBody(b"part"))
    await keyed.complete_multipart(upload, await keyed.list_parts(upload))
    append = await keyed.create_append("file", base=written)
    await keyed.commit_append(await keyed.write_append(append, BytesBody(b"+")))

    for key, data in {"file": b"bytes+", "copy": b"bytes", "parts": b"part"}.items():
        assert (await keyed.read(key)).data == data
        with pytest.raises(InvalidRequest):
            await plain.read(key)
    assert part.size == 4
    assert all(each.key_sha256 for each in gcs_server.objects(GCS_BUCKET).values())
    await keyed.close()
    await plain.close()


async def test_a_store_opened_read_only_changes_nothing(gcs_server: GcsServer) -> None:
    """Whatever is asked of it."""
    store = opened(gcs_server, read_only=True)
    gcs_server.put(GCS_BUCKET, "pre/file", b"bytes")
    found = await store.stat("file")
    for request in (
        store.write("file", None),
        store.delete("file"),
        store.delete_many(["file"]),
        store.copy("file", "copy"),
        store.set_metadata(found, Metadata()),
        store.create_multipart("file"),
        store.create_append("file"),
    ):
        with pytest.raises(ReadOnlyStore):
            await request
    await store.close()


# --- bytes ---------------------------------------------------------------------------


async def test_other_bytes_than_were_stored_are_told(
    store: Storager, gcs_server: GcsServer
) -> None:
    """What came is compared with the checksum of the object."""
    await store.write("file", BytesBody(b"right"))
    stored = gcs_server.objects(GCS_BUCKET)["pre/file"]

    def damaged(operation: str, call: Any) -> Reply | None:
        if operation != "objects.media":
            return None
        with_sum = (
            "X-Goog-Hash",
            f"crc32c={stored.resource('', has_key=True)['crc32c']}",
        )
        return Reply(200, [with_sum], b"wrong")

    gcs_server.fault = damaged
    with pytest.raises(Corrupt):
        await store.read("file")
    without = opened(gcs_server, checksums=False)
    assert (await without.read("file")).data == b"wrong"
    await without.close()


async def test_bytes_that_were_damaged_are_not_stored(
    store: Storager, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksum is made before they are sent, and the service compares it."""
    wrong = "mountfs.backends.gcs_crc32c.of_bytes"
    monkeypatch.setattr(wrong, lambda data: 12345)

    with pytest.raises(InvalidRequest):
        await store.write("file", BytesBody(b"bytes"))
    assert gcs_server.objects(GCS_BUCKET) == {}


async def test_what_is_stored_compressed_is_read_so(
    store: Storager, gcs_server: GcsServer
) -> None:
    """Nothing is unpacked on the way: sizes and offsets are those of the object."""
    gcs_server.put(GCS_BUCKET, "pre/file", b"\x1f\x8bzip", {"contentEncoding": "gzip"})

    assert (await store.read("file")).data == b"\x1f\x8bzip"
    assert (await store.read("file", 2, 2)).data == b"zi"


# --- credentials ---------------------------------------------------------------------


def service_account(path: Path, token_uri: str) -> str:
    """Write the file of a service account whose tokens come from `token_uri`."""
    key = subprocess.run(
        ["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True
    ).stdout
    about = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "id",
        "private_key": key,
        "client_email": "test@project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(about))
    return str(path)


def token(name: str) -> bytes:
    """Return the answer that gives a token."""
    body = json.dumps({"access_token": name, "expires_in": 3600}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def tokens_of(server: GcsServer) -> list[str]:
    """Return the tokens that came with the requests."""
    return [entry.headers.get("authorization", "") for entry in server.requests()]


async def test_default_credentials_are_found_and_renewed(
    gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token serves all requests; refused, it is renewed, and all goes on."""
    with ScriptedServer([token("first"), token("second")]) as issuer:
        file = service_account(tmp_path / "account.json", f"{issuer.url}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
        store = RetryStorager(
            opened(gcs_server, no_sign_request=False),
            RetryPolicy(backoff_base_s=0.0),
        )
        await store.write("file", BytesBody(b"bytes"))
        await store.list("", mode=ListMode.PREFIX)
        assert tokens_of(gcs_server) == ["Bearer first"] * 2
        gcs_server.fault = lambda _, call: (
            refusal(401, "authError")
            if call.headers["authorization"] == "Bearer first"
            else None
        )
        await store.stat("file")

        assert tokens_of(gcs_server)[2:] == ["Bearer first", "Bearer second"]
        url = await store.sign_read("file", expires_s=60)
        assert url.startswith(f"{gcs_server.endpoint_url}/{GCS_BUCKET}/pre/file?")
        assert "X-Goog-Signature=" in url
        await store.close()


async def test_a_token_goes_to_nobody_else(gcs_server: GcsServer) -> None:
    """The URL of an upload session is what an answer says, and might be anywhere."""
    with contextlib.closing(GcsServer()) as other:
        client = GcsClient(GcsOptions(endpoint_url=gcs_server.endpoint_url))
        client._credentials = Credentials("secret")  # type: ignore[no-untyped-call]  # google-auth has few types
        for server in (gcs_server, other):
            url = f"{server.endpoint_url}/storage/v1/b/{GCS_BUCKET}/o"
            with contextlib.suppress(StoreError):
                await client.run(partial(client.send, "GET", url, {}))
        await client.close()

        assert tokens_of(gcs_server) == ["Bearer secret"]
        assert tokens_of(other) == [""]


RESOURCE = {
    "kind": "storage#objects",
    "name": "pre/file",
    "size": "5",
    "generation": "1",
    "metageneration": "1",
    "metadata": {"mode": "33188"},
    "items": [{"name": "pre/file", "size": "5"}],
    "prefixes": ["pre/dir/"],
    "done": True,
    "resource": {"size": "5"},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=4,
)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(sorted(RESOURCE)), JSON, min_size=1, max_size=3))
def test_no_answer_is_more_than_an_error(wrong: dict[str, object]) -> None:
    """Whatever stands where something else should, what is raised says so."""
    reply = json.dumps({**RESOURCE, **wrong}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(reply)}\r\n\r\n".encode()

    async def ask_all() -> None:
        with ScriptedServer([head + reply] * 5) as server:
            options = {"endpoint_url": server.url, "no_sign_request": True}
            store = open_store(URL, options)
            known = Object(key="file", version=Version("1", "1"), metadata=NO_METADATA)
            for ask in (
                lambda: store.stat("file"),
                lambda: store.list(""),
                lambda: store.write("file", BytesBody(b"bytes")),
                lambda: store.copy("file", "copy"),
                lambda: store.set_metadata(known, NO_METADATA),
            ):
                with contextlib.suppress(StoreError):
                    await ask()
            await store.close()

    trio.run(ask_all)


async def test_no_credentials_are_a_sentence(
    gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to do."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    store = opened(gcs_server, no_sign_request=False)

    with pytest.raises(CredentialsRejected, match="gcloud auth application-default"):
        await store.list("")
    await store.close()


async def test_without_credentials_nothing_is_signed(store: Storager) -> None:
    """Capabilities say so before."""
    assert not store.capabilities.signed_urls
    with pytest.raises(Unsupported):
        await store.sign_read("file", expires_s=60)


# --- the account ---------------------------------------------------------------------


async def test_buckets_are_made_listed_and_deleted(
    gcs_server: GcsServer, fake_gcs_server_url: str
) -> None:
    """By the SDK, against both servers."""
    for url in (gcs_server.endpoint_url, fake_gcs_server_url):
        options = {"endpoint_url": url, "no_sign_request": True}
        service = open_service("gs://", options)
        await service.create_bucket("made-here")
        await service.create_bucket("made-here")
        assert "made-here" in await service.list_buckets()
        store = open_store("gs://made-here", options)
        await store.write("file", None)
        with pytest.raises(DirectoryNotEmpty):
            await service.delete_bucket("made-here")
        await store.delete("file")
        await service.delete_bucket("made-here")
        with pytest.raises(BucketNotFound):
            await service.delete_bucket("made-here")
        await store.close()
        await service.close()
