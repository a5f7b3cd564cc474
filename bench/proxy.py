"""A link with a round trip: a TCP proxy that delays, and limits, what it carries.

    python -m bench.proxy HOST:PORT --rtt-ms 20 [--mbit 1000]

It is a process of its own, so that its work is not counted to a file system under test,
and knows nothing of what it carries but where an HTTP request begins. Each direction
costs half the round trip; a new connection costs a whole one more, as the handshake of
TCP does. The delay is a queue: however much is under way, nothing waits for room, so
throughput is the machine's, or the limit's. All connections share the limit, each
direction having one of its own.

It first prints its port. Then it reads commands, one a line, and answers each with a
line: `rtt MS`, `mbit N` (0: no limit), `stats` (JSON, counted from the start).
"""

import argparse
import heapq
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

CHUNK = 256 * 1024
MOST_UNDER_WAY = 64 * 1024 * 1024
"""Of one connection and direction: 20 ms at 3 GB/s. Beyond it, reading pauses."""
METHODS = (b"GET /", b"PUT /", b"HEAD ", b"POST ", b"DELET")
_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT


@dataclass(slots=True)
class Link:
    """What the link is like, and what it has carried."""

    rtt_s: float
    bytes_per_s: float = 0.0
    requests: int = 0
    connections: int = 0
    methods: dict[str, int] = field(default_factory=dict)
    sent: list[int] = field(default_factory=lambda: [0, 0])
    _is_free_at: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def arrival(self, now: float, opened_at: float, direction: int, size: int) -> float:
        """Return when what is sent now arrives at the other side."""
        start = max(now, opened_at + self.rtt_s)
        if self.bytes_per_s:
            start = max(start, self._is_free_at[direction])
            start += size / self.bytes_per_s
            self._is_free_at[direction] = start
        return start + self.rtt_s / 2

    def count(self, direction: int, piece: bytes) -> None:
        """Remember what was carried. A request begins a piece: nobody pipelines."""
        self.sent[direction] += len(piece)
        if direction == 0 and piece[:5] in METHODS:
            self.requests += 1
            method = piece[:8].split(b" ", 1)[0].decode()
            self.methods[method] = self.methods.get(method, 0) + 1

    def told(self) -> str:
        """Return the counts as JSON."""
        used = os.times()
        return json.dumps(
            {
                "requests": self.requests,
                "methods": self.methods,
                "connections": self.connections,
                "up": self.sent[0],
                "down": self.sent[1],
                "cpu_s": used.user + used.system,
            }
        )


@dataclass(eq=False, slots=True)
class End:
    """One socket of a pair; what it reads goes to its peer, later."""

    socket: socket.socket
    direction: int
    opened_at: float
    peer: "End | None" = None
    arrived: deque[bytes] = field(default_factory=deque)
    under_way: int = 0  # what was read here and not yet written at the peer
    last_arrival: float = 0.0
    events: int = _READ
    has_ended: bool = False
    is_closed: bool = False


class Proxy:
    """Carries bytes between whoever connects and one upstream address."""

    def __init__(
        self,
        upstream: tuple[str, int],
        link: Link,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.link = link
        self._upstream = upstream
        self._clock = clock
        self._ends: dict[int, End] = {}
        self._queue: list[tuple[float, int, End, bytes]] = []
        self._sequence = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, _READ)

    @property
    def port(self) -> int:
        """Return where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def run(self, commands: int) -> None:
        """Serve until `commands` is at its end."""
        self._epoll.register(commands, _READ)
        while True:
            # select counts in microseconds, epoll in milliseconds rounded up.
            select.select([self._epoll.fileno()], [], [], self._wait())
            for number, events in self._epoll.poll(0):
                if number == commands:
                    if not self._obey(commands):
                        return
                elif number == self._listener.fileno():
                    self._accept()
                else:
                    self._serve(number, events)
            self.deliver()

    def close(self) -> None:
        """Close all sockets."""
        for end in list(self._ends.values()):
            self._drop(end)
        self._listener.close()
        self._epoll.close()

    def _wait(self) -> float | None:
        return max(0.0, self._queue[0][0] - self._clock()) if self._queue else None

    def _obey(self, commands: int) -> bool:
        lines = os.read(commands, 4096).decode().splitlines()
        for line in lines:
            word, _, value = line.partition(" ")
            if word == "rtt":
                self.link.rtt_s = float(value) / 1000
            elif word == "mbit":
                self.link.bytes_per_s = float(value) * 1e6 / 8
            print(self.link.told(), flush=True)
        return bool(lines)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        try:
            upstream = socket.create_connection(self._upstream, timeout=5)
        except OSError:
            accepted.close()
            return
        now = self._clock()
        near, far = End(accepted, 0, now), End(upstream, 1, now)
        near.peer, far.peer = far, near
        for end in (near, far):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends[end.socket.fileno()] = end
            self._epoll.register(end.socket, end.events)
        self.link.connections += 1

    def _serve(self, number: int, events: int) -> None:
        end = self._ends.get(number)
        if end is None:
            return
        if events & _WRITE:
            self._write(end)
        if not end.is_closed and events & ~_WRITE and not end.has_ended:
            self._read(end)

    def _read(self, end: End) -> None:
        try:
            piece = end.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self.link.count(end.direction, piece)
        when = self.link.arrival(
            self._clock(), end.opened_at, end.direction, len(piece)
        )
        when = max(when, end.last_arrival)  # nothing overtakes if the link changes
        end.last_arrival = when
        self._sequence += 1
        heapq.heappush(self._queue, (when, self._sequence, end, piece))
        end.under_way += len(piece)
        if not piece:
            end.has_ended = True
        self._watch(end)

    def deliver(self) -> None:
        """Write what has arrived by now."""
        now = self._clock()
        while self._queue and self._queue[0][0] <= now:
            _, _, end, piece = heapq.heappop(self._queue)
            peer = end.peer
            if peer is None or peer.is_closed:
                continue
            peer.arrived.append(piece)
            if len(peer.arrived) == 1:
                self._write(peer)

    def _write(self, end: End) -> None:
        source = end.peer
        assert source is not None
        while end.arrived:
            piece = end.arrived[0]
            if not piece:  # the other side closed
                self._drop(end)
                self._drop(source)
                return
            try:
                sent = end.socket.send(piece)
            except BlockingIOError:
                break
            except OSError:
                self._drop(end)
                self._drop(source)
                return
            source.under_way -= sent
            if sent < len(piece):
                end.arrived[0] = piece[sent:]
                break
            end.arrived.popleft()
        self._watch(end)
        self._watch(source)

    def _watch(self, end: End) -> None:
        """Listen for what this end now waits for."""
        if end.is_closed:
            return
        reads = not end.has_ended and end.under_way < MOST_UNDER_WAY
        events = (_READ if reads else 0) | (_WRITE if end.arrived else 0)
        if events == end.events:
            return
        number = end.socket.fileno()
        if not events:
            self._epoll.unregister(number)  # or a hang-up would be told for ever
        elif not end.events:
            self._epoll.register(number, events)
        else:
            self._epoll.modify(number, events)
        end.events = events

    def _drop(self, end: End) -> None:
        if end.is_closed:
            return
        end.is_closed = True
        if end.events:
            self._epoll.unregister(end.socket)
        del self._ends[end.socket.fileno()]
        end.socket.close()


def main() -> None:
    """Serve until stdin is at its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--mbit", type=float, default=0.0)
    arguments = parser.parse_args()
    host, _, port = arguments.upstream.rpartition(":")
    link = Link(arguments.rtt_ms / 1000, arguments.mbit * 1e6 / 8)
    proxy = Proxy((host, int(port)), link)
    print(proxy.port, flush=True)
    try:
        proxy.run(sys.stdin.fileno())
    finally:
        proxy.close()


if __name__ == "__main__":
    main()
