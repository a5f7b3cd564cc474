"""A time limit on a request, which stands still while the request waits in our queue.

The limit is set above the queue (around all attempts of a request), and the queue is
met further in; a context variable lets the inner one stop the clock of the outer one.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator

import trio

_running: contextvars.ContextVar[trio.CancelScope | None] = contextvars.ContextVar(
    "mountfs_deadline", default=None
)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[trio.CancelScope]:
    """Cancel the block after `seconds`; the scope tells whether that happened."""
    with trio.move_on_after(seconds) as scope:
        token = _running.set(scope)
        try:
            yield scope
        finally:
            _running.reset(token)


@contextlib.contextmanager
def not_counted() -> Iterator[None]:
    """Stop the clock of the surrounding `within` for this block."""
    scope = _running.get()
    if scope is None or math.isinf(scope.deadline):
        yield
        return
    left_s = scope.deadline - trio.current_time()
    scope.deadline = math.inf
    try:
        yield
    finally:
        scope.deadline = trio.current_time() + left_s


def extender() -> Callable[[float], None]:
    """Return what gives the surrounding `within` more time, by seconds, from a thread.

    For what waits for our own sake in the middle of a request.
    """
    scope, token = _running.get(), trio.lowlevel.current_trio_token()

    def extend(seconds: float) -> None:
        if scope is not None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(_extend, scope, seconds)

    return extend


def _extend(scope: trio.CancelScope, seconds: float) -> None:
    scope.deadline += seconds


def seconds_left() -> float:
    """Return what is left of the surrounding `within`, at least 0."""
    scope = _running.get()
    if scope is None:
        return math.inf
    return max(0.0, scope.deadline - trio.current_time())
