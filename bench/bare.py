"""A bare S3 client: http.client and a signature, nothing more.

It is the floor that file systems are measured against, and how the benchmark looks into
buckets. One connection per thread; nothing is retried; bodies are not hashed.
"""

import base64
import hashlib
import hmac
import http.client
import ssl
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tests.fakes.s3_servers import ACCESS_KEY, REGION, SECRET_KEY

TIMEOUT_S = 120
_NOT_HASHED = "UNSIGNED-PAYLOAD"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Refused(Exception):
    """The server answered an error."""


class BareClient:
    """One bucket of one server. Safe to use from many threads."""

    def __init__(
        self, endpoint_url: str, bucket: str, ca_file: str | None = None
    ) -> None:
        self._url = urllib.parse.urlsplit(endpoint_url)
        self._bucket = bucket
        self._tls = (
            ssl.create_default_context(cafile=ca_file)
            if self._url.scheme == "https"
            else None
        )
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._keys: dict[str, bytes] = {}

    def close(self) -> None:
        """Close all connections. Threads that are still at work open new ones."""
        while self._connections:
            self._connections.pop().close()
        self._local = threading.local()

    # --- operations -----------------------------------------------------------

    def make_bucket(self) -> None:
        """Create the bucket."""
        self._ask("PUT", "")

    def put(self, key: str, body: bytes | memoryview) -> Answer:
        """Write an object."""
        return self._ask("PUT", key, body=body)

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read an object or a range of it."""
        headers = {}
        if size is not None:
            headers["range"] = f"bytes={offset}-{offset + size - 1}"
        return self._ask("GET", key, headers=headers).body

    def head(self, key: str) -> Mapping[str, str] | None:
        """Return the headers of an object, or None if there is none."""
        try:
            return self._ask("HEAD", key).headers
        except Refused:
            return None

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._ask("DELETE", key)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove up to 1 000 objects in one request."""
        each = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
        body = f"<Delete><Quiet>true</Quiet>{each}</Delete>".encode()
        digest = hashlib.sha256(body).digest()
        headers = {"x-amz-checksum-sha256": _base64(digest)}
        self._ask("POST", "", {"delete": ""}, headers=headers, body=body)

    def copy(self, source: str, key: str) -> None:
        """Copy an object within the store."""
        path = urllib.parse.quote(f"/{self._bucket}/{source}")
        self._ask("PUT", key, headers={"x-amz-copy-source": path})

    def keys(self, prefix: str = "") -> dict[str, int]:
        """Return the keys below a prefix with their sizes."""
        found: dict[str, int] = {}
        query = {"list-type": "2", "prefix": prefix}
        for _ in range(10_000):
            page = self._ask("GET", "", query).body
            tree = _without_namespace(page)
            for entry in tree.iter("Contents"):
                found[entry.findtext("Key", "")] = int(entry.findtext("Size", "0"))
            token = tree.findtext("NextContinuationToken")
            if tree.findtext("IsTruncated") != "true" or not token:
                break
            query["continuation-token"] = token
        return found

    def upload(self, key: str, parts: "list[Callable[[str, int], str]]") -> None:
        """Write an object in parts, 16 at a time. A part sends itself."""
        answer = self._ask("POST", key, {"uploads": ""}).body
        upload = _without_namespace(answer).findtext("UploadId", "")
        numbered = list(enumerate(parts, start=1))
        tags = self.each(numbered, lambda item: item[1](upload, item[0]), 16)
        each = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            for number, tag in enumerate(tags, start=1)
        )
        body = f"<CompleteMultipartUpload>{each}</CompleteMultipartUpload>".encode()
        self._ask("POST", key, {"uploadId": upload}, body=body)

    def put_part(self, key: str, upload: str, number: int, body: memoryview) -> str:
        """Send a part; return its tag."""
        query = {"partNumber": str(number), "uploadId": upload}
        return self._ask("PUT", key, query, body=body).headers["etag"]

    def copy_part(
        self, key: str, upload: str, number: int, source: str, offset: int, size: int
    ) -> str:
        """Make a part of a range of another object; return its tag."""
        query = {"partNumber": str(number), "uploadId": upload}
        headers = {
            "x-amz-copy-source": urllib.parse.quote(f"/{self._bucket}/{source}"),
            "x-amz-copy-source-range": f"bytes={offset}-{offset + size - 1}",
        }
        answer = self._ask("PUT", key, query, headers=headers).body
        return _without_namespace(answer).findtext("ETag", "")

    def each(
        self,
        items: Iterable[_Item],
        act: Callable[[_Item], _Result],
        at_once: int = 32,
    ) -> list[_Result]:
        """Do something for each item, so many at a time."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(act, items))

    # --- one request ----------------------------------------------------------

    def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
    ) -> Answer:
        path = urllib.parse.quote(
            f"/{self._bucket}/{key}" if key else f"/{self._bucket}"
        )
        words = sorted((query or {}).items())
        text = urllib.parse.urlencode(words, quote_via=urllib.parse.quote)
        text = text.replace("/", "%2F")
        signed = self._signed(method, path, text, headers or {})
        target = f"{path}?{text}" if text else path
        try:
            response, content = self._exchange(method, target, body, signed)
        except (http.client.RemoteDisconnected, ConnectionError):
            # The server closed a connection that was idle: a new one opens by itself.
            response, content = self._exchange(method, target, body, signed)
        if response.status >= 300:
            raise Refused(f"{method} {target}: {response.status} {content[:300]!r}")
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, content)

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | memoryview,
        headers: dict[str, str],
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connection()
        try:
            connection.request(method, target, body or None, headers)
            response = connection.getresponse()
            return response, response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "it", None)
        if found is None:
            host, port = self._url.hostname or "", self._url.port
            if self._tls is not None:
                found = http.client.HTTPSConnection(
                    host, port, timeout=TIMEOUT_S, context=self._tls
                )
            else:
                found = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            self._local.it = found
            self._connections.append(found)
        return found

    def _signed(
        self, method: str, path: str, query: str, more: Mapping[str, str]
    ) -> dict[str, str]:
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {
            **more,
            "host": self._url.netloc,
            "x-amz-content-sha256": _NOT_HASHED,
            "x-amz-date": now,
        }
        names = sorted(headers)
        lines = "".join(f"{name}:{headers[name]}\n" for name in names)
        listed = ";".join(names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{_NOT_HASHED}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}".encode()
        signature = hmac.digest(self._key(now[:8]), to_sign, "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        return headers

    def _key(self, day: str) -> bytes:
        if day not in self._keys:
            key = f"AWS4{SECRET_KEY}".encode()
            for word in (day, REGION, "s3", "aws4_request"):
                key = hmac.digest(key, word.encode(), "sha256")
            self._keys[day] = key
        return self._keys[day]


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _without_namespace(text: bytes) -> ElementTree.Element:
    tree = ElementTree.fromstring(text)
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    return tree
