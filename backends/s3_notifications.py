"""What S3 tells of its objects, as it lies in a queue: pure, from text to changes.

A message is what S3 sends ("Records"), what Amazon EventBridge makes of it ("detail"),
or either of them as SNS hands it on ("Message"). Messages come twice and out of order,
so none is believed further than that something has changed; and whoever may send to
the queue may send anything.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_metadata import SECOND_NS, kind_of, plain_etag
from mountfs.storage.events import Change
from mountfs.storage.types import Object, Version

_WRAPPINGS_MAX = 4
"""SNS may hand on what SNS has handed on."""
_WRITES = frozenset({"Put", "Post", "CompleteMultipartUpload"})
_BRIDGED_WRITES = frozenset({"PutObject", "POST Object", "CompleteMultipartUpload"})
_REMOVALS = frozenset({"ObjectRemoved", "LifecycleExpiration", "Object Deleted"})
_MARKERS = frozenset({"DeleteMarkerCreated", "Delete Marker Created"})
_IRRELEVANT = frozenset(
    {
        "ObjectTagging",
        "ObjectAcl",
        "Replication",
        "Object Tags Added",
        "Object Tags Deleted",
        "Object ACL Updated",
    }
)
"""What a file system shows nothing of."""


class Malformed(ValueError):
    """A message that is no notification of S3."""


def changes_of(text: str, keys: KeySpace) -> list[Change]:
    """Return what a message tells of objects below the root.

    Raises `Malformed`.
    """
    try:
        return list(_changes(_unwrapped(text), keys))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from error


def _unwrapped(text: str) -> Mapping[str, Any]:
    """Return the innermost message."""
    for _ in range(_WRAPPINGS_MAX):
        told = json.loads(text)
        if not isinstance(told, dict):
            raise Malformed("it is no object of JSON")
        if told.get("Type") != "Notification" or "Message" not in told:
            return told
        text = told["Message"]
    raise Malformed("it is wrapped too often")


def _changes(told: Mapping[str, Any], keys: KeySpace) -> Iterator[Change]:
    if told.get("Event") == "s3:TestEvent":  # sent when notifications are set up
        return
    if "detail-type" in told:
        yield from _bridged(told, keys)
        return
    for record in told["Records"]:
        yield from _recorded(record, keys)


def _recorded(record: Mapping[str, Any], keys: KeySpace) -> Iterator[Change]:
    """Read a record of S3. Its key is percent-encoded, with `+` for a space."""
    about = record["s3"]
    item: Mapping[str, Any] = about["object"]
    kind, _, detail = str(record["eventName"]).removeprefix("s3:").partition(":")
    is_ours = about["bucket"]["name"] == keys.bucket and kind not in _IRRELEVANT
    key = _key(unquote_plus(item["key"], errors="strict"), keys)
    if not is_ours or key is None:
        return
    if kind in _REMOVALS:
        yield Change(key, is_gone=_is_gone(detail, item.get("versionId")))
        return
    is_write = kind == "ObjectCreated" and detail in _WRITES
    found = _object(key, item, "eTag", record["eventTime"]) if is_write else None
    yield Change(key, found)


def _bridged(told: Mapping[str, Any], keys: KeySpace) -> Iterator[Change]:
    """Read an event of EventBridge, where keys stand as they are.

    The documentation does not promise that; so one that could be encoded is taken for
    both, which costs a question.
    """
    detail = told["detail"]
    item: Mapping[str, Any] = detail["object"]
    kind = str(told["detail-type"])
    is_ours = told.get("source") == "aws.s3" and kind not in _IRRELEVANT
    if not is_ours or detail["bucket"]["name"] != keys.bucket:
        return
    plain, decoded = _key(item["key"], keys), _key(unquote_plus(item["key"]), keys)
    is_plain = plain == decoded
    for key in {plain, decoded} - {None}:
        assert key is not None
        if kind in _REMOVALS:
            how = str(detail.get("deletion-type", ""))
            is_gone = is_plain and _is_gone(how, item.get("version-id"))
            yield Change(key, is_gone=is_gone)
            continue
        is_write = detail.get("reason") in _BRIDGED_WRITES and is_plain
        yield Change(
            key, _object(key, item, "etag", told["time"]) if is_write else None
        )


def _key(full: str, keys: KeySpace) -> str | None:
    full.encode()  # a lone surrogate is a key of nothing
    if not full.startswith(keys.root):
        return None
    return keys.relative(full) or None


def _is_gone(how: str, version_id: object) -> bool:
    """Tell whether nothing is there now: not if one of several versions went."""
    return how in _MARKERS or not version_id


def _object(key: str, item: Mapping[str, Any], etag: str, time: str) -> Object | None:
    """Return the object that a write made, if all of it is told.

    Of a copy nothing is told: one of an object onto itself, which changes its metadata
    alone, leaves ETag and size as they were.
    """
    content, size = plain_etag(item.get(etag)), item.get("size")
    moment = datetime.fromisoformat(time)
    if not content or not isinstance(size, int) or moment.tzinfo is None:
        return None
    seconds = int(moment.replace(microsecond=0).timestamp())
    return Object(
        key=key,
        kind=kind_of(key),
        size=size,
        mtime_ns=seconds * SECOND_NS + moment.microsecond * 1000,
        version=Version(content),
    )
