"""How fast a store answers, and how fast bytes go there and back; bounded in both.

Random bytes, so that nobody on the way can make less of them.
"""

import secrets
from collections.abc import Awaitable, Callable

import trio

from mountfs.configuration.values import format_size
from mountfs.doctor.deeds import Trial
from mountfs.sentences import reason_of
from mountfs.storage.body import BytesBody
from mountfs.storage.diagnosis import Finding, State
from mountfs.storage.errors import StoreError
from mountfs.storage.protocol import Storager

ASKED = 20
ASKING_S = 1.2
SLOW_S = 0.5
AT_ONCE = 16
RATE_S = 0.8
RATE_MAX = 400
PIECE = 4 << 20
PIECES_MAX = 8
STREAMS = 4
MOVING_S = 1.5
GRACE_S = 2.0
"""So long what is under way by then may take: a write that is given up may arrive when
all was cleaned up."""


async def pace_findings(store: Storager, trial: Trial) -> list[Finding]:
    """Measure one thing after the other, for some seconds in all."""
    found: list[Finding] = []
    for name, work in (
        ("latency", _latency),
        ("request rate", _rate),
        ("throughput up", _up),
        ("throughput down", _down),
    ):
        try:
            found.append(await work(store, trial))
        except StoreError as error:
            found.append(Finding(name, State.SKIP, reason_of(error)))
    return found


async def _ask(store: Storager, trial: Trial) -> None:
    if trial.example is not None:
        await store.stat(trial.example.key)
    else:
        await store.list("", limit=1)


async def _latency(store: Storager, trial: Trial) -> Finding:
    taken: list[float] = []
    began = trio.current_time()
    while len(taken) < ASKED and trio.current_time() - began < ASKING_S:
        start = trio.current_time()
        await _ask(store, trial)
        taken.append(trio.current_time() - start)
    taken.sort()
    middle_s, late_s = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    text = f"{middle_s * 1000:.0f} ms, of 99 % at most {late_s * 1000:.0f} ms"
    if middle_s > SLOW_S:
        cure = "mount from nearer, or with --ttl 1m or longer and --durability journal"
        return Finding("latency", State.WARN, text, cure)
    return Finding("latency", State.OK, text)


async def _rate(store: Storager, trial: Trial) -> Finding:
    asked = answered = 0

    async def ask_on() -> None:
        nonlocal asked, answered
        while asked < RATE_MAX:
            asked += 1
            await _ask(store, trial)
            answered += 1

    began = trio.current_time()
    await _several(AT_ONCE, ask_on, RATE_S)
    taken_s = max(trio.current_time() - began, 1e-3)
    text = f"{answered / taken_s:.0f} small requests a second, {AT_ONCE} at once"
    return Finding("request rate", State.OK, text)


async def _up(store: Storager, trial: Trial) -> Finding:
    if not trial.may_write:
        return Finding("throughput up", State.SKIP, "nothing may be written")
    data = secrets.token_bytes(PIECE)
    began_count = sent = 0
    began = trio.current_time()

    async def send_on() -> None:
        nonlocal began_count, sent
        while began_count < PIECES_MAX and trio.current_time() < began + MOVING_S:
            began_count += 1
            written = await store.write(
                trial.key(f"bytes-{began_count}"), BytesBody(data)
            )
            trial.example = written
            sent += PIECE

    await _several(STREAMS, send_on, MOVING_S + GRACE_S)
    trial.is_in_doubt = sent < began_count * PIECE
    return _moved("throughput up", sent, trio.current_time() - began)


async def _down(store: Storager, trial: Trial) -> Finding:
    example = trial.example
    if example is None or not example.size:
        return Finding("throughput down", State.SKIP, "there is no object to read")
    pieces = received = 0

    async def fetch_on() -> None:
        nonlocal pieces, received
        while pieces < PIECES_MAX:
            pieces += 1
            content = await store.read(example.key, 0, PIECE)
            received += len(content.data)

    began = trio.current_time()
    await _several(STREAMS, fetch_on, MOVING_S)
    return _moved("throughput down", received, trio.current_time() - began)


async def _several(
    count: int, work: Callable[[], Awaitable[None]], most_s: float
) -> None:
    """Do the work several times at once, and stop when the time is over."""
    failed: list[StoreError] = []

    async def watched() -> None:
        try:
            await work()
        except StoreError as error:
            failed.append(error)

    with trio.move_on_after(most_s):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(watched)
    if failed:
        raise failed[0]


def _moved(name: str, size: int, taken_s: float) -> Finding:
    if not size:
        text = f"less than {format_size(PIECE)} in {taken_s:.1f} s"
        return Finding(name, State.WARN, text, "look for what slows the network down")
    speed = size / max(taken_s, 1e-3) / 1e6
    text = f"{speed:.1f} MB/s ({format_size(size)}, {STREAMS} at once)"
    return Finding(name, State.OK, text)
