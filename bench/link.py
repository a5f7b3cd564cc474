"""The delaying proxy as the runner holds it: start, set, count, end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Carried:
    """What a proxy has carried, or the difference of two such counts."""

    requests: int
    connections: int
    up: int
    down: int
    cpu_s: float
    methods: dict[str, int]

    def __sub__(self, earlier: Self) -> "Carried":
        return Carried(
            self.requests - earlier.requests,
            self.connections - earlier.connections,
            self.up - earlier.up,
            self.down - earlier.down,
            self.cpu_s - earlier.cpu_s,
            {
                method: count - earlier.methods.get(method, 0)
                for method, count in self.methods.items()
                if count > earlier.methods.get(method, 0)
            },
        )


class DelayedLink:
    """A proxy process before one server."""

    def __init__(self, upstream: str, *, rtt_ms: float, mbit: float) -> None:
        self.rtt_ms = rtt_ms
        words = ("--rtt-ms", str(rtt_ms), "--mbit", str(mbit))
        self._process = subprocess.Popen(
            [sys.executable, "-P", CHECKOUT / "bench" / "proxy.py", upstream, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())

    def carried(self) -> Carried:
        """Return the counts from the start."""
        return self._say("stats")

    @contextmanager
    def without_delay(self) -> Iterator[None]:
        """Carry at once within the block: for what is not timed."""
        self._say("rtt 0")
        try:
            yield
        finally:
            self._say(f"rtt {self.rtt_ms}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, command: str) -> Carried:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return Carried(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        return line
