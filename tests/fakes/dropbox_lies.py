"""Lies of a Dropbox: each makes, of the true answer to a request, another one.

Some are about HTTP, some about JSON, most about one field of it. The answer to every
request before and after a lie is true, so that each step of a call can be lied to.
"""

import gzip
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from tests.fakes.dropbox_server import Lie, Truth
from tests.fakes.hostile_server import MIB, Asked, answer
from tests.fakes.hostile_server import OF_HTTP as ATTACKS

JSON_TYPE = "Content-Type: application/json"
DOWNLOAD = "files/download"
LISTINGS = ("files/list_folder", "files/list_folder/continue")
HTML = b"<html><body>Sign in to this network</body></html>"
MISSING = object()

FIELDS = (
    *(".tag", "name", "path_lower", "path_display", "id", "rev", "size"),
    *("content_hash", "client_modified", "server_modified", "symlink_info"),
    *("property_groups", "template_id", "template_ids", "fields", "value"),
    *("entries", "cursor", "has_more", "metadata", "session_id", "async_job_id"),
    *("link", "used", "allocation", "allocated", "changes", "backoff"),
    *("access_token", "refresh_token", "expires_in", "account_id", "uid"),
    *("root_info", "root_namespace_id"),
)
VALUES: Mapping[str, object] = {
    "missing": MISSING,
    "null": None,
    "true": True,
    "below zero": -1,
    "beyond all": 10**30,
    "as large as can be": (1 << 64) - 1,
    "half": 1.5,
    "nothing": "",
    "long": "x" * MIB,
    "brackets": "[" * 1000,
    "of the terminal": "\x1b[2J\x00\r\nX: y",
    "elsewhere": "/../../etc/passwd",
    "above": "..",
    "no text": "\ud800\udce9",
    "decomposed": "e\u0301",
    "of the desktop": "desktop.ini",
    "early": "0001-01-01T00:00:00Z",
    "late": "9999-12-31T23:59:59Z",
    "a list": [],
    "an object": {},
    "a tag": {".tag": "path", "path": {".tag": "deleted"}},
    "other": {".tag": "other"},
    "a deleted one": {
        ".tag": "deleted",
        "name": "a",
        "path_lower": "/pre/a",
        "path_display": "/pre/a",
    },
}


def made_into(truth: Truth, body: bytes, *headers: str) -> bytes:
    """Return the true answer with another body, or of a download other JSON."""
    kind = truth.headers.get("Content-Type", "")
    others = [
        f"{name}: {text}"
        for name, text in truth.headers.items()
        if name not in ("Content-Type", "Dropbox-API-Result")
    ]
    if truth.route == DOWNLOAD and "Dropbox-API-Result" in truth.headers:
        told = f"Dropbox-API-Result: {body.decode('latin-1')}"
        return _answer(truth.body, told, f"Content-Type: {kind}", *others, *headers)
    if not any(each.startswith("Content-Type") for each in headers):
        headers = (f"Content-Type: {kind}", *headers)
    return _answer(body, *others, *headers)


def _answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return answer(body, "Connection: close", *headers, status=status)


def _document(truth: Truth) -> Any:
    if truth.status != 200:
        return None
    text = truth.headers.get("Dropbox-API-Result") or truth.body
    return json.loads(text)


def falsified(document: Any, field: str, value: object) -> Any:
    """Return a document in which a field is another wherever it is."""
    match document:
        case dict():
            changed = {
                name: falsified(each, field, value) if name != field else value
                for name, each in document.items()
            }
            return {n: each for n, each in changed.items() if each is not MISSING}
        case list():
            return [falsified(each, field, value) for each in document]
        case _:
            return document


def _of_field(field: str, value: object) -> Lie:
    def lie(truth: Truth) -> Iterable[bytes] | None:
        document = _document(truth)
        changed = falsified(document, field, value)
        if changed == document:
            return None
        return [made_into(truth, json.dumps(changed).encode())]

    return lie


def _whole(body: bytes) -> Lie:
    return lambda truth: [made_into(truth, body)]


def _as_type(kind: str, body: bytes | None = None) -> Lie:
    def lie(truth: Truth) -> Iterable[bytes] | None:
        if truth.route == DOWNLOAD:
            return None  # nobody looks at the type of bytes
        shown = truth.body if body is None else body
        return [made_into(truth, shown, f"Content-Type: {kind}")]

    return lie


def _refusal(status: str, body: bytes, *headers: str) -> Lie:
    if not any(each.startswith("Content-Type") for each in headers):
        headers = (JSON_TYPE, *headers)
    return lambda _: [_answer(body, *headers, status=status)]


def _moved(status: str) -> Lie:
    def lie(truth: Truth) -> Iterable[bytes]:
        place = f"Location: {truth.elsewhere}/2/{truth.route}"
        return [_answer(b"", place, status=status)]

    return lie


def _packed(body: bytes) -> Lie:
    return lambda truth: [
        _answer(
            body,
            "Content-Encoding: gzip",
            JSON_TYPE,
            "Dropbox-API-Result: " + truth.headers.get("Dropbox-API-Result", "{}"),
        )
    ]


def _entry(name: str, path: str, **more: object) -> dict[str, object]:
    return {
        ".tag": "file",
        "name": name,
        "id": "id:liar",
        "path_lower": path,
        "path_display": path,
        "client_modified": "2026-01-01T00:00:00Z",
        "server_modified": "2026-01-01T00:00:00Z",
        "rev": "0123456789abc",
        "size": 1,
        "is_downloadable": True,
        "content_hash": "0" * 64,
        **more,
    }


def _listed(*entries: Mapping[str, object]) -> Lie:
    """Return a lie that adds entries to a listing."""

    def lie(truth: Truth) -> Iterable[bytes] | None:
        document = _document(truth)
        if truth.route not in LISTINGS or document is None:
            return None
        document["entries"] += entries
        return [made_into(truth, json.dumps(document).encode())]

    return lie


def _endless(entries: Callable[[int], list[dict[str, object]]], cursor: str) -> Lie:
    """Return a lie that makes a listing go on and on."""
    numbers = itertools.count()

    def lie(truth: Truth) -> Iterable[bytes] | None:
        if truth.route not in LISTINGS:
            return None
        number = next(numbers)
        document = {
            "entries": entries(number),
            "cursor": cursor.format(number),
            "has_more": True,
        }
        return [_answer(json.dumps(document).encode(), JSON_TYPE)]

    return lie


def _bytes(change: Callable[[bytes], bytes], *headers: str) -> Lie:
    def lie(truth: Truth) -> Iterable[bytes] | None:
        if truth.route != DOWNLOAD or truth.status >= 300:
            return None
        named = [each.partition(":")[0] for each in headers]
        kept = [f"{n}: {text}" for n, text in truth.headers.items() if n not in named]
        return [_answer(change(truth.body), *kept, *headers)]

    return lie


def _raw(name: str) -> Lie:
    """Return an attack on HTTP as a lie."""

    def lie(truth: Truth) -> Iterator[bytes]:
        return ATTACKS[name](Asked("POST", truth.route, truth.elsewhere))

    return lie


_ODD = ("..", ".", "", "x/y", "x\0y", "\x1b[2J", "desktop.ini", "e\u0301", "\ud800")
_SLOW = "429 Too Many Requests"
_MANY_WRITES = {"reason": {".tag": "too_many_write_operations"}}


def _slow(**error: object) -> Lie:
    return _refusal(_SLOW, json.dumps({"error": {**_MANY_WRITES, **error}}).encode())


LIES: dict[str, Lie] = {
    # --- not JSON, or not what was asked for ---
    "a page": _as_type("text/html", HTML),
    "a page that says it is JSON": _whole(HTML),
    "JSON that says it is a page": _as_type("text/html"),
    "JSON of no type": _as_type(""),
    "nothing": _whole(b""),
    "null": _whole(b"null"),
    "a list": _whole(b"[]"),
    "an empty object": _whole(b"{}"),
    "a number": _whole(b"7"),
    "a text": _whole(b'"x"'),
    "true": _whole(b"true"),
    "no number": _whole(b"NaN"),
    "half of it": lambda truth: [made_into(truth, truth.body[: len(truth.body) // 2])],
    "no UTF-8": _whole(b'{"name": "\xff\xfe"}'),
    "lists without end": _whole(b"[" * 60_000),
    "objects without end": _whole(b'{"a":' * 12_000),
    "a number without end": _whole(b"9" * 6000),
    "another answer": _whole(json.dumps(_entry("z", "/pre/z")).encode()),
    "a bomb": _packed(gzip.compress(b" " * (8 * MIB))),
    "not packed as it says": _packed(b"plain"),
    # --- statuses ---
    "moved": _moved("301 Moved Permanently"),
    "found elsewhere": _moved("302 Found"),
    "moved for now": _moved("307 Temporary Redirect"),
    "no content": _refusal("204 No Content", b""),
    "bad": _refusal("400 Bad Request", HTML, "Content-Type: text/html"),
    "a bad grant": _refusal("400 Bad Request", b'{"error": "invalid_grant"}'),
    "a page for a token": _refusal("401 No", HTML, "Content-Type: text/html"),
    "no reason for a token": _refusal("401 No", b"{}"),
    "an expired token": _refusal(
        "401 No", b'{"error": {".tag": "expired_access_token"}}'
    ),
    "an unknown scope": _refusal("401 No", b'{"error": {".tag": "missing_scope"}}'),
    "another error of tokens": _refusal("401 No", b'{"error": "other"}'),
    "a forbidden page": _refusal("403 Forbidden", HTML, "Content-Type: text/html"),
    "a missing page": _refusal("404 Not Found", HTML, "Content-Type: text/html"),
    "a conflict of nothing": _refusal("409 Conflict", b""),
    "a conflict without error": _refusal("409 Conflict", b"{}"),
    "a conflict of a number": _refusal("409 Conflict", b'{"error": 7}'),
    "a conflict of no tag": _refusal("409 Conflict", b'{"error": {".tag": "mine"}}'),
    "a conflict of another": _refusal("409 Conflict", b'{"error": {".tag": "other"}}'),
    "a conflict of a path": _refusal("409 Conflict", b'{"error": {".tag": "path"}}'),
    "a conflict that is deep": _refusal(
        "409 Conflict", b'{"error": ' + b'{".tag": "path", "path": ' * 5000
    ),
    "a user's message of a number": _refusal(
        "409 Conflict", b'{"error": {".tag": "other"}, "user_message": 7}'
    ),
    "a range beyond": _refusal("416 Range Not Satisfiable", b""),
    "no such root": _refusal("422 Unprocessable", b"{}"),
    "an odd status": _refusal("499 Odd", b"\x1b[2J"),
    "a failure": _refusal("500 Failed", HTML, "Content-Type: text/html"),
    "a long failure": _refusal("503 Away", b"x" * (2 * MIB)),
    # --- slow down ---
    "a time before": _refusal(
        _SLOW, b"", "Content-Type: text/plain", "Retry-After: -5"
    ),
    "a time of years": _refusal(
        _SLOW, b"", "Content-Type: text/plain", "Retry-After: 315360000"
    ),
    "a time of nobody": _refusal(
        _SLOW, b"", "Content-Type: text/plain", "Retry-After: soon"
    ),
    "a time without end": _refusal(
        _SLOW, b"", "Content-Type: text/plain", f"Retry-After: {'9' * 5000}"
    ),
    "writes at once": _slow(),
    "writes a year ago": _slow(retry_after=-31_536_000),
    "writes in a century": _slow(retry_after=3_153_600_000),
    "writes at no time": _slow(retry_after="soon"),
}
"""What can be said in place of every answer."""
OF_LISTINGS: dict[str, Lie] = {
    "odd names": _listed(*(_entry(each, f"/pre/d/{each.lower()}") for each in _ODD)),
    "a name without end": _listed(_entry("x" * MIB, "/pre/d/" + "x" * MIB)),
    "entries of elsewhere": _listed(
        _entry("z", "/z"), _entry("z", "/other/d/z"), _entry("z", "/pre/e/z")
    ),
    "an entry of nowhere": _listed(_entry("z", "")),
    "a path without a slash": _listed(_entry("z", "z")),
    "a file in place of the folder": _listed(_entry("d", "/pre/d")),
    "one entry many times": _listed(*[_entry("z", "/pre/d/z")] * 100),
    "a link to everywhere": _listed(
        _entry("z", "/pre/d/z", symlink_info={"target": "../" * 3000})
    ),
    "a page that leads to itself": _endless(lambda _: [], "same"),
    "empty pages without end": _endless(lambda _: [], "cursor{}"),
    "pages without end": _endless(
        lambda at: [_entry(f"z{at}.{n}", f"/pre/d/z{at}.{n}") for n in range(100)],
        "cursor{}",
    ),
}
OF_BYTES: dict[str, Lie] = {
    "more bytes": _bytes(lambda data: data + b"x"),
    "many bytes": _bytes(lambda data: data + b"x" * MIB),
    "fewer bytes": _bytes(lambda data: data[:-1]),
    "no bytes": _bytes(lambda data: b""),
    "another range": _bytes(lambda data: data, "Content-Range: bytes 2-5/10"),
    "a range of another size": _bytes(lambda data: data, "Content-Range: bytes 0-3/3"),
    "a range without end": _bytes(
        lambda data: data, f"Content-Range: bytes {'9' * 5000}-{'9' * 5000}/10"
    ),
    "a range of noise": _bytes(lambda data: data, "Content-Range: bytes \xb2-3/10"),
    "no word on the bytes": _bytes(lambda data: data, "Dropbox-API-Result: "),
}
OF_HTTP: dict[str, Lie] = {f"HTTP: {name}": _raw(name) for name in ATTACKS}
OF_FIELDS: dict[tuple[str, str], Lie] = {
    (field, name): _of_field(field, value)
    for field in FIELDS
    for name, value in VALUES.items()
}


def lies_about(route: str, fields: Collection[str]) -> dict[str, Lie]:
    """Return what can be said in place of an answer with these fields."""
    return {
        **LIES,
        **(OF_LISTINGS if route in LISTINGS else {}),
        **(OF_BYTES if route == DOWNLOAD else {}),
        **OF_HTTP,
        **{
            f"{field} is {name}": lie
            for (field, name), lie in OF_FIELDS.items()
            if field in fields
        },
    }


def fields_of(truth: Truth) -> set[str]:
    """Return the names of all fields of an answer."""
    found: set[str] = set()
    waiting = [_document(truth)]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found |= set(each)
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return found
