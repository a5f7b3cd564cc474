"""When requests may leave again after Dropbox has asked to slow down.

Dropbox counts the requests of an account and tells nobody its limits; what it does tell
is when to come back. That moment holds for everything that this user runs for the
account on this host: it is the time of change of a file that all of it looks at.
"""

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import trio

PAUSE_S = 1.0
"""Where Dropbox names no time. Seconds."""
PAUSE_MAX_S = 300.0


class EarlyError(Exception):
    """Another process was asked to slow down; nothing was sent."""

    def __init__(self, left_s: float) -> None:
        super().__init__(left_s)
        self.left_s = left_s


class Pace:
    """The moment before which nothing is sent for one account."""

    def __init__(self, account: str) -> None:
        """`account` is whatever all that share its limits have in common."""
        name = hashlib.sha256(account.encode()).hexdigest()[:16]
        self._path = _directory() / f"dropbox-{name}"
        self._until = 0.0

    async def wait(self) -> None:
        """Return when a request may leave, by what this process knows."""
        await trio.sleep_until(max(self._until, trio.current_time()))

    def check(self) -> None:
        """Raise `EarlyError` if another process knows better. Blocks for a stat(2)."""
        try:
            left_s = self._path.stat().st_mtime - time.time()
        except OSError:
            return
        # A clock that was set back must not stop the mount.
        if 0 < left_s <= PAUSE_MAX_S:
            raise EarlyError(left_s)

    def slow_down(self, seconds: float | None) -> float:
        """Send nothing for so long; return how long that is."""
        pause_s = min(PAUSE_S if seconds is None else seconds, PAUSE_MAX_S)
        self._until = max(self._until, trio.current_time() + pause_s)
        return pause_s

    def tell(self, pause_s: float) -> None:
        """Let the other processes know. Blocks; that it fails is not worth an error."""
        until = time.time() + pause_s
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_mtime < until:
                    os.utime(fd, (until, until))
            finally:
                os.close(fd)


def _directory() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base:
        return Path(base) / "mountfs"
    return Path(tempfile.gettempdir()) / f"mountfs-{os.geteuid()}"
