"""How fast requests leave for one account: a bucket that all mounts of a user share.

Dropbox counts the requests of an account and tells nobody its limits; what it does tell
is when to come back. Until that moment nothing leaves, and afterwards half as many a
second as before; a tenth more with each second that passes, until there is no limit any
more. Programs that wait may run ahead of that by a second's worth, so that their reads
come before uploads in the background.

The bucket is a small file in the runtime directory of the user, read and written under
its lock; without a directory that is ours alone each process has a bucket of its own.
"""

import fcntl
import hashlib
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path

PAUSE_S = 1.0
"""Where Dropbox names no time. Seconds."""
PAUSE_MAX_S = 300.0
RATE_MIN, RATE_FIRST, RATE_MAX = 5.0, 40.0, 200.0
"""Requests a second: the least, that of a storm at once, and where limits end."""
GROWTH = 1.1
AHEAD_S = 1.0
_TRIES, _TRY_S = 50, 0.001
_FORMAT = struct.Struct("<6d")


class EarlyError(Exception):
    """It is too early for a request; nothing was sent."""

    def __init__(self, left_s: float) -> None:
        super().__init__(left_s)
        self.left_s = left_s


@dataclass(slots=True)
class Bucket:
    """When the next request may leave. Pure: it is told the time, by a common clock."""

    until_s: float = 0.0
    """Nothing leaves before."""
    rate: float = 0.0
    """Requests a second when they were slowed down; 0 is no limit."""
    next_s: float = 0.0
    """When the next request leaves, if they keep to the rate."""
    second_s: float = 0.0
    sent: float = 0.0
    """How many have left since `second_s`."""
    seen: float = 0.0
    """How many left in the second before that."""

    def take(self, now_s: float, *, is_urgent: bool) -> float:
        """Let a request leave; return 0, or how long it must wait to ask again."""
        # A clock that was set back must not stop the mount.
        if 0 < self.until_s - now_s <= PAUSE_MAX_S:
            return self.until_s - now_s
        rate = self._rate_at(now_s)
        if rate:
            ahead_s = AHEAD_S if is_urgent else 0.0
            self.next_s = max(min(self.next_s, now_s + 2 * AHEAD_S), now_s)
            wait_s = self.next_s - now_s - ahead_s
            if wait_s > 0:
                return wait_s
            self.next_s += 1 / rate
        self._count(now_s)
        return 0.0

    def slow_down(self, now_s: float, pause_s: float) -> None:
        """Let nothing leave for so long, and then half as many as before.

        Requests that were on their way together are refused together: that is once.
        """
        is_news = not 0 <= self.until_s + 1 - now_s <= PAUSE_MAX_S + 1
        if is_news:
            before = self._rate_at(now_s) or max(self.sent, self.seen) or RATE_FIRST
            self.rate = max(RATE_MIN, before / 2)
        if not 0 < self.until_s - now_s <= PAUSE_MAX_S:
            self.until_s = now_s
        self.until_s = max(self.until_s, now_s + pause_s)

    def _rate_at(self, now_s: float) -> float:
        if not self.rate:
            return 0.0
        quiet_s = max(0.0, now_s - self.until_s)
        grown = self.rate * GROWTH ** min(quiet_s, 100.0)
        if grown > RATE_MAX:
            self.rate = 0.0
        return 0.0 if grown > RATE_MAX else grown

    def _count(self, now_s: float) -> None:
        if not 0 <= now_s - self.second_s < 1:
            self.seen = self.sent if now_s - self.second_s < 2 else 0.0
            self.second_s, self.sent = now_s, 0.0
        self.sent += 1


class Pace:
    """The bucket of one account. Each call blocks for a moment."""

    def __init__(self, account: str, *, clock: Callable[[], float] = time.time) -> None:
        """`account` is whatever all that share its limits have in common."""
        self.name = f"dropbox-{hashlib.sha256(account.encode()).hexdigest()[:16]}"
        self._clock = clock
        self._own = Bucket()
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._is_tried = False

    def take(self, *, is_urgent: bool) -> None:
        """Let a request leave. Raises `EarlyError` if it has to wait."""
        with self._bucket() as bucket:
            left_s = bucket.take(self._clock(), is_urgent=is_urgent)
        if left_s > 0:
            raise EarlyError(left_s)

    def slow_down(self, seconds: float | None) -> float:
        """Take in that Dropbox asked to slow down; return for how long."""
        pause_s = min(PAUSE_S if seconds is None else seconds, PAUSE_MAX_S)
        with self._bucket() as bucket:
            bucket.slow_down(self._clock(), pause_s)
        return pause_s

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    @contextmanager
    def _bucket(self) -> Iterator[Bucket]:
        with self._lock:
            fd = self._opened()
            if fd is None or not _is_locked(fd):
                yield self._own
                return
            try:
                bucket = _unpacked(os.pread(fd, _FORMAT.size, 0))
                yield bucket
                os.pwrite(fd, _FORMAT.pack(*astuple(bucket)), 0)
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)

    def _opened(self) -> int | None:
        if self._fd is None and not self._is_tried:
            self._is_tried = True
            with suppress(OSError):
                directory = runtime_directory()
                if directory is not None:
                    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                    self._fd = os.open(directory / self.name, flags, 0o600)
        return self._fd


def _is_locked(fd: int) -> bool:
    """Lock a file; False if somebody holds it for longer than anybody should.

    That is a process which the kernel cannot end: no mount may hang with it.
    """
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_TRY_S)
    return False


def runtime_directory() -> Path | None:
    """Return a directory that is ours alone, made if need be; None if there is none."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):
        directory = Path(base) / "mountfs"
    elif os.geteuid() == 0:
        directory = Path("/run/mountfs")
    else:
        directory = Path(f"/run/user/{os.geteuid()}/mountfs")
    if not directory.parent.is_dir():
        return None
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return directory if is_ours and not found.st_mode & 0o022 else None


def _unpacked(text: bytes) -> Bucket:
    return Bucket(*_FORMAT.unpack(text)) if len(text) == _FORMAT.size else Bucket()
