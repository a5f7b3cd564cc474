"""How a mount is asked how it does: JSON lines over a unix socket, one per mount.

The daemon runs a `ControlServer` beside the mount; commands use `ask` and `follow`.
A request is one object `{"do": "status" | "follow" | "unmount"}`. The answer is one
status, or with "follow" one every quarter of a second until the daemon has finished;
that last one says `"state": "done"`, and a connection that ends without it belonged to
a daemon that died.

The socket lies in a directory that only its owner can enter, under a name made from
the mount point. Nothing here touches a path inside a mount.
"""

import dataclasses
import enum
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from mountfs.errors import UsageError

FOLLOW_INTERVAL_S = 0.25
ANSWER_TIMEOUT_S = 30.0
FAREWELL_TIMEOUT_S = 5.0
REQUEST_SIZE_MAX = 4096
STATUS_SIZE_MAX = 1 << 20
CONNECTIONS_MAX = 32
SOCKET_PATH_MAX = 107  # sizeof(sockaddr_un.sun_path) - 1


class State(enum.Enum):
    """Where a mount stands."""

    MOUNTED = "mounted"
    DRAINING = "draining"
    """Unmounted, and still sending what is pending."""
    DONE = "done"
    """The daemon's last word; what is pending now stays in the state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a mount does."""

    url: str
    mount_point: str
    pid: int
    state: State
    pending_files: int = 0
    pending_bytes: int = 0
    waiting: tuple[str, ...] = ()
    """Paths, below the mount point, of some or all of the pending files."""


class Handler(Protocol):
    """What the mount lends to its control server. Both return at once."""

    def status(self) -> Status:
        """Return how the mount does now."""
        ...

    def unmount(self) -> None:
        """Begin to detach and drain, as at SIGTERM."""
        ...


def encode(status: Status) -> bytes:
    """Return a status as one line."""
    fields = {**dataclasses.asdict(status), "state": status.state.value}
    return json.dumps(fields).encode() + b"\n"


def decode(line: bytes) -> Status:
    """Return the status in a line. Raises `ValueError` if it is none."""
    match json.loads(line):
        case {
            "url": str(url),
            "mount_point": str(mount_point),
            "pid": int(pid),
            "state": str(state),
            "pending_files": int(files),
            "pending_bytes": int(size),
            "waiting": list(waiting),
        }:
            return Status(
                url=url,
                mount_point=mount_point,
                pid=pid,
                state=State(state),
                pending_files=files,
                pending_bytes=size,
                waiting=tuple(map(str, waiting)),
            )
        case _:
            raise ValueError("not a status")


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
        except trio.BrokenResourceError:
            pass  # the other side went away, which is its good right
        finally:
            self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            request = await _receive_line(stream)
            match _parse_request(request):
                case "status":
                    await stream.send_all(encode(self._status()))
                case "unmount":
                    self._handler.unmount()
                    await stream.send_all(encode(self._status()))
                case "follow":
                    pass
                case _:
                    await stream.send_all(b'{"error": "unknown request"}\n')
            if _parse_request(request) != "follow":
                return
        await self._tell_until_finished(stream)

    async def _tell_until_finished(self, stream: trio.SocketStream) -> None:
        while not self._finished.is_set():
            await stream.send_all(encode(self._status()))
            with trio.move_on_after(FOLLOW_INTERVAL_S):
                await self._finished.wait()
        await stream.send_all(encode(self._status()))

    def _status(self) -> Status:
        status = self._handler.status()
        if self._finished.is_set():
            return dataclasses.replace(status, state=State.DONE)
        return status


def ask(path: Path, request: str) -> Status | None:
    """Send one request to the socket; return the answer, or None if nobody listens.

    A daemon that listens and does not answer raises `TimeoutError`.
    """
    for status in follow(path, request):
        return status
    return None


def is_alive(path: Path) -> bool:
    """Tell whether a daemon listens at the socket, be it ever so busy."""
    with socket.socket(socket.AF_UNIX) as connection:
        return _connect(connection, path)


def follow(path: Path, request: str = "follow") -> Iterator[Status]:
    """Yield what the daemon says until it has no more to say.

    Yields nothing if nobody listens. Raises `TimeoutError` if it falls silent.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        if not _connect(connection, path):
            return
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(json.dumps({"do": request}).encode() + b"\n")
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


def _parse_request(line: bytes) -> str | None:
    try:
        request: object = json.loads(line)
    except ValueError:
        return None
    return str(request.get("do")) if isinstance(request, dict) else None
