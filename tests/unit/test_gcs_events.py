"""Notifications of a bucket, by Pub/Sub."""

import contextlib
from collections.abc import Iterator

import pytest
import trio

from mountfs.backends import open_events, open_store
from mountfs.backends.gcs_keys import UPLOADS
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import InvalidRequest, NotFound
from mountfs.storage.events import Change, EventSource
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer
from tests.fakes.pubsub_server import SUBSCRIPTION, PubSubServer

URL = f"gs://{GCS_BUCKET}/pre"


@pytest.fixture
def pubsub(
    gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PubSubServer]:
    """A topic that the bucket publishes to, with a subscription."""
    with contextlib.closing(PubSubServer()) as server:
        gcs_server.notify = server.publish
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.host)
        yield server


def events(**options: str) -> EventSource:
    """Return the events of the bucket."""
    found = open_events(URL, {"events": SUBSCRIPTION, **options})
    assert found is not None
    return found


async def told(source: EventSource) -> list[Change]:
    """Wait for what has come."""
    with trio.fail_after(10):
        while not (found := await source.changes()):
            pass
    return list(found)


def test_without_a_subscription_nothing_is_told() -> None:
    """There is no source, and a name that is none is refused."""
    assert open_events(URL, {}) is None
    with pytest.raises(InvalidRequest, match="subscriptions"):
        open_events(URL, {"events": "mount"})


async def test_each_change_is_told_once(
    gcs_server: GcsServer, pubsub: PubSubServer
) -> None:
    """With the state that it made, so that our own can be told from others."""
    options = {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True}
    store = open_store(URL, options)
    source = events()
    written = await store.write("dir/file", BytesBody(b"bytes"))
    assert await told(source) == [Change("dir/file", written)]
    await store.delete("dir/file")
    assert await told(source) == [Change("dir/file", is_gone=True)]
    assert pubsub.waiting == 1  # until it is taken in
    gcs_server.put(GCS_BUCKET, "pre/another", b"")
    await told(source)
    assert pubsub.waiting == 1
    await source.close()
    await store.close()


async def test_what_does_not_concern_the_mount_is_left_out(
    gcs_server: GcsServer, pubsub: PubSubServer
) -> None:
    """What lies beside, parts, and what was overwritten and not removed."""
    source = events()
    resource = {"name": "pre/old", "generation": "1"}
    pubsub.publish("OBJECT_DELETE", GCS_BUCKET, resource, overwrittenByGeneration="2")
    pubsub.publish("OBJECT_DELETE", "another-bucket", resource)
    gcs_server.put(GCS_BUCKET, "beside", b"")
    gcs_server.put(GCS_BUCKET, f"pre/{UPLOADS}id", b"")
    gcs_server.put(GCS_BUCKET, "pre/here", b"")

    assert [change.key for change in await told(source)] == ["here"]
    with trio.move_on_after(0.5):
        while True:
            await source.changes()
    assert pubsub.waiting == 0
    await source.close()


async def test_a_question_waits(gcs_server: GcsServer, pubsub: PubSubServer) -> None:
    """Nothing is asked again and again, and what comes is told at once."""
    source = events()
    found: list[Change] = []

    async def listen() -> None:
        found.extend(await told(source))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.sleep(0.3)
        gcs_server.put(GCS_BUCKET, "pre/file", b"")

    assert [change.key for change in found] == ["file"]
    assert pubsub.pulls == 1
    await source.close()


async def test_a_subscription_that_is_not_there_is_an_error(
    pubsub: PubSubServer,
) -> None:
    """The file system tells the operator, once, whichever source it is."""
    source = events(events="projects/project/subscriptions/other")
    for _ in range(2):
        with pytest.raises(NotFound):
            await source.changes()
    await source.close()
