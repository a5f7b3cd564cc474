"""A disk that fails to write, and a kernel that then takes the bytes for written.

As Linux does: the call that waits for the bytes is told, once; what was not written is
gone; the next call has nothing to wait for and succeeds.
"""

import errno
import os
from collections.abc import Callable

import pytest

from mountfs.cache import spool


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
        self.waits: Callable[[], object] = lambda: None
        self._syncs = os.fsync
        self._sizes: dict[int, int] = {}
        monkeypatch.setattr(os, "fdatasync", self._sync)
        monkeypatch.setattr(os, "fsync", self._sync_name)
        monkeypatch.setattr(spool, "tell_of_failed_writes", self._tell)

    def _sync(self, fd: int) -> None:
        is_failing, self.fails = self.fails > 0, max(0, self.fails - 1)
        self.waits()
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
