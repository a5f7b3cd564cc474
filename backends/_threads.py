"""Worker threads for calls that block, with a bound of their own for each store.

A thread cannot be cancelled, but what it waits for can be ended: a call that talks to
a service holds its connections on its `Line`, and when the call is cancelled, by a
deadline above all, they are cut. The call then fails within the thread, which is free
again at once, and not when the service answers or a timeout of the SDK ends.
"""

import contextlib
import contextvars
import os
import socket
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")


class Line:
    """The connections that one call uses, so that they can be cut from outside.

    A name lookup, and a connect until it is made, are on no line: their own timeouts
    end them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[tuple[socket.socket, socket.socket]] = []
        self._is_cut = False

    def hold(self, connection: socket.socket) -> None:
        """Take up a connection that the running call is about to use."""
        # A descriptor of our own: the call may close its own at any moment, and the
        # number would be another connection's. Of TLS only what is below it is cut.
        number = connection.fileno()
        if number < 0:
            return  # closed already: the call is about to fail
        with self._lock:
            if any(known is connection for known, _ in self._held):
                return
            own = socket.socket(fileno=os.dup(number))
            self._held.append((connection, own))
            if self._is_cut:
                _shut(own)

    def cut(self) -> None:
        """End the connections, also those that are still to come."""
        with self._lock:
            self._is_cut = True
            for _, own in self._held:
                _shut(own)

    def close(self) -> None:
        """Let go of the connections: the call has ended."""
        with self._lock:
            for _, own in self._held:
                own.close()
            self._held.clear()


_line: contextvars.ContextVar[Line | None] = contextvars.ContextVar(
    "mountfs_line", default=None
)


def hold(connection: socket.socket) -> None:
    """Put a connection on the line of the running call, if it has one."""
    line = _line.get()
    if line is not None:
        line.hold(connection)


class Threads:
    """At most `count` blocking calls at once; the others wait on the trio side.

    A cancelled call is abandoned: its connections are cut, its thread holds its place
    until it has noticed, and the result is dropped.
    """

    def __init__(self, count: int) -> None:
        self._limiter = trio.CapacityLimiter(count)

    @property
    def busy(self) -> int:
        """How many threads are at work, those of abandoned calls included."""
        return self._limiter.borrowed_tokens

    async def run(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call `function` in a worker thread and return what it returns."""
        line = Line()

        def call() -> T:
            _line.set(line)
            try:
                return function(*args, **kwargs)
            finally:
                line.close()

        try:
            return await trio.to_thread.run_sync(
                call, limiter=self._limiter, abandon_on_cancel=True
            )
        except trio.Cancelled:
            line.cut()
            raise


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not connected any more
        connection.shutdown(socket.SHUT_RDWR)
