"""HTTP/1.1 over connections that somebody else makes, one request at a time on each.

How a connection is made (proxies, TLS, certificates, timeouts) is its route's; what is
sent and read over it is done here, because the general ways of `http.client` and
urllib3 take longer than all the rest of a request. What a request means, and whose
service it is for, is not known here. Failures are botocore's, which has one for each.

A connection is used by one call at a time, which holds it on its line. It goes back
only after a whole answer, so that the next request never reads the rest of one.

To make one costs a round trip, or three over TLS. So with the first request that is
under way others are made behind it, for what follows: programs look a file up with two
requests at once, and then read it with several.
"""

import contextlib
import http.client
import io
import logging
import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import botocore.exceptions as sdk
import urllib3.exceptions
from urllib3.util.wait import wait_for_read

from mountfs.backends._threads import hold, let_go
from mountfs.storage import pace

log = logging.getLogger(__name__)

READY = 8
"""So many connections there are at least, in use or idle, once there is one."""
_BUFFER = 1 << 16
_PIECE = 1 << 18
"""So much has the whole read time-out to be taken in."""
UNTOLD_MAX = 64 << 20
"""No body is longer whose length nobody asked for, and nobody tells."""
_LINE_MAX = 1 << 16
_HEADERS_MAX = 200
_PRELUDES_MAX = 16
"""Answers that only say that another one is to come."""
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_HEX = re.compile(rb"\s*[0-9A-Fa-f]{1,15}\s*")


class Answer(NamedTuple):
    """A whole answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Source(Protocol):
    """A body that is read while it is sent."""

    def read(self, count: int | None = -1) -> bytes:
        """Return the next bytes, or none at the end."""
        ...

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position, so that the body can be read again."""
        ...


class Route(Protocol):
    """How a server is reached."""

    url: str
    proxy: str | None

    def connect(self) -> socket.socket:
        """Return a new connection. Raises what urllib3 raises."""
        ...


def pieces_of(body: bytes | Source) -> Iterator[bytes | memoryview]:
    """Give a body piece by piece."""
    if isinstance(body, bytes):
        whole = memoryview(body)
        yield from (whole[at : at + _PIECE] for at in range(0, len(body), _PIECE))
        return
    while piece := body.read(_PIECE):
        yield piece


class Connections:
    """The idle connections to one endpoint; the newest is used first."""

    def __init__(self, route: Route, read_timeout_s: float) -> None:
        self._route = route
        self._read_timeout_s = read_timeout_s
        self._idle: list[_Connection] = []
        self._count = 0
        """Those that are idle, in use, or being made."""
        self._lock = threading.Lock()
        self._is_closed = False

    def exchange(
        self,
        head: bytes,
        body: bytes | Source,
        *,
        is_head: bool = False,
        size_max: int | None = None,
    ) -> Answer:
        """Send one request and return the answer to it.

        Raises what botocore raises for the same failure. A body of more than
        `size_max` bytes is one that was cut.
        """
        connection, is_reusable = self._taken(), False
        try:
            connection.send(head, body)
            answer, is_reusable = connection.receive(is_head=is_head, size_max=size_max)
        except (OSError, http.client.HTTPException) as error:
            is_late = isinstance(error, TimeoutError | BlockingIOError)
            failure = sdk.ReadTimeoutError if is_late else sdk.ConnectionClosedError
            raise failure(endpoint_url=self._route.url, error=error) from error
        finally:
            self._give_back(connection, is_reusable=is_reusable)
        return answer

    def close(self) -> None:
        """Close what is idle; what is in use is closed after its answer."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for connection in idle:
            connection.close()

    def _taken(self) -> "_Connection":
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
                self._count += connection is None
            if connection is None:
                connection = self._new()
                self._make_ready()
                return connection
            if not connection.is_dropped():
                hold(connection.socket)
                self._make_ready()
                return connection
            self._discard(connection)

    def _give_back(self, connection: "_Connection", *, is_reusable: bool) -> None:
        # Or the end of this call, if it is abandoned from here on, would be that of
        # whoever has the connection then.
        let_go(connection.socket)
        with self._lock:
            if is_reusable and not self._is_closed:
                self._idle.append(connection)
                return
        self._discard(connection)

    def _discard(self, connection: "_Connection") -> None:
        connection.close()
        with self._lock:
            self._count -= 1

    def _make_ready(self) -> None:
        """Begin to make connections for requests to come: the server can be reached."""
        with self._lock:
            missing = max(0, READY - self._count)
            self._count += missing
        for _ in range(missing):
            threading.Thread(target=self._add_idle, daemon=True).start()

    def _add_idle(self) -> None:
        try:
            connection = self._new()
        except sdk.BotoCoreError as error:  # who needs one finds out what is wrong
            log.debug("no connection could be made ready: %s", error)
            return
        self._give_back(connection, is_reusable=True)

    def _new(self) -> "_Connection":
        """Connect; it has been counted. Nothing has been sent when this fails."""
        try:
            return self._connected()
        except BaseException:
            with self._lock:
                self._count -= 1
            raise

    def _connected(self) -> "_Connection":
        try:
            made = self._route.connect()
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as e:
            raise self._meaning(e) from e
        return _Connection(made, self._read_timeout_s)

    def _meaning(self, error: Exception) -> sdk.BotoCoreError:
        """Return what botocore makes of a connect that failed."""
        url = self._route.url
        if isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError):
            return sdk.SSLError(endpoint_url=url, error=error)
        # To urllib3 a connect that is refused, or a name that nobody knows, is a kind
        # of time-out.
        is_refused = isinstance(error, urllib3.exceptions.NewConnectionError)
        late = (urllib3.exceptions.ConnectTimeoutError, TimeoutError)
        if isinstance(error, late) and not is_refused:
            return sdk.ConnectTimeoutError(endpoint_url=url, error=error)
        if proxy := self._route.proxy:
            return sdk.ProxyConnectionError(proxy_url=proxy, error=error)
        return sdk.EndpointConnectionError(endpoint_url=url, error=error)


class _Received(io.RawIOBase):
    """What comes over a socket, counted.

    A large piece of a known length comes in one call, without a turn of Python for
    each packet: the kernel waits for all of it, or until the time is over.
    """

    def __init__(self, connected: socket.socket, timeout_s: float) -> None:
        self._socket = connected
        self._waits = 0
        if type(connected) is socket.socket:
            # Python's own timeouts make a socket one that never waits by itself.
            connected.settimeout(None)
            seconds, rest = divmod(timeout_s, 1.0)
            limit = struct.pack("@ll", int(seconds), int(rest * 1e6))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                connected.setsockopt(socket.SOL_SOCKET, option, limit)
            self._waits = socket.MSG_WAITALL
        else:  # TLS
            connected.settimeout(timeout_s)
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # typeshed's buffer type is private
        # More than the reader's own buffer is only asked for if so much is to come.
        flags = self._waits if len(buffer) > _BUFFER else 0
        received = self._socket.recv_into(buffer, 0, flags)
        self.count += received
        return received


class _Connection:
    def __init__(self, connected: socket.socket, timeout_s: float) -> None:
        self.socket = connected
        self._received = _Received(connected, timeout_s)
        self._reader = io.BufferedReader(self._received, _BUFFER)
        self._taken = 0
        self._is_sent = True
        self._size_max: int | None = None

    def is_dropped(self) -> bool:
        """Whether the server has hung up, or said what nobody asked for."""
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        return wait_for_read(self.socket, timeout=0.0)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def send(self, head: bytes, body: bytes | Source) -> None:
        try:
            if isinstance(body, bytes) and len(body) <= _BUFFER:
                pace.pay(len(body))
                self.socket.sendall(head + body)
                return
            self.socket.sendall(head)
            for piece in pace.paid(pieces_of(body)):
                self.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse and hang up before all has come: it may have said why.
            self._is_sent = False

    def receive(self, *, is_head: bool, size_max: int | None) -> tuple[Answer, bool]:
        """Read the answer; tell whether the connection can be used again."""
        self._size_max = size_max
        for _ in range(_PRELUDES_MAX):
            status, version, headers = self._read_head()
            if status >= 200:
                break
        else:
            raise http.client.HTTPException("the answer does not begin")
        if status < 300 and not self._is_sent:
            raise http.client.HTTPException("the answer came before the whole request")
        length = headers.get("content-length", "")
        is_kept = headers.get("connection", "").lower() != "close"
        is_kept = is_kept and version >= b"HTTP/1.1" and self._is_sent
        body = b""
        if is_head:
            pass
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            body = self._read_chunks()
        elif _LENGTH.fullmatch(length):
            self._check_size(int(length))
            body = self._read(int(length))
        elif length:
            raise http.client.HTTPException(f"no body has the length {length[:40]!r}")
        elif status not in (204, 304):
            body, is_kept = self._read_rest(), False
        # What came beyond the answer would be taken for that to the next request.
        is_kept = is_kept and self._taken == self._received.count
        return Answer(status, headers, body), is_kept

    def _read_head(self) -> tuple[int, bytes, dict[str, str]]:
        first = self._read_line()
        version, _, rest = first.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            if not first:
                raise http.client.RemoteDisconnected("closed without an answer")
            raise http.client.BadStatusLine(repr(first[:80]))
        headers: dict[str, str] = {}
        for _ in range(_HEADERS_MAX):
            line = self._read_line()
            if line in (b"\r\n", b"\n"):
                return int(rest[:3]), version, headers
            if not line.endswith(b"\n"):
                raise http.client.HTTPException("a header ends in the middle")
            name, _, value = line.decode("latin-1").partition(":")
            name, value = name.lower(), value.strip(" \t\r\n")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise http.client.HTTPException("the answer has too many headers")

    def _read_line(self) -> bytes:
        line = self._reader.readline(_LINE_MAX)
        self._taken += len(line)
        return line

    def _read(self, size: int) -> bytes:
        most = pace.piece()
        if most is None or size <= _BUFFER:
            data = self._reader.read(size) if size else b""
        else:
            data = self._read_slowly(size, most)
        self._taken += size
        if len(data) != size:
            raise sdk.IncompleteReadError(actual_bytes=len(data), expected_bytes=size)
        return data

    def _read_slowly(self, size: int, most: int) -> bytes:
        """Take in no faster than a limit wants; the server feels it by and by."""
        pieces: list[bytes] = []
        left = size
        while left and (piece := self._reader.read(min(left, most))):
            pieces.append(piece)
            left -= len(piece)
            pace.pay(len(piece))
        return b"".join(pieces)

    def _read_rest(self) -> bytes:
        """Read to the end of the connection."""
        most = UNTOLD_MAX if self._size_max is None else self._size_max
        data = self._reader.read(most + 1)
        self._check_size(len(data), most)
        return data

    def _check_size(self, size: int, most: int | None = None) -> None:
        most = self._size_max if self._size_max is not None else most
        if most is not None and size > most:
            raise sdk.IncompleteReadError(actual_bytes=size, expected_bytes=most)

    def _read_chunks(self) -> bytes:
        body = bytearray()  # a list of single bytes would take many times as much
        while True:
            size_text, _, _ = self._read_line().partition(b";")
            if not _HEX.fullmatch(size_text):
                raise http.client.HTTPException("a chunk has no size")
            size = int(size_text, 16)
            if size == 0:
                break
            self._check_size(len(body) + size, UNTOLD_MAX)
            body += self._read(size)
            self._read_line()
        for _ in range(_HEADERS_MAX):
            if self._read_line() in (b"\r\n", b"\n", b""):
                return bytes(body)
        raise http.client.HTTPException("the answer does not end")
