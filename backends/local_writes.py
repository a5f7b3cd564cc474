"""Reading plain files, and putting new ones in the place of old ones.

A new file is written beside its place under a name of ours, synced, and renamed; a
reader sees the old bytes or the new ones. The condition is checked under the lock of
the store, so it holds against every writer of ours on this host. Against programs
that do not take the lock, absence is exact (link(2) never replaces); a version is
checked a moment before the rename, and a change in that moment is lost.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

from mountfs.backends._checks import changed, check_holds, cut_range, inherited
from mountfs.backends.local_objects import (
    check_regular,
    content_version,
    file_object,
    foreign_xattrs,
    from_xattr,
    read_xattr,
    to_xattr,
    write_xattr,
)
from mountfs.backends.local_paths import Place, Root, sync_directory
from mountfs.storage.body import Body, stated_size
from mountfs.storage.errors import (
    BodyTooShort,
    Corrupt,
    NotFound,
    ServiceFailed,
    VersionChanged,
    WrongKind,
)
from mountfs.storage.types import (
    ABSENT,
    Condition,
    Content,
    Metadata,
    Object,
    Version,
)

_CHUNK = 1 << 20
_COPY_CHUNK = 64 << 20
_READ_TRIES = 3
# An fd that cannot be opened without waiting (a pipe put in the way) must not hang us.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_COPY_RANGE = {errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK}

Fill = Callable[[int], None]
"""Writes the bytes of a new file, given its descriptor."""


@contextlib.contextmanager
def opened(
    root: Root, key: str, *, write: bool = False
) -> Iterator[tuple[int, os.stat_result]]:
    """Open a plain file. Raises `NotFound` and `WrongKind`."""
    with root.place(key) as place:
        found = place.lstat()
        if found is None or (key.endswith("/") and not stat.S_ISDIR(found.st_mode)):
            raise NotFound(key=key)
        check_regular(found, key)
        flags = _READ | (os.O_RDWR if write else 0)
        fd = os.open(place.name, flags, dir_fd=place.directory)
    try:
        found = os.fstat(fd)
        check_regular(found, key)
        yield fd, found
    finally:
        os.close(fd)


def read_file(
    root: Root, key: str, offset: int, size: int | None, version: Version | None
) -> Content:
    """Return a range of a file, all of one version.

    Somebody may write into the file meanwhile: then it is read again.
    """
    for _ in range(_READ_TRIES):
        with opened(root, key) as (fd, found):
            object = file_object(key, found, read_xattr(fd))
            check_holds(key, version, object.version)
            start, count = cut_range(offset, size, found.st_size)
            data = _read_all(fd, start, count)
            if content_version(os.fstat(fd)) != content_version(found):
                continue
            if len(data) < count:
                raise Corrupt(f"{len(data)} of {count} bytes came", key=key)
            return Content(object, data)
    raise ServiceFailed("the file changes while it is read", key=key)


def _read_all(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset)
    if len(data) == size:
        return data
    pieces = [data]
    while data and size > sum(map(len, pieces)):
        done = sum(map(len, pieces))
        data = os.pread(fd, size - done, offset + done)
        pieces.append(data)
    return b"".join(pieces)


def body_writer(body: Body | None, size: int | None, *, at: int = 0) -> Fill:
    """Return what writes exactly `size` bytes of a body, `at` an offset."""
    wanted = stated_size(body, size)

    def fill(fd: int) -> None:
        if body is None or wanted == 0:
            return
        done = 0
        with body.open() as reader:
            while done < wanted:
                piece = reader.read(min(_CHUNK, wanted - done))
                if not piece:
                    raise BodyTooShort(f"the body ended after {done} of {wanted} bytes")
                write_all(fd, piece, at + done)
                done += len(piece)

    return fill


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write bytes at an offset, however often the system has to be asked."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        offset += count
        view = view[count:]


def copy_range(source: int, target: int, offset: int, size: int, to: int) -> None:
    """Copy bytes between files, inside the kernel where the file system can.

    Raises `VersionChanged` if the source ends too early: somebody cut it.
    """
    end = offset + size
    while offset < end:
        count = _copy_some(source, target, offset, min(_COPY_CHUNK, end - offset), to)
        if count == 0:
            raise VersionChanged("the source became shorter")
        offset += count
        to += count


def _copy_some(source: int, target: int, offset: int, size: int, to: int) -> int:
    try:
        return os.copy_file_range(source, target, size, offset, to)
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
    data = os.pread(source, min(size, _CHUNK), offset)
    write_all(target, data, to)
    return len(data)


def replace_file(
    root: Root,
    key: str,
    fill: Fill,
    metadata: Metadata,
    *,
    inherit: Object | None = None,
    condition: Condition = None,
) -> Object:
    """Write a new file and put it in the place of what has the key."""
    if key.endswith("/"):
        raise WrongKind("a key that ends in '/' is a directory", key=key)
    with root.place(key, create=True) as place:
        _check_target(place, key, condition)  # fail before the bytes move, if it must
        new, fd = _open_new(place)
        try:
            fill(fd)
            if inherit is not None:
                metadata = _carry_over(root, fd, inherit, metadata)
            _finish(fd, metadata)
            # A crash before here leaves a file with a name of ours, which nobody sees.
            put_in_place(root, new, place, key, condition)
            # A crash before here, and after a power loss the old file may be back; the
            # caller has no answer yet.
            sync_directory(place.directory)
            return file_object(key, os.fstat(fd), to_xattr(metadata))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new.name, dir_fd=new.directory)
            raise
        finally:
            os.close(fd)


def _open_new(place: Place) -> tuple[Place, int]:
    """Make a file beside a place, locked: that tells who clears up that we live.

    In the moment before it has the lock it may be taken for a dead one, and removed;
    then it has no name, and another is made.
    """
    while True:
        new = place.beside()
        fd = os.open(new.name, _NEW, 0o666, dir_fd=new.directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return new, fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _finish(fd: int, metadata: Metadata) -> None:
    if to_xattr(metadata):
        write_xattr(fd, metadata)
    # The clock of file systems ticks in milliseconds and inodes are used again: our
    # own nanoseconds keep two versions of one size apart.
    now = time.time_ns()
    os.utime(fd, ns=(now, now))
    os.fsync(fd)


def put_in_place(
    root: Root, new: Place, place: Place, key: str, condition: Condition
) -> None:
    """Rename a finished file or link to its place if the condition holds."""
    with root.locked():
        _check_target(place, key, condition)
        if condition is ABSENT and _link_in_place(new, place):
            # A crash here leaves a second name, ours, of the finished file.
            os.unlink(new.name, dir_fd=new.directory)
            return
        os.rename(
            new.name, place.name, src_dir_fd=new.directory, dst_dir_fd=place.directory
        )


def _link_in_place(new: Place, place: Place) -> bool:
    """Give the file its name unless something has it; tell if that can be done here."""
    try:
        os.link(
            new.name,
            place.name,
            src_dir_fd=new.directory,
            dst_dir_fd=place.directory,
            follow_symlinks=False,
        )
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            return False
        raise
    return True


def _check_target(place: Place, key: str, condition: Condition) -> None:
    found = place.lstat()
    if found is not None and not stat.S_ISLNK(found.st_mode):
        check_regular(found, key)
    current = Version(content_version(found)) if found is not None else None
    check_holds(key, condition, current)


def _carry_over(root: Root, fd: int, inherit: Object, metadata: Metadata) -> Metadata:
    """Give a new file what an old one has and the new one does not name."""
    try:
        with opened(root, inherit.key) as (source, found):
            carry_attributes(source, found, fd)
            kept: Metadata | None = from_xattr(read_xattr(source))
    except (FileNotFoundError, NotFound, WrongKind):
        kept = None
    # What the caller knows says what is to be carried over: an emulation above has
    # left out what described the old bytes.
    return inherited(metadata, inherit.metadata or kept)


def carry_attributes(source: int, found: os.stat_result, target: int) -> None:
    """Give a file the mode, the owner and the foreign attributes of another."""
    with contextlib.suppress(PermissionError):  # only root may give files away
        os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for name, value in foreign_xattrs(source).items():
        os.setxattr(target, name, value)


def copy_file(
    root: Root,
    source: str,
    target: str,
    *,
    source_version: Version | None,
    metadata: Metadata | None,
    condition: Condition,
) -> Object:
    """Copy a plain file, metadata, mode, owner and foreign attributes included."""
    with opened(root, source) as (old, found):
        before = content_version(found)
        check_holds(source, source_version, Version(before))
        base = from_xattr(read_xattr(old))

        def fill(fd: int) -> None:
            copy_range(old, fd, 0, found.st_size, 0)
            carry_attributes(old, found, fd)
            if content_version(os.fstat(old)) != before:
                raise VersionChanged("the source changed meanwhile", key=source)

        kept = base if metadata is None else changed(metadata, base)
        return replace_file(root, target, fill, kept, condition=condition)
