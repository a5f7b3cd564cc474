"""Daemons as processes: of a Python of their own, or forked off one that is ready.

Half of what a mount in a test costs is to start Python and to load the modules. So
those are loaded once (`tests.fuse.fork_server`), unless the environment says something
that is heard but at the start of a process.
"""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

SERVER = Path(__file__).with_name("fork_server.py")
COMMAND = (sys.executable, "-P", "-m", "mountfs")
HEARD_AT_START = ("PYTHON", "LD_", "MALLOC_", "MOUNTFS_TEST_DIE_AT")
NUMBER = struct.Struct("i")
ANSWER_S = 60.0
READY = 3
"""Where the fork server puts the descriptor that tells when a mount is ready."""


class Process(Protocol):
    """What is used of `subprocess.Popen`."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Return how it ended, or None."""

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended, when it has."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


def start(options: Sequence[str], log: IO[bytes], ready: int) -> Process:
    """Run `mountfs mount --foreground`; `ready` is where it tells that it is ready."""
    if _heard_at_start(os.environ) != _server.environment:
        return start_anew(options, log, ready)
    return _server.fork(_arguments(options, READY), log, ready)


def start_anew(
    options: Sequence[str], log: IO[bytes], ready: int
) -> "subprocess.Popen[bytes]":
    """As `start`, as a program of its own: what /proc tells of it is its own, too."""
    return subprocess.Popen(
        [*COMMAND, *_arguments(options, ready)],
        pass_fds=[ready],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


def stop() -> None:
    """End what daemons were forked off."""
    _server.stop()


class Forked:
    """A process that was forked off, for who did not start it himself."""

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self.returncode: int | None = None
        self.pid = self._answer(ANSWER_S)
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it has ended by now
            self._descriptor = -1

    def poll(self) -> int | None:
        """Return how it ended, or None."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended, when it has."""
        if self.returncode is None:
            self.returncode = self._answer(timeout)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None and self._descriptor >= 0:
            signal.pidfd_send_signal(self._descriptor, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _answer(self, timeout: float | None) -> int:
        ready, _, _ = select.select([self._answers], [], [], timeout)
        if not ready:
            raise subprocess.TimeoutExpired("mountfs mount", timeout or 0.0)
        answer = os.read(self._answers, NUMBER.size)
        assert answer, "what forks daemons off is gone"
        return int(NUMBER.unpack(answer)[0])

    def __del__(self) -> None:
        os.close(self._answers)
        if self._descriptor >= 0:
            os.close(self._descriptor)


class _Server:
    """The program that daemons are forked off, begun when it is first needed."""

    def __init__(self) -> None:
        self.environment = _heard_at_start(os.environ)
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, arguments: Sequence[str], log: IO[bytes], ready: int) -> Forked:
        """Fork a daemon off; `ready` is its descriptor `READY`."""
        if self._requests is None:
            self._requests = self._start()
        request = {
            "arguments": arguments,
            "environment": dict(os.environ),
            "directory": str(Path.cwd()),
        }
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "rb") as nothing:
            descriptors = [theirs.fileno(), nothing.fileno()]
            descriptors += [log.fileno(), log.fileno(), ready]
            letter = json.dumps(request).encode()
            socket.send_fds(self._requests, [letter], descriptors)
        return Forked(ours.detach())

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(SERVER), str(number)], pass_fds=[number]
            )
        return ours

    def stop(self) -> None:
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._process.wait(ANSWER_S)
            self._requests = self._process = None


def _heard_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k.startswith(HEARD_AT_START)}


def _arguments(options: Sequence[str], ready: int) -> list[str]:
    return ["mount", "--foreground", f"--ready-fd={ready}", *options]


_server = _Server()
