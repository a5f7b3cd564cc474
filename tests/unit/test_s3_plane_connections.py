"""The light data plane on its connections: kept, lost, secured, through proxies."""

import contextlib
import datetime
import http.client
import ipaddress
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from select import select
from socket import create_connection, socket, socketpair

import botocore.exceptions as sdk
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mountfs.backends import _bounded, _http
from mountfs.backends._http import Connections, pieces_of
from mountfs.backends._threads import Threads, hold
from mountfs.backends.s3 import open_s3
from mountfs.backends.s3_connections import Route
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    Corrupt,
    PermissionDenied,
    StoreError,
    TimedOut,
    Unreachable,
)
from mountfs.storage.protocol import Storager
from tests.fakes.http_proxy import HttpProxy, Reply, Request, error_reply
from tests.fakes.s3_servers import S3Server, bucket
from tests.fakes.scripted_server import ScriptedServer

pytestmark = pytest.mark.usefixtures("s3_credentials")

GET = b"GET / HTTP/1.1\r\n\r\n"
OK = b'HTTP/1.1 200 OK\r\ncontent-length: 3\r\netag: "a"\r\n\r\nabc'
DENIED = (
    b"HTTP/1.1 403 Forbidden\r\ncontent-length: 40\r\nconnection: close\r\n\r\n"
    b"<Error><Code>AccessDenied</Code></Error>"
)


@pytest.fixture(autouse=True)
def none_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection but those that requests need, unless a test is about others."""
    monkeypatch.setattr(_http, "READY", 1)


@contextlib.asynccontextmanager
async def opened(
    url: str, name: str = "bucket", **options: object
) -> AsyncIterator[Storager]:
    """A store at a URL."""
    address = {"endpoint_url": url, "addressing_style": "path", "checksums": "off"}
    store = open_s3(f"s3://{name}", {**address, **options})
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 200\r\nContent-Length:3\r\n\r\nabc",
    ],
    ids=["plain", "continue", "chunked", "no reason"],
)
async def test_an_answer_is_read_whole_and_the_connection_kept(answer: bytes) -> None:
    """However its length is told."""
    with ScriptedServer([answer, answer]) as server:
        async with opened(server.url) as store:
            for _ in range(2):
                assert (await store.read("k")).data == b"abc"

    assert len(server.heads) == 2
    assert server.connections == 1


async def test_others_are_ready_when_the_first_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next requests, several at once, wait for no connection."""
    monkeypatch.setattr(_http, "READY", 4)
    with ScriptedServer([OK] * 5) as server:
        async with opened(server.url) as store:
            await store.read("k")
            with trio.fail_after(5):
                while server.connections < 4:  # noqa: ASYNC110  # another thread
                    await trio.sleep(0.001)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(store.read, "k")

    assert server.connections == 4
    assert len(server.heads) == 5


async def test_a_server_that_is_not_there_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who cannot connect makes nobody else try."""
    monkeypatch.setattr(_http, "READY", 4)
    tried = []
    connect = Route.connect

    def counted(self: Route) -> socket:
        tried.append(self)
        return connect(self)

    monkeypatch.setattr(Route, "connect", counted)
    with ScriptedServer([]) as server:
        url = server.url
    async with opened(url) as store:
        for _ in range(2):
            with pytest.raises(Unreachable):
                await store.read("k")

    assert len(tried) == 2


async def test_a_large_answer_comes_in_few_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel waits for all of it, not Python for each packet."""
    size = 4 << 20
    asked = []
    readinto = _http._Received.readinto

    def counted(self: _http._Received, buffer: bytearray) -> int:
        asked.append(len(buffer))
        return readinto(self, buffer)

    monkeypatch.setattr(_http._Received, "readinto", counted)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    with ScriptedServer([head + bytes(size)]) as server:
        async with opened(server.url) as store:
            assert (await store.read("k")).data == bytes(size)

    assert len(asked) < 20


async def test_silence_in_a_large_answer_ends_at_the_time_out() -> None:
    """A server that stops in the middle is not waited for without end."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n"
    with ScriptedServer([head + bytes(1_000_000), OK]) as server:
        async with opened(server.url, read_timeout_s=0.2) as store:
            with pytest.raises(TimedOut):
                await store.read("k")


async def test_what_comes_behind_an_answer_answers_nothing() -> None:
    """A connection with bytes left over is not used again."""
    with ScriptedServer([OK + OK.replace(b"abc", b"xyz"), OK]) as server:
        async with opened(server.url) as store:
            assert (await store.read("k")).data == b"abc"
            assert (await store.read("k")).data == b"abc"

    assert server.connections == 2


async def test_a_connection_that_the_server_closed_is_replaced() -> None:
    """Between two requests it may hang up; nobody notices."""
    closing = OK.replace(b"etag", b"Connection: close\r\netag")
    with ScriptedServer([closing, OK]) as server:
        async with opened(server.url) as store:
            for _ in range(2):
                assert (await store.read("k")).data == b"abc"

    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, Unreachable),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nabc",
            Corrupt,
        ),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\nx-amz", Unreachable),
        (b"220 mail connection: close\r\n", Unreachable),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nabc",
            Unreachable,
        ),
    ],
    ids=["none", "short", "cut", "other", "chunk"],
)
async def test_a_broken_answer_may_have_been_carried_out(
    answer: bytes | None, error: type[StoreError]
) -> None:
    """And the connection is not used again."""
    with ScriptedServer([answer, OK]) as server:
        async with opened(server.url) as store:
            with pytest.raises(error) as caught:
                await store.read("k")
            assert (await store.read("k")).data == b"abc"

    assert caught.value.is_ambiguous
    assert caught.value.is_retryable
    assert server.connections == 2


async def test_a_refusal_in_the_middle_of_a_body_is_heard() -> None:
    """A server need not read all of what it refuses."""
    with RefusingServer() as server:
        async with opened(server.url) as store:
            with pytest.raises((PermissionDenied, Unreachable)) as caught:
                await store.write("k", BytesBody(bytes(32 << 20)))

    assert caught.value.is_retryable == isinstance(caught.value, Unreachable)


class RefusingServer(ScriptedServer):
    """Answers once it has the head, and lets the rest lie for a moment."""

    def __init__(self) -> None:
        super().__init__([DENIED])

    def _read_head(self, reader: object) -> bytes:
        lines = iter(reader.readline, b"\r\n")  # type: ignore[attr-defined]  # a file
        return b"".join(lines)


def test_nothing_is_stored_before_all_of_it_was_sent() -> None:
    """Whoever says so has not taken in what could not be sent any more."""
    connections = Connections(HangingUp(), 5)  # type: ignore[arg-type]  # what is used
    with pytest.raises(sdk.ConnectionClosedError):
        connections.exchange(b"PUT / HTTP/1.1\r\n\r\n", bytes(4 << 20))


async def test_an_abandoned_call_leaves_the_connection_that_it_gave_back() -> None:
    """Somebody else may use it before the call has ended."""
    has_given_back, may_end = threading.Event(), threading.Event()
    with ScriptedServer([OK, OK]) as server:
        connections = Connections(Direct(server.port), 5)  # type: ignore[arg-type]  # what is used

        def call() -> None:
            connections.exchange(GET, b"")
            has_given_back.set()
            may_end.wait(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(Threads(1).run, call)
            await trio.to_thread.run_sync(has_given_back.wait)
            nursery.cancel_scope.cancel()
        assert connections.exchange(GET, b"").body == b"abc"
        may_end.set()
        connections.close()

    assert server.connections == 1


class Direct:
    """The way to a server on the loopback."""

    def __init__(self, port: int) -> None:
        self.url, self.proxy = f"http://127.0.0.1:{port}", None
        self._port = port

    def connect(self) -> socket:
        """Return a connection that is held, as a route makes it."""
        made = create_connection(("127.0.0.1", self._port))
        hold(made)
        return made


TOO_LONG = b"HTTP/1.1 200 OK\r\n%s\r\nconnection: close\r\n\r\n%s"


@pytest.mark.parametrize(
    "answer",
    [
        TOO_LONG % (b"content-length: 99999999999999", b"abc"),
        TOO_LONG % (b"transfer-encoding: chunked", b"fffffffffff\r\nabc"),
        TOO_LONG % (b"x: y", b"abcd"),
    ],
    ids=["length", "chunk", "end"],
)
async def test_no_more_is_taken_in_than_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """Of a large object a server that knows no ranges sends all."""
    monkeypatch.setattr(_bounded, "TOLD_MAX", 3)
    with ScriptedServer([answer]) as server:
        async with opened(server.url) as store:
            with pytest.raises(Corrupt):
                await store.read("k", 0, 3)


class HangingUp:
    """The way to a server that says yes to anything, and reads none of it."""

    url, proxy = "http://127.0.0.1", None

    def connect(self) -> socket:
        """Return a connection to it."""
        ours, theirs = socketpair()
        theirs.sendall(OK)
        theirs.close()
        return ours


@pytest.mark.parametrize("client", ["light", "boto3"])
async def test_nobody_there_is_no_silence(client: str) -> None:
    """A refusal comes at once, and is told as what it is."""
    async with opened("http://127.0.0.1:9", s3_client=client) as store:
        with pytest.raises(Unreachable) as caught:
            await store.read("k")

    assert not isinstance(caught.value, TimedOut)
    assert not caught.value.is_ambiguous


async def test_silence_ends_at_the_time_out() -> None:
    """What was sent may have been carried out."""
    with ScriptedServer([b"", OK]) as server:
        async with opened(server.url, read_timeout_s=0.2) as store:
            with pytest.raises(TimedOut) as caught:
                await store.read("k")

    assert caught.value.is_ambiguous


def test_a_body_is_sent_in_pieces() -> None:
    """The time-out is for each of them, so that a slow link has a chance."""
    body = bytes(range(256)) * 4096

    pieces = [bytes(piece) for piece in pieces_of(body)]

    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 1 << 18


async def test_a_botocore_that_is_another_inside_sends_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What has no public place may go; then the SDK is as good as ever."""

    def is_gone(self: Route, client: object, url: str) -> None:
        raise AttributeError("_get_connection_manager")

    monkeypatch.setattr(Route, "__init__", is_gone)
    with ScriptedServer([OK]) as server:
        async with opened(server.url) as store:
            assert (await store.read("k")).data == b"abc"

    assert b"\r\namz-sdk-invocation-id" in server.heads[0].lower()
    assert "another inside" in caplog.text


class RegionServer(HttpProxy):
    """Takes signatures for one region alone, as AWS does."""

    def __init__(self, upstream: S3Server, region: str) -> None:
        self._region = region
        self.refused = 0
        super().__init__(upstream)

    def answer(self, request: Request) -> Reply:
        """Say where the bucket is, as AWS says it."""
        if f"/{self._region}/s3/aws4" in request.header("Authorization"):
            return self.forward(request)
        request.drain()
        self.refused += 1
        reply = error_reply(400, "AuthorizationHeaderMalformed", Region=self._region)
        reply.headers.append(("x-amz-bucket-region", self._region))
        if request.method == "HEAD":
            reply.body = b""
        return reply


@pytest.mark.parametrize("first", ["read", "stat", "write"])
async def test_a_bucket_in_another_region_is_found_once(
    moto_server: S3Server, first: str
) -> None:
    """boto3 is told where it is, and the data plane goes there from then on."""
    with bucket(moto_server) as name, RegionServer(moto_server, "eu-west-3") as server:
        moto_server.client().put_object(Bucket=name, Key="k", Body=b"abc")
        async with opened(server.endpoint_url, name, region="us-east-1") as store:
            if first == "write":
                await store.write("k", BytesBody(b"abc"))
            else:
                await getattr(store, first)("k")
            refused = server.refused
            assert (await store.read("k")).data == b"abc"
            await store.list("")

        assert refused > 0
        assert server.refused == refused


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for the loopback that no system trusts, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def tls_of(certificate: Path) -> ssl.SSLContext:
    """Return the side of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_ca_bundle_of_ones_own_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the AWS tools trust it; and nobody else's."""
    with ScriptedServer([OK, OK], tls_of(certificate)) as server:
        async with opened(server.url) as store:
            with pytest.raises(Unreachable) as caught:
                await store.read("k")
        assert not caught.value.is_ambiguous
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        async with opened(server.url) as store:
            for _ in range(2):
                assert (await store.read("k")).data == b"abc"

    assert server.connections == 2
    assert len(server.heads) == 2


class Proxy(ThreadingHTTPServer):
    """Forwards what is asked for with its whole URL, and tunnels."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.asked: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        """Its URL, with a name and a password."""
        return f"http://name:word@127.0.0.1:{self.server_address[1]}"


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy  # type: ignore[mutable-override]  # http.server is told its type

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._note()
        host, _, path = self.path.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=5)
        connection.request("GET", f"/{path}", headers=dict(self.headers.items()))
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    def do_CONNECT(self) -> None:
        self._note()
        host, _, port = self.path.partition(":")
        with create_connection((host, int(port)), timeout=5) as there:
            self.send_response(200)
            self.end_headers()
            _relay(self.connection, there)
        self.close_connection = True

    def _note(self) -> None:
        secret = self.headers.get("Proxy-Authorization", "")
        self.server.asked.append((self.command, self.path, secret))


def _relay(ours: socket, theirs: socket) -> None:
    while True:
        ready, _, _ = select([ours, theirs], [], [], 5)
        for one in ready:
            data = one.recv(65536)
            if not data:
                return
            (theirs if one is ours else ours).sendall(data)
        if not ready:
            return


@pytest.fixture
def http_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that the environment names."""
    proxy = Proxy()
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield proxy
    proxy.shutdown()
    proxy.server_close()
    thread.join()


async def test_a_proxy_forwards(http_proxy: Proxy) -> None:
    """It is asked with the whole URL, and told who asks."""
    with ScriptedServer([OK, OK]) as server:
        async with opened(server.url) as store:
            for _ in range(2):
                assert (await store.read("k")).data == b"abc"

        asked = ("GET", f"{server.url}/bucket/k", "Basic bmFtZTp3b3Jk")
        assert http_proxy.asked == [asked] * 2


async def test_a_proxy_tunnels(
    http_proxy: Proxy, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is secret is not the proxy's."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with ScriptedServer([OK, OK], tls_of(certificate)) as server:
        async with opened(server.url) as store:
            for _ in range(2):
                assert (await store.read("k")).data == b"abc"

        ((method, target, secret),) = http_proxy.asked
    assert (method, target) == ("CONNECT", f"127.0.0.1:{server.port}")
    assert secret == "Basic bmFtZTp3b3Jk"
    assert b"proxy-authorization" not in server.heads[0].lower()


async def test_a_proxy_that_is_not_there_carries_nothing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the same as a server that is not there."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with opened("http://s3.example.org") as store:
        with pytest.raises(Unreachable) as caught:
            await store.write("k", BytesBody(b"abc"))

    assert not caught.value.is_ambiguous
