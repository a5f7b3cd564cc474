"""What goes over the wire: each request to a service, and what became of it.

A backend that speaks to a service puts `exchange` around each request. Who wants to
know of them (`mountfs.storage.meter`) says so once, in the task that all others begin
in: like the reason of a request, the recorder is kept in a context variable, which
tasks and threads inherit. Without a recorder nothing is kept.

Keys, headers and bodies are not told: what is recorded may be shown to anybody.
"""

import contextvars
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from mountfs.storage import pace
from mountfs.storage.reason import Reason, current_reason


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request that was sent to a service. Who sends it fills it in."""

    request: str
    """What was asked, in the service's own word: `GetObject`."""
    reason: Reason
    status: int = 0
    """The HTTP status of the answer; 0: none came."""
    request_id: str = ""
    """What the service calls this request; its support asks for that."""
    sent_bytes: int = 0
    """The size of the body, as are the received ones."""
    received_bytes: int = 0
    seconds: float = 0.0


class Recorder(Protocol):
    """Who wants to know of requests. Called in any thread."""

    def exchanged(self, exchange: Exchange) -> None:
        """Take note of a request that has ended."""
        ...

    def retried(self) -> None:
        """Take note that one is going to be sent again."""
        ...


_recorder: contextvars.ContextVar[Recorder | None] = contextvars.ContextVar(
    "mountfs_recorder", default=None
)


def record_with(recorder: Recorder) -> None:
    """Tell a recorder of the requests of this task, and of tasks begun in it."""
    _recorder.set(recorder)


@contextmanager
def exchange(request: str, *, sent_bytes: int = 0) -> Iterator[Exchange]:
    """Record the one request that this block sends, however it ends."""
    told = Exchange(request=request, reason=current_reason(), sent_bytes=sent_bytes)
    pace.note_request()
    recorder = _recorder.get()
    if recorder is None:
        yield told
        return
    begun_s = time.monotonic()
    try:
        yield told
    finally:
        told.seconds = time.monotonic() - begun_s
        recorder.exchanged(told)


def note_retry() -> None:
    """Record that a request is going to be sent again."""
    recorder = _recorder.get()
    if recorder is not None:
        recorder.retried()
