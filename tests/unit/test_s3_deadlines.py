"""A request to S3 ends at its deadline: its socket is closed, its thread is free."""

import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from mountfs.backends._threads import Line, Threads
from mountfs.backends.s3 import S3Storager, open_s3
from mountfs.backends.s3_options import S3Options
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import TimedOut
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.retry import RetryStorager
from tests.fakes import s3_servers
from tests.fakes.cutting_proxy import CuttingProxy, Stall, StallBody
from tests.fakes.s3_servers import S3Server
from tests.fakes.silent_server import SilentServer

SOON_S = 10.0
"""Much less than the 60 s after which the SDK itself gives up."""


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    with SilentServer() as server:
        yield server


@asynccontextmanager
async def opened(
    endpoint_url: str, bucket: str = "bucket", **more: object
) -> AsyncIterator[S3Storager]:
    options = {
        "endpoint_url": endpoint_url,
        "addressing_style": "path",
        "requests_max": 4,
        **more,
    }
    store = open_s3(f"s3://{bucket}", options)
    assert isinstance(store, S3Storager)
    yield store
    await store.close()


async def wait_until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(SOON_S):
        while not is_so():  # noqa: ASYNC110 - threads set no event
            await trio.sleep(0.01)


async def test_a_cancelled_request_ends_its_connection_and_its_thread(
    s3_credentials: None, silent: SilentServer
) -> None:
    """The server sees the end of each connection, and no thread stays behind."""
    before = threading.active_count()
    async with opened(silent.endpoint_url) as store:
        begun_s = time.monotonic()
        for _ in range(3):
            with trio.move_on_after(0.3):
                async with trio.open_nursery() as nursery:
                    for number in range(8):  # twice as many as there are places
                        nursery.start_soon(store.stat, f"key-{number}")
            await wait_until(lambda: store.busy == 0)

        assert time.monotonic() - begun_s < SOON_S
        assert silent.wait_for_ended(12, SOON_S)
    # Trio keeps idle threads for its next calls, of which there were four at once.
    assert threading.active_count() <= before + 2 * 4 + 2


async def test_an_upload_that_nobody_reads_ends(s3_credentials: None) -> None:
    """A body that is stuck in the middle is no longer sent at the deadline."""
    with DeafServer() as deaf:
        async with opened(deaf.endpoint_url) as store:
            with trio.move_on_after(0.5):
                await store.write("a", BytesBody(bytes(6 << 20)))

            await wait_until(lambda: store.busy == 0)


class DeafServer(SilentServer):
    """Takes connections and does not read from them."""

    def listen_to(self, connection: socket.socket) -> None:
        """Wait for the end alone."""
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        poll.poll(60_000)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_deadline_of_a_class_is_kept(
    s3_credentials: None, silent: SilentServer, scheme: str
) -> None:
    """With the retries around it a `stat` is over when its time is, in the middle of
    a TLS handshake too.
    """
    endpoint_url = silent.endpoint_url.replace("http", scheme)
    async with opened(endpoint_url) as store:
        retried = RetryStorager(store, RetryPolicy(metadata_s=0.5))
        begun_s = time.monotonic()
        with pytest.raises(TimedOut):
            await retried.stat("a")

        assert time.monotonic() - begun_s < SOON_S
        await wait_until(lambda: store.busy == 0)


async def test_one_stuck_key_blocks_nothing_else(moto_server: S3Server) -> None:
    """Four requests for it fill every place; the next in line is served at the
    deadline and not a minute later.
    """
    with (
        s3_servers.bucket(moto_server) as bucket,
        CuttingProxy(moto_server) as proxy,
    ):
        moto_server.client().put_object(Bucket=bucket, Key="a", Body=b"x")
        async with opened(proxy.endpoint_url, bucket) as store:
            for _ in range(4):
                proxy.fail("GetObject", Stall())
            begun_s = time.monotonic()
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(gives_up_after, store, 1.0)
                await wait_until(lambda: store.busy == 4)
                found = await store.stat("a")

            assert found.size == 1
            assert time.monotonic() - begun_s < SOON_S


async def gives_up_after(store: S3Storager, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await store.read("a")


async def test_a_body_that_stops_coming_is_given_up(moto_server: S3Server) -> None:
    """Also when the headers have come, and the body has begun."""
    stall = StallBody(1000)
    with (
        s3_servers.bucket(moto_server) as bucket,
        CuttingProxy(moto_server) as proxy,
    ):
        moto_server.client().put_object(Bucket=bucket, Key="a", Body=bytes(1 << 20))
        proxy.fail("GetObject", stall)
        async with opened(proxy.endpoint_url, bucket) as store:
            with trio.move_on_after(SOON_S) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(store.read, "a")
                    await wait_until(stall.has_begun.is_set)
                    scope.cancel()

            await wait_until(lambda: store.busy == 0)
            assert (await store.read("a")).data == bytes(1 << 20)


async def test_every_class_of_requests_has_threads_of_its_own(
    s3_credentials: None, silent: SilentServer
) -> None:
    """A mount that reads, writes and copies as much as it may still asks for names."""
    most, usual = Limits(), S3Options().requests_max
    async with opened(silent.endpoint_url, requests_max=usual) as store:
        limited = LimitStorager(store, most)
        async with trio.open_nursery() as nursery:
            for _ in range(most.reads):
                nursery.start_soon(limited.read, "a")
            for _ in range(most.uploads):
                nursery.start_soon(limited.write, "a", BytesBody(b"x"))
            for _ in range(most.copies):
                nursery.start_soon(limited.copy, "a", "b")
            for _ in range(most.metadata):
                nursery.start_soon(limited.stat, "a")
            everything = most.reads + most.uploads + most.copies + most.metadata
            await wait_until(lambda: store.busy == everything)
            nursery.cancel_scope.cancel()


async def test_a_line_that_is_cut_takes_no_more() -> None:
    """A call that connects after its deadline is cut as well."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Line()
        line.cut()
        line.hold(ours)

        assert theirs.recv(1) == b""
        line.close()
    line.hold(ours)  # closed since: nothing is there to be cut


async def test_a_line_that_is_cut_spares_what_it_let_go() -> None:
    """A connection that went back for others is theirs, whatever ends the call."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Line()
        line.hold(ours)
        line.let_go(ours)
        line.cut()
        line.let_go(ours)

        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
        line.close()


async def test_a_line_tells_connections_from_their_numbers() -> None:
    """A call that connects anew often gets the number of the connection before."""
    line = Line()
    ours, theirs = socket.socketpair()
    line.hold(ours)
    number = ours.fileno()
    ours.close()
    theirs.close()
    ours, theirs = socket.socketpair()
    if ours.fileno() != number:
        ours, theirs = theirs, ours
    assert ours.fileno() == number
    with ours, theirs:
        line.hold(ours)
        line.hold(ours)
        line.cut()

        assert theirs.recv(1) == b""
    line.close()


async def test_a_call_without_connections_is_abandoned() -> None:
    """A disk cannot be cut: the thread goes on, and holds its place until it ends."""
    threads = Threads(1)
    go_on = threading.Event()
    with trio.move_on_after(0.05):
        await threads.run(go_on.wait, 30)
    assert threads.busy == 1

    go_on.set()

    assert await threads.run(lambda: 42) == 42
