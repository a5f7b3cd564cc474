"""A bucket that is made up: a million keys, or an object of 100 GiB, at no cost.

    python -m bench.synthetic --directories 1000 --files 1000 --huge-gib 100

It answers as an S3 service does what mountfs and its peers ask, without a disk and
without looking at signatures: keys `many/dNNNN/fNNNN`, `flat/fNNNNNN` and `huge` exist
from the start, what is written is kept in memory. It prints its port and serves until
its stdin ends.
"""

import argparse
import bisect
import http.server
import socketserver
import sys
import threading
import urllib.parse
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from xml.sax.saxutils import escape

SMALL = 4096
GIB = 1 << 30
LAST = "\U0010ffff"
_DATE = "2026-01-01T00:00:00.000Z"
_HTTP_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of an object: bytes, or as many zeros."""

    size: int
    content: bytes | None = None

    def part(self, offset: int, size: int) -> "Piece":
        """Return a range of it."""
        if self.content is None:
            return Piece(size)
        return Piece(size, self.content[offset : offset + size])


@dataclass(slots=True)
class Thing:
    """An object: its pieces, its tag, its headers."""

    pieces: list[Piece]
    tag: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return how long it is."""
        return sum(piece.size for piece in self.pieces)

    def range(self, offset: int, size: int) -> Iterator[Piece]:
        """Yield the pieces of a range."""
        for piece in self.pieces:
            if size <= 0:
                return
            if offset < piece.size:
                taken = min(piece.size - offset, size)
                yield piece.part(offset, taken)
                size -= taken
                offset = 0
            else:
                offset -= piece.size


class Bucket:
    """The keys, made up or written."""

    def __init__(
        self, directories: int, files: int, flat: int, huge_gib: float
    ) -> None:
        made = [
            f"many/d{d:04}/f{f:04}" for d in range(directories) for f in range(files)
        ]
        made += [f"flat/f{number:06}" for number in range(flat)]
        self.things: dict[str, Thing] = {}
        if huge_gib:
            made.append("huge")
            self.things["huge"] = Thing([Piece(int(huge_gib * GIB))], _tag("huge"))
        self.keys = sorted(made)
        self.uploads: dict[str, dict[int, Thing]] = {}
        self.lock = threading.Lock()
        self._count = 0

    def find(self, key: str) -> Thing | None:
        """Return an object."""
        with self.lock:
            if key in self.things:
                return self.things[key]
            place = bisect.bisect_left(self.keys, key)
            if place < len(self.keys) and self.keys[place] == key:
                return Thing([Piece(SMALL)], _tag(key))
            return None

    def put(self, key: str, thing: Thing) -> None:
        """Write an object."""
        with self.lock:
            place = bisect.bisect_left(self.keys, key)
            if place == len(self.keys) or self.keys[place] != key:
                self.keys.insert(place, key)
            self.things[key] = thing

    def remove(self, key: str) -> None:
        """Delete an object, if it is there."""
        with self.lock:
            self.things.pop(key, None)
            place = bisect.bisect_left(self.keys, key)
            if place < len(self.keys) and self.keys[place] == key:
                del self.keys[place]

    def new_tag(self) -> str:
        """Return a tag that nothing else has."""
        with self.lock:
            self._count += 1
            return f"{self._count:032x}-1"

    def page(
        self, prefix: str, delimiter: str, after: str, most: int
    ) -> tuple[list[tuple[str, int, str]], list[str], str]:
        """Return entries, common prefixes, and where the next page begins."""
        entries: list[tuple[str, int, str]] = []
        prefixes: list[str] = []
        with self.lock:
            start = bisect.bisect_right(self.keys, after) if after else 0
            place = max(start, bisect.bisect_left(self.keys, prefix))
            while place < len(self.keys) and self.keys[place].startswith(prefix):
                key = self.keys[place]
                if len(entries) + len(prefixes) >= most:
                    return entries, prefixes, after
                end = key.find(delimiter, len(prefix)) if delimiter else -1
                if end >= 0:
                    common = key[: end + len(delimiter)]
                    prefixes.append(common)
                    after = common + LAST
                    place = bisect.bisect_left(self.keys, after, place)
                else:
                    thing = self.things.get(key)
                    size = SMALL if thing is None else thing.size
                    entries.append((key, size, thing.tag if thing else _tag(key)))
                    after = key
                    place += 1
        return entries, prefixes, ""


def _tag(key: str) -> str:
    """Return a tag that is no digest of the bytes, and says so by its form."""
    return f"{zlib.crc32(key.encode()):032x}-1"


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    bucket: ClassVar[Bucket]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 20

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle_expect_100(self) -> bool:
        """Let the client go on at once: what is buffered is not sent."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _is_refused(self, key: str) -> bool:
        """Answer if a condition of the request does not hold."""
        match, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if match is None and none is None:
            return False
        thing = self.bucket.find(key)
        if none is not None and thing is None:
            return False
        if match is not None and thing is None:
            self._missing()
            return True
        if match is not None and thing is not None and match.strip('"') == thing.tag:
            return False
        self._error(412, "PreconditionFailed")
        return True

    def _asked(self) -> tuple[str, dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        _, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        return key, query

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self) -> None:
        self._error(404, "NoSuchKey")

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
            return body
        found: list[bytes] = []
        place = 0
        while True:
            end = body.index(b"\r\n", place)
            size = int(body[place:end].partition(b";")[0], 16)
            if not size:
                return b"".join(found)
            found.append(body[end + 2 : end + 2 + size])
            place = end + 2 + size + 2

    def do_HEAD(self) -> None:
        """Tell of an object or the bucket."""
        self.do_GET()

    def do_GET(self) -> None:
        """Send an object, or a page of the list."""
        key, query = self._asked()
        if not key:
            if "list-type" in query or "prefix" in query or "delimiter" in query:
                self._list(query)
            elif "location" in query:
                self._answer(200, b"<LocationConstraint/>")
            else:
                self._answer(200, b"<Nothing/>")
            return
        thing = self.bucket.find(key)
        if thing is None:
            self._missing()
        elif "tagging" in query:
            self._answer(200, b"<Tagging><TagSet/></Tagging>")
        elif query:  # its ACL, its retention: there is nothing of that sort
            self._error(501, "NotImplemented")
        else:
            self._send(thing)

    def _send(self, thing: Thing) -> None:
        size = thing.size
        start, end, status = 0, size, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted[6:].partition("-")
            start, status = int(first or 0), 206
            end = min(size, int(last) + 1) if last else size
            if start >= size:
                self._error(416, "InvalidRange")
                return
        headers = {
            "ETag": f'"{thing.tag}"',
            "Last-Modified": _HTTP_DATE,
            "Accept-Ranges": "bytes",
            "Content-Length": str(end - start),
            **thing.headers,
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._answer(status, b"", headers)
        if self.command == "HEAD":
            return
        for piece in thing.range(start, end - start):
            if piece.content is not None:
                self.wfile.write(piece.content)
                continue
            for offset in range(0, piece.size, 1 << 20):
                self.wfile.write(bytes(min(1 << 20, piece.size - offset)))

    def _list(self, query: dict[str, str]) -> None:
        after = query.get("continuation-token") or query.get("start-after") or ""
        after = after or query.get("marker", "")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = int(query.get("max-keys") or 1000)
        entries, prefixes, rest = self.bucket.page(prefix, delimiter, after, most)
        texts = [
            "<ListBucketResult>",
            f"<Prefix>{escape(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>",
            f"<KeyCount>{len(entries) + len(prefixes)}</KeyCount>",
            f"<IsTruncated>{'true' if rest else 'false'}</IsTruncated>",
        ]
        if rest:
            token = escape(rest)
            texts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
            texts.append(f"<NextMarker>{token}</NextMarker>")
        texts += [
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_DATE}</LastModified>"
            f'<ETag>"{tag}"</ETag><Size>{size}</Size>'
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key, size, tag in entries
        ]
        texts += [
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>"
            for each in prefixes
        ]
        texts.append("</ListBucketResult>")
        kind = {"Content-Type": "application/xml"}
        self._answer(200, "".join(texts).encode(), kind)

    def do_PUT(self) -> None:
        """Write an object or a part, or copy one."""
        key, query = self._asked()
        body = self._body()
        if not key:
            self._answer(200)
            return
        if "uploadId" not in query and self._is_refused(key):
            return
        source = self.headers.get("x-amz-copy-source")
        thing = Thing([Piece(len(body), body)], self.bucket.new_tag(), self._kept())
        if source is not None:
            copied = self._copied(urllib.parse.unquote(source))
            if copied is None:
                self._missing()
                return
            wanted = self.headers.get("x-amz-copy-source-if-match")
            if wanted is not None and wanted.strip('"') != copied.tag:
                self._error(412, "PreconditionFailed")
                return
            thing.pieces = copied.pieces
            if self.headers.get("x-amz-metadata-directive") != "REPLACE":
                thing.headers = copied.headers
        if "uploadId" in query:
            parts = self.bucket.uploads[query["uploadId"]]
            parts[int(query["partNumber"])] = thing
        else:
            self.bucket.put(key, thing)
        if source is None:
            self._answer(200, b"", {"ETag": f'"{thing.tag}"'})
            return
        told = f'<ETag>"{thing.tag}"</ETag><LastModified>{_DATE}</LastModified>'
        kind = "CopyPartResult" if "uploadId" in query else "CopyObjectResult"
        self._answer(200, f"<{kind}>{told}</{kind}>".encode())

    def _kept(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self.headers.items()
            if name.lower().startswith("x-amz-meta-") or name.lower() == "content-type"
        }

    def _copied(self, source: str) -> Thing | None:
        thing = self.bucket.find(source.lstrip("/").partition("/")[2])
        wanted = self.headers.get("x-amz-copy-source-range")
        if thing is None or wanted is None:
            return thing
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        pieces = list(thing.range(int(first), int(last) + 1 - int(first)))
        return Thing(pieces, thing.tag, thing.headers)

    def do_DELETE(self) -> None:
        """Remove an object, or forget an upload."""
        key, query = self._asked()
        if "uploadId" in query:
            self.bucket.uploads.pop(query["uploadId"], None)
        elif self._is_refused(key):
            return
        else:
            self.bucket.remove(key)
        self._answer(204)

    def do_POST(self) -> None:
        """Remove many objects; begin or complete an upload."""
        key, query = self._asked()
        body = self._body()
        if "delete" in query:
            for element in ElementTree.fromstring(body).iter():
                if element.tag.rpartition("}")[2] == "Key":
                    self.bucket.remove(element.text or "")
            self._answer(200, b"<DeleteResult/>")
        elif "uploads" in query:
            upload = self.bucket.new_tag()
            self.bucket.uploads[upload] = {0: Thing([], "", self._kept())}
            told = f"<UploadId>{upload}</UploadId>"
            whole = f"<InitiateMultipartUploadResult>{told}" + (
                "</InitiateMultipartUploadResult>"
            )
            self._answer(200, whole.encode())
        elif not self._is_refused(key):
            parts = self.bucket.uploads.pop(query.get("uploadId", ""), {})
            pieces = [piece for n in sorted(parts) for piece in parts[n].pieces]
            tag = self.bucket.new_tag()
            headers = parts[0].headers if parts else {}
            self.bucket.put(key, Thing(pieces, tag, headers))
            told = f'<Key>{escape(key)}</Key><ETag>"{tag}"</ETag>'
            whole = f"<CompleteMultipartUploadResult>{told}" + (
                "</CompleteMultipartUploadResult>"
            )
            self._answer(200, whole.encode())


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """One thread for each connection."""

    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that go in the middle of an answer."""


def serve(bucket: Bucket, port: int = 0) -> Server:
    """Return a server that answers in a thread of its own."""
    handler = type("BucketHandler", (Handler,), {"bucket": bucket})
    server = Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main(words: Sequence[str] | None = None) -> None:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directories", type=int, default=0)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--flat", type=int, default=0)
    parser.add_argument("--huge-gib", type=float, default=0)
    given = parser.parse_args(words)
    bucket = Bucket(given.directories, given.files, given.flat, given.huge_gib)
    server = serve(bucket)
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
