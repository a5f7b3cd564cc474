"""A disk that fails to write, and a kernel that then takes the bytes for written.

As Linux does: the call that waits for the bytes is told, once; what was not written is
gone; the next call has nothing to wait for and succeeds.
"""

import errno
import os
import threading

import pytest
import trio

from mountfs.cache import spool


class SyncHold:
    """A sync that does not end before it is released."""

    def __init__(self) -> None:
        self._begun, self._may_end = threading.Event(), threading.Event()

    def stop(self) -> None:
        """Stop, in the thread of the sync."""
        self._begun.set()
        assert self._may_end.wait(10)

    async def reached(self) -> None:
        """Return when the sync is under way."""
        assert await trio.to_thread.run_sync(self._begun.wait, 10)

    def release(self) -> None:
        """Let it end."""
        self._may_end.set()


class ForgetfulDisk:
    """Stands in for `os.fdatasync`, and for `os.fsync` of directories."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = 0
        """How many of the next syncs fail."""
        self.fails_names = 0
        """The same of those of directories."""
        self.looks_until_failure = 0
        """Which of the next looks finds that something could not be written meanwhile;
        none if 0.
        """
        self._hold: SyncHold | None = None
        self._syncs = os.fsync
        self._sizes: dict[int, int] = {}
        monkeypatch.setattr(os, "fdatasync", self._sync)
        monkeypatch.setattr(os, "fsync", self._sync_name)
        monkeypatch.setattr(spool, "tell_of_failed_writes", self._tell)

    def hold(self) -> SyncHold:
        """Stop the next sync."""
        self._hold = SyncHold()
        return self._hold

    def _sync(self, fd: int) -> None:
        is_failing, self.fails = self.fails > 0, max(0, self.fails - 1)
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.stop()
        size, inode = os.fstat(fd).st_size, os.fstat(fd).st_ino
        if is_failing:
            start = self._sizes.get(inode, 0)
            os.pwrite(fd, bytes(max(0, size - start)), start)
            raise OSError(errno.EIO, "the disk is ill")
        self._sizes[inode] = size

    def _tell(self, fd: int) -> None:
        if self.looks_until_failure:
            self.looks_until_failure -= 1
            if not self.looks_until_failure:
                self.fails = 1
                self._sync(fd)

    def _sync_name(self, fd: int) -> None:
        if self.fails_names:
            self.fails_names -= 1
            raise OSError(errno.EIO, "the disk is ill")
        self._syncs(fd)


@pytest.fixture
def forgetful_disk(monkeypatch: pytest.MonkeyPatch) -> ForgetfulDisk:
    """A disk that works until it is told to fail."""
    return ForgetfulDisk(monkeypatch)
