"""A service manager for one mount: what systemd would do with the unit, no more.

The commands are those of the unit file itself, `/usr/bin/mountfs` being this checkout.
What the daemon says comes over a real socket, in the order in which it was said.
"""

import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from mountfs import mounts
from tests.fuse.mounting import Connection

CHECKOUT = Path(__file__).resolve().parents[2]
UNIT = CHECKOUT / "systemd" / "mountfs@.service"
PROGRAM = (sys.executable, "-P", "-m", "mountfs")
ANSWER_S = 60.0
Message = dict[str, str]


def settings_of(unit: Path) -> Iterator[tuple[str, str]]:
    """Yield the settings of a unit file, in order."""
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            yield name, value


class ServiceManager:
    """Starts the service `mountfs@NAME`, listens to it, and ends it."""

    def __init__(
        self,
        directory: Path,
        config: Path,
        name: str = "data",
        *,
        program: Sequence[str] = PROGRAM,
        watchdog_s: float | None = None,
    ) -> None:
        self._name = name
        self._program = program
        self._unit = dict(settings_of(UNIT))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "notify"))
        self._environment = {**os.environ, "MOUNTFS_CONFIG": str(config)}
        self._log = directory / "journal"
        self._watchdog_s = watchdog_s
        self._service = {"NOTIFY_SOCKET": str(directory / "notify")}
        self.process: subprocess.Popen[bytes] | None = None
        self.heard: list[Message] = []
        self._unread: list[Message] = []
        self._connection: Connection | None = None

    # --- what systemd does -----------------------------------------------------

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        environment = {**self._environment, **self._service}
        if self._watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        with self._log.open("ab") as journal:
            self.process = subprocess.Popen(
                self._command("ExecStart", self._program),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
            )
        self.wait_for(lambda message: "READY" in message)
        self._connection = _connection_below(self._log.parent)

    def reload(self) -> None:
        """Reload the service as its unit says; return when it is ready again."""
        assert self.process is not None
        command = self._unit["ExecReload"].replace("$MAINPID", str(self.process.pid))
        subprocess.run(shlex.split(command), check=True, timeout=ANSWER_S)
        self.wait_for(lambda message: "RELOADING" in message)
        self.wait_for(lambda message: "READY" in message)

    def stop(self) -> int:
        """Stop the service as its unit says; return the exit code of the daemon."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """Kill the daemon, as the watchdog does in the end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(ANSWER_S)

    def ended(self) -> int:
        """Wait for the end of the daemon; return its exit code."""
        assert self.process is not None
        deadline = time.monotonic() + ANSWER_S
        while self.process.poll() is None:
            # The kernel keeps ten messages that nobody has read.
            self._unread += filter(None, [self._hear(0.05)])
            assert time.monotonic() < deadline, self.log()
        code = self.process.wait()
        self.run_after()
        return code

    def run_after(self) -> str:
        """Run what the unit runs when the service has ended; return what it says."""
        done = subprocess.run(
            self._command("ExecStopPost", PROGRAM),
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=ANSWER_S,
        )
        return done.stderr

    def mountfs(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the command as an operator."""
        return subprocess.run(
            [*PROGRAM, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_S,
        )

    def _command(self, setting: str, program: Sequence[str]) -> list[str]:
        words = shlex.split(self._unit[setting].lstrip("-").replace("%i", self._name))
        assert words[0] == "/usr/bin/mountfs"
        return [*program, *words[1:]]

    # --- what it hears ---------------------------------------------------------

    def wait_for(self, is_it: Callable[[Message], bool]) -> Message:
        """Return the next message that is such a one; the daemon must live."""
        deadline = time.monotonic() + ANSWER_S
        while (message := self._next(deadline - time.monotonic())) is not None:
            if is_it(message):
                return message
        raise AssertionError(f"not heard: {self.heard}\n{self.log()}")

    def wait_for_status(self, *words: str) -> Message:
        """Return the next message with a status that has these words."""
        return self.wait_for(
            lambda message: all(word in message.get("STATUS", "") for word in words)
        )

    def rest(self, silence_s: float = 0.0) -> list[Message]:
        """Return what was said, until nothing is said for so long."""
        said = []
        while (message := self._next(silence_s)) is not None:
            said.append(message)
        return said

    def _next(self, seconds: float) -> Message | None:
        return self._unread.pop(0) if self._unread else self._hear(seconds)

    def _hear(self, seconds: float) -> Message | None:
        ready, _, _ = select.select([self._socket], [], [], max(0.0, seconds))
        if not ready:
            return None
        lines = self._socket.recv(1 << 16).decode().splitlines()
        message = dict(line.split("=", 1) for line in lines)
        self.heard.append(message)
        return message

    def wait_until_asleep(self) -> None:
        """Return when the kernel makes the daemon wait, and no signal can wake it."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status")
        deadline = time.monotonic() + ANSWER_S
        while "State:\tD" not in status.read_text():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def log(self) -> str:
        """Return what the daemon has logged."""
        return self._log.read_text() if self._log.exists() else ""

    # --- the end ---------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            if self._connection is not None:
                self._connection.abort()
            self.process.wait(ANSWER_S)
        for entry in _mounts_below(self._log.parent):
            mounts.unmount(entry.mount_point, is_lazy=True)


def _mounts_below(directory: Path) -> list[mounts.MountEntry]:
    ours = [each for each in mounts.all_mounts() if each.fstype == mounts.FSTYPE]
    return [each for each in ours if each.mount_point.is_relative_to(directory)]


def _connection_below(directory: Path) -> Connection:
    (entry,) = _mounts_below(directory)
    return Connection(entry)
