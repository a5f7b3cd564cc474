"""Notifications of a bucket, by a queue of SQS."""

import contextlib
import logging
import uuid
from collections.abc import Iterator

import pytest
import trio

from mountfs.backends import open_events, open_store
from mountfs.backends.s3_events import QueueEvents
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    CredentialsRejected,
    InvalidRequest,
    NotFound,
    PermissionDenied,
)
from mountfs.storage.events import Change
from tests.fakes.http_proxy import HttpProxy, Reply, Request
from tests.fakes.s3_servers import S3Server
from tests.fakes.sqs import ACCOUNT, Queue
from tests.unit.test_s3_notifications import record


@pytest.fixture
def queue(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue, where the SDK looks for the service."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto_server.endpoint_url)
    name = f"changes-{uuid.uuid4().hex[:12]}"
    with contextlib.closing(Queue(moto_server, name)) as made:
        yield made


def events(bucket: str, named: str, prefix: str = "pre") -> QueueEvents:
    """Return the events of a bucket."""
    found = open_events(f"s3://{bucket}/{prefix}", {"events": named})
    assert isinstance(found, QueueEvents)
    return found


async def told(source: QueueEvents) -> list[Change]:
    """Wait for what has come."""
    with trio.fail_after(20):
        while not (found := await source.changes()):
            pass
    return list(found)


async def _until_asked_again(source: QueueEvents, queue: Queue) -> None:
    """Ask on until nothing waits in the queue."""

    async def ask() -> None:
        while True:
            await source.changes()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(20):
            while await trio.to_thread.run_sync(lambda: queue.waiting):  # noqa: ASYNC110 - the queue tells nobody
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


def test_options() -> None:
    """There is no source without a queue, and a name that is none is refused."""
    assert open_events("s3://bucket", {}) is None
    for name in ("mount", "sqs://", "sqs://eu-west-1/5/name", "sqs://a b"):
        with pytest.raises(InvalidRequest, match="sqs://QUEUE"):
            open_events("s3://bucket", {"events": name})
    with pytest.raises(InvalidRequest, match="credentials"):
        open_events("s3://bucket", {"events": "sqs://q", "no_sign_request": True})


async def test_each_change_is_told_and_then_deleted(
    moto_server: S3Server, moto_bucket: str, queue: Queue
) -> None:
    """A message stays in the queue until what it told has been taken in."""
    queue.hear_of(moto_server, moto_bucket)
    url = f"s3://{moto_bucket}/pre"
    store = open_store(url, {"endpoint_url": moto_server.endpoint_url})
    source = events(moto_bucket, f"sqs://{queue.name}")
    written = await store.write("dir/a file+", BytesBody(b"bytes"))
    (change,) = await told(source)
    assert change.key == "dir/a file+"
    assert change.object is not None
    assert change.object.version == written.version
    assert queue.waiting

    await store.delete("dir/a file+")
    assert await told(source) == [Change("dir/a file+", is_gone=True)]
    await _until_asked_again(source, queue)
    await source.close()
    await store.close()


async def test_what_is_not_taken_in_is_told_again(queue: Queue) -> None:
    """By the next process, if this one ends before it asks on."""
    queue.hide_nothing()
    queue.send({"Records": [record("ObjectRemoved:Delete")]})
    for _ in range(2):
        source = events("bucket", f"sqs://{queue.name}")
        assert await told(source) == [Change("file", is_gone=True)]
        await source.close()


async def test_many_messages_come_together(queue: Queue) -> None:
    """One answer takes ten, and a mount that was away for long has thousands."""
    keys = (f"pre/{number}" for number in range(35))
    queue.send(*({"Records": [record("ObjectCreated:Copy", key)]} for key in keys))
    source = events("bucket", f"sqs://{queue.name}")

    assert len({change.key for change in await told(source)}) == 35
    await _until_asked_again(source, queue)
    await source.close()


async def test_messages_of_no_use_are_deleted(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Of other prefixes and of nothing; of what is no notification one warning."""
    other = {"Records": [record("ObjectCreated:Put", "pre2/file")]}
    queue.send("no json", "{}", {"Event": "s3:TestEvent"}, other)
    source = events("bucket", f"sqs://{queue.name}")

    with caplog.at_level(logging.WARNING):
        await _until_asked_again(source, queue)
    (warning,) = [line for line in caplog.messages if "no notification" in line]
    assert queue.name in warning
    caplog.clear()
    await source.close()


async def test_a_queue_of_another_region_is_named_with_its_account(
    moto_server: S3Server, queue: Queue
) -> None:
    """A name alone is looked for where the bucket is, and the error says what to do."""
    with contextlib.closing(
        Queue(moto_server, f"{queue.name}-far", "eu-west-1")
    ) as far:
        far.send({"Records": [record("ObjectCreated:Copy")]})
        source = events("bucket", f"sqs://eu-west-1/{ACCOUNT}/{far.name}")
        assert await told(source) == [Change("file")]
        await source.close()
        near = events("bucket", f"sqs://{far.name}")
        with pytest.raises(NotFound, match="us-east-1: --events sqs://REGION/ACCOUNT"):
            await near.changes()
        await near.close()


class _Refusing(HttpProxy):
    """Refuses one action, as SQS does."""

    refused = "ReceiveMessage"
    code = "AccessDeniedException"

    def __init__(self, upstream: S3Server) -> None:
        super().__init__(upstream)
        self.seen: list[str] = []

    def answer(self, request: Request) -> Reply:
        """Refuse, or hand on."""
        target = request.header("x-amz-target")
        self.seen.append(request.header("authorization"))
        if not target.endswith(f".{self.refused}"):
            return self.forward(request)
        body = f'{{"__type": "com.amazonaws.sqs#{self.code}", "message": "no access"}}'
        return Reply(
            400, [("content-type", "application/x-amz-json-1.0")], body.encode()
        )


@pytest.fixture
def refusing(
    moto_server: S3Server, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> Iterator[_Refusing]:
    """A service that refuses."""
    with contextlib.closing(_Refusing(moto_server)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", proxy.endpoint_url)
        yield proxy


async def test_a_refused_permission_is_named(refusing: _Refusing, queue: Queue) -> None:
    """The file system tells the operator, once, whichever source it is."""
    source = events("bucket", f"sqs://{queue.name}")
    with pytest.raises(PermissionDenied, match="they need sqs:ReceiveMessage"):
        await source.changes()
    await source.close()


async def test_messages_that_may_not_be_deleted_are_told_all_the_same(
    refusing: _Refusing, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Again and again; one warning says so."""
    refusing.refused = "DeleteMessageBatch"
    queue.hide_nothing()
    queue.send({"Records": [record("ObjectCreated:Copy")]})
    source = events("bucket", f"sqs://{queue.name}")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await told(source) == [Change("file")]
    assert len([each for each in caplog.messages if "stays in" in each]) == 1
    caplog.clear()
    await source.close()


async def test_new_credentials_are_looked_for(
    refusing: _Refusing, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a mount expire."""
    refusing.code = "ExpiredTokenException"
    queue.send({"Records": [record("ObjectCreated:Copy")]})
    source = events("bucket", f"sqs://{queue.name}")
    with pytest.raises(CredentialsRejected):
        await source.changes()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
    refusing.refused = ""

    assert await told(source) == [Change("file")]
    assert "Credential=renewed/" in refusing.seen[-1]
    await source.close()


async def test_a_question_that_waits_can_be_given_up(queue: Queue) -> None:
    """An unmount does not wait for it."""
    source = events("bucket", f"sqs://{queue.name}")
    with trio.fail_after(10):
        with trio.move_on_after(0.5):
            await source.changes()
        while source._threads.busy:  # noqa: ASYNC110 - a thread ends
            await trio.sleep(0.01)
    await source.close()
