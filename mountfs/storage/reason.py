"""Why a request is sent: a word that travels beside the call, not through it.

Counts of requests are a promise (foreground work is counted exactly, background work
has a bound of its own), so a backend that can tell the wire does: the S3 backend adds
` reason/<value>` to its User-Agent. The word is kept in a context variable: a task,
and a thread that trio starts for it, inherits the word of the task that began it.
"""

import contextlib
import contextvars
import enum
from collections.abc import Iterator


class Reason(enum.Enum):
    """What a request is for."""

    FOREGROUND = "foreground"
    """A program waits for the answer. Said of every request that says nothing."""
    PREFETCH = "prefetch"
    """Bytes that nobody asked for yet."""
    INDEX = "index"
    """Attributes of many entries, learnt or written in the background."""
    PROBE = "probe"
    """Finding out what a store can do."""
    REVALIDATE = "revalidate"
    """Asking whether something known still holds."""
    HEALTH = "health"
    """Asking a store that has failed whether it is back."""
    BACKGROUND = "background"
    """Storing what no program waits for: the times of directories."""


_reason: contextvars.ContextVar[Reason] = contextvars.ContextVar(
    "mountfs_reason", default=Reason.FOREGROUND
)


def current_reason() -> Reason:
    """Return what the running task is sending requests for."""
    return _reason.get()


@contextlib.contextmanager
def because(reason: Reason) -> Iterator[None]:
    """Send the requests of this block, and of tasks begun in it, for `reason`."""
    token = _reason.set(reason)
    try:
        yield
    finally:
        _reason.reset(token)
