"""Real mounts for tests: the command as a child process, and a watchdog over it.

A program that waits for a mount that nobody serves cannot be killed, a test run
included. So every mount has a watchdog: when its time is over, a thread aborts the
connection in the kernel (every program in the mount gets an error at once) and kills
the daemon by its pid. It never looks at the mount itself. What holds Python's global
lock while it waits (page faults of a memory map) belongs into a child process.
"""

import io
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from mountfs import mounts
from mountfs.actions import umount
from tests.fuse import processes, tried
from tests.fuse.processes import COMMAND, Process

START_S = 60.0
UNMOUNT_S = 60.0
TEST_S = 100.0
"""Less than pytest's own limit, so that the mount is gone before that strikes."""

CONNECTIONS = Path("/sys/fs/fuse/connections")
_PROBLEM = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) |Traceback", re.MULTILINE)


class Connection:
    """The connection of a mount to its daemon, as long as it lasts.

    When it has ended its number is that of the next mount of anybody.
    """

    def __init__(self, entry: mounts.MountEntry) -> None:
        self._path = CONNECTIONS / entry.device.partition(":")[2]
        self._inode = self._find()

    def abort(self) -> None:
        """End it: every program in the mount gets an error at once."""
        if self._inode is not None and self._find() == self._inode:
            with suppress(OSError):
                (self._path / "abort").write_text("1")

    def _find(self) -> int | None:
        try:
            return self._path.stat().st_ino
        except OSError:  # it has ended, or this process may abort none
            return None


class Watchdog:
    """Ends a mount that has not answered in time."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._timer: threading.Timer | None = None
        self.has_struck = False

    def arm(self, seconds: float) -> None:
        """Strike after so many seconds, counted from now."""
        self.disarm()
        self._timer = threading.Timer(seconds, self._strike)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Do not strike any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _strike(self) -> None:
        self.has_struck = True
        self._act()


class Mount:
    """One mount by `mountfs mount -f`, from construction to `unmount` or `kill`."""

    def __init__(
        self,
        url: str,
        base: Path,
        options: Sequence[str] = (),
        *,
        life_s: float,
        is_anew: bool = False,
    ) -> None:
        """`is_anew` is for who looks at the process itself (`processes.start_anew`)."""
        self._is_anew = is_anew
        self.path = base / "mnt"
        if not base.exists() or not (base / "state").exists():
            self.path.mkdir(parents=True)
        self.state_dir = base / "state"
        self.cache_dir = base / "cache"
        self.log_path = base / "log"
        self.url = url
        self.options = tuple(options)
        # What the test servers lack; a mount says so when it begins.
        self._announced = ["this store ignores conditions"]
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._watchdog = Watchdog(self.abort)
        self._connection: Connection | None = None
        tried.tell(self.state_dir, url, self.options)
        self.process = self._start()
        tried.learn(self.state_dir, url, self.options)
        self._watchdog.arm(life_s)
        entry = mounts.mount_at(self.path)
        assert entry is not None
        self._connection = Connection(entry)

    def _start(self) -> Process:
        reading, writing = os.pipe()
        options = [
            f"--state-dir={self.state_dir}",
            f"--cache-dir={self.cache_dir}",
            f"--log-file={self.log_path}",
            *self.options,
            self.url,
            str(self.path),
        ]
        begin = processes.start_anew if self._is_anew else processes.start
        with self.log_path.open("ab") as errors:
            process = begin(options, errors, writing)
        os.close(writing)
        try:
            ready, _, _ = select.select([reading], [], [], START_S)
            word = os.read(reading, 8192) if ready else b"(it said nothing in time)"
        finally:
            os.close(reading)
        if word != b"ready\n":
            process.kill()
            process.wait()
            mounts.unmount(self.path, is_lazy=True)
            raise AssertionError(f"the mount failed: {word!r}\n{self.log()}")
        return process

    # --- the log --------------------------------------------------------------

    def log(self) -> str:
        """Return what this mount has logged."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def announce(self, pattern: str) -> None:
        """Allow lines of the log that match to be warnings or errors."""
        self._announced.append(pattern)

    def check_log(self) -> None:
        """Fail for every warning, error and traceback that was not announced."""
        problems = [
            line
            for line in self.log().splitlines()
            if _PROBLEM.search(line)
            and not any(re.search(each, line) for each in self._announced)
        ]
        assert not problems, "\n".join(problems)

    def look(self) -> str:
        """Look at the late errors, as a person does; then unmounting tells of none."""
        return run_command("status", str(self.path)).stdout

    # --- the end --------------------------------------------------------------

    def watch(self, seconds: float = TEST_S) -> None:
        """Give the mount so many seconds from now."""
        assert not self._watchdog.has_struck, "the mount hung in an earlier test"
        self._watchdog.arm(seconds)

    def flush(self) -> None:
        """Return when the store has everything."""
        flushed = run_command("flush", str(self.path))
        assert flushed.returncode == 0, flushed.stderr

    def unmount(self) -> None:
        """Unmount as a user does; the store must have everything, the log be clean.

        What `mountfs umount` calls is called here: no process has to start for it.
        """
        told = io.StringIO()
        try:
            done = umount.umount(str(self.path), is_lazy=False, out=told)
            code = self.process.wait(UNMOUNT_S)
        finally:
            self.kill()
        assert not self._watchdog.has_struck, f"the mount hung\n{self.log()}"
        assert (done, code) == (0, 0), f"{told.getvalue()}\n{self.log()}"
        self.check_log()

    def end(self, signal_number: int) -> int:
        """Send a signal to the daemon and return its exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(UNMOUNT_S)

    def kill(self) -> None:
        """End whatever is left of the mount, by force."""
        self._watchdog.disarm()
        if self.process.poll() is None:
            self.abort()
        self.process.wait(10)
        if mounts.mount_at(self.path) is not None:
            mounts.unmount(self.path, is_lazy=True)

    def abort(self) -> None:
        """Kill the daemon, then free it in the kernel, where it may hang.

        In this order, because a daemon whose connection goes lives on for a moment.
        """
        if self.process.poll() is None:
            self.process.kill()
            if self._connection is not None:
                self._connection.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.process.returncode is not None:  # the test itself saw it end
            self.kill()
        elif kind is None:
            self.unmount()
        else:
            self.kill()


@contextmanager
def fusectl() -> Iterator[None]:
    """See to it that connections can be aborted, if this process may mount."""
    if os.geteuid() == 0 and not os.path.ismount(CONNECTIONS):
        command = ["mount", "-t", "fusectl", "fusectl", str(CONNECTIONS)]
        subprocess.run(command, check=False, capture_output=True, timeout=30)
    yield


def run_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `mountfs` with arguments."""
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=UNMOUNT_S,
    )


def run(
    *command: str | Path,
    cwd: Path | None = None,
    timeout: float = 60,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program that must succeed in a child process; return what it printed."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        check=False,
        capture_output=True,
        timeout=timeout,
        env={**os.environ, **(environment or {})},
    )
    told = os.fsdecode(done.stdout + done.stderr)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {told}"
    return os.fsdecode(done.stdout)


def run_python(program: str, *arguments: str | Path, timeout: float = 60) -> str:
    """Run a Python program in a child process."""
    return run(sys.executable, "-c", program, *arguments, timeout=timeout)
