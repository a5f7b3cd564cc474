"""`mountfs abort`: end the connection of a mount whose daemon cannot serve it any more.

The kernel ends a connection by itself when its daemon dies. But a daemon that has been
killed while the kernel makes it wait does not die, and every program in its mount waits
with it: only an abort lets go of both. The mount stays, dead, so that nobody writes
into the directory below it; the next mount takes its place.

Nothing here touches a path inside a mount.
"""

import logging
import os
import select
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mountfs import control, mounts
from mountfs.errors import EXIT_FAILED, UsageError

log = logging.getLogger(__name__)

CONNECTIONS = Path("/sys/fs/fuse/connections")
END_TIMEOUT_S = 10
_KILLED = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection of a mount, and who serves it."""

    number: int
    daemon: int | None
    """None if nobody does any more: then the kernel has ended it."""


def abort(mount_point: Path, *, is_forced: bool, out: TextIO) -> int:
    """End the connection of a mount if its daemon is dying; return the exit code.

    With `is_forced` a daemon that lives is no reason not to. Raises `UsageError`.
    """
    found = find(mount_point)
    if found is None or found.daemon is None:
        if out.isatty():  # a service that has ended well need not hear it each time
            out.write(f"mountfs: nobody serves {mount_point}: nothing was done\n")
        return os.EX_OK
    if not (is_forced or is_dying(found.daemon)):
        out.write(
            f"mountfs: {mount_point} is served by process {found.daemon}, which lives:"
            " nothing was done\n"
        )
        return os.EX_OK
    problem = end(found)
    if problem is not None:
        out.write(f"mountfs: {mount_point} cannot be let go of: {problem}\n")
        return EXIT_FAILED
    out.write(
        f"mountfs: ended the connection of {mount_point}: programs in it get errors"
        f" until it is mounted anew or `mountfs umount {mount_point}` takes it away\n"
    )
    return os.EX_OK


def release(mount_point: Path) -> None:
    """End the connection of a mount whose daemon was killed and cannot die.

    Only then: whoever looked at such a mount would wait as well.
    """
    found = find(mount_point)
    if found is not None and found.daemon is not None and is_dying(found.daemon):
        problem = end(found)
        log.warning(
            "process %d was killed and did not end: its connection was ended%s",
            found.daemon,
            f" ({problem})" if problem else "",
        )


def find(mount_point: Path) -> Connection | None:
    """Return the connection of the mount at a path, or of one detached from there."""
    entry = mounts.mount_at(mount_point)
    if entry is not None and entry.fstype == mounts.FSTYPE:
        socket_path = control.socket_path(mount_point, uid=entry.user_id)
        minor = int(entry.device.partition(":")[2])
        return Connection(minor, listener(socket_path))
    socket_path = control.socket_path(mount_point)
    daemon = listener(socket_path)
    noted = _noted(socket_path)
    # The numbers of connections that have ended are used again, at once.
    if noted is None or noted.pid != daemon or noted.mark != _mark(noted.number):
        return None
    return Connection(noted.number, daemon)


def end(connection: Connection) -> str | None:
    """Abort a connection, and wait for a dying daemon; return what went wrong."""
    path = CONNECTIONS / str(connection.number) / "abort"
    try:
        path.write_text("1")
    except FileNotFoundError:
        if not os.path.ismount(CONNECTIONS):
            return f"mount the fusectl file system at {CONNECTIONS} first"
    except OSError as error:
        return f"{path}: {error.strerror}"
    if connection.daemon is not None and is_dying(connection.daemon):
        _wait_for_end(connection.daemon)
    return None


def is_dying(pid: int) -> bool:
    """Tell whether a process has been killed, if it is not gone altogether."""
    pending = [_pending_signals(each) for each in Path(f"/proc/{pid}/task").glob("*")]
    return not pending or any(mask & _KILLED for mask in pending)


def _pending_signals(task: Path) -> int:
    masks = 0
    with suppress(OSError):
        for line in (task / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("SigPnd", "ShdPnd"):
                masks |= int(value, 16)
    return masks


def listener(path: Path) -> int | None:
    """Return the process that listens at a control socket, be it ever so stuck."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            connection.connect(str(path))
        except BlockingIOError:
            noted = _noted(path)  # it has not accepted those who came before
            return noted.pid if noted is not None else None
        except PermissionError as error:
            raise UsageError(f"{path} belongs to another user: ask as root") from error
        except OSError:
            return None
        size = struct.calcsize("3i")
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid = struct.unpack("3i", peer)[0]
    return int(pid) or None


def _wait_for_end(pid: int) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            ended.poll(END_TIMEOUT_S * 1000)
        finally:
            os.close(handle)


# --- the number of a connection that has no mount point any more -------------------


def remember(mount_point: Path, device: int) -> None:
    """Note the connection of this process's mount, for when it is detached."""
    path, number = _note(control.socket_path(mount_point)), os.minor(device)
    with suppress(OSError):  # then a detached mount cannot be let go of; that is all
        path.write_text(f"{number} {os.getpid()} {_mark(number)}\n")


def forget(mount_point: Path) -> None:
    """Remove the note: the connection has ended."""
    with suppress(OSError):
        _note(control.socket_path(mount_point)).unlink(missing_ok=True)


def _note(socket_path: Path) -> Path:
    return socket_path.with_suffix(".connection")


def _mark(number: int) -> int:
    """Return what a connection has alone of all that ever had its number.

    That is the number of its directory's inode. 0 if fusectl is not mounted: then
    nothing can be aborted either.
    """
    try:
        return (CONNECTIONS / str(number)).stat().st_ino
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class _Noted:
    """A connection, the process that has noted it, and the mark of the connection."""

    number: int
    pid: int
    mark: int


def _noted(socket_path: Path) -> _Noted | None:
    try:
        number, pid, mark = map(int, _note(socket_path).read_text().split())
    except (OSError, ValueError):
        return None
    return _Noted(number, pid, mark)
