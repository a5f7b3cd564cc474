"""What requests to Cloud Storage's JSON API say, and how its answers look. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.fakes.gcs_objects import Refused, Stored
from tests.fakes.http_proxy import Reply


@dataclass(slots=True)
class Call:
    """A request, whether it came alone or in a batch."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str = ""


def refusal(status: int, reason: str, message: str = "") -> Reply:
    """Return an error as the JSON API writes it."""
    entry = {"domain": "global", "reason": reason, "message": message or reason}
    error = {"code": status, "message": message or reason, "errors": [entry]}
    return json_reply(status, {"error": error})


def json_reply(status: int, value: object) -> Reply:
    """Return an answer with a resource."""
    body = json.dumps(value).encode()
    return Reply(status, [("Content-Type", "application/json; charset=UTF-8")], body)


def query_of(text: str) -> dict[str, str]:
    """Return the parameters of a query; of those that repeat the last counts."""
    found = parse_qs(text, keep_blank_values=True, strict_parsing=bool(text))
    return {name: values[-1] for name, values in found.items()}


def operation_of(call: Call) -> str:
    """Return which method of the API is called; nothing if there is no such one."""
    path, method = call.path, call.method
    if path.startswith("/batch/"):
        return "batch"
    if path.startswith("/upload/"):
        if "upload_id" in call.query:
            return "session.put"
        kinds = {"multipart": "objects.insert", "resumable": "session.start"}
        return kinds.get(call.query.get("uploadType", ""), "")
    inner = path.removeprefix("/storage/v1/")
    if inner == "b":
        return {"GET": "buckets.list", "POST": "buckets.insert"}.get(method, "")
    if inner.count("/") == 1:
        return {"DELETE": "buckets.delete"}.get(method, "")
    if inner.endswith("/o") and inner.count("/") == 2:
        return "objects.list" if method == "GET" else ""
    if method == "POST":
        if "/rewriteTo/b/" in inner:
            return "objects.rewrite"
        return "objects.compose" if inner.endswith("/compose") else ""
    if method == "GET" and call.query.get("alt") == "media":
        return "objects.media"
    names = {"GET": "get", "DELETE": "delete", "PATCH": "patch"}
    return f"objects.{names[method]}" if method in names else ""


def names_of(path: str) -> tuple[str, str]:
    """Return the bucket and the object that a path names."""
    inner = path.removeprefix("/upload").removeprefix("/storage/v1/b/")
    bucket, _, rest = inner.partition("/")
    return unquote(bucket), unquote(rest.removeprefix("o").removeprefix("/"))


def rewrite_names_of(path: str) -> tuple[str, str, str, str]:
    """Return bucket and object of the source and of the target of a rewrite."""
    source, _, target = path.partition("/rewriteTo/b/")
    return *names_of(source), *names_of(f"/storage/v1/b/{target}")


def key_of(call: Call) -> str:
    """Return the name of the object that a call is about, if any."""
    if "name" in call.query:
        return call.query["name"]
    if call.path.startswith("/batch"):
        return ""
    if "/rewriteTo/" in call.path:
        return rewrite_names_of(call.path)[3]
    return names_of(call.path)[1].removesuffix("/compose")


def results_of(
    objects: Mapping[str, Stored], query: Mapping[str, str]
) -> Iterator[tuple[str, Stored | None]]:
    """Give the items and prefixes of a listing in order; None is a prefix."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    with_trailing = query.get("includeTrailingDelimiter") == "true"
    last = ""
    for name in sorted(objects, key=str.encode):
        if not name.startswith(prefix):
            continue
        if delimiter is None or delimiter not in name[len(prefix) :]:
            yield name, objects[name]
            continue
        end = name.index(delimiter, len(prefix)) + 1
        folder = name[:end]
        if with_trailing and name == folder:
            yield name, objects[name]
        if folder != last:
            last = folder
            yield folder, None


def multipart_of(call: Call) -> tuple[dict[str, Any], str, bytes]:
    """Take apart a multipart/related upload."""
    content_type = call.headers["content-type"]
    assert content_type.startswith("multipart/related; boundary=")
    told = content_type.partition("boundary=")[2].strip('"')
    boundary = f"--{told}".encode()
    pieces = call.body.split(b"\r\n" + boundary)
    first, last = pieces[0], pieces[1]
    assert first.startswith(boundary)
    assert pieces[2].startswith(b"--")
    resource = json.loads(first.partition(b"\r\n\r\n")[2])
    head, _, data = last.partition(b"\r\n\r\n")
    match = re.search(rb"content-type: *([^\r\n]+)", head, re.IGNORECASE)
    media_type = match[1].decode() if match else ""
    return resource, media_type, data


def range_of(header: str, size: int) -> tuple[int | None, int]:
    """Return the begin and the end that are asked for; None: there is no range."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if match is None:
        return None, size
    start = int(match[1])
    if start >= size:
        raise Refused(416, "requestedRangeNotSatisfiable", "Range not satisfiable")
    return start, min(int(match[2]) + 1, size) if match[2] else size


def key_sha256_of(call: Call) -> str:
    """Return the hash of the customer's key that a call comes with, if any."""
    return call.headers.get("x-goog-encryption-key-sha256", "")


def check_key(
    call: Call, stored: Stored, header: str = "x-goog-encryption-key"
) -> None:
    """Refuse the bytes of an object without the key that it was stored with (csek)."""
    given = call.headers.get(f"{header}-sha256", "")
    if stored.key_sha256 and given != stored.key_sha256:
        raise Refused(400, "resourceIsEncryptedWithCustomerEncryptionKey")
    if given and not stored.key_sha256:
        raise Refused(400, "resourceNotEncryptedWithCustomerEncryptionKey")
