"""An S3 server that lies: each request is answered with an attack of the test's choice.

An attack is a function from the request to pieces of bytes, which may have no end; what
the client does not take any more is not sent. Its answers are made by hand, because no
library would make them.
"""

import contextlib
import gzip
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

MIB = 1 << 20
DRIP_S = 0.05
LIST = "<ListBucketResult><Name>b</Name><EncodingType>url</EncodingType>"
TIME = "<LastModified>2026-01-01T00:00:00Z</LastModified>"
Pieces = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client wants."""

    method: str
    target: str
    elsewhere: str
    """The URL of a server that nobody has allowed anything."""


def answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer that is one by the rules of HTTP."""
    if not any(each.lower().startswith("content-length") for each in headers):
        headers = (*headers, f"Content-Length: {len(body)}")
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


def whole(*pieces: bytes) -> Callable[[Asked], Pieces]:
    """Return an attack that is the same whatever is asked."""
    return lambda _: iter(pieces)


def entry(key: str, size: str = "1", more: str = TIME) -> str:
    """Return an entry of a listing."""
    tag = "<ETag>&quot;0&quot;</ETag><StorageClass>STANDARD</StorageClass>"
    return f"<Contents><Key>{key}</Key>{more}{tag}<Size>{size}</Size></Contents>"


def listing(*parts: str, token: str = "") -> bytes:
    """Return a page of a listing."""
    following = f"<NextContinuationToken>{token}</NextContinuationToken>"
    end = f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>"
    text = f"{LIST}{''.join(parts)}{end}{following if token else ''}"
    return answer(f"{text}</ListBucketResult>".encode())


def _bomb() -> bytes:
    names = "abcdefghij"
    entities = ['<!ENTITY a "aaaaaaaaaa">']
    entities += [
        f'<!ENTITY {name} "{f"&{below};" * 10}">'
        for below, name in itertools.pairwise(names)
    ]
    text = f"<!DOCTYPE x [{''.join(entities)}]>{LIST}<Prefix>&j;</Prefix>"
    return f"{text}</ListBucketResult>".encode()


def _endless(head: bytes, piece: bytes) -> Callable[[Asked], Pieces]:
    return lambda _: itertools.chain([head], itertools.repeat(piece))


def _drip(head: bytes) -> Callable[[Asked], Pieces]:
    def pieces(_: Asked) -> Pieces:
        yield head
        while True:
            time.sleep(DRIP_S)
            yield b"x"

    return pieces


def _lead_elsewhere(status: str) -> Callable[[Asked], Pieces]:
    return lambda asked: iter(
        [answer(b"", f"Location: {asked.elsewhere}/b/stolen", status=status)]
    )


_BIG = b"x" * 65536
_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH = "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n"
OF_HTTP: dict[str, Callable[[Asked], Pieces]] = {
    "silence": whole(),
    "noise": whole(bytes(range(256)) * 4),
    "no version": whole(b"ICY 200 OK\r\n\r\n"),
    "strange status": whole(b"HTTP/1.1 9999999 What\r\n\r\n"),
    "status zero": whole(b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n"),
    "preludes without end": _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers without end": _endless(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"),
    "a header without end": _endless(b"HTTP/1.1 200 OK\r\nx-a: ", _BIG),
    "a body without end": _endless(b"HTTP/1.0 200 OK\r\n\r\n", _BIG),
    "chunks without end": _endless(_CHUNKS, b"10000\r\n" + _BIG + b"\r\n"),
    "tiny chunks without end": _endless(_CHUNKS, b"1\r\nx\r\n" * 1000),
    "trailers without end": _endless(_CHUNKS + b"0\r\n", b"x-a: b\r\n" * 100),
    "a chunk of a huge size": whole(_CHUNKS + b"fffffffffffffff\r\nx"),
    "a chunk of no size": whole(_CHUNKS + b"-5\r\nx"),
    "negative length": whole(_LENGTH.format(-5).encode() + b"x"),
    "huge length": whole(_LENGTH.format(10**30).encode() + b"x"),
    "large length": whole(_LENGTH.format(1 << 60).encode() + b"x"),
    "a length of digits without end": whole(_LENGTH.format("9" * 5000).encode()),
    "a length that is none": whole(_LENGTH.format("many").encode() + b"x"),
    "too few bytes": whole(_LENGTH.format(100).encode() + b"x"),
    "a body that drips": _drip(_LENGTH.format(1 << 20).encode()),
    "headers that drip": _drip(b"HTTP/1.1 200 OK\r\nx-a: "),
    "packed": whole(
        answer(gzip.compress(bytes(MIB)), "Content-Encoding: gzip", 'ETag: "0"')
    ),
    "moved": _lead_elsewhere("301 Moved Permanently"),
    "moved for now": _lead_elsewhere("307 Temporary Redirect"),
    "found elsewhere": _lead_elsewhere("302 Found"),
    "another region": whole(
        answer(b"", "x-amz-bucket-region: ../../x", status="301 Moved Permanently")
    ),
}
"""What no client of HTTP should take for an answer."""
ATTACKS: dict[str, Callable[[Asked], Pieces]] = {
    **OF_HTTP,
    # --- XML ---
    "a bomb": whole(answer(_bomb())),
    "a bomb in an error": whole(answer(_bomb(), status="400 Bad Request")),
    "no XML": whole(answer(b"<html>not S3</html>")),
    "half of it": whole(answer(b"<ListBucketResult><Name>b")),
    "not UTF-8": whole(answer(b"<ListBucketResult><Name>\xff\xfe</Name>")),
    "deep": whole(answer(b"<a>" * 100_000 + b"</a>" * 100_000)),
    "an error of success": whole(answer(b"<Error><Code>\x1b[2J</Code></Error>")),
    "an unknown error": whole(
        answer(b"<Error><Code>Mi\nne</Code></Error>", status="499 Odd")
    ),
    "a JSON": whole(answer(b'{"a": 1}')),
    # --- listings ---
    "a size below zero": whole(listing(entry("pre/a", "-1"))),
    "a size beyond all": whole(listing(entry("pre/a", "9" * 100))),
    "a size of digits without end": whole(listing(entry("pre/a", "9" * 5000))),
    "no size": whole(listing("<Contents><Key>pre/a</Key></Contents>")),
    "no key": whole(listing("<Contents><Size>1</Size></Contents>")),
    "a time of nobody": whole(
        listing(entry("pre/a", more="<LastModified>soon</LastModified>"))
    ),
    "an early time": whole(
        listing(
            entry("pre/a", more="<LastModified>0001-01-01T00:00:00Z</LastModified>")
        )
    ),
    "keys of elsewhere": whole(listing(entry("other/a"), entry("../../etc/passwd"))),
    "keys from below": whole(listing(entry("pre/a/b/c"))),
    "prefixes of elsewhere": whole(
        listing("<CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes>")
    ),
    "odd names": whole(
        listing(entry("pre/.."), entry("pre/%00"), entry("pre/%1B[2J"), entry("pre/"))
    ),
    "a key without end": whole(listing(entry("pre/" + "x" * MIB))),
    "the same page again": whole(listing(token="again")),
    "more, and no word on how": whole(
        answer(f"{LIST}<IsTruncated>true</IsTruncated></ListBucketResult>".encode())
    ),
    # --- objects ---
    "no ETag": whole(answer(b"x")),
    "an endless ETag": whole(answer(b"x", f'ETag: "{"e" * 60_000}"')),
    "a date of nobody": whole(answer(b"x", 'ETag: "0"', "Last-Modified: yesterday")),
    "the whole for a range": whole(answer(b"y" * 100, 'ETag: "0"')),
    "another range": whole(
        answer(
            b"y" * 4,
            'ETag: "0"',
            "Content-Range: bytes 90-93/100",
            status="206 Partial Content",
        )
    ),
    "a range of nothing": whole(
        answer(
            b"y" * 4,
            'ETag: "0"',
            "Content-Range: bytes 0-3/2",
            status="206 Partial Content",
        )
    ),
    "a range of any size": whole(
        answer(
            b"y" * 4,
            'ETag: "0"',
            "Content-Range: bytes 0-3/*",
            status="206 Partial Content",
        )
    ),
    "odd attributes": whole(
        answer(
            b"x",
            'ETag: "0"',
            "x-amz-meta-mode: 99999999999999999999",
            "x-amz-meta-uid: -1",
            "x-amz-meta-mtime: 1e999",
            "x-amz-meta-atime: 999999999999.9",
            "x-amz-meta-rdev: 99999999999",
            "x-amz-meta-xattr: %7B%22a%22",
            "x-amz-tagging-count: -7",
        )
    ),
    "a link to everywhere": whole(
        answer(b"../" * 1400, 'ETag: "0"', "x-amz-meta-mode: 41471")
    ),
    "many headers": whole(
        answer(b"x", 'ETag: "0"', *[f"x-amz-meta-{n}: {n}" for n in range(150)])
    ),
    "a key of KMS without end": whole(
        answer(
            b"x",
            'ETag: "0"',
            "x-amz-server-side-encryption: aws:kms",
            f"x-amz-server-side-encryption-aws-kms-key-id: {'k' * 60_000}",
        )
    ),
}


class HostileServer:
    """Answers every request with `attack`; counts what it was made to send."""

    def __init__(self) -> None:
        self.attack: Callable[[Asked], Pieces] = whole(answer())
        self.requests = 0
        self.sent = 0
        self.elsewhere = "http://127.0.0.1:9"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: set[socket.socket] = set()
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(10)
                self._open.add(connection)
                threading.Thread(
                    target=self._serve, args=(connection,), daemon=True
                ).start()

    def _serve(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, ValueError),
            connection,
            connection.makefile("rb") as reader,
        ):
            if asked := self._asked(reader):
                self.requests += 1
                for piece in self.attack(asked):
                    if self._is_closed:
                        return
                    connection.sendall(piece)
                    self.sent += len(piece)
        self._open.discard(connection)

    def _asked(self, reader: BinaryIO) -> Asked | None:
        first = reader.readline(65536).split()
        length, is_chunked = 0, False
        while (line := reader.readline(65536).lower()) not in (b"\r\n", b"\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            is_chunked = is_chunked or (b"chunked" in line and b"transfer" in line)
        while is_chunked and (size := int(reader.readline().split(b";")[0], 16)):
            reader.read(size + 2)
        reader.read(length)
        if len(first) < 2:
            return None
        return Asked(first[0].decode(), first[1].decode(), self.elsewhere)
