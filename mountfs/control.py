"""How a mount is asked how it does: JSON lines over a unix socket, one per mount.

The daemon runs a `ControlServer` beside the mount; commands use `ask`, `follow` and
`carry_out`. A request is one object, `{"do": WORD}` and what else the word needs; what
a reader does not know it passes over, so that both sides may be of other versions:

| word | besides | answer |
|---|---|---|
| status | `seen`: a person looks at it | one status |
| follow | | a status every quarter of a second until the daemon has finished |
| unmount | | one status |
| wait, flush | `paths` below the mount point | as follow, then an outcome |
| check | `repair` | as follow, then an outcome |
| warm | `paths`, `jobs` | how far it is, likewise, then an outcome |

The last status of a daemon that finishes says `"state": "done"`; a connection that ends
without it, and without an outcome, belonged to a daemon that died.

The socket lies in a directory that only its owner can enter, under a name made from
the mount point. Nothing here touches a path inside a mount.
"""

import dataclasses
import fcntl
import hashlib
import json
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from mountfs.errors import UsageError
from mountfs.status import Outcome, Progress, Said, State, Status, decode, encode

__all__ = ["ControlServer", "Outcome", "State", "Status", "decode", "encode"]

FOLLOW_INTERVAL_S = 0.25
ANSWER_TIMEOUT_S = 30.0
FAREWELL_TIMEOUT_S = 5.0
REQUEST_SIZE_MAX = 1 << 18
STATUS_SIZE_MAX = 1 << 20
CONNECTIONS_MAX = 32
SOCKET_PATH_MAX = 107  # sizeof(sockaddr_un.sun_path) - 1


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a command asks of a mount."""

    word: str
    paths: tuple[str, ...] = ()
    """Below the mount point, without a slash at either end; "" is all of it."""
    is_seen: bool = False
    """A person is shown the late errors."""
    is_repair: bool = False
    """What can be mended is to be."""
    jobs: int = 0
    """So many at once; 0: as many as is usual."""

    def encode(self) -> bytes:
        """Return the request as one line."""
        fields: dict[str, object] = {"do": self.word}
        if self.paths:
            fields["paths"] = list(self.paths)
        if self.is_seen:
            fields["seen"] = True
        if self.is_repair:
            fields["repair"] = True
        if self.jobs:
            fields["jobs"] = self.jobs
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Request":
        """Return the request in a line; one without a word if it is none."""
        try:
            fields = json.loads(line)
        except ValueError:
            return cls("")
        if not isinstance(fields, dict):
            return cls("")
        paths, jobs = fields.get("paths", []), fields.get("jobs", 0)
        return cls(
            str(fields.get("do")),
            tuple(map(str, paths)) if isinstance(paths, list) else (),
            is_seen=fields.get("seen") is True,
            is_repair=fields.get("repair") is True,
            jobs=jobs if isinstance(jobs, int) else 0,
        )


class Handler(Protocol):
    """What the mount lends to its control server."""

    def status(self, *, is_seen: bool = False) -> Status:
        """Return how the mount does now, at once; `is_seen`: a person looks at it."""
        ...

    def unmount(self) -> None:
        """Begin to detach and drain, as at SIGTERM, and return at once."""
        ...

    async def check(self, *, is_repair: bool) -> Outcome:
        """Compare what is kept here with the store, and mend it if that is asked."""
        ...

    async def wait(self, paths: Sequence[str], *, below: bool) -> Outcome:
        """Return when the store has these paths, with `below` all under them too."""
        ...

    async def warm(
        self, paths: Sequence[str], *, jobs: int, progress: Progress
    ) -> Outcome:
        """Fetch these files, and all under these directories, into the cache."""
        ...


def runtime_dir(uid: int, environ: Mapping[str, str]) -> Path:
    """Return the directory of the sockets of a user's mounts."""
    if uid == 0:
        return Path("/run/mountfs")
    if uid == os.geteuid() and environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        return Path(environ["XDG_RUNTIME_DIR"]) / "mountfs"
    if Path(f"/run/user/{uid}").is_dir():
        return Path(f"/run/user/{uid}/mountfs")
    return Path(f"/tmp/mountfs-{uid}")  # noqa: S108 - `_own_dir` checks whose it is


def socket_path(mount_point: Path, *, uid: int | None = None) -> Path:
    """Return where the daemon of a mount point listens; `uid` is who mounted it."""
    name = hashlib.sha256(os.fsencode(mount_point)).hexdigest()[:32]
    owner = os.geteuid() if uid is None else uid
    return runtime_dir(owner, os.environ) / f"{name}.sock"


def sockets() -> list[Path]:
    """Return the sockets of this user's daemons, alive or dead; for root of all."""
    directories = [runtime_dir(os.geteuid(), os.environ)]
    if os.geteuid() == 0:
        directories += sorted(Path("/run/user").glob("*/mountfs"))
    found: list[Path] = []
    for directory in directories:
        with suppress(OSError):
            found += sorted(directory.glob("*.sock"))
    return found


@contextmanager
def claimed(mount_point: Path) -> Iterator[None]:
    """Hold a mount point for this process, so that no second daemon mounts over it.

    Between the look at the mount point and the mount lies a conversation with the
    store. One file serves all mount points, a byte of it each; the kernel lets go if
    the process dies. Raises `UsageError` if another process of this user holds it.
    """
    path = runtime_dir(os.geteuid(), os.environ) / "mount-points.lock"
    byte = int.from_bytes(hashlib.sha256(os.fsencode(mount_point)).digest()[:7])
    try:
        _own_dir(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror}") from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            raise UsageError(
                f"another mount at {mount_point} is just beginning or ending: try again"
                " when it is done, or name another directory"
            ) from error
        yield
    finally:
        os.close(descriptor)


class ControlServer:
    """Answers for one mount until `finish` is called or its task is cancelled."""

    def __init__(self, mount_point: Path, handler: Handler) -> None:
        self._path = socket_path(mount_point)
        self._handler = handler
        self._finished = trio.Event()
        self._connections = 0

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
        self._connections += 1
        try:
            async with stream:
                if self._connections <= CONNECTIONS_MAX:
                    await self._converse(stream)
        except* trio.BrokenResourceError:
            pass  # the other side went away, which is its good right
        finally:
            self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(ANSWER_TIMEOUT_S) as timeout:
            request = Request.decode(await _receive_line(stream))
            match request.word:
                case "status":
                    await stream.send_all(encode(self._status(request)))
                case "unmount":
                    self._handler.unmount()
                    await stream.send_all(encode(self._status()))
                case "follow":
                    timeout.deadline = math.inf
                    await self._tell_until_finished(stream)
                case "wait" | "flush" | "check" | "warm":
                    timeout.deadline = math.inf
                    await self._carry_out(request, stream)
                case _:
                    await stream.send_all(b'{"error": "unknown request"}\n')

    async def _carry_out(self, request: Request, stream: trio.SocketStream) -> None:
        """Do what takes its time, and tell meanwhile how the mount does."""
        ended, progress = trio.Event(), Progress()
        tell = self._status if request.word != "warm" else lambda: progress
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_until, ended, stream, tell)
            outcome = await self._outcome(request, progress)
            ended.set()
        if request.word == "warm":
            await stream.send_all(encode(progress))
        await stream.send_all(encode(outcome))

    async def _outcome(self, request: Request, progress: Progress) -> Outcome:
        try:
            if request.word == "warm":
                return await self._handler.warm(
                    request.paths, jobs=request.jobs, progress=progress
                )
            if request.word == "check":
                return await self._handler.check(is_repair=request.is_repair)
            below = request.word == "flush"
            return await self._handler.wait(request.paths, below=below)
        except Exception as error:
            # A question must not cost the mount.
            log.exception("a bug in mountfs: %s failed", request.word)
            return Outcome(error=f"a bug in mountfs: {error!r}", code=1)

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


def ask(path: Path, request: str, *, is_seen: bool = False) -> Status | None:
    """Send one request to the socket; return the answer, or None if nobody listens.

    A daemon that listens and does not answer raises `TimeoutError`.
    """
    for said in _converse(path, Request(request, is_seen=is_seen)):
        return said if isinstance(said, Status) else None
    return None


def is_alive(path: Path) -> bool:
    """Tell whether a daemon listens at the socket, be it ever so busy."""
    with socket.socket(socket.AF_UNIX) as connection:
        return _connect(connection, path)


def follow(path: Path) -> Iterator[Status]:
    """Yield what the daemon says until it has no more to say.

    Yields nothing if nobody listens. Raises `TimeoutError` if it falls silent.
    """
    for said in _converse(path, Request("follow")):
        if isinstance(said, Status):
            yield said


def carry_out(path: Path, request: Request) -> Iterator[Said]:
    """Yield how the mount does, or how far it is, until the request is
    carried out, then its outcome.

    Without an outcome at the end the daemon did not carry it out: it died, it has
    finished, or it does not know the request. Raises `TimeoutError` if it falls silent.
    """
    yield from _converse(path, request)


def _converse(path: Path, request: Request) -> Iterator[Said]:
    with socket.socket(socket.AF_UNIX) as connection:
        if not _connect(connection, path):
            return
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request.encode())
            with connection.makefile("rb") as lines:
                while line := lines.readline(STATUS_SIZE_MAX):
                    with suppress(ValueError):
                        yield decode(line)


def _connect(connection: socket.socket, path: Path) -> bool:
    connection.settimeout(ANSWER_TIMEOUT_S)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise UsageError(
            f"the mount belongs to another user ({path} may not be used): ask as that"
            " user, or as root"
        ) from error
    return True


def _listen(path: Path) -> trio.socket.SocketType:
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise UsageError(
            f"{path} is too long for a socket: set XDG_RUNTIME_DIR shorter"
        )
    with ExitStack() as undo:
        try:
            _own_dir(path.parent)
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


def _own_dir(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if path.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise UsageError(f"{path} must belong to you alone: remove it and try again")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _receive_line(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    while b"\n" not in received and len(received) < REQUEST_SIZE_MAX:
        chunk = await stream.receive_some(REQUEST_SIZE_MAX)
        if not chunk:
            break
        received += chunk
    return bytes(received)
