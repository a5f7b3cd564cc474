"""The life of one FUSE connection: mount, serve, detach, close.

A mount that nobody serves makes every program in it hang, so the order matters: it is
detached first while still serving, and closed when the last program has left or a time
limit has passed.
"""

import errno
import logging
import os
import signal
import subprocess
from collections.abc import Set
from pathlib import Path

import pyfuse3
import trio

from mountfs.errors import UsageError
from mountfs.fuse.operations import Operations
from mountfs.fuse.turns import fewer_turns

log = logging.getLogger(__name__)

TASKS_MAX = 256
"""Handlers at once; above it requests wait in the kernel, whatever they are."""

READ_AHEAD_KIB = 4096
BACKGROUND_MAX = 64
CONGESTED_AT = 48
WAKE_INTERVAL_S = 1
UNMOUNT_TIMEOUT_S = 30


def is_worth_telling(record: logging.LogRecord) -> bool:
    """Tell whether a line of pyfuse3 says more than that an answer came late.

    The kernel refuses an answer with ENOENT (write(2) on /dev/fuse) when the program
    that asked was killed, or the mount is gone: then nobody waits for it.
    """
    is_refused_answer = "fuse_reply" in str(record.msg)
    return not (is_refused_answer and record.args == (os.strerror(errno.ENOENT),))


class Session:
    """One mount point, from `mount` to `close`."""

    def __init__(self, operations: Operations, mount_point: Path) -> None:
        self._operations = operations
        self._mount_point = mount_point
        self._is_serving = False

    def mount(self, source: str, words: Set[str]) -> None:
        """Mount, with these options for the kernel besides those of every mount.

        Requests wait until `serve`. Raises `UsageError`.
        """
        options = {
            "default_permissions",
            "subtype=mountfs",
            "fsname=" + source.replace("\\", "\\\\").replace(",", "\\,"),
        }
        options |= words
        logging.getLogger(pyfuse3.__name__).addFilter(is_worth_telling)
        try:
            pyfuse3.init(self._operations, str(self._mount_point), options)
        except RuntimeError as error:
            hint = (
                "--allow-other needs `user_allow_other` in /etc/fuse.conf"
                if "allow_other" in words and os.geteuid() != 0
                else "see the message of fusermount3 or the kernel log"
            )
            raise UsageError(
                f"the kernel refused to mount at {self._mount_point} ({error}): {hint}"
            ) from error

    async def serve(self) -> None:
        """Answer requests until the file system is unmounted."""
        _wake_a_frozen_read()
        self._is_serving = True
        try:
            with fewer_turns():
                await pyfuse3.main(min_tasks=4, max_tasks=TASKS_MAX)
        finally:
            self._is_serving = False

    async def wait_until_it_answers(self) -> int:
        """Ask the mount for its root; return its device number (`st_dev`)."""
        # If serving fails meanwhile, only `close` gives the thread its answer: who
        # waited for that thread would never come to close.
        answer = await trio.to_thread.run_sync(
            os.stat, self._mount_point, abandon_on_cancel=True
        )
        await trio.to_thread.run_sync(_tune, answer.st_dev)
        return answer.st_dev

    async def detach(self) -> None:
        """Take the mount point away; programs that are inside go on until they end."""
        command = (
            ["umount", "-i", "--lazy", str(self._mount_point)]
            if os.geteuid() == 0
            else ["fusermount3", "-u", "-z", str(self._mount_point)]
        )
        result = await trio.to_thread.run_sync(_run, command, abandon_on_cancel=True)
        if result:
            log.warning("cannot detach %s: %s", self._mount_point, result)
            self.terminate()

    def terminate(self) -> None:
        """Stop serving after the requests under way; on the trio thread only."""
        if self._is_serving:
            pyfuse3.terminate()

    def close(self, *, is_attached: bool) -> None:
        """Give the connection back; whoever still has a file open gets ENOTCONN.

        `is_attached`: the mount is still at its place, and is taken away. Else it is
        not asked for: libfuse would take away whatever is mounted there by now.
        """
        signal.setitimer(signal.ITIMER_REAL, 0)
        pyfuse3.close(unmount=is_attached)

    def abandon(self) -> None:
        """Give the connection back and leave the mount, which is dead from now on.

        Programs get ENOTCONN. Were the mount taken away, they would go on writing into
        the directory below it, and think that all is well.
        """
        signal.setitimer(signal.ITIMER_REAL, 0)
        pyfuse3.close(unmount=False)


def _wake_a_frozen_read() -> None:
    """Interrupt the read of /dev/fuse every second.

    pyfuse3 waits for a request and then reads it without being able to give up. If the
    request is withdrawn in between, because its process was killed, the read freezes
    the whole daemon until somebody else asks for something; EINTR makes it go on.
    """
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, WAKE_INTERVAL_S, WAKE_INTERVAL_S)


def _tune(device: int) -> None:
    """Let the kernel ask in larger pieces and more of them, where we may say so.

    Measured at 50 ms a request: 5 MB/s by default, 200 MB/s and more like this.
    """
    minor = os.minor(device)
    connection = Path(f"/sys/fs/fuse/connections/{minor}")
    settings = [
        (Path(f"/sys/class/bdi/0:{minor}/read_ahead_kb"), READ_AHEAD_KIB),
        (connection / "max_background", BACKGROUND_MAX),
        (connection / "congestion_threshold", CONGESTED_AT),
    ]
    for path, value in settings:
        try:
            path.write_text(f"{value}\n")
        except OSError as error:
            log.debug("cannot set %s to %d: %s", path, value, error)


def _run(command: list[str]) -> str:
    """Run a command; return what it complained of, or ""."""
    try:
        result = subprocess.run(  # noqa: S603  # fixed words and our mount point
            command,
            capture_output=True,
            text=True,
            timeout=UNMOUNT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return result.stderr.strip() or "it failed" if result.returncode else ""
