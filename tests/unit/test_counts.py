"""What is counted, where: operations, calls, requests over the wire."""

import errno
import random

import pyfuse3
import pytest
import trio

from mountfs.backends.memory import MemoryStore
from mountfs.cache.activity import Activity
from mountfs.fuse.guard import handler
from mountfs.fuse.meter import OperationMeter
from mountfs.storage.attempts import Attempts, RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.counts import BOUNDS_S, SERIES_MAX, Tally, Timings
from mountfs.storage.errors import NotFound, StayedOffline, Throttled
from mountfs.storage.meter import CountedStorager, Meter, outcome_of
from mountfs.storage.reason import Reason, because
from mountfs.storage.tracing import Tracer
from mountfs.storage.wire import exchange, record_with


class Handlers:
    """Handlers that do what they are told."""

    def __init__(self) -> None:
        self.activity = Activity()
        self.meter = OperationMeter()
        self.tracer = Tracer()

    def describe(self, name: str, arguments: object) -> tuple[str, str]:
        return "", ""

    @handler
    async def lookup(self, error: BaseException | None) -> None:
        if error is not None:
            raise error


def test_a_duration_falls_into_the_first_bucket_that_holds_it() -> None:
    """Bounds belong to the bucket below them, as Prometheus has it."""
    timings = Timings()
    for seconds in (0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.01, 1000.0):
        timings.note(seconds)

    times = timings.times()
    assert times.buckets[:2] == (2, 1)
    assert times.buckets[-1] == 1
    assert times.total == 4
    assert times.seconds == pytest.approx(1000.0 + BOUNDS_S[0] * 2.01)


def test_a_service_cannot_invent_series_without_end() -> None:
    """What comes when enough is told apart is counted together."""
    tally = Tally("other")
    for number in range(2 * SERIES_MAX):
        tally.add(str(number))

    counts = tally.counts()
    assert len(counts) == SERIES_MAX + 1
    assert sum(counts.values()) == 2 * SERIES_MAX


async def test_operations_are_counted_by_what_the_program_got() -> None:
    """Every end of a handler is counted once, a success as 0."""
    handlers = Handlers()
    await handlers.lookup(None)
    await handlers.lookup(None)
    for error in (NotFound(), OSError(errno.EEXIST, ""), KeyError("a bug")):
        with pytest.raises(pyfuse3.FUSEError):
            await handlers.lookup(error)

    assert handlers.meter.outcomes() == {
        ("lookup", 0): 2,
        ("lookup", errno.ENOENT): 1,
        ("lookup", errno.EEXIST): 1,
        ("lookup", errno.EIO): 1,
    }
    assert handlers.meter.times()["lookup"].total == 5


async def test_calls_are_counted_by_class_outcome_and_reason() -> None:
    """Each attempt is one call, however it ends."""
    meter = Meter(Tracer())
    store = CountedStorager(MemoryStore(), meter)

    await store.write("a", BytesBody(b"x"))
    with because(Reason.PREFETCH), pytest.raises(NotFound):
        await store.read("b")
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.stat("a")

    assert meter.calls() == {
        ("upload", "ok", "foreground"): 1,
        ("read", "not_found", "prefetch"): 1,
        ("metadata", "cancelled", "foreground"): 1,
    }
    assert meter.call_times()["upload"].total == 1


def test_an_error_is_one_word() -> None:
    """The outcome is the name of the error, in Prometheus's spelling."""
    assert outcome_of(StayedOffline()) == "stayed_offline"
    assert outcome_of(ValueError()) == "error"


async def test_requests_of_a_task_are_recorded_in_its_threads_and_children() -> None:
    """The recorder is inherited, like the reason."""
    meter = Meter(Tracer())
    record_with(meter)

    def send() -> None:
        with exchange("GetObject", sent_bytes=3) as told:
            told.status = 200
            told.received_bytes = 7

    async def child() -> None:
        await trio.to_thread.run_sync(send)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
    with pytest.raises(ConnectionError), exchange("PutObject"):
        raise ConnectionError
    with exchange("HeadObject") as told:
        told.status = 777

    assert meter.exchanges() == {
        ("GetObject", "200", "foreground"): 1,
        ("PutObject", "none", "foreground"): 1,
        ("HeadObject", "other", "foreground"): 1,
    }
    assert meter.wire_bytes == (3, 7)
    assert set(meter.exchange_times()) == {"GetObject", "PutObject", "HeadObject"}


async def test_retries_are_counted(autojump_clock: trio.abc.Clock) -> None:
    """One that succeeds at the third attempt was retried twice."""
    meter = Meter(Tracer())
    record_with(meter)
    errors = [Throttled(), Throttled()]

    async def request() -> str:
        if errors:
            raise errors.pop()
        return "done"

    attempts = Attempts(RetryPolicy(), random.Random(0))
    await attempts.repeat(request, what="stat", key="a", deadline_s=100)

    assert meter.retries == 2
