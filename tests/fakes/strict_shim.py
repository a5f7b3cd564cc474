"""A proxy that makes an S3 server as strict as AWS, and counts what it is asked.

Neither SeaweedFS nor moto enforces the limits of AWS, and each ignores or answers some
conditions differently. This shim stands before either: what AWS refuses is refused
here, what AWS checks is checked here, listings come in byte order, and every request is
logged with its operation, its key and its reason.
"""

import base64
import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from botocore.exceptions import ClientError

from tests.fakes.http_proxy import HttpProxy, Reply, Request, error_reply
from tests.fakes.s3_servers import S3Server

KEY_SIZE_MAX = 1024
METADATA_SIZE_MAX = 2048
PARTS_MAX = 10_000
DELETE_MAX = 1000
_META = "x-amz-meta-"
_CUSTOMER = "x-amz-server-side-encryption-customer-"
_SOURCE_CUSTOMER = "x-amz-copy-source-server-side-encryption-customer-"
_REPLACING = frozenset(
    {"PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject"}
)


@dataclass(frozen=True, slots=True)
class Logged:
    """One request that was answered."""

    operation: str
    method: str
    bucket: str
    key: str
    reason: str
    status: int
    size: int
    """Bytes of the request's body."""
    headers: Mapping[str, str]
    """The request's headers, by their names in lower case."""


class StrictShim(HttpProxy):
    """Forwards what AWS would take."""

    def __init__(
        self,
        upstream: S3Server,
        *,
        part_size_min: int = 5 << 20,
        part_size_max: int = 5 << 30,
        copy_size_max: int = 5 << 30,
    ) -> None:
        self._part_size_min = part_size_min
        self._part_size_max = part_size_max
        self._copy_size_max = copy_size_max
        self._client = upstream.client()
        self._log: list[Logged] = []
        self._log_lock = threading.Lock()
        self._key_locks: defaultdict[tuple[str, str], threading.Lock] = defaultdict(
            threading.Lock
        )
        self._part_sizes: dict[tuple[str, int], int] = {}
        super().__init__(upstream)

    @property
    def server(self) -> S3Server:
        """The server as seen through this shim."""
        return self.upstream.at(self.endpoint_url, "strict")

    def requests(
        self, operation: str | None = None, *, reason: str | None = None
    ) -> list[Logged]:
        """Return what was asked since the last `clear`."""
        with self._log_lock:
            return [
                entry
                for entry in self._log
                if operation in (None, entry.operation)
                and reason in (None, entry.reason)
            ]

    def counts(self, *, reason: str | None = "foreground") -> Counter[str]:
        """Return how many requests of each operation were made, for one reason."""
        return Counter(entry.operation for entry in self.requests(reason=reason))

    def clear(self) -> None:
        """Begin a new count."""
        with self._log_lock:
            self._log.clear()

    def close(self) -> None:
        """Stop serving."""
        super().close()
        self._client.close()

    def answer(self, request: Request) -> Reply:
        """Refuse what AWS would refuse, forward the rest, log both."""
        operation = request.operation
        reply = self._refusal(request, operation)
        if reply is None:
            with self._alone(request, operation):
                reply = self._checked(request, operation)
        entry = Logged(
            operation,
            request.method,
            request.bucket,
            request.key,
            request.reason,
            reply.status,
            request.size,
            {name.lower(): value for name, value in request.headers},
        )
        with self._log_lock:
            self._log.append(entry)
        return reply

    @contextlib.contextmanager
    def _alone(self, request: Request, operation: str) -> Iterator[None]:
        """Let nobody replace the key between a check and what follows it."""
        if operation not in _REPLACING:
            yield
            return
        with self._key_locks[request.bucket, request.key]:
            yield

    def _checked(self, request: Request, operation: str) -> Reply:
        lost = self._lost_condition(request, operation)
        if lost is not None:
            return lost
        if operation == "ListObjectsV2" and self.upstream.name == "seaweedfs":
            return self._list(request)
        reply = self.forward(request)
        if operation in {"UploadPart", "UploadPartCopy"} and reply.status == 200:
            self._note_part(request, operation)
        return reply

    def _refusal(self, request: Request, operation: str) -> Reply | None:
        """Return the refusal of a request that is over a limit."""
        key = request.key.encode("utf-8", "surrogateescape")
        if len(key) > KEY_SIZE_MAX:
            return error_reply(400, "KeyTooLongError")
        try:
            key.decode()
        except UnicodeDecodeError:
            return error_reply(400, "InvalidURI")
        user = [(k[len(_META) :], v) for k, v in request.headers if _is_meta(k)]
        if sum(len(k) + len(v.encode()) for k, v in user) > METADATA_SIZE_MAX:
            return error_reply(400, "MetadataTooLarge")
        size = int(request.header("x-amz-decoded-content-length") or request.size)
        if operation in {"PutObject", "UploadPart"} and size > self._part_size_max:
            return error_reply(400, "EntityTooLarge")
        if "partNumber" in request.query:
            number = int(request.query["partNumber"][0])
            if not 1 <= number <= PARTS_MAX:
                return error_reply(400, "InvalidArgument")
        return self._refusal_of_body(request, operation)

    def _refusal_of_body(self, request: Request, operation: str) -> Reply | None:
        if operation == "DeleteObjects":
            found = ElementTree.fromstring(request.body()).findall("{*}Object")
            return error_reply(400, "MalformedXML") if len(found) > DELETE_MAX else None
        if operation == "CompleteMultipartUpload":
            numbers = _part_numbers(request.body())
            if numbers != sorted(set(numbers)):
                return error_reply(400, "InvalidPartOrder")
            upload = request.query["uploadId"][0]
            sizes = [self._part_sizes.get((upload, number)) for number in numbers[:-1]]
            if any(size is not None and size < self._part_size_min for size in sizes):
                return error_reply(400, "EntityTooSmall")
        return None

    def _note_part(self, request: Request, operation: str) -> None:
        first, last = 0, -1
        if operation == "UploadPart":
            size = int(request.header("x-amz-decoded-content-length") or request.size)
        else:
            span = request.header("x-amz-copy-source-range").removeprefix("bytes=")
            if not span:
                return
            first, last = (int(number) for number in span.split("-"))
            size = last - first + 1
        number = int(request.query["partNumber"][0])
        self._part_sizes[request.query["uploadId"][0], number] = size

    def _lost_condition(self, request: Request, operation: str) -> Reply | None:
        """Check the conditions that one of the servers is known to ignore."""
        if operation in {"CopyObject", "UploadPartCopy"}:
            refusal = self._source_refusal(request, operation)
            if refusal is not None:
                return refusal
        if operation not in _REPLACING:
            return None
        wanted = request.header("If-Match")
        is_to_be_absent = request.header("If-None-Match") == "*"
        if not wanted and not is_to_be_absent:
            return None
        found = self._head(request, request.bucket, request.key, _CUSTOMER)
        if is_to_be_absent and found is not None:
            return _condition_failed("If-None-Match")
        if wanted and found is None:
            return error_reply(404, "NoSuchKey", Key=escape(request.key))
        if wanted and found is not None and not _same(found["ETag"], wanted):
            return _condition_failed("If-Match")
        return None

    def _source_refusal(self, request: Request, operation: str) -> Reply | None:
        path = request.header("x-amz-copy-source").partition("?")[0]
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        found = self._head(request, bucket, key, _SOURCE_CUSTOMER)
        if found is None:
            return error_reply(404, "NoSuchKey")
        if operation == "CopyObject" and found["ContentLength"] > self._copy_size_max:
            return error_reply(400, "InvalidRequest")
        wanted = request.header("x-amz-copy-source-if-match")
        if wanted and not _same(found["ETag"], wanted):
            return _condition_failed("x-amz-copy-source-If-Match")
        return None

    def _head(
        self, request: Request, bucket: str, key: str, customer: str
    ) -> dict[str, Any] | None:
        parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if request.header(f"{customer}key"):
            parameters["SSECustomerAlgorithm"] = "AES256"
            parameters["SSECustomerKey"] = base64.b64decode(
                request.header(f"{customer}key")
            )
        try:
            return dict(self._client.head_object(**parameters))
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return self._listed(bucket, key) if status == 400 else None

    def _listed(self, bucket: str, key: str) -> dict[str, Any] | None:
        """Look at an object whose encryption key the request does not bring."""
        page = self._client.list_objects_v2(Bucket=bucket, Prefix=key)
        for entry in page.get("Contents", ()):
            if entry["Key"] == key:
                return {"ETag": entry["ETag"], "ContentLength": entry["Size"]}
        return None

    def _list(self, request: Request) -> Reply:
        """List in byte order, which SeaweedFS does not: it lists a tree."""
        query = {name: values[0] for name, values in request.query.items()}
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        token = query.get("continuation-token", "")
        after = base64.urlsafe_b64decode(token).decode() if token else ""
        try:
            entries = self._all_entries(request.bucket, prefix)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return error_reply(status, error.response["Error"]["Code"])
        rows = _rows(entries, prefix, delimiter, after or query.get("start-after", ""))
        limit = min(int(query.get("max-keys", "1000")), 1000)
        return _listing(rows[:limit], len(rows) > limit, query)

    def _all_entries(self, bucket: str, prefix: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix
        )
        return [dict(entry) for page in pages for entry in page.get("Contents", ())]


_Row = tuple[str, dict[str, Any] | None]


def _rows(
    entries: Sequence[dict[str, Any]], prefix: str, delimiter: str, after: str
) -> list[_Row]:
    """Return keys, and common prefixes (without an entry), behind `after`."""
    rows: dict[str, dict[str, Any] | None] = {}
    for entry in entries:
        key = entry["Key"]
        head, found, _ = key[len(prefix) :].partition(delimiter or "\x00")
        if delimiter and found:
            rows[prefix + head + delimiter] = None
        else:
            rows[key] = entry
    ordered = sorted(rows.items(), key=lambda row: row[0].encode())
    return [row for row in ordered if row[0].encode() > after.encode()]


def _listing(rows: Sequence[_Row], is_truncated: bool, query: dict[str, str]) -> Reply:
    is_encoded = query.get("encoding-type") == "url"

    def name(text: str) -> str:
        return quote(text, safe="/").replace("%20", "+") if is_encoded else escape(text)

    parts = ['<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>']
    parts.append(f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>")
    parts.append(f"<KeyCount>{len(rows)}</KeyCount>")
    if is_encoded:
        parts.append("<EncodingType>url</EncodingType>")
    if is_truncated and rows:
        token = base64.urlsafe_b64encode(rows[-1][0].encode()).decode()
        parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    for key, entry in rows:
        if entry is None:
            parts.append(
                f"<CommonPrefixes><Prefix>{name(key)}</Prefix></CommonPrefixes>"
            )
            continue
        parts.append(
            f"<Contents><Key>{name(key)}</Key><Size>{entry['Size']}</Size>"
            f"<LastModified>{entry['LastModified']:%Y-%m-%dT%H:%M:%S.000Z}"
            f"</LastModified><ETag>{escape(entry['ETag'])}</ETag>"
            f"<StorageClass>{entry.get('StorageClass', 'STANDARD')}</StorageClass>"
            "</Contents>"
        )
    parts.append("</ListBucketResult>")
    return Reply(200, [("Content-Type", "application/xml")], "".join(parts).encode())


def _part_numbers(body: bytes) -> list[int]:
    found = ElementTree.fromstring(body).findall("{*}Part/{*}PartNumber")
    return [int(element.text or 0) for element in found]


def _condition_failed(header: str) -> Reply:
    return error_reply(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        Condition=header,
    )


def _is_meta(name: str) -> bool:
    return name.lower().startswith(_META)


def _same(etag: str, wanted: str) -> bool:
    return etag.strip('"') == wanted.strip('"')
