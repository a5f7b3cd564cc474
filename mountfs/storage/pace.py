"""The pace at which the bytes of a request may go over the wire.

The brakes of a store (`mountfs.storage.brakes`) stand around each request. A backend
that sends and receives piece by piece asks here before, or after, each: its thread
waits as long as the limit wants. Like the reason of a request, the pace is kept in a
context variable, which threads inherit. What no backend asks about is paid for
afterwards, by the requests that follow.
"""

import contextvars
from collections.abc import Iterator
from typing import Protocol


class Pace(Protocol):
    """The limits upon one request. Used from the thread that carries it out."""

    @property
    def piece(self) -> int | None:
        """How many bytes are to go at once at most; None if there is no limit."""
        ...

    def pay(self, size: int) -> None:
        """Wait until so many bytes may go."""
        ...

    def note_request(self) -> None:
        """Take note that a request is sent; the first has been paid for."""
        ...


_pace: contextvars.ContextVar[Pace | None] = contextvars.ContextVar(
    "mountfs_pace", default=None
)


def keep(pace: Pace) -> contextvars.Token[Pace | None]:
    """Let the requests of this task keep a pace, until `leave`."""
    return _pace.set(pace)


def leave(token: contextvars.Token[Pace | None]) -> None:
    """Let the requests of this task go as before."""
    _pace.reset(token)


def piece() -> int | None:
    """Return how many bytes may go at once; None if the request has no limit."""
    pace = _pace.get()
    return pace.piece if pace is not None else None


def pay(size: int) -> None:
    """Wait until so many bytes may go. Never called on the trio thread."""
    pace = _pace.get()
    if pace is not None:
        pace.pay(size)


def note_request() -> None:
    """Take note that a request goes over the wire."""
    pace = _pace.get()
    if pace is not None:
        pace.note_request()


def paid(pieces: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Give the pieces of a body when each may go, and no larger than it may be."""
    for each in pieces:
        most = piece()
        if most is None:
            yield each
            continue
        whole = memoryview(each)
        for at in range(0, len(whole), most):
            part = whole[at : at + most]
            pay(len(part))
            yield part
