"""A directory on the local disk that belongs to one daemon at a time."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class DirectoryInUse(Exception):
    """Another daemon works in this directory."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(
            f"{path} is in use by another mountfs daemon (process {owner or '?'})"
        )
        self.path = path
        self.owner = owner


class DirectoryLock:
    """Holds a directory for this process; the kernel lets go if the process dies.

    Makes the directory if it is not there. Entering raises `DirectoryInUse`, which
    names the process that holds it, or `OSError` if the directory cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = self._path / "lock"
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(fd, 32).decode(errors="replace").strip()
            os.close(fd)
            raise DirectoryInUse(self._path, owner) from error
        except OSError:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
        self._fd = -1
