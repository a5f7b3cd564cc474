"""One operation after the other, as it happens, for whoever wants to look.

An operation is followed while it is carried out: the requests that it causes find it
in a context variable, which the tasks and threads that are begun for it inherit. Those
that end after it, and those that nobody waits for, are told by themselves.

While nobody looks nothing is followed: who could tell asks `is_on` first.
"""

import contextlib
import contextvars
import dataclasses
import errno
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from mountfs.storage.wire import Exchange

REQUESTS_MAX = 1000
"""So many are told with their operation, in one line; more are told by themselves."""
UNTOLD_MAX = 4096
"""So much is kept for one who reads slowly; what comes after that is only counted."""


@dataclass(slots=True, kw_only=True)
class Traced:
    """One operation, or the requests that belong to none that is under way."""

    number: int
    """Of the operation; 0: none."""
    time_ns: int
    operation: str = ""
    """What the kernel asked; nothing if it is told apart from it."""
    path: str = ""
    detail: str = ""
    seconds: float = 0.0
    error: int = 0
    """The errno that the program got."""
    retries: int = 0
    requests: list[Exchange] = field(default_factory=list)
    lost: int = 0
    """How much was not told before this, because it was read too slowly."""
    is_over: bool = False

    def told(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "number": self.number,
            "time_ns": self.time_ns,
            "operation": self.operation,
            "path": self.path,
            "detail": self.detail,
            "seconds": round(self.seconds, 6),
            "error": errno.errorcode.get(self.error, str(self.error or "")),
            "retries": self.retries,
            "requests": [_request(each) for each in self.requests],
            "lost": self.lost,
        }


def _request(exchange: Exchange) -> dict[str, object]:
    return {
        "request": exchange.request,
        "reason": exchange.reason.value,
        "status": exchange.status,
        "request_id": exchange.request_id,
        "sent_bytes": exchange.sent_bytes,
        "received_bytes": exchange.received_bytes,
        "seconds": round(exchange.seconds, 6),
    }


_traced: contextvars.ContextVar[Traced | None] = contextvars.ContextVar(
    "mountfs_traced", default=None
)


class Tracer:
    """Tells those who look at one mount what it does."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether anybody looks."""
        self._watchers: list[_Watcher] = []
        self._numbers = itertools.count(1)
        self._token: trio.lowlevel.TrioToken | None = None

    @contextmanager
    def watching(self) -> "Iterator[trio.MemoryReceiveChannel[Traced]]":
        """Return a channel on which it is told; on the trio thread."""
        sending, receiving = trio.open_memory_channel[Traced](UNTOLD_MAX)
        watcher = _Watcher(sending)
        self._token = trio.lowlevel.current_trio_token()
        self._watchers.append(watcher)
        self.is_on = True
        try:
            with sending, receiving:
                yield receiving
        finally:
            self._watchers.remove(watcher)
            self.is_on = bool(self._watchers)

    @contextmanager
    def operation(self, name: str, path: str, detail: str) -> Iterator[Traced]:
        """Follow the operation of this block; who calls fills in the error."""
        traced = Traced(
            number=next(self._numbers),
            time_ns=time.time_ns(),
            operation=name,
            path=path,
            detail=detail,
        )
        before = _traced.set(traced)
        begun_s = time.monotonic()
        try:
            yield traced
        finally:
            _traced.reset(before)
            traced.seconds = time.monotonic() - begun_s
            traced.is_over = True
            self._tell(traced)

    def exchanged(self, exchange: Exchange) -> None:
        """Take in a request that has ended; in any thread."""
        traced = _traced.get()
        has_room = traced is not None and len(traced.requests) < REQUESTS_MAX
        if traced is not None and has_room and not traced.is_over:
            traced.requests.append(exchange)
            return
        number = traced.number if traced is not None else 0
        alone = Traced(number=number, time_ns=time.time_ns(), requests=[exchange])
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._tell, alone)

    def retried(self) -> None:
        """Take in that a request is sent again."""
        traced = _traced.get()
        if traced is not None:
            traced.retries += 1

    def _tell(self, traced: Traced) -> None:
        for watcher in self._watchers:
            watcher.tell(traced)


class _Watcher:
    def __init__(self, sending: "trio.MemorySendChannel[Traced]") -> None:
        self._sending = sending
        self._lost = 0

    def tell(self, traced: Traced) -> None:
        told = dataclasses.replace(traced, lost=self._lost) if self._lost else traced
        try:
            self._sending.send_nowait(told)
        except trio.WouldBlock:
            self._lost += 1
        else:
            self._lost = 0
