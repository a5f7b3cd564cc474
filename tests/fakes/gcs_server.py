"""A fake of Google Cloud Storage's JSON API that is as strict as its documentation.

fake-gcs-server, the engine that other tests use, ignores preconditions on everything
but uploads, knows no metagenerations and finishes every rewrite at once. This one keeps
those promises, which is what the conformance suite is about. It runs in threads of this
process, holds everything in memory, counts what it is asked, and fails when told to.

The rules for objects are in `gcs_objects`, what requests say in `gcs_requests`. Here,
documented on the pages of the same names: "Objects: list" (pages count items and
prefixes), "Objects: rewrite" (tokens; a resource in the body takes the place of all
metadata), "Resumable uploads" (308 and Range; what a broken connection has brought is
kept), "Batch requests" (100 calls).
"""

import base64
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.gcs_objects import (
    SOURCES_MAX,
    Refused,
    Stored,
    check_conditions,
    crc32c_of,
    made,
    patched,
    selected,
)
from tests.fakes.gcs_requests import (
    Call,
    check_key,
    json_reply,
    key_of,
    key_sha256_of,
    multipart_of,
    names_of,
    operation_of,
    query_of,
    range_of,
    refusal,
    results_of,
    rewrite_names_of,
)
from tests.fakes.http_proxy import HttpProxy, Reply, Request
from tests.fakes.s3_servers import S3Server

PAGE_MAX = 1000
BATCH_MAX = 100
BURST = 4
GRANULE = 256 << 10
"""Of an upload that breaks off, whole pieces of this size are kept."""
_NOBODY = S3Server("nobody", "http://127.0.0.1:9")


@dataclass(frozen=True, slots=True)
class Logged:
    """One request that was answered."""

    operation: str
    key: str
    reason: str
    status: int
    size: int
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Session:
    """A resumable upload."""

    bucket: str
    name: str
    resource: dict[str, Any]
    query: Mapping[str, str]
    key_sha256: str
    data: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None


Notify = Callable[[str, str, Mapping[str, Any]], None]
Fault = Callable[[str, Call], Reply | None]
"""Gets the operation; what it returns is the answer, and nothing is carried out."""


class GcsServer(HttpProxy):
    """Runs from construction to `close`."""

    def __init__(self, *, rewritten_max: int = 1 << 40, rate_s: float = 0.0) -> None:
        """`rewritten_max` bytes are copied in a call; an object takes a change each
        `rate_s` seconds ("Quotas & limits": one a second), and `BURST` at once.
        """
        self._lock = threading.RLock()
        self._buckets: dict[str, dict[str, Stored]] = {}
        self._classes: dict[str, str] = {}
        self._sessions: dict[str, _Session] = {}
        self._rewrites: dict[str, int] = {}
        self._rewritten_max = rewritten_max
        self._rate_s = rate_s
        self._changed: dict[str, float] = {}
        self._log: list[Logged] = []
        self.notify: Notify = lambda event, bucket, resource: None
        """Is told of each change, as a bucket with notifications tells a topic."""
        self.fault: Fault | None = None
        self.loses_replies: set[str] = set()
        """Operations whose next reply is lost although they were carried out."""
        self.garbles = False
        """Whether what is composed is something else."""
        self.breaks_after: list[int] = []
        """The bytes after which the next uploads in sessions break off."""
        super().__init__(_NOBODY)

    # --- for tests ------------------------------------------------------------------

    def make_bucket(self, name: str, storage_class: str = "STANDARD") -> str:
        """Make a bucket."""
        with self._lock:
            self._buckets.setdefault(name, {})
            self._classes[name] = storage_class
        return name

    def objects(self, bucket: str) -> dict[str, Stored]:
        """Return the live objects of a bucket by their names."""
        with self._lock:
            return dict(self._buckets[bucket])

    def put(
        self, bucket: str, name: str, data: bytes, resource: Mapping[str, Any] = {}
    ) -> Stored:
        """Store an object as another client would."""
        with self._lock:
            stored = made(name, data, resource, default_class=self._classes[bucket])
            self._place(bucket, stored)
            return stored

    def remove(self, bucket: str, name: str) -> None:
        """Delete an object as another client would."""
        with self._lock:
            self._take_away(bucket, name)

    def requests(
        self, operation: str | None = None, *, reason: str | None = None
    ) -> list[Logged]:
        """Return what was asked since the last `clear`."""
        with self._lock:
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
        with self._lock:
            self._log.clear()

    # --- answering ------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        """Answer one request and log it."""
        parts = urlsplit(request.target)
        headers = {name.lower(): value for name, value in request.headers}
        call = Call(
            request.method,
            parts.path.removeprefix("/download"),
            query_of(parts.query),
            headers,
            self._taken(request, parts.query),
            f"http://{headers.get('host', '')}",
        )
        operation, reply = self._answered(call)
        with self._lock:
            self._log.append(
                Logged(
                    operation,
                    key_of(call),
                    request.reason,
                    reply.status,
                    request.size,
                    call.query,
                    headers,
                )
            )
            if operation in self.loses_replies:
                self.loses_replies.discard(operation)
                reply.cut_after = -1
        return reply

    def _taken(self, request: Request, query: str) -> bytes:
        """Take in the body; of a session that is to break, only so much."""
        is_piece = request.method == "PUT" and "upload_id=" in query and request.size
        if not (is_piece and self.breaks_after):
            return request.body()
        wanted = self.breaks_after.pop(0)
        body = request.body()[:wanted]
        session = self._sessions[query_of(query)["upload_id"]]
        session.data += body[: len(body) // GRANULE * GRANULE]
        return b"\0broken"

    def _answered(self, call: Call) -> tuple[str, Reply]:
        operation = operation_of(call)
        if call.body == b"\0broken":
            return operation, Reply(500, cut_after=-1)
        if self.fault is not None and (reply := self.fault(operation, call)):
            return operation, reply
        try:
            with self._lock:
                return operation, self._carry_out(operation, call)
        except Refused as error:
            return operation, refusal(error.status, error.reason, str(error))

    def _carry_out(self, operation: str, call: Call) -> Reply:
        deed = {
            "objects.list": self._list,
            "objects.get": self._get,
            "objects.media": self._media,
            "objects.insert": self._insert,
            "objects.delete": self._delete,
            "objects.patch": self._patch,
            "objects.rewrite": self._rewrite,
            "objects.compose": self._compose,
            "session.start": self._start,
            "session.put": self._put_piece,
            "batch": self._batch,
            "buckets.list": self._list_buckets,
            "buckets.insert": self._insert_bucket,
            "buckets.delete": self._delete_bucket,
        }.get(operation)
        if deed is None:
            raise Refused(404, "notFound", f"Not Found: {call.method} {call.path}")
        return deed(call)

    # --- objects --------------------------------------------------------------------

    def _bucket(self, name: str) -> dict[str, Stored]:
        if name not in self._buckets:
            raise Refused(404, "notFound", "The specified bucket does not exist.")
        return self._buckets[name]

    def _find(self, call: Call) -> tuple[str, Stored]:
        bucket, name = names_of(call.path)
        stored = self._bucket(bucket).get(name)
        if stored is None:
            raise Refused(404, "notFound", f"No such object: {bucket}/{name}")
        check_conditions(stored, call.query)
        return bucket, stored

    def _told(self, call: Call, bucket: str, stored: Stored) -> Reply:
        has_key = bool(stored.key_sha256) and key_sha256_of(call) == stored.key_sha256
        resource = stored.resource(bucket, has_key=has_key)
        return json_reply(200, selected(resource, call.query.get("fields")))

    def _get(self, call: Call) -> Reply:
        return self._told(call, *self._find(call))

    def _media(self, call: Call) -> Reply:
        _, stored = self._find(call)
        check_key(call, stored)
        start, end = range_of(call.headers.get("range", ""), len(stored.data))
        headers = [
            ("Content-Type", stored.properties.get("contentType", "")),
            ("X-Goog-Generation", str(stored.generation)),
            ("X-Goog-Metageneration", str(stored.metageneration)),
            ("X-Goog-Stored-Content-Length", str(len(stored.data))),
            (
                "X-Goog-Stored-Content-Encoding",
                stored.properties.get("contentEncoding", "identity"),
            ),
            ("X-Goog-Hash", f"crc32c={crc32c_of(stored.data)}"),
        ]
        if encoding := stored.properties.get("contentEncoding"):
            headers.append(("Content-Encoding", encoding))
        if start is None:
            return Reply(200, headers, stored.data)
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{len(stored.data)}"))
        return Reply(206, headers, stored.data[start:end])

    def _list(self, call: Call) -> Reply:
        bucket, _ = names_of(call.path)
        objects, query = self._bucket(bucket), call.query
        most = min(int(query.get("maxResults", PAGE_MAX)), PAGE_MAX)
        after = base64.b64decode(query.get("pageToken", "")).decode()
        found: list[tuple[str, Stored | None]] = []
        token = None
        for name, stored in results_of(objects, query):
            place = f"{name}\x01" if stored is None else name
            if after and place <= after:
                continue
            if len(found) == most:
                last, item = found[-1]
                mark = f"{last}\x01" if item is None else last
                token = base64.b64encode(mark.encode()).decode()
                break
            found.append((name, stored))
        reply: dict[str, Any] = {"kind": "storage#objects"}
        items = [s.resource(bucket, has_key=False) for _, s in found if s is not None]
        prefixes = [name for name, stored in found if stored is None]
        reply |= {"items": items} if items else {}
        reply |= {"prefixes": prefixes} if prefixes else {}
        reply |= {"nextPageToken": token} if token else {}
        return json_reply(200, selected(reply, query.get("fields")))

    def _insert(self, call: Call) -> Reply:
        bucket, _ = names_of(call.path)
        resource, media_type, data = multipart_of(call)
        resource.setdefault("contentType", media_type)
        return self._store(call, bucket, resource, data)

    def _store(
        self, call: Call, bucket: str, resource: dict[str, Any], data: bytes
    ) -> Reply:
        name = call.query.get("name") or resource.get("name", "")
        objects = self._bucket(bucket)
        check_conditions(objects.get(name), call.query)
        if "kmsKeyName" in call.query:
            resource["kmsKeyName"] = call.query["kmsKeyName"]
        stored = made(
            name,
            data,
            resource,
            default_class=self._classes[bucket],
            key_sha256=key_sha256_of(call),
        )
        self._check_rate(bucket, name)
        self._place(bucket, stored)
        return self._told(call, bucket, stored)

    def _delete(self, call: Call) -> Reply:
        bucket, stored = self._find(call)
        self._check_rate(bucket, stored.name)
        self._take_away(bucket, stored.name)
        return Reply(204)

    def _patch(self, call: Call) -> Reply:
        bucket, stored = self._find(call)
        self._check_rate(bucket, stored.name)
        patched(stored, json.loads(call.body))
        resource = stored.resource(bucket, has_key=False)
        self.notify("OBJECT_METADATA_UPDATE", bucket, resource)
        return self._told(call, bucket, stored)

    def _place(self, bucket: str, stored: Stored) -> None:
        self._buckets[bucket][stored.name] = stored
        resource = stored.resource(bucket, has_key=False)
        self.notify("OBJECT_FINALIZE", bucket, resource)

    def _take_away(self, bucket: str, name: str) -> None:
        stored = self._buckets[bucket].pop(name)
        self.notify("OBJECT_DELETE", bucket, stored.resource(bucket, has_key=False))

    def _check_rate(self, bucket: str, name: str) -> None:
        if not self._rate_s:
            return
        now, place = time.monotonic(), f"{bucket}/{name}"
        # When the last of the changes that were let through would have had its turn.
        due = max(self._changed.get(place, 0.0), now) + self._rate_s
        if due > now + BURST * self._rate_s:
            raise Refused(429, "rateLimitExceeded", "The object exceeded the rate")
        self._changed[place] = due

    def _rewrite(self, call: Call) -> Reply:
        bucket, name, target_bucket, target = rewrite_names_of(call.path)
        source = self._bucket(bucket).get(name)
        if source is None:
            raise Refused(404, "notFound", f"No such object: {bucket}/{name}")
        check_conditions(source, call.query, "ifSource")
        objects = self._bucket(target_bucket)
        check_conditions(objects.get(target), call.query)
        check_key(call, source, "x-goog-copy-source-encryption-key")
        token = call.query.get("rewriteToken", f"token-{len(self._rewrites)}")
        done = self._rewrites.get(token, 0) + self._rewritten_max
        if done < len(source.data):
            self._rewrites[token] = done
            told = {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": str(done),
                "objectSize": str(len(source.data)),
                "done": False,
                "rewriteToken": token,
            }
            return json_reply(200, selected(told, call.query.get("fields")))
        resource = json.loads(call.body) if call.body else {}
        if not resource:  # "copied from the source", but for the storage class
            resource = {**source.properties, "metadata": source.metadata}
        if "destinationKmsKeyName" in call.query:
            resource["kmsKeyName"] = call.query["destinationKmsKeyName"]
        copied = made(
            target,
            source.data,
            resource,
            default_class=self._classes[target_bucket],
            key_sha256=key_sha256_of(call),
            is_composite=source.is_composite,
        )
        self._check_rate(target_bucket, target)
        self._place(target_bucket, copied)
        told = {
            "done": True,
            "totalBytesRewritten": str(len(source.data)),
            "objectSize": str(len(source.data)),
            "resource": copied.resource(target_bucket, has_key=True),
        }
        return json_reply(200, selected(told, call.query.get("fields")))

    def _compose(self, call: Call) -> Reply:
        bucket, name = names_of(call.path.removesuffix("/compose"))
        objects = self._bucket(bucket)
        wanted = json.loads(call.body)
        entries = wanted["sourceObjects"]
        if not 1 <= len(entries) <= SOURCES_MAX:
            raise Refused(400, "invalid", "between 1 and 32 objects can be composed")
        sources = []
        for entry in entries:
            source = objects.get(entry["name"])
            # An int64 may be written as a number or as a text.
            wanted_generation = str(entry.get("generation") or "")
            if source is None or wanted_generation not in ("", str(source.generation)):
                raise Refused(404, "notFound", f"No such object: {entry['name']}")
            check_key(call, source)
            sources.append(source)
        check_conditions(objects.get(name), call.query)
        resource = dict(wanted.get("destination") or {})
        if "kmsKeyName" in call.query:
            resource["kmsKeyName"] = call.query["kmsKeyName"]
        composed = made(
            name,
            b"".join(source.data for source in sources)[:: -1 if self.garbles else 1],
            resource,
            default_class=self._classes[bucket],
            key_sha256=key_sha256_of(call),
            is_composite=True,
        )
        if {source.storage_class for source in sources} != {composed.storage_class}:
            raise Refused(400, "invalid", "All objects must have one storage class")
        self._check_rate(bucket, name)
        self._place(bucket, composed)
        return self._told(call, bucket, composed)

    # --- sessions -------------------------------------------------------------------

    def _start(self, call: Call) -> Reply:
        bucket, _ = names_of(call.path)
        self._bucket(bucket)
        resource = json.loads(call.body) if call.body else {}
        media_type = call.headers.get("x-upload-content-type")
        resource.setdefault("contentType", media_type or "application/octet-stream")
        name = call.query.get("name") or resource.get("name", "")
        id = f"session-{len(self._sessions)}"
        self._sessions[id] = _Session(
            bucket, name, resource, call.query, key_sha256_of(call)
        )
        place = f"{call.base_url}{call.path}?uploadType=resumable&upload_id={id}"
        return Reply(200, [("Location", place)])

    def _put_piece(self, call: Call) -> Reply:
        session = self._sessions.get(call.query["upload_id"])
        if session is None:
            raise Refused(404, "notFound", "No such upload")
        if session.done is not None:
            return json_reply(200, session.done)
        match = re.fullmatch(
            r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", call.headers.get("content-range", "")
        )
        assert match is not None, "every piece says where it belongs"
        if match[1] is not None:
            if int(match[1]) != len(session.data):
                raise Refused(503, "backendError", "Not where the last one ended")
            session.data += call.body
        if len(session.data) < int(match[3]):
            have = len(session.data)
            header = [("Range", f"bytes=0-{have - 1}")] if have else []
            return Reply(308, header)
        inner = Call(
            "POST",
            call.path,
            dict(session.query),
            {"x-goog-encryption-key-sha256": session.key_sha256},
            b"",
        )
        reply = self._store(
            inner, session.bucket, dict(session.resource), bytes(session.data)
        )
        session.done = json.loads(reply.body)
        return reply

    # --- the rest -------------------------------------------------------------------

    def _batch(self, call: Call) -> Reply:
        boundary = call.headers["content-type"].partition("boundary=")[2].strip('"')
        parts = call.body.split(f"--{boundary}".encode())[1:-1]
        if len(parts) > BATCH_MAX:
            raise Refused(413, "invalid", "The batch has too many calls")
        told = []
        for part in parts:
            head, _, rest = part.strip().partition(b"\r\n\r\n")
            id = re.search(rb"content-id: <(.+)>", head, re.I)
            assert id is not None
            line = rest.split(b"\r\n")[0].decode()
            method, target, _ = line.split(" ")
            split = urlsplit(target)
            inner = Call(method, split.path, query_of(split.query), {}, b"")
            operation, reply = self._answered(inner)
            with self._lock:
                self._log.append(
                    Logged(
                        operation, key_of(inner), "in-batch", reply.status, 0, {}, {}
                    )
                )
            told.append(
                b"\r\n--answer\r\nContent-Type: application/http\r\n"
                b"Content-ID: <response-%b>\r\n\r\nHTTP/1.1 %d X\r\n"
                b"Content-Length: %d\r\n\r\n%b"
                % (id[1], reply.status, len(reply.body), reply.body)
            )
        content_type = "multipart/mixed; boundary=answer"
        body = b"".join(told) + b"\r\n--answer--\r\n"
        return Reply(200, [("Content-Type", content_type)], body)

    def _list_buckets(self, call: Call) -> Reply:
        items = [{"kind": "storage#bucket", "name": name} for name in self._buckets]
        return json_reply(200, {"kind": "storage#buckets", "items": items})

    def _insert_bucket(self, call: Call) -> Reply:
        name = json.loads(call.body)["name"]
        if name in self._buckets:
            raise Refused(409, "conflict", "You already own this bucket.")
        self.make_bucket(name)
        return json_reply(200, {"kind": "storage#bucket", "name": name})

    def _delete_bucket(self, call: Call) -> Reply:
        bucket, _ = names_of(call.path)
        if self._bucket(bucket):
            raise Refused(
                409, "conflict", "The bucket you tried to delete is not empty."
            )
        del self._buckets[bucket]
        return Reply(204)
