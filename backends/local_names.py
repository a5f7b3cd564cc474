"""What changes names and metadata but no bytes: delete, move, directories, links."""

import contextlib
import errno
import os
import stat
import time

from mountfs.backends._checks import changed, check_holds
from mountfs.backends._tokens import key_bytes
from mountfs.backends.local_objects import (
    check_regular,
    content_version,
    directory_object,
    file_object,
    from_xattr,
    object_at,
    read_xattr,
    write_xattr,
)
from mountfs.backends.local_paths import Place, Root, remove_stale, sync_directory
from mountfs.backends.local_writes import opened, put_in_place
from mountfs.storage.errors import (
    InvalidRequest,
    NotFound,
    Unsupported,
    WrongKind,
)
from mountfs.storage.types import Condition, Metadata, Object, ObjectKind, Version

_LOOK_INTO = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def stat_object(root: Root, key: str, kind: ObjectKind | None) -> Object:
    """Return the object of a key; a directory comes back with a `/` at its end."""
    if not key or (kind is ObjectKind.DIRECTORY and not key.endswith("/")):
        return _stat_root(root, key, kind)
    with root.place(key) as place:
        found = object_at(place, key)
    if kind not in {None, found.kind}:
        raise NotFound(key=key)
    return found


def _stat_root(root: Root, key: str, kind: ObjectKind | None) -> Object:
    if kind is not ObjectKind.DIRECTORY:
        raise InvalidRequest("an object needs a key, and the empty text is none")
    if key:
        raise InvalidRequest("the key of a directory ends in '/'", key=key)
    with root.directory("") as fd:
        return directory_object("", os.fstat(fd), read_xattr(fd))


def delete_object(root: Root, key: str, condition: Condition) -> None:
    """Delete a file, a link or an empty directory; absence is success."""
    with contextlib.suppress(NotFound, FileNotFoundError), root.place(key) as place:
        with root.locked():
            found = place.lstat()
            if found is None:
                return
            is_directory = stat.S_ISDIR(found.st_mode)
            if key.endswith("/") and not is_directory:
                return
            check_holds(key, condition, Version(content_version(found)))
            if key.endswith("/"):
                _remove_directory(place)
            elif is_directory:
                raise WrongKind("a directory is here", key=key)
            else:
                os.unlink(place.name, dir_fd=place.directory)
        sync_directory(place.directory)


def _remove_directory(place: Place) -> None:
    try:
        os.rmdir(place.name, dir_fd=place.directory)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    else:
        return
    fd = os.open(place.name, _LOOK_INTO, dir_fd=place.directory)
    try:
        remove_stale(fd)
    finally:
        os.close(fd)
    os.rmdir(place.name, dir_fd=place.directory)


def move_object(
    root: Root, source: str, target: str, source_version: Version | None = None
) -> Object:
    """Rename a file, a link or a whole directory, in one step."""
    if source.endswith("/") != target.endswith("/"):
        raise InvalidRequest("a directory moves to a key that ends in '/'", key=target)
    with root.place(source) as old:
        _check_mover(old, source)
        with root.place(target, create=True) as new, root.locked():
            moved = _check_mover(old, source)
            check_holds(source, source_version, Version(content_version(moved)))
            _check_replaced(new, target)
            os.rename(
                old.name,
                new.name,
                src_dir_fd=old.directory,
                dst_dir_fd=new.directory,
            )
            _drop_second_name(old, new, moved)
            sync_directory(new.directory)
            # A crash before here, and both names may be there: never neither.
            sync_directory(old.directory)
            return object_at(new, target)


def _check_mover(place: Place, key: str) -> os.stat_result:
    found = place.lstat()
    is_directory = found is not None and stat.S_ISDIR(found.st_mode)
    if found is None or (key.endswith("/") and not is_directory):
        raise NotFound(key=key)
    if is_directory and not key.endswith("/"):
        raise WrongKind("a directory is here", key=key)
    return found


def _check_replaced(place: Place, key: str) -> None:
    found = place.lstat()
    if found is None or stat.S_ISLNK(found.st_mode):
        return
    if key.endswith("/"):
        if not stat.S_ISDIR(found.st_mode):
            raise WrongKind("a file is in the place of the directory", key=key)
    else:
        check_regular(found, key)


def _drop_second_name(old: Place, new: Place, moved: os.stat_result) -> None:
    """Finish a rename between two names of one file, which rename(2) leaves undone."""
    if old.name == new.name and _same(os.fstat(old.directory), os.fstat(new.directory)):
        return
    left = old.lstat()
    if left is not None and not stat.S_ISDIR(left.st_mode) and _same(left, moved):
        os.unlink(old.name, dir_fd=old.directory)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def make_directory(root: Root, key: str, metadata: Metadata) -> Object:
    """Make a directory and those above it; one that is there keeps its metadata."""
    if not key.endswith("/"):
        raise InvalidRequest("the key of a directory ends in '/'", key=key)
    with root.place(key, create=True) as place:
        try:
            os.mkdir(place.name, dir_fd=place.directory)
            is_new = True
        except FileExistsError:
            is_new = False
        found = place.lstat()
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise WrongKind("a file is in the place of the directory", key=key)
        if is_new and (metadata.user or metadata.commit_id is not None):
            fd = os.open(place.name, _LOOK_INTO, dir_fd=place.directory)
            try:
                write_xattr(fd, metadata)
                os.fsync(fd)
            finally:
                os.close(fd)
        if is_new:
            sync_directory(place.directory)
        return object_at(place, key)


def make_symlink(root: Root, key: str, target: str, condition: Condition) -> Object:
    """Make a symbolic link, in the place of a file or link if one is there."""
    text = key_bytes(target)
    if not text or b"\0" in text:
        raise InvalidRequest("a link needs a target without NUL bytes", key=key)
    if key.endswith("/"):
        raise WrongKind("a key that ends in '/' is a directory", key=key)
    with root.place(key, create=True) as place:
        new = place.beside()
        os.symlink(text, new.name, dir_fd=new.directory)
        try:
            now = time.time_ns()
            os.utime(
                new.name,
                ns=(now, now),
                dir_fd=new.directory,
                follow_symlinks=False,
            )
            put_in_place(root, new, place, key, condition)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new.name, dir_fd=new.directory)
            raise
        sync_directory(place.directory)
        return object_at(place, key)


def change_metadata(
    root: Root, key: str, metadata: Metadata, condition: Condition
) -> Object:
    """Change the metadata of a file or directory in place."""
    if key.endswith("/") or not key:
        with root.directory(key) as fd:
            return _change(root, key, fd, metadata, condition)
    try:
        with opened(root, key) as (fd, _):
            return _change(root, key, fd, metadata, condition)
    except WrongKind as error:
        raise Unsupported("only plain files keep metadata", key=key) from error


def _change(
    root: Root, key: str, fd: int, metadata: Metadata, condition: Condition
) -> Object:
    with root.locked():
        check_holds(key, condition, Version(content_version(os.fstat(fd))))
        base = from_xattr(read_xattr(fd))
        write_xattr(fd, changed(metadata, base))
        xattr = read_xattr(fd)
    os.fsync(fd)
    found = os.fstat(fd)
    if stat.S_ISDIR(found.st_mode):
        return directory_object(key, found, xattr)
    return file_object(key, found, xattr)
