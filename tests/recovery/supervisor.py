"""What systemd does with a unit of ours, as far as a test needs it.

The commands are read from the unit file itself. A service of Type=notify has started
when it says READY=1; when it has ended, for whatever reason, ExecStopPost is run.
"""

import os
import re
import select
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.fuse.mounting import COMMAND

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "mountfs@.service"
START_S = 60.0
STOP_S = 90.0


class Supervisor:
    """One instance of the unit."""

    def __init__(
        self, instance: str, environment: Mapping[str, str], base: Path
    ) -> None:
        self._instance = instance
        self._unit = UNIT.read_text()
        address = base / "notify.sock"
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listening.bind(str(address))
        self._log = base / "log"
        self._environment = {**os.environ, **environment, "NOTIFY_SOCKET": str(address)}
        self._process: subprocess.Popen[bytes] | None = None
        self.told: list[str] = []
        """Everything the service has said."""

    def start(self) -> None:
        """Start the service; return when it is ready."""
        for command in self._commands("ExecStartPre"):
            self._run(command)
        (command,) = self._commands("ExecStart")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_for("READY=1", START_S)

    def reload(self) -> None:
        """Tell it to read its configuration again; return when it has."""
        self.told.clear()
        for command in self._commands("ExecReload"):
            self._run([word.replace("$MAINPID", str(self.pid)) for word in command])
        self.wait_for("RELOADING=1", START_S)
        self.wait_for("READY=1", START_S)

    def kill(self) -> None:
        """Kill the daemon, as the kernel does when memory is short."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(START_S)
        self._clean_up()

    def stop(self) -> int:
        """Stop the service as at shutdown; return the exit code."""
        assert self._process is not None
        self.told.clear()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_S)
        self._clean_up()
        self.hear(0)
        return code

    def end(self) -> None:
        """End what is left, by force."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._listening.close()

    @property
    def pid(self) -> int:
        """The process of the daemon."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return what all of its daemons have logged."""
        return self._log.read_text(errors="replace")

    def wait_for(self, line: str, seconds: float) -> None:
        """Return when the service has said this."""
        end_s = time.monotonic() + seconds
        while line not in self.told:
            assert self._process is not None
            assert self._process.poll() is None, f"it ended\n{self.log()}"
            assert time.monotonic() < end_s, f"no {line}: {self.told}\n{self.log()}"
            self.hear(0.2)

    def hear(self, seconds: float) -> None:
        """Take what the service says within this time."""
        while select.select([self._listening], [], [], seconds)[0]:
            self.told += self._listening.recv(4096).decode().split("\n")
            seconds = 0

    def _clean_up(self) -> None:
        for command in self._commands("ExecStopPost"):
            self._run(command)

    def _run(self, command: list[str]) -> None:
        subprocess.run(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=START_S,
        )

    def _commands(self, name: str) -> Iterator[list[str]]:
        for line in re.findall(rf"^{name}=[-+!:@]*(.+)$", self._unit, re.MULTILINE):
            program, *words = shlex.split(line.replace("%i", self._instance))
            ours = program == "/usr/bin/mountfs"
            yield [*(COMMAND if ours else (program,)), *words]
