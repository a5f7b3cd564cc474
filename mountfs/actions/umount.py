"""`mountfs umount`: unmount, then wait until the store has everything.

The daemon is asked before the mount is taken away, so that its last word cannot be
missed: only that word makes the exit code 0.
"""

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mountfs import abort, control, mounts
from mountfs.actions.overview import count_of
from mountfs.configuration.values import format_size
from mountfs.control import Request, State, Status
from mountfs.errors import EXIT_FAILED, EXIT_PENDING, EXIT_TROUBLE, UsageError
from mountfs.terminal import clear_line, plain, write_line

EXIT_BUSY = 1
NAMES_SHOWN = 10
BUSY = "busy"
"""umount and fusermount3 have no exit code for EBUSY; the text is that of locale C."""
HIDDEN = "by a process that cannot be seen (it may wait in close(2) for the store)"
"""The kernel shows no descriptor that is being closed, and not those of others."""
BUSY_DELAY_S = 0.05
BUSY_DELAY_MAX_S = 1.0
END_TIMEOUT_S = 30
"""How long a daemon may take to end after its last word."""


def umount(
    mount_point: str, *, is_lazy: bool, is_kept: bool = False, out: TextIO
) -> int:
    """Unmount and wait; return the exit code.

    With `is_kept` what is in the journal is left to the next mount, and not waited for.
    0: nothing is pending; 1: busy, or the daemon hangs; 74: nothing is pending, and
    there were late errors or conflicts that nobody has been shown; 75: something waits
    in the state directory, or nobody can tell. Raises `UsageError` if this is no mount
    of ours.
    """
    entry = find(mount_point)
    if entry is None:
        return _wait_for_drain(mount_point, out, is_kept=is_kept)
    if entry.fstype != mounts.FSTYPE:
        raise UsageError(
            f"{mount_point} is a mount, but not one of mountfs ({entry.fstype}): use"
            " umount"
        )
    abort.release(entry.mount_point)
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    conversation = control.follow(socket)
    try:
        first = next(conversation, None)
    except TimeoutError:
        return _leave_silent(entry.mount_point, out, is_lazy=is_lazy)
    is_dead = first is None and mounts.is_dead(entry.mount_point)
    problem = None
    if not (is_kept and is_lazy) or first is None:  # else the daemon does that itself
        problem = _detach(entry.mount_point, is_lazy=is_lazy or is_dead)
    if problem is not None:
        return _explain(entry.mount_point, problem, out)
    if first is None and not is_dead:
        return os.EX_OK  # a second place of a mount (mount --bind): there it goes on
    if first is None:
        out.write(
            f"mountfs: unmounted {entry.mount_point}, whose daemon had died; what it"
            " had not sent is taken up by the next mount of the same store\n"
        )
        return EXIT_PENDING
    if is_lazy and not is_kept:
        return _last_word(first, out)
    if is_kept:
        _let_leave(socket)
    return _wait(first, conversation, out)


def _detach(mount_point: Path, *, is_lazy: bool) -> str | None:
    """Take the mount away; return what the system said if it cannot be.

    The kernel tells the daemon of the last close in the background, and the mount is
    busy until that is answered: busy without a holder is given a moment.
    """
    delay_s = BUSY_DELAY_S
    while True:
        problem = mounts.unmount(mount_point, is_lazy=is_lazy)
        is_passing = problem is not None and BUSY in problem
        if not is_passing or delay_s > BUSY_DELAY_MAX_S or mounts.holders(mount_point):
            return problem
        time.sleep(delay_s)
        delay_s *= 2


def _leave_silent(mount_point: Path, out: TextIO, *, is_lazy: bool) -> int:
    """Take away the mount of a daemon that hangs only if nobody wants to wait.

    Else what it has not sent would go on unseen, behind an empty directory.
    """
    unknown = (
        f"the daemon of {mount_point} does not answer, and nobody can tell what it has"
        " still to send"
    )
    if not is_lazy:
        out.write(
            f"mountfs: {unknown}: nothing was done; its log may say why, and --lazy"
            " unmounts all the same\n"
        )
        return EXIT_FAILED
    problem = _detach(mount_point, is_lazy=True)
    if problem is not None:
        return _explain(mount_point, problem, out)
    out.write(f"mountfs: unmounted {mount_point}: {unknown}\n")
    return EXIT_PENDING


def _let_leave(socket: Path) -> None:
    """Let the daemon end without sending what the next mount can send as well."""
    for _ in control.carry_out(socket, Request("leave")):
        pass  # what there is to tell, it tells those who follow


def _wait(first: Status, conversation: Iterator[Status], out: TextIO) -> int:
    """Wait for the daemon's last word and then for its end.

    Until it has ended it holds its directories, and a new mount would be refused.
    """
    with _process(first.pid) as ended:
        code = _watch(first, conversation, out)
        if ended is not None:
            ended.poll(END_TIMEOUT_S * 1000)
    return code


@contextmanager
def _process(pid: int) -> Iterator["select.poll | None"]:
    """Give something to wait with for the end of a process; None if it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        yield ended
    finally:
        os.close(handle)


def find(mount_point: str) -> mounts.MountEntry | None:
    """Return the mount at a path, without a look at what it mounts if possible."""
    parent, name = os.path.split(os.path.abspath(mount_point))  # noqa: PTH100
    plain = Path(os.path.realpath(parent)) / name
    return mounts.mount_at(plain) or mounts.mount_at(Path(os.path.realpath(plain)))


def _wait_for_drain(mount_point: str, out: TextIO, *, is_kept: bool) -> int:
    """Wait for a daemon whose mount is gone already, if there is one."""
    socket = control.socket_path(Path(os.path.realpath(mount_point)))
    conversation = control.follow(socket)
    try:
        first = next(conversation, None)
    except TimeoutError:
        out.write(
            f"mountfs: {mount_point} is unmounted, and its daemon does not answer:"
            " nobody can tell what it has still to send; its log may say why\n"
        )
        return EXIT_PENDING
    if first is None:
        raise UsageError(f"{mount_point} is not mounted by mountfs")
    if is_kept:
        _let_leave(socket)
    return _wait(first, conversation, out)


def _explain(mount_point: Path, problem: str, out: TextIO) -> int:
    holders = mounts.holders(mount_point)
    if not holders and BUSY not in problem:
        out.write(f"mountfs: cannot unmount {mount_point}: {problem}\n")
        return EXIT_BUSY
    names = ", ".join(f"{pid} ({name})" for pid, name in holders[:NAMES_SHOWN])
    by = f"by {names}" if names else HIDDEN
    out.write(
        f"mountfs: {mount_point} is in use {by}: end it and try again, or use --lazy\n"
    )
    return EXIT_BUSY


def _watch(first: Status, conversation: Iterator[Status], out: TextIO) -> int:
    last = first
    most = max(first.pending_bytes, 1)
    try:
        for last in conversation:
            most = max(most, last.pending_bytes)
            _show_progress(last, most, out)
    except TimeoutError:
        out.write(f"mountfs: the daemon ({last.pid}) does not answer any more\n")
        return EXIT_PENDING
    finally:
        clear_line(out)
    if last.state is not State.DONE:
        out.write(
            f"mountfs: the daemon ({last.pid}) died before it had finished; the next"
            " mount of the same store goes on with what is pending\n"
        )
        return EXIT_PENDING
    return _last_word(last, out)


def _last_word(status: Status, out: TextIO) -> int:
    _tell_unseen(status, out)
    _tell_local_only(status, out)
    if status.pending_files == 0:
        return EXIT_TROUBLE if status.unseen else os.EX_OK
    shown = status.waiting[:NAMES_SHOWN]
    more = status.pending_files - len(shown)
    names = plain(", ".join([*shown, *([f"{more} more"] if more > 0 else [])]))
    what = f"mountfs: {_amount(status)} could not be sent yet: {names}"
    after = (
        f"the next mount of {status.url} goes on with it"
        if status.state is State.DONE
        else f"process {status.pid} goes on with it, see `mountfs list`"
    )
    out.write(f"{what}; {after}\n")
    return EXIT_PENDING


def _tell_unseen(status: Status, out: TextIO) -> None:
    """Tell what went wrong behind the programs' backs, since nobody will ask later."""
    if not status.unseen:
        return
    out.write(f"mountfs: {status.unseen} late errors of {status.mount_point}:\n")
    news = [each for each in status.incidents if each.is_new]
    for each in news[-NAMES_SHOWN:]:
        kept = f"; kept as {each.kept_as}" if each.kept_as is not None else ""
        out.write(plain(f"  {each.path}: {each.text}{kept}") + "\n")


def _tell_local_only(status: Status, out: TextIO) -> None:
    """Tell what was not to be sent: whoever clears this host away should know."""
    if status.local_only_files:
        files = count_of(status.local_only_files, "local-only file")
        size = format_size(status.local_only_bytes)
        out.write(
            f"mountfs: {files}, {size}, not sent: the next mount of {status.url} with"
            " the same patterns has them\n"
        )


def _amount(status: Status) -> str:
    files = "1 file" if status.pending_files == 1 else f"{status.pending_files} files"
    return f"{files}, {format_size(status.pending_bytes)}"


def _show_progress(status: Status, most: int, out: TextIO) -> None:
    if status.state is State.DONE or status.pending_files == 0:
        return
    done = 1 - status.pending_bytes / most
    bar = ("#" * int(done * 24)).ljust(24, ".")
    write_line(f"[{bar}] {_amount(status)} to go", out)
