"""The requests over the wire are recorded as the services see them."""

from pathlib import Path

import pytest

from mountfs.backends import open_store
from mountfs.backends.dropbox_tokens import Credentials, save
from mountfs.storage import secrets
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import NotFound, StoreError
from mountfs.storage.meter import Meter
from mountfs.storage.protocol import Storager
from mountfs.storage.tracing import Tracer
from mountfs.storage.wire import record_with
from tests.fakes.dropbox_server import DropboxServer
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer
from tests.fakes.scripted_server import ScriptedServer


async def _use(store: Storager) -> Meter:
    """Write, read, look for what is not there, list and delete, and count that."""
    meter = Meter(Tracer())
    record_with(meter)
    await store.write("a", BytesBody(b"0123456789"))
    await store.read("a")
    with pytest.raises(NotFound):
        await store.stat("b")
    await store.list("")
    await store.delete("a")
    await store.close()
    return meter


def _counts(meter: Meter) -> dict[tuple[str, str], int]:
    return {labels[:2]: count for labels, count in meter.exchanges().items()}  # type: ignore[misc]  # three labels


async def test_google_cloud_storage(gcs_server: GcsServer) -> None:
    """Each request has the name of a method of the JSON API, which the bill has."""
    options = {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True}
    meter = await _use(open_store(f"gs://{GCS_BUCKET}", options))

    counts = _counts(meter)
    assert counts["objects.insert", "200"] == 1
    assert counts["objects.get", "404"] >= 1
    assert counts["objects.list", "200"] >= 1
    assert counts["objects.delete", "204"] == 1
    assert not [name for name, _ in counts if name == "other"]
    sent, received = meter.wire_bytes
    assert sent >= 10
    assert received >= 10


async def test_dropbox(
    dropbox_server: DropboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request has the name of its route, as often as the service was asked."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    file = tmp_path / "dropbox.json"
    save(file, Credentials("fakekey", "renewed-for-ever"))
    dropbox_server.tokens.refresh_tokens.add("renewed-for-ever")
    options = {"endpoint": dropbox_server.url, "token_file": str(file)}
    options["ca_file"] = str(dropbox_server.certificate)
    meter = await _use(open_store("dropbox:///top", options))

    told = {name: 0 for name, _ in _counts(meter)}
    for (name, _), count in _counts(meter).items():
        told[name] += count
    seen = {name: dropbox_server.routes.count(name) for name in told}
    assert {name: told[name] for name in told if "/" in name} == {
        name: count for name, count in seen.items() if "/" in name
    }
    assert told["files/upload"] >= 1
    # What was read, and what was got for it, is secret from then on.
    assert secrets.blotted("see renewed-for-ever") == f"see {secrets.BLOT}"
    assert dropbox_server.tokens.access_tokens
    for token in dropbox_server.tokens.access_tokens:
        assert secrets.blotted(token) == secrets.BLOT
    assert meter.wire_bytes[0] >= 10


@pytest.mark.parametrize("client", ["light", "boto3"])
async def test_s3(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a request, it is recorded alike; no answer is one, too."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "planted-for-a-test")
    meter = Meter(Tracer())
    record_with(meter)
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nx-amz-request-id: 1\r\n\r\n%s"
    body = b"<Error><Code>SlowDown</Code></Error>"
    with ScriptedServer([head % (503, len(body), body), None]) as server:
        options = {
            "endpoint_url": server.url,
            "s3_client": client,
            "addressing_style": "path",
            "region": "us-east-1",
        }
        store = open_store("s3://bucket", options)
        for _ in range(2):
            with pytest.raises(StoreError):
                await store.write("a", BytesBody(b"0123456789"))
        await store.close()

    assert meter.exchanges() == {
        ("PutObject", "503", "foreground"): 1,
        ("PutObject", "none", "foreground"): 1,
    }
    assert meter.wire_bytes[0] == 20
