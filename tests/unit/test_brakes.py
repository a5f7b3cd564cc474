"""Brakes: how much goes in a second, who goes first, and that nobody fails by them."""

import socket
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mountfs.backends import _http
from mountfs.backends.memory import MemoryStore
from mountfs.storage import pace
from mountfs.storage.body import BytesBody
from mountfs.storage.brakes import Brakes, BrakeStorager
from mountfs.storage.deadline import within
from mountfs.storage.flow import AHEAD_S, PIECE_MAX, Flow
from mountfs.storage.reason import Reason, because
from mountfs.storage.turns import SHARE

MIB = 1 << 20


@pytest.fixture
def brakes(autojump_clock: MockClock) -> Brakes:
    """Brakes that go by the virtual clock."""
    return Brakes(autojump_clock.current_time)


@pytest.fixture
async def store(brakes: Brakes) -> BrakeStorager:
    """A store with an object of 1 MiB, behind brakes."""
    inner = MemoryStore()
    await inner.write("a", BytesBody(bytes(MIB)))
    return BrakeStorager(inner, brakes)


async def at_once(count: int, request: Callable[[], Awaitable[object]]) -> list[float]:
    """Send so many requests, and return after how many seconds each was answered."""
    begun_s = trio.current_time()
    ends_s: list[float] = []

    async def one() -> None:
        await request()
        ends_s.append(trio.current_time() - begun_s)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return ends_s


async def test_no_second_has_more_requests_than_the_limit(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes
) -> None:
    """The first go at once; then so many in each second, whatever the request is."""
    brakes.requests.limit(5)

    ends_s = await at_once(17, lambda: store.stat("a"))

    assert [round(each) for each in ends_s] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 2


async def test_requests_within_a_call_are_counted(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes
) -> None:
    """A call that takes three requests leaves two fewer for those that follow."""
    brakes.requests.limit(3)
    async with store._moving(None, 0):
        for _ in range(3):
            pace.note_request()

    assert await at_once(1, lambda: store.stat("a")) == [pytest.approx(1.0)]


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_bytes_go_at_the_limit(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes, direction: str
) -> None:
    """Ten bodies of a second each take ten seconds, less what may be ahead."""
    getattr(brakes, direction).limit(MIB)
    body = BytesBody(bytes(MIB))

    async def request() -> None:
        if direction == "up":
            await store.write("b", body)
        else:
            await store.read("a")

    ends_s = await at_once(10, request)

    assert 10 - 1 - 3 <= ends_s[-1] <= 10
    # By then all is paid for: what follows waits for the rest.
    begun_s = trio.current_time()
    await request()
    assert ends_s[-1] + trio.current_time() - begun_s == pytest.approx(10 - AHEAD_S)


async def test_the_other_direction_and_questions_are_not_held(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes
) -> None:
    """A limit on what is sent holds neither reads nor questions."""
    brakes.up.limit(MIB)
    for _ in range(3):
        await store.write("b", BytesBody(bytes(MIB)))
    begun_s = trio.current_time()

    await store.read("a")
    await store.stat("a")
    await store.delete("b")

    assert trio.current_time() == begun_s


async def test_waiting_counts_against_no_deadline(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes
) -> None:
    """A request that waits for minutes still has all its time when it is sent."""
    brakes.down.limit(MIB // 64)
    await store.read("a")

    with within(5.0) as scope:
        content = await store.read("a")

    assert (len(content.data), scope.cancelled_caught) == (MIB, False)
    assert trio.current_time() > 60


async def test_programs_go_before_the_background_which_is_not_starved(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes
) -> None:
    """While both wait the background has one turn in eight."""
    brakes.requests.limit(1)
    await store.stat("a")
    order: list[str] = []

    async def ask(reason: Reason) -> None:
        with because(reason):
            await store.stat("a")
        order.append(reason.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, Reason.PREFETCH)
        await wait_all_tasks_blocked()
        for _ in range(16):
            nursery.start_soon(ask, Reason.FOREGROUND)

    places = [at for at, each in enumerate(order) if each == "prefetch"]
    assert places == [SHARE - 1, 2 * SHARE - 1, 18]


async def test_a_limit_can_be_lifted_while_somebody_waits(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes
) -> None:
    """Whoever waits goes on at once."""
    brakes.requests.limit(1)
    brakes.down.limit(10 << 10)
    await store.read("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.read, "a")
        nursery.start_soon(store.stat, "a")
        await wait_all_tasks_blocked()
        begun_s = trio.current_time()
        assert brakes.waiting == 2
        brakes.down.limit(0)
        brakes.requests.limit(0)

    assert trio.current_time() == begun_s
    assert brakes.waiting == 0


async def test_who_gives_up_waiting_keeps_nobody_else(
    autojump_clock: MockClock, store: BrakeStorager, brakes: Brakes
) -> None:
    """A request that is cancelled in the queue takes no turn."""
    brakes.requests.limit(1)
    await store.stat("a")
    with trio.move_on_after(0.5):
        await store.stat("a")

    await store.stat("a")
    assert trio.current_time() == pytest.approx(1.0)


class Slow:
    """A flow with a clock that stands still, and what its threads would wait."""

    def __init__(self, rate: int) -> None:
        self.flow = Flow(lambda: 0.0)
        self.flow.limit(rate)

    def wait_s(self, size: int, *, is_background: bool = False) -> float:
        """Return how long so many bytes wait."""
        return self.flow.charge(size, is_background=is_background)


def test_pieces_are_a_tenth_of_a_second_within_bounds() -> None:
    """They are neither so small that they cost, nor so large that they are felt."""
    pieces = [Slow(rate).flow.piece for rate in (0, 10 << 10, MIB, 1 << 30)]

    assert pieces == [None, 4 << 10, MIB // 10, PIECE_MAX]


def test_the_background_is_left_an_eighth_while_programs_transfer() -> None:
    """Else it has all of it."""
    slow = Slow(1000)
    assert slow.wait_s(100, is_background=True) == pytest.approx(0.1)

    slow.flow.begin(is_background=False)

    assert slow.wait_s(100, is_background=True) == pytest.approx(0.8)
    assert slow.wait_s(100, is_background=True) == pytest.approx(1.6)
    assert slow.wait_s(100) == pytest.approx(0.4)
    slow.flow.end(is_background=False)
    assert slow.wait_s(100, is_background=True) == pytest.approx(0.5)


async def test_a_thread_that_moves_pieces_pays_for_each_and_its_request_for_none(
    autojump_clock: MockClock, brakes: Brakes
) -> None:
    """It waits for what is above the limit, and so much longer its request may take."""
    brakes.down.limit(MIB)
    body, pieces = bytes(MIB // 2), []

    with within(100.0) as scope:
        left_s = scope.deadline
        async with BrakeStorager(MemoryStore(), brakes)._moving(
            brakes.down, len(body)
        ) as kept:
            kept.abandon()  # no thread is to wait in a test
            pieces += [len(piece) for piece in pace.paid(iter([body]))]
            kept.end(len(body))
        await wait_all_tasks_blocked()
        given_s = scope.deadline - left_s

    assert sum(pieces) == len(body)
    assert set(pieces[:-1]) == {MIB // 10}
    # The virtual clock stood still, so the last piece waits for all before it.
    ends_s = [MIB // 10 * place / MIB for place in range(2, len(pieces))] + [0.5]
    assert given_s == pytest.approx(sum(ends_s))
    assert brakes.down.charge(0, is_background=False) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [1000, MIB])
async def test_a_request_to_s3_moves_its_bytes_piece_by_piece(
    brakes: Brakes, size: int
) -> None:
    """Both ways, over a real socket, and nothing is changed by it."""
    pays: list[int] = []

    class Recording:
        piece = 10_000

        def pay(self, size: int) -> None:
            pays.append(size)

        def note_request(self) -> None:
            pass

    body = bytes(range(250)) * (size // 250)
    ours, theirs = socket.socketpair()
    received = bytearray()

    def serve() -> None:
        while len(received) < 4 + len(body):
            received.extend(theirs.recv(1 << 16))
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
        theirs.sendall(head + body)

    server = threading.Thread(target=serve)
    server.start()
    token = pace.keep(Recording())
    try:
        with ours, theirs:
            connection = _http._Connection(ours, 10.0)
            connection.send(b"head", body)
            sent = sum(pays)
            answer, _ = connection.receive(is_head=False, size_max=None)
            server.join()
    finally:
        pace.leave(token)

    assert bytes(received[4:]) == answer.body == body
    assert sent == len(body)
    if size > 1 << 16:  # what is small comes with its head
        assert sum(pays) == 2 * len(body)
        assert max(pays) == 10_000
