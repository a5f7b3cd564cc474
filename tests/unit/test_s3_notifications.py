"""What the messages of a bucket mean."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_notifications import Malformed, changes_of
from mountfs.storage.events import Change
from mountfs.storage.types import Object, ObjectKind, Version

KEYS = KeySpace("bucket", "pre/")
MOMENT_NS = 1_600_000_000_250_000_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("Records", "Message", "Type", "s3", "object", "bucket", "key", "name")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


def record(event: str, key: str = "pre/file", **more: object) -> dict[str, Any]:
    """Return a record as S3 writes it."""
    item = {"key": quote_plus(key), "size": 5, "eTag": "etag", **more}
    return {
        "eventSource": "aws:s3",
        "eventName": event,
        "eventTime": "2020-09-13T12:26:40.250Z",
        "s3": {"bucket": {"name": "bucket"}, "object": item},
    }


def bridged(kind: str, key: str = "pre/file", **detail: object) -> dict[str, Any]:
    """Return an event as EventBridge writes it."""
    return {
        "detail-type": kind,
        "source": "aws.s3",
        "time": "2020-09-13T12:26:40Z",
        "detail": {
            "bucket": {"name": "bucket"},
            "object": {"key": key, "size": 5, "etag": "etag"},
            **detail,
        },
    }


def told(*records: object) -> list[Change]:
    """Return what a message with these records says."""
    return changes_of(json.dumps({"Records": records}), KEYS)


def written(key: str = "file", mtime_ns: int = MOMENT_NS) -> Object:
    """Return the object that a write of `record` made."""
    return Object(key=key, size=5, mtime_ns=mtime_ns, version=Version("etag"))


def test_a_write_tells_the_object() -> None:
    """So that one of our own is no news; a copy onto itself looks like no change."""
    assert told(record("ObjectCreated:Put")) == [Change("file", written())]
    assert told(record("s3:ObjectCreated:Post")) == [Change("file", written())]
    assert told(record("ObjectCreated:Copy")) == [Change("file")]
    (marker,) = told(record("ObjectCreated:Put", "pre/dir/"))
    assert marker.object is not None
    assert marker.object.kind is ObjectKind.DIRECTORY


@pytest.mark.parametrize(
    ("event", "version", "is_gone"),
    [
        ("ObjectRemoved:Delete", None, True),
        ("ObjectRemoved:Delete", "an old version", False),
        ("ObjectRemoved:DeleteMarkerCreated", "the marker", True),
        ("LifecycleExpiration:Delete", None, True),
    ],
)
def test_a_removal_of_one_version_may_leave_others(
    event: str, version: str | None, is_gone: bool
) -> None:
    """Only where nothing can be left is that said."""
    assert told(record(event, versionId=version)) == [Change("file", is_gone=is_gone)]


def test_what_does_not_concern_the_mount_is_left_out() -> None:
    """Other prefixes and buckets, the root itself, tags and access lists."""
    other = record("ObjectCreated:Put")
    other["s3"]["bucket"]["name"] = "another"
    plain = [record("ObjectCreated:Put", key) for key in ("pre2/file", "file", "pre/")]
    silent = [record("ObjectTagging:Put"), record("ObjectAcl:Put")]

    assert told(other, *plain, *silent) == []
    assert told(record("LifecycleTransition")) == [Change("file")]
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"}
    assert changes_of(json.dumps(test), KEYS) == []


def test_sns_hands_on_what_it_got() -> None:
    """Of S3, of EventBridge, and of another topic."""
    inner = json.dumps({"Records": [record("ObjectRemoved:Delete")]})
    once = json.dumps({"Type": "Notification", "Message": inner})
    twice = json.dumps({"Type": "Notification", "Message": once})

    expected = [Change("file", is_gone=True)]
    assert changes_of(once, KEYS) == changes_of(twice, KEYS) == expected


def test_events_of_eventbridge() -> None:
    """Their keys stand as they are; one that may be encoded is taken for both."""

    def of(event: object) -> list[Change]:
        return changes_of(json.dumps(event), KEYS)

    second = MOMENT_NS // 10**9 * 10**9
    assert of(bridged("Object Created", reason="PutObject")) == [
        Change("file", written(mtime_ns=second))
    ]
    assert of(bridged("Object Created", reason="CopyObject")) == [Change("file")]
    deleted = {"deletion-type": "Permanently Deleted"}
    assert of(bridged("Object Deleted", **deleted)) == [Change("file", is_gone=True)]
    found = of(bridged("Object Deleted", "pre/a+b", **deleted))
    assert {change.key for change in found} == {"a+b", "a b"}
    assert not any(change.is_gone for change in found)
    assert of(bridged("Object Tags Added")) == []
    assert of({**bridged("Object Created"), "source": "somebody"}) == []


@settings(max_examples=40)
@given(key=st.text(st.characters(codec="utf-8"), min_size=1))
def test_every_key_is_read_as_it_was_written(key: str) -> None:
    """Spaces, plus signs, percent signs, and letters of every script."""
    (found,) = told(record("ObjectCreated:Copy", f"pre/{key}"))
    assert found.key == key


@settings(max_examples=50)
@given(body=st.text() | JSON.map(json.dumps))
def test_no_message_does_harm(body: str) -> None:
    """Whatever it holds, it is understood or said to be malformed."""
    try:
        changes = changes_of(body, KEYS)
    except Malformed:
        return
    assert all(isinstance(change, Change) for change in changes)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"Records": 5}',
        '{"Records": [{"s3": 1}]}',
        '{"detail-type": "Object Created"}',
        json.dumps({"Records": [record("ObjectCreated:Put") | {"eventTime": "now"}]}),
        '{"Type": "SubscriptionConfirmation", "Message": "confirm"}',
    ],
)
def test_what_is_no_notification_is_malformed(body: str) -> None:
    """Each by the one error that says so."""
    with pytest.raises(Malformed):
        changes_of(body, KEYS)
