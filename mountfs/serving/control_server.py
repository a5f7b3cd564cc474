"""The daemon's side of `mountfs.control`: what answers for one mount.

Apart from the commands' side, because those must not wait for trio to be imported.
"""

import dataclasses
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import trio

from mountfs.control import (
    ANSWER_TIMEOUT_S,
    CONNECTIONS_MAX,
    FAREWELL_TIMEOUT_S,
    FOLLOW_INTERVAL_S,
    REQUEST_SIZE_MAX,
    SOCKET_PATH_MAX,
    Request,
    own_dir,
    socket_path,
)
from mountfs.errors import UsageError
from mountfs.serving.connections import Connections, received
from mountfs.status import Event, Outcome, Progress, State, Status, encode

log = logging.getLogger(__name__)

SIGN_OF_LIFE_S = 10.0
EVENTS_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What is done when a word is said, and what is told while that takes its time."""

    carry_out: Callable[[Request, Progress], Awaitable[Outcome]]
    """Return how it ended. What goes wrong there costs the answer, and no mount."""
    tells: Literal["status", "progress", "nothing"] = "status"


class Tellable(Protocol):
    """Something that happened."""

    def told(self) -> Mapping[str, object]:
        """Return it as JSON has it."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """What is told as it happens, for as long as somebody listens."""

    begin: Callable[[], AbstractContextManager["trio.MemoryReceiveChannel[Tellable]"]]


class Handler(Protocol):
    """What the mount lends to its control server."""

    deeds: Mapping[str, Deed | Stream]
    """By the word that asks for it; see `mountfs.serving.deeds`."""

    def status(self, *, is_seen: bool = False) -> Status:
        """Return how the mount does now, at once; `is_seen`: a person looks at it."""
        ...

    def unmount(self) -> None:
        """Begin to detach and drain, as at SIGTERM, and return at once."""
        ...


class ControlServer:
    """Answers for one mount until `finish` is called or its task is cancelled."""

    def __init__(self, mount_point: Path, handler: Handler) -> None:
        self._path = socket_path(mount_point)
        self._handler = handler
        self._finished = trio.Event()
        self._connections = Connections(
            CONNECTIONS_MAX, "a question could not be answered"
        )

    async def serve(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and answer. Raises `UsageError` if the socket cannot be made."""
        listening = _listen(self._path)
        identity = _identity(self._path)
        try:
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        self._accept, trio.SocketListener(listening), connections
                    )
                    task_status.started()
                    await self._finished.wait()
                    accepting.cancel_scope.cancel()
                connections.cancel_scope.deadline = (
                    trio.current_time() + FAREWELL_TIMEOUT_S
                )
        finally:
            listening.close()
            # A new mount at the same place may have put its own socket there.
            if _identity(self._path) == identity:
                self._path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give every follower the last word and let `serve` return."""
        self._finished.set()

    async def _accept(
        self, listener: trio.SocketListener, connections: trio.Nursery
    ) -> None:
        await trio.serve_listeners(
            self._answer, [listener], handler_nursery=connections
        )

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with self._connections.held(stream) as is_heard:
            if is_heard:
                await self._converse(stream)

    async def _converse(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(ANSWER_TIMEOUT_S) as timeout:
            line = await received(stream, b"\n", REQUEST_SIZE_MAX)
            request = Request.decode(line)
            match request.word:
                case "status":
                    await stream.send_all(encode(self._status(request)))
                case "unmount":
                    self._handler.unmount()
                    await stream.send_all(encode(self._status()))
                case "follow":
                    timeout.deadline = math.inf
                    await self._tell_until_finished(stream)
                case word if word in self._handler.deeds:
                    timeout.deadline = math.inf
                    deed = self._handler.deeds[word]
                    if isinstance(deed, Stream):
                        await self._tell_events(deed, stream)
                    else:
                        await self._carry_out(request, deed, stream)
                case _:
                    await stream.send_all(b'{"error": "unknown request"}\n')

    async def _carry_out(
        self, request: Request, deed: Deed, stream: trio.SocketStream
    ) -> None:
        """Do what takes its time, and tell meanwhile how far it is."""
        ended, progress = trio.Event(), Progress()
        tell = self._status if deed.tells == "status" else lambda: progress
        async with trio.open_nursery() as nursery:
            if deed.tells != "nothing":
                nursery.start_soon(self._tell_until, ended, stream, tell)
            outcome = await _outcome(deed, request, progress)
            ended.set()
        if deed.tells == "progress":
            await stream.send_all(encode(progress))
        await stream.send_all(encode(outcome))

    async def _tell_events(self, deed: Stream, stream: trio.SocketStream) -> None:
        """Tell what happens until the mount ends or nobody listens any more."""
        with deed.begin() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, stream.receive_some, nursery)
                nursery.start_soon(_cancel_after, self._finished.wait, nursery)
                while True:
                    told = [Event()]
                    with trio.move_on_after(SIGN_OF_LIFE_S):
                        told = [Event((await events.receive()).told())]
                    with suppress(trio.WouldBlock):
                        while len(told) < EVENTS_AT_ONCE:
                            told.append(Event(events.receive_nowait().told()))
                    await stream.send_all(b"".join(map(encode, told)))

    async def _tell_until_finished(self, stream: trio.SocketStream) -> None:
        await self._tell_until(self._finished, stream, self._status)
        await stream.send_all(encode(self._status()))

    async def _tell_until(
        self,
        event: trio.Event,
        stream: trio.SocketStream,
        tell: Callable[[], Status | Progress],
    ) -> None:
        # No line is ever cut short, so the event ends this and no cancellation.
        while not event.is_set():
            await stream.send_all(encode(tell()))
            with trio.move_on_after(FOLLOW_INTERVAL_S):
                await event.wait()

    def _status(self, request: Request | None = None) -> Status:
        is_seen = request is not None and request.is_seen
        status = self._handler.status(is_seen=is_seen)
        if self._finished.is_set():
            return dataclasses.replace(status, state=State.DONE)
        return status


async def _outcome(deed: Deed, request: Request, progress: Progress) -> Outcome:
    try:
        return await deed.carry_out(request, progress)
    except Exception as error:
        # A question must not cost the mount.
        log.exception("a bug in mountfs: %s failed", request.word)
        return Outcome(error=f"a bug in mountfs: {error!r}", code=1)


async def _cancel_after(
    wait: Callable[[], Awaitable[object]], nursery: trio.Nursery
) -> None:
    await wait()
    nursery.cancel_scope.cancel()


def _listen(path: Path) -> trio.socket.SocketType:
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise UsageError(
            f"{path} is too long for a socket: set XDG_RUNTIME_DIR shorter"
        )
    with ExitStack() as undo:
        try:
            own_dir(path.parent)
            path.unlink(missing_ok=True)
            listening = undo.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen(CONNECTIONS_MAX)
        except OSError as error:
            raise UsageError(
                f"cannot make the control socket {path}: {error.strerror}"
            ) from error
        undo.pop_all()
    return trio.socket.from_stdlib_socket(listening)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
