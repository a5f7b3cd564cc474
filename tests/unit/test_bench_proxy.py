"""The benchmark's link: when things arrive, in which order, and what is counted."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from bench.proxy import Link, Proxy
from tests.fakes.clocks import Clock


def test_a_piece_takes_half_the_round_trip() -> None:
    """Each direction has its half; the handshake costs a whole one before."""
    link = Link(rtt_s=0.02)

    assert link.arrival(now=5.0, opened_at=1.0, direction=0, size=1) == 5.01
    assert link.arrival(now=1.0, opened_at=1.0, direction=0, size=1) == 1.03


def test_what_is_under_way_delays_nothing() -> None:
    """Without a limit, a thousand pieces sent at once arrive at once."""
    link = Link(rtt_s=0.02)

    arrivals = {link.arrival(2.0, 0.0, 0, 1 << 20) for _ in range(1000)}
    assert arrivals == {2.01}


def test_the_limit_is_shared_within_a_direction() -> None:
    """Two pieces of a second each arrive after one and after two seconds."""
    link = Link(rtt_s=0.0, bytes_per_s=1000)

    assert link.arrival(0.0, 0.0, 0, 1000) == 1.0
    assert link.arrival(0.0, 0.0, 0, 1000) == 2.0
    assert link.arrival(0.0, 0.0, 1, 1000) == 1.0


@pytest.fixture
def upstream() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def pump(proxy: Proxy, has_come: Callable[[], bool]) -> None:
    """Let the proxy run until something has come."""
    reading, writing = os.pipe()
    thread = threading.Thread(target=proxy.run, args=(reading,))
    thread.start()
    for _ in range(1000):
        if has_come():
            break
        time.sleep(0.005)
    os.close(writing)
    thread.join(10)
    os.close(reading)
    assert has_come()


def test_bytes_arrive_whole_in_order_and_not_before_their_time(
    upstream: socket.socket,
) -> None:
    """Nothing is delivered until the clock says so; then all of it, as it was sent."""
    clock = Clock()
    link = Link(rtt_s=50.0)
    with (
        closing(Proxy(upstream.getsockname(), link, clock=clock)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
    ):
        client.sendall(b"GET /a HTTP/1.1\r\n")
        pump(proxy, lambda: link.sent[0] == 17)
        far, _ = upstream.accept()
        with far:
            far.setblocking(False)
            client.sendall(b"rest")
            clock.now_s += 70
            pump(proxy, lambda: link.sent[0] == 21)
            with pytest.raises(BlockingIOError):
                far.recv(100)

            clock.now_s += 30
            proxy.deliver()

            far.settimeout(10)
            assert far.recv(17) + far.recv(4) == b"GET /a HTTP/1.1\r\nrest"

    told = json.loads(link.told())
    assert (told["requests"], told["methods"]) == (1, {"GET": 1})
    assert (told["connections"], told["up"], told["down"]) == (1, 21, 0)
