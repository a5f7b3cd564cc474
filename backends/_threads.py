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
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import trio

if TYPE_CHECKING:
    import outcome

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

    def let_go(self, connection: socket.socket) -> None:
        """Give up a connection that another call may use from now on."""
        with self._lock:
            for each in self._held:
                if each[0] is connection:
                    self._held.remove(each)
                    each[1].close()
                    return

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


def let_go(connection: socket.socket) -> None:
    """Take a connection off the line of the running call, before others can have it."""
    line = _line.get()
    if line is not None:
        line.let_go(connection)


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
        """Call `function` in a worker thread and return what it returns.

        This is `trio.to_thread.run_sync` with less around it, because it is done for
        every request: no turn of the loop for a place that is free.
        """
        line, place = Line(), object()
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._limiter.acquire_on_behalf_of_nowait(place)
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(place)
        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()
        context = contextvars.copy_context()
        is_waited_for = True

        def call() -> T:
            _line.set(line)
            try:
                return function(*args, **kwargs)
            finally:
                line.close()

        def report(result: "outcome.Outcome[T]") -> None:
            self._limiter.release_on_behalf_of(place)
            if is_waited_for:
                trio.lowlevel.reschedule(task, result)

        def deliver(result: "outcome.Outcome[T]") -> None:
            with contextlib.suppress(trio.RunFinishedError):  # nobody is left to ask
                token.run_sync_soon(report, result)

        def abandon(_: object) -> trio.lowlevel.Abort:
            nonlocal is_waited_for
            is_waited_for = False
            line.cut()
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            trio.lowlevel.start_thread_soon(partial(context.run, call), deliver)
        except BaseException:
            self._limiter.release_on_behalf_of(place)
            raise
        result: T = await trio.lowlevel.wait_task_rescheduled(abandon)
        return result


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not connected any more
        connection.shutdown(socket.SHUT_RDWR)
