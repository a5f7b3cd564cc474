"""What must be allowed for a request, and what is kept of a refusal."""

from collections.abc import Mapping

import pytest
from dropbox import auth, exceptions
from trio.testing import MockClock

from mountfs.backends import gcs_permissions, open_store, s3_permissions
from mountfs.backends.dropbox_errors import translated
from mountfs.backends.gcs_errors import reply_error as gcs_reply_error
from mountfs.backends.memory import MemoryStore
from mountfs.backends.s3_errors import reply_error
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    MESSAGE_MAX,
    NotFound,
    Offline,
    PermissionDenied,
    ServiceFailed,
    TimedOut,
)
from mountfs.storage.refusals import KEPT_MAX, Refusals
from mountfs.storage.retry import RetryStorager
from tests.fakes.faulty import FaultyStore, hang
from tests.fakes.s3_servers import aws_environment
from tests.fakes.scripted_server import ScriptedServer


@pytest.mark.parametrize(
    ("operation", "parameters", "region", "expected"),
    [
        (
            "put_object",
            {"Bucket": "b", "Key": "d/k"},
            None,
            "s3:PutObject on arn:aws:s3:::b/d/k",
        ),
        ("list_objects_v2", {"Bucket": "b"}, None, "s3:ListBucket on arn:aws:s3:::b"),
        (
            "copy_object",
            {"Bucket": "b", "Key": "k", "CopySource": {"Bucket": "a", "Key": "s"}},
            "cn-north-1",
            "s3:PutObject on arn:aws-cn:s3:::b/k and"
            " s3:GetObject on arn:aws-cn:s3:::a/s",
        ),
        (
            "delete_objects",
            {"Bucket": "b"},
            "us-gov-west-1",
            "s3:DeleteObject on arn:aws-us-gov:s3:::b/*",
        ),
        (
            "head_object",
            {"Bucket": "b", "Key": "k"},
            "eu-west-1",
            "s3:GetObject on arn:aws:s3:::b/k and s3:ListBucket on arn:aws:s3:::b",
        ),
        ("list_buckets", {}, None, "s3:ListAllMyBuckets on *"),
        ("something_new", {"Bucket": "b"}, None, ""),
    ],
)
def test_a_request_names_what_it_needs(
    operation: str, parameters: Mapping[str, object], region: str | None, expected: str
) -> None:
    """The action and the resource, as a policy writes them."""
    assert s3_permissions.needed(operation, parameters, region) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/storage/v1/b/b/o/d%2Fk", "storage.objects.get"),
        ("GET", "/storage/v1/b/b/o?prefix=x", "storage.objects.list"),
        ("POST", "/upload/storage/v1/b/b/o", "storage.objects.cr"),
        (
            "POST",
            "/storage/v1/b/b/o/k/rewriteTo/b/b/o/l",
            "storage.objects.get and",
        ),
        ("PATCH", "/storage/v1/b/b/o/k", "storage.objects.update"),
        ("POST", "/batch/storage/v1", ""),
    ],
)
def test_a_request_of_google_names_what_it_needs(
    method: str, path: str, expected: str
) -> None:
    """The permission of IAM, and the object."""
    url = f"https://host{path}"

    assert gcs_permissions.needed(method, url).startswith(expected)
    if "d%2Fk" in path:
        assert gcs_permissions.needed(method, url).endswith("on gs://b/d/k")


def test_an_answer_keeps_its_status_and_its_number() -> None:
    """Support asks for them."""
    reply = {
        "Error": {"Code": "AccessDenied", "Message": "no"},
        "ResponseMetadata": {
            "HTTPStatusCode": 403,
            "HTTPHeaders": {"x-amz-request-id": "R1"},
        },
    }
    google = gcs_reply_error(403, {"x-guploader-uploadid": "U1"}, b"")

    assert (reply_error(reply).status, reply_error(reply).request_id) == (403, "R1")
    assert (google.status, google.request_id) == (403, "U1")


def test_a_scope_that_an_app_of_dropbox_lacks_is_told() -> None:
    """With the number of the answer."""
    lacks = auth.TokenScopeError(required_scope="files.content.write")
    error = exceptions.AuthError("R1", auth.AuthError.missing_scope(lacks))

    with pytest.raises(PermissionDenied) as caught, translated("k"):
        raise error

    assert caught.value.permission == "the scope files.content.write of the app"
    assert (caught.value.status, caught.value.request_id) == (401, "R1")


def test_what_was_refused_last_is_kept_by_key() -> None:
    """Not what says no in the course of things; the oldest go when there are many."""
    refusals = Refusals(iter(range(10_000)).__next__)
    first, last = PermissionDenied("1", key="a"), PermissionDenied("2", key="a/")
    for error in (first, NotFound("3", key="a"), Offline("4", key="a"), last):
        refusals.note(error)

    found = refusals.last("a", "a/")
    assert found is not None
    assert found.error is last
    assert refusals.last("b") is None

    refusals.note(ServiceFailed("passes", key="c"))
    assert [each.error for each in refusals.newest(1)] == [last]

    for number in range(KEPT_MAX):
        refusals.note(PermissionDenied("n", key=f"k{number}"))
    assert refusals.last("a", "a/") is None


DENIED = b"""<?xml version="1.0"?><Error><Code>AccessDenied</Code>\
<Message>Access Denied</Message></Error>"""


@pytest.mark.parametrize("client", ["light", "boto3"])
async def test_a_refusal_over_the_wire_says_all_of_it(
    client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, number, request and permission, whoever has sent it."""
    for name, value in aws_environment().items():
        monkeypatch.setenv(name, value)
    head = (
        f"HTTP/1.1 403 Forbidden\r\ncontent-length: {len(DENIED)}\r\n"
        "content-type: application/xml\r\nx-amz-request-id: R1\r\n\r\n"
    )
    with ScriptedServer([head.encode() + DENIED]) as server:
        options = {"endpoint_url": server.url, "s3_client": client}
        store = open_store("s3://bucket/pre", options)
        with pytest.raises(PermissionDenied) as caught:
            await store.write("k", BytesBody(b"x"))
        await store.close()

    error = caught.value
    assert (error.status, error.request_id, error.request) == (403, "R1", "PutObject")
    assert error.permission == "s3:PutObject on arn:aws:s3:::bucket/pre/k"


async def test_what_was_not_answered_in_time_is_kept(autojump_clock: MockClock) -> None:
    """A request that runs out of time fails nowhere but at its deadline."""
    refusals = Refusals()
    store = FaultyStore(MemoryStore(), hang("stat"))

    with pytest.raises(TimedOut):
        await RetryStorager(store, RetryPolicy(), refusals=refusals).stat("k")

    found = refusals.last("k")
    assert found is not None
    assert found.error.reason == "stat: no answer within 10 s"


def test_what_a_service_says_is_kept_to_some_length() -> None:
    """A status has room for many errors, whatever a store answers."""
    reply = {"Error": {"Code": "AccessDenied", "Message": "x" * (1 << 20)}}

    assert reply_error(reply, "k").reason == "x" * MESSAGE_MAX
