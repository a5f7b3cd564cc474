"""The connections to Google Cloud Storage: kept, cut, secured, and through proxies."""

import socket
import ssl
import threading
from pathlib import Path

import pytest
import trio

from mountfs.backends import open_store
from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_options import GcsOptions
from mountfs.storage.errors import Unreachable
from mountfs.storage.protocol import Storager
from tests.fakes.dropbox_fixtures import make_certificate
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.scripted_server import ScriptedServer
from tests.fakes.silent_server import SilentServer

BODY = b'{"kind": "storage#objects"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
ENDS_S = 5.0


def opened(url: str) -> Storager:
    """Return a store there."""
    options = {"endpoint_url": url, "no_sign_request": True}
    return open_store(f"gs://{GCS_BUCKET}", options)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for the loopback that no system trusts, with its key."""
    return make_certificate(tmp_path)


def tls_of(certificate: Path) -> ssl.SSLContext:
    """Return what a server with this certificate speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class SilentTLSServer(SilentServer):
    """Takes connections with TLS, and never says a word over them."""

    def __init__(self, certificate: Path) -> None:
        self._tls = tls_of(certificate)
        super().__init__()
        self.endpoint_url = self.endpoint_url.replace("http", "https", 1)

    def listen_to(self, connection: socket.socket) -> None:
        """Shake hands and take what is sent."""
        with self._tls.wrap_socket(connection, server_side=True) as secured:
            while secured.recv(1 << 16):
                pass


async def test_a_connection_is_kept() -> None:
    """The second request goes over the first one's."""
    with ScriptedServer([OK, OK]) as server:
        store = opened(server.url)
        for _ in range(2):
            await store.list("")
        assert server.connections == 1
        await store.close()


async def test_certificates_are_those_of_requests(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE names what to trust; what is not trusted is not asked."""
    with ScriptedServer([OK, OK], tls_of(certificate)) as server:
        store = opened(server.url)
        with pytest.raises(Unreachable) as caught:
            await store.list("")
        assert not caught.value.is_ambiguous
        await store.close()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        store = opened(server.url)
        for _ in range(2):
            await store.list("")
        await store.close()


async def test_a_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the environment says, but for the hosts that it leaves out."""
    with ScriptedServer([OK, OK]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "other.invalid")
        store = opened("http://storage.invalid")
        await store.list("")
        await store.close()
        assert proxy.heads[0].startswith(b"GET http://storage.invalid/storage/v1/b/")

        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with ScriptedServer([OK]) as server:
            store = opened(server.url)
            await store.list("")
            await store.close()
        assert len(proxy.heads) == 1


@pytest.mark.parametrize("is_secured", [False, True])
async def test_to_cancel_ends_the_connection(
    is_secured: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS or without."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    silent = SilentTLSServer(certificate) if is_secured else SilentServer()
    with silent as server:
        store = opened(server.endpoint_url)
        with trio.move_on_after(0.3):
            await store.list("")

        assert await trio.to_thread.run_sync(server.wait_for_ended, 1, ENDS_S)
        await store.close()


async def test_to_cancel_spares_the_connection_of_another_call() -> None:
    """What a call has given back is not its own any more."""
    with ScriptedServer([OK, OK]) as server:
        client = GcsClient(GcsOptions(endpoint_url=server.url, no_sign_request=True))
        path = f"/storage/v1/b/{GCS_BUCKET}/o"
        is_back, may_end = threading.Event(), threading.Event()

        def ask_and_stay() -> None:
            client.send_json("GET", path)
            is_back.set()
            may_end.wait(ENDS_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run, ask_and_stay)
            await trio.to_thread.run_sync(is_back.wait, ENDS_S)
            nursery.cancel_scope.cancel()
        await client.call("GET", path)
        may_end.set()
        assert server.connections == 1
        await client.close()
