"""An HTTP/1.1 reverse proxy on the loopback, to be derived from.

Requests go upstream byte for byte, Host included, so that signatures stay good. A
derived class overrides `answer`, which gets a request and returns the reply; calling
`forward` is its own decision. It knows enough of S3 to name the operation.
"""

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.s3_servers import S3Server

CHUNK = 1 << 18
IN_MEMORY_MAX = 16 << 20
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te"}
_REASON = re.compile(r"\breason/(\S+)")

_OBJECT_OPERATIONS: Mapping[tuple[str, str], str] = {
    ("GET", "uploadId"): "ListParts",
    ("GET", "tagging"): "GetObjectTagging",
    ("GET", "acl"): "GetObjectAcl",
    ("PUT", "tagging"): "PutObjectTagging",
    ("PUT", "acl"): "PutObjectAcl",
    ("PUT", "uploadId"): "UploadPart",
    ("PUT", "retention"): "PutObjectRetention",
    ("PUT", "legal-hold"): "PutObjectLegalHold",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("PUT", ""): "PutObject",
    ("DELETE", ""): "DeleteObject",
}
_BUCKET_OPERATIONS: Mapping[tuple[str, str], str] = {
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "ownershipControls"): "GetBucketOwnershipControls",
    ("PUT", "ownershipControls"): "PutBucketOwnershipControls",
    ("POST", "delete"): "DeleteObjects",
    ("HEAD", ""): "HeadBucket",
    ("PUT", ""): "CreateBucket",
    ("DELETE", ""): "DeleteBucket",
    ("GET", ""): "ListObjects",
}


@dataclass(slots=True)
class Reply:
    """An answer: wholly in memory, or with the rest of its body still to come."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    rest: http.client.HTTPResponse | None = None
    cut_after: int | None = None
    """Close the connection after that many bytes of the body; -1: send nothing."""
    paced: Callable[[bytes], Iterator[bytes]] | None = None
    """Gives the pieces of the body that are sent, each when its time has come."""

    def header(self, name: str) -> str:
        """Return the value of a header, or ""."""
        wanted = name.lower()
        return next((v for k, v in self.headers if k.lower() == wanted), "")

    def read_all(self) -> bytes:
        """Read the rest of the body, so that it can be looked at and changed."""
        if self.rest is not None:
            self.body += self.rest.read()
            self.rest = None
        return self.body


class Request:
    """What a client sends."""

    def __init__(self, handler: "_Handler") -> None:
        self.method = handler.command
        self.target = handler.path
        self.headers = list(handler.headers.items())
        parts = urlsplit(self.target)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        self.bucket = unquote(bucket)
        self.key = unquote(key, errors="surrogateescape")
        self.size = int(handler.headers.get("Content-Length") or 0)
        self.is_chunked = "chunked" in handler.headers.get("Transfer-Encoding", "")
        self._stream: BufferedIOBase = handler.rfile
        self._body: bytes | None = (
            b"" if not self.size and not self.is_chunked else None
        )

    def header(self, name: str) -> str:
        """Return the value of a header, or ""."""
        wanted = name.lower()
        return next((v for k, v in self.headers if k.lower() == wanted), "")

    @property
    def reason(self) -> str:
        """Why it is sent, as the User-Agent says."""
        match = _REASON.search(self.header("User-Agent"))
        return match[1] if match else ""

    @property
    def operation(self) -> str:
        """The name of the S3 operation."""
        if not self.bucket:
            return "ListBuckets"
        table = _OBJECT_OPERATIONS if self.key else _BUCKET_OPERATIONS
        named = [table.get((self.method, word)) for word in self.query]
        found = next(filter(None, named), None) or table.get((self.method, ""))
        if self.header("x-amz-copy-source") and found in {"PutObject", "UploadPart"}:
            return "CopyObject" if found == "PutObject" else "UploadPartCopy"
        return found or f"{self.method}{sorted(self.query)}"

    def body(self) -> bytes:
        """Return the whole body; it can still be forwarded."""
        if self._body is None:
            self._body = b"".join(self._chunks())
        return self._body

    def replace_body(self, body: bytes) -> None:
        """Forward other bytes, as many as were sent, in place of the body."""
        assert len(body) == len(self.body())
        self._body = body

    def sent_in_pieces(self) -> Iterator[bytes]:
        """Give the body, from the wire if nobody has read it yet."""
        if self._body is not None:
            yield self._body
            return
        if self.size <= IN_MEMORY_MAX:
            yield self.body()
            return
        self._body = b""
        yield from self._chunks()

    def drain(self) -> None:
        """Read what is left of the body and throw it away."""
        if self._body is None:
            self._body = b""
            for _ in self._chunks():
                pass

    def _chunks(self) -> Iterator[bytes]:
        if self.is_chunked:
            while size := int(self._stream.readline().split(b";")[0], 16):
                yield self._stream.read(size)
                self._stream.readline()
            while self._stream.readline().strip():
                pass
            return
        left = self.size
        while left and (piece := self._stream.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece


class HttpProxy:
    """Forwards requests to one server; runs from construction to `close`."""

    def __init__(self, upstream: S3Server) -> None:
        self.upstream = upstream
        parts = urlsplit(upstream.endpoint_url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self._thread.start()
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: Request) -> Reply:
        """Return the reply to a request; overridden by what a proxy is for."""
        return self.forward(request)

    def forward(self, request: Request) -> Reply:
        """Send a request upstream and return the reply."""
        connection: http.client.HTTPConnection | None = None
        connection = getattr(self._server.local, "connection", None)
        pieces = request.sent_in_pieces()
        first = next(pieces, b"")
        if connection is not None:
            with contextlib.suppress(http.client.HTTPException, OSError):
                if len(first) == request.size:  # small: it can be sent again
                    return self._send(connection, request, [first])
            connection.close()
        connection = http.client.HTTPConnection(*self._address, timeout=120)
        self._server.local.connection = connection
        return self._send(connection, request, _all(first, pieces))

    def close(self) -> None:
        """Stop serving, close every connection and wait for the threads."""
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(
        self,
        connection: http.client.HTTPConnection,
        request: Request,
        pieces: "list[bytes] | Iterator[bytes]",
    ) -> Reply:
        connection.putrequest(
            request.method, request.target, skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers:
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value.encode("latin-1"))
        if request.is_chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for piece in pieces:
            if request.is_chunked and piece:
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            elif piece:
                connection.send(piece)
        if request.is_chunked:
            connection.send(b"0\r\n\r\n")
        response = connection.getresponse()
        reply = Reply(response.status, response.getheaders(), rest=response)
        if (
            request.method == "HEAD"
            or int(response.getheader("Content-Length") or -1) == 0
        ):
            reply.read_all()
        return reply


def _all(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    proxy: HttpProxy

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]
    ) -> None:
        super().__init__(address, handler)
        self.local = threading.local()
        self._clients: set[socket.socket] = set()
        self._handlers: set[threading.Thread] = set()

    def register(self, connection: socket.socket) -> None:
        self._clients.add(connection)
        self._handlers.add(threading.current_thread())

    def unregister(self, connection: socket.socket) -> None:
        self._clients.discard(connection)
        self._handlers.discard(threading.current_thread())

    def close_connections(self) -> None:
        for connection in tuple(self._clients):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in tuple(self._handlers):
            thread.join(timeout=5)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that breaks off is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: _Server  # type: ignore[mutable-override]  # http.server is told its type

    def setup(self) -> None:
        super().setup()
        self.server.register(self.connection)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        upstream = getattr(self.server.local, "connection", None)
        if upstream is not None:
            upstream.close()
        self.server.unregister(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log; `StrictShim.requests` is the log."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, http.client.HTTPException, ValueError):
            self.close_connection = True

    def _serve(self) -> None:
        request = Request(self)
        reply = self.server.proxy.answer(request)
        request.drain()
        if reply.cut_after is not None and reply.cut_after < 0:
            if reply.rest is not None:
                reply.rest.close()
            self._break_off()
            return
        self._write(request, reply)

    def _write(self, request: Request, reply: Reply) -> None:
        body = reply.body if reply.rest is not None else reply.read_all()
        names = {name.lower() for name, _ in reply.headers}
        self.wfile.write(b"HTTP/1.1 %d %s\r\n" % (reply.status, _phrase(reply.status)))
        for name, value in reply.headers:
            if name.lower() not in _HOP_BY_HOP:
                self.wfile.write(f"{name}: {value}\r\n".encode("latin-1"))
        is_chunked = reply.rest is not None and "content-length" not in names
        if is_chunked:
            self.wfile.write(b"Transfer-Encoding: chunked\r\n")
        elif "content-length" not in names:
            self.wfile.write(b"Content-Length: %d\r\n" % len(body))
        self.wfile.write(b"\r\n")
        if request.method != "HEAD":
            self._write_body(body, reply, is_chunked=is_chunked)
        self.wfile.flush()

    def _write_body(self, body: bytes, reply: Reply, *, is_chunked: bool) -> None:
        if reply.cut_after is not None:
            self.wfile.write((body + reply.read_all())[: reply.cut_after])
            self._break_off()
            return
        if reply.paced is not None:
            for piece in reply.paced(body + reply.read_all()):
                self.wfile.write(piece)
                self.wfile.flush()
            return
        self.wfile.write(body)
        while reply.rest is not None and (piece := reply.rest.read(CHUNK)):
            if is_chunked:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                self.wfile.write(piece)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _break_off(self) -> None:
        """Close the connection as if the network had gone."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def handle_expect_100(self) -> bool:
        """Let the client send its body at once; the answer must not lie in a buffer."""
        is_expected = super().handle_expect_100()
        self.wfile.flush()
        return is_expected

    # http.server calls these by the name of the method.
    do_GET = _serve  # noqa: N815
    do_HEAD = _serve  # noqa: N815
    do_PUT = _serve  # noqa: N815
    do_POST = _serve  # noqa: N815
    do_DELETE = _serve  # noqa: N815
    do_PATCH = _serve  # noqa: N815


def _phrase(status: int) -> bytes:
    return http.client.responses.get(status, "Unknown").encode()


def error_reply(status: int, code: str, message: str = "", **more: str) -> Reply:
    """Return an error as S3 writes it."""
    details = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>{message or code}</Message>"
        f"{details}</Error>"
    )
    return Reply(status, [("Content-Type", "application/xml")], text.encode())
