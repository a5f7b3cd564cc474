"""How a mount is asked how it does: JSON lines over a unix socket, one per mount.

The daemon runs a `ControlServer` (`mountfs.serving.control_server`) beside the mount;
commands use `ask`, `follow` and `carry_out`. A request is one object, `{"do": WORD}`
and what else the word needs; what a reader does not know it passes over, so that both
may be of other versions:

| word | besides | answer |
|---|---|---|
| status | `seen`: a person looks at it | one status |
| follow | | a status every quarter of a second until the daemon has finished |
| unmount | | one status |
| wait, flush | `paths` below the mount point | as follow, then an outcome |
| check | `repair` | as follow, then an outcome |
| explain | `paths`: one | an outcome |
| warm | `paths`, `jobs` | how far it is, likewise, then an outcome |
| metrics | | an outcome with the counters, as text and as values |
| leave | | an outcome: it ends at once, and leaves what is in its journal |
| yield | | as follow, then an outcome: to a new mount of the store |
| read-only, read-write | | as follow, then an outcome |
| set | `settings`: texts by name | an outcome |
| dump | | an outcome with settings, tasks and threads |
| trace | | an event for each operation, until somebody ends the connection |

What is carried out stands in a table of the daemon (`mountfs.serving.deeds`). The last
status of a daemon that finishes says `"state": "done"`; a connection that ends without
it, and without an outcome, belonged to a daemon that died.

The socket lies in a directory that only its owner can enter, under a name made from
the mount point. Nothing here touches a path inside a mount.
"""

import fcntl
import hashlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mountfs.errors import UsageError
from mountfs.status import Outcome, Said, State, Status, decode, encode

__all__ = ["Outcome", "State", "Status", "decode", "encode"]

FOLLOW_INTERVAL_S = 0.25
ANSWER_TIMEOUT_S = 30.0
LOOK_TIMEOUT_S = 10.0
"""How long somebody who only looks waits for a busy daemon."""
FAREWELL_TIMEOUT_S = 5.0
REQUEST_SIZE_MAX = 1 << 18
STATUS_SIZE_MAX = 8 << 20
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
    settings: Mapping[str, str] = field(default_factory=dict)
    """What is to be set, by name, as on a command line."""

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
        if self.settings:
            fields["settings"] = dict(self.settings)
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
        settings = fields.get("settings", {})
        return cls(
            str(fields.get("do")),
            tuple(map(str, paths)) if isinstance(paths, list) else (),
            is_seen=fields.get("seen") is True,
            is_repair=fields.get("repair") is True,
            jobs=jobs if isinstance(jobs, int) else 0,
            settings=(
                {str(name): str(value) for name, value in settings.items()}
                if isinstance(settings, dict)
                else {}
            ),
        )


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
        own_dir(path.parent)
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


def ask(path: Path, request: str, *, is_seen: bool = False) -> Status | None:
    """Send one request to the socket; return the answer, or None if nobody listens.

    A daemon that listens and does not answer raises `TimeoutError`: it would at once.
    """
    wanted = Request(request, is_seen=is_seen)
    for said in _converse(path, wanted, timeout_s=LOOK_TIMEOUT_S):
        return said if isinstance(said, Status) else None
    return None


def is_alive(path: Path) -> bool:
    """Tell whether a daemon listens at the socket, be it ever so busy."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            return _connect(connection, path)
        except TimeoutError:
            return True


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


def _converse(
    path: Path, request: Request, *, timeout_s: float = ANSWER_TIMEOUT_S
) -> Iterator[Said]:
    with socket.socket(socket.AF_UNIX) as connection:
        if not _connect(connection, path):
            return
        connection.settimeout(timeout_s)
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
    except BlockingIOError as error:
        raise TimeoutError(f"{path}: those before are not answered") from error
    except PermissionError as error:
        raise UsageError(
            f"the mount belongs to another user ({path} may not be used): ask as that"
            " user, or as root"
        ) from error
    return True


def own_dir(path: Path) -> None:
    """Make a directory that is this user's alone. Raises `UsageError`."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if path.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise UsageError(f"{path} must belong to you alone: remove it and try again")
