"""Ways from a key to a place in the root directory, and never out of it.

Each component is opened below the one before without following symbolic links, so
that no key, no link that someone plants and no race leads outside. Names that begin
with `.mountfs-tmp-` are ours in every directory: files that are being written. They
are never listed and no key may name them.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mountfs.backends._tokens import key_bytes
from mountfs.storage.errors import BucketNotFound, InvalidRequest, NotFound, WrongKind

RESERVED = b".mountfs-tmp-"
STALE_AFTER_S = 60

_THROUGH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK_INTO = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place(NamedTuple):
    """A name in an open directory."""

    directory: int
    name: bytes

    def lstat(self) -> os.stat_result | None:
        """Return what is here, links not followed; None if nothing is."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def beside(self) -> "Place":
        """Return a new place of ours in the same directory."""
        return Place(self.directory, RESERVED + secrets.token_hex(12).encode())

    @property
    def path(self) -> str:
        """A path for calls that take no directory descriptor."""
        return f"/proc/self/fd/{self.directory}/{os.fsdecode(self.name)}"


def components(key: str) -> list[bytes]:
    """Return the names that lead to a key. Raises `InvalidRequest`."""
    names = key_bytes(key.removesuffix("/")).split(b"/")
    for name in names:
        if name in {b"", b".", b".."}:
            raise InvalidRequest(f"no file can have the name {name!r}", key=key)
        if b"\0" in name:
            raise InvalidRequest("no file name can have a NUL byte", key=key)
        if name.startswith(RESERVED):
            raise InvalidRequest("the names .mountfs-tmp-* are reserved", key=key)
    return names


class Root:
    """The directory that holds everything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BucketNotFound(f"{path} is not a directory") from error

    def close(self) -> None:
        """Close the directory."""
        os.close(self._fd)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other writer of ours out, on this host, until the block ends.

        The lock is on the root directory itself; programs that do not know it are
        not kept out.
        """
        fd = os.open(".", _LOOK_INTO, dir_fd=self._fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def place(self, key: str, *, create: bool = False) -> Iterator[Place]:
        """Open the directory that a key's last name is in, and make it if told to.

        Raises `NotFound` if there is no such directory, `WrongKind` if one cannot be
        made because a file or a link is in the way.
        """
        *parents, name = components(key)
        fd = self._through(parents, key, create=create)
        try:
            yield Place(fd, name)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def directory(self, key: str) -> Iterator[int]:
        """Open the directory of a key ("" is the root) for looking into it."""
        through = self._through(components(key) if key else [], key, create=False)
        try:
            fd = os.open(".", _LOOK_INTO, dir_fd=through)
        finally:
            os.close(through)
        try:
            yield fd
        finally:
            os.close(fd)

    def _check_exists(self) -> None:
        """Raise `BucketNotFound` if the root was removed: no key is found then."""
        if os.fstat(self._fd).st_nlink == 0:
            raise BucketNotFound(f"{self.path} was removed")

    def _through(self, names: list[bytes], key: str, *, create: bool) -> int:
        self._check_exists()
        fd = os.open(".", _THROUGH, dir_fd=self._fd)
        try:
            for name in names:
                below = _step(fd, name, key, create=create)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd


def _step(fd: int, name: bytes, key: str, *, create: bool) -> int:
    try:
        return os.open(name, _THROUGH, dir_fd=fd)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        if create:
            raise WrongKind("a part of the key is no directory", key=key) from error
        raise NotFound(key=key) from error
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=fd)
        sync_directory(fd)
    return os.open(name, _THROUGH, dir_fd=fd)


def sync_directory(fd: int) -> None:
    """Make the names in a directory survive a power loss."""
    readable = os.open(".", _LOOK_INTO, dir_fd=fd)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


def names_in(fd: int) -> list[tuple[bytes, bool]]:
    """Return the names in a directory, and of each whether it is one; ours excluded."""
    with os.scandir(fd) as entries:
        found = [
            (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False))
            for entry in entries
        ]
    return [pair for pair in found if not pair[0].startswith(RESERVED)]


def remove_stale(fd: int) -> None:
    """Remove what dead writers left in a directory.

    A living writer holds a lock on its file. Links cannot be locked; their age tells.
    """
    oldest = time.time() - STALE_AFTER_S
    for text in os.listdir(fd):
        place = Place(fd, os.fsencode(text))
        found = place.lstat() if place.name.startswith(RESERVED) else None
        if found is None:
            continue
        if stat.S_ISREG(found.st_mode):
            _remove_unless_locked(place)
        elif stat.S_ISLNK(found.st_mode) and found.st_mtime < oldest:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place.name, dir_fd=fd)


def _remove_unless_locked(place: Place) -> None:
    """Remove a file, under its lock; a writer looks for that when it has the lock."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(place.name, flags, dir_fd=place.directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(place.name, dir_fd=place.directory)
        except BlockingIOError:
            return
        finally:
            os.close(fd)
