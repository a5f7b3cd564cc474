"""What is told of operations while somebody looks, and what it looks like."""

import errno
import re

import trio

from mountfs.actions.trace import lines_of
from mountfs.storage.meter import Meter
from mountfs.storage.reason import Reason, because
from mountfs.storage.tracing import REQUESTS_MAX, UNTOLD_MAX, Tracer
from mountfs.storage.wire import exchange, record_with


def _send(request: str, status: int) -> None:
    with exchange(request) as told:
        told.status = status
        told.request_id = "4711"
        told.received_bytes = 2048


async def test_an_operation_is_told_with_the_requests_it_caused() -> None:
    """Requests of its threads and child tasks are its own."""
    tracer = Tracer()
    record_with(meter := Meter(tracer))

    with tracer.watching() as events:
        with tracer.operation("read", "a/b", "7 bytes at 0") as told:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, _send, "GetObject", 503)
            meter.retried()
            _send("GetObject", 206)
            told.error = errno.EIO
        fields = (await events.receive()).told()

    lines = list(lines_of(fields))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3}  1 read /a/b 7 bytes at 0 -> EIO"
        r" \(\d+\.\d ms, 1 retries\)",
        lines[0],
    )
    assert [re.sub(r"\d+\.\d ms", "T", line.strip()) for line in lines[1:]] == [
        "> GetObject 503 (T, 2 KiB received, id 4711)",
        "> GetObject 206 (T, 2 KiB received, id 4711)",
    ]


async def test_an_operation_of_very_many_requests_is_told_in_bounded_lines() -> None:
    """To rename a directory of a million files takes millions of them."""
    tracer = Tracer()
    record_with(Meter(tracer))

    with tracer.watching() as events:
        with tracer.operation("rename", "a/", "to b/"):
            for _ in range(REQUESTS_MAX + 1):
                _send("CopyObject", 200)
        whole = await events.receive()
        more = await events.receive()

    assert (len(whole.requests), whole.number) == (REQUESTS_MAX, more.number)
    assert (len(more.requests), more.operation) == (1, "")


async def test_requests_behind_an_operation_are_told_by_themselves() -> None:
    """What ends later says what began it; what nobody began says nothing."""
    tracer = Tracer()
    record_with(Meter(tracer))
    is_over = trio.Event()

    async def ahead() -> None:
        await is_over.wait()
        with because(Reason.PREFETCH):
            _send("GetObject", 0)

    with tracer.watching() as events:
        async with trio.open_nursery() as nursery:
            with tracer.operation("read", "a", ""):
                nursery.start_soon(ahead)
                await trio.lowlevel.checkpoint()
            is_over.set()
        await trio.to_thread.run_sync(_send, "PutObject", 200)
        told = [(await events.receive()).told() for _ in range(3)]

    texts = [
        re.sub(r"[\d:]+\.\d+", "T", line) for each in told for line in lines_of(each)
    ]
    assert texts == [
        "T  1 read /a (T ms)",
        "T   (behind, begun by 1) GetObject no answer"
        " (T ms, 2 KiB received, prefetch, id 4711)",
        "T   (behind) PutObject 200 (T ms, 2 KiB received, id 4711)",
    ]


async def test_nothing_is_followed_while_nobody_looks() -> None:
    """The last who looks away ends it, and no context remains."""
    tracer = Tracer()
    record_with(Meter(tracer))

    with tracer.watching(), tracer.watching():
        states = [tracer.is_on]
    states.append(tracer.is_on)
    _send("GetObject", 200)

    assert states == [True, False]


async def test_who_reads_slowly_is_told_how_much_was_lost() -> None:
    """The mount does not wait for the eye."""
    tracer = Tracer()

    with tracer.watching() as events:
        for _ in range(UNTOLD_MAX + 5):
            with tracer.operation("getattr", "", ""):
                pass
        for _ in range(UNTOLD_MAX):
            events.receive_nowait()
        with tracer.operation("getattr", "", ""):
            pass
        last = events.receive_nowait()

    assert last.lost == 5
    first, _ = lines_of(last.told())
    assert first == "(5 more, not shown: they came too fast)"
