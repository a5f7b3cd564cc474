"""Serves the metrics of one mount to Prometheus: HTTP, for whoever can reach the port.

The counters are looked at on the trio thread, where that needs no lock. All is small
and bounded, because it stands beside the answers to programs: a few connections at
once, one request each, and no waiting for who does not speak.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import trio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from mountfs import __version__
from mountfs.configuration.config import MountConfig
from mountfs.errors import UsageError
from mountfs.serving.connections import Connections, received
from mountfs.serving.metrics_text import Look, registry_of

log = logging.getLogger(__name__)

PATH = "/metrics"
CONNECTIONS_MAX = 8
REQUEST_SIZE_MAX = 1 << 13
TIMEOUT_S = 10.0
LOOK_FREE_S = 0.01
LOOK_COST = 50
"""A look that takes longer than that, at a million of pending entries say, counts for
fifty times as long: whoever asks often cannot keep the mount from its programs."""
_PLAIN = "text/plain; charset=utf-8"


class MetricsServer:
    """Answers `GET /metrics` until its task is cancelled."""

    def __init__(
        self,
        address: str,
        port: int,
        look: Callable[[], Look],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._port = port
        self._look = look
        self._clock = clock
        self._seen: tuple[float, Look] | None = None
        """The last look that took long, and until when it counts."""
        self._connections = Connections(
            CONNECTIONS_MAX, "the metrics could not be told"
        )

    async def serve(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and answer. Raises `UsageError` if the port cannot be had."""
        try:
            listeners = await trio.open_tcp_listeners(self._port, host=self._address)
        except OSError as error:
            cause = error.strerror or error
            raise UsageError(
                f"cannot serve metrics at {self._place} ({cause}): choose another"
                " --metrics-port, or another --metrics-address"
            ) from error
        log.info("metrics are at http://%s%s", self._place, PATH)
        if not ip_address(self._address).is_loopback:
            log.info("whoever can reach %s can read them", self._place)
        task_status.started()
        await trio.serve_listeners(self._answer, listeners)

    @property
    def _place(self) -> str:
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"{host}:{self._port}"

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with self._connections.held(stream) as is_heard:
            if is_heard:
                with trio.move_on_after(TIMEOUT_S):
                    request = await received(stream, b"\r\n\r\n", REQUEST_SIZE_MAX)
                    reply = await self._reply(request.decode("latin-1"))
                    await stream.send_all(reply)

    async def _reply(self, request: str) -> bytes:
        first, _, rest = request.partition("\r\n")
        method, _, target = first.partition(" ")
        path = target.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", _PLAIN, b"GET it\n")
        if path != PATH:
            return _response("404 Not Found", _PLAIN, f"see {PATH}\n".encode())
        encode, kind = _encoder(_header(rest, "accept"))
        # The look is a moment, the text is some milliseconds: programs would wait.
        body: bytes = await trio.to_thread.run_sync(_encoded, encode, self._looked())
        return _response("200 OK", kind, body, is_head=method == "HEAD")

    def _looked(self) -> Look:
        begun_s = self._clock()
        if self._seen is not None and begun_s < self._seen[0]:
            return self._seen[1]
        look = self._look()
        ended_s = self._clock()
        taken_s = ended_s - begun_s
        is_long = taken_s > LOOK_FREE_S
        self._seen = (ended_s + LOOK_COST * taken_s, look) if is_long else None
        return look


@asynccontextmanager
async def served(config: MountConfig, look: Callable[[], Look]) -> AsyncIterator[None]:
    """Serve the metrics of a mount during the block, if that is wanted."""
    if config.metrics_port is None:
        yield
        return
    server = MetricsServer(config.metrics_address, config.metrics_port, look)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        yield
        nursery.cancel_scope.cancel()


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """Return how to write what somebody says that he accepts, and its name."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # it names a version that is none
        return choose_encoder("")


def _encoded(encode: Callable[[CollectorRegistry], bytes], look: Look) -> bytes:
    return encode(registry_of(look))


def _header(lines: str, wanted: str) -> str:
    for line in lines.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == wanted:
            return value.strip()
    return ""


def _response(status: str, kind: str, body: bytes, *, is_head: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Server: mountfs/{__version__}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)
