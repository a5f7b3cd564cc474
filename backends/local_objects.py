"""What a file, a directory or a link of the disk is as an object.

The user metadata and the commit id lie as JSON in the extended attribute
`user.mountfs.meta`. Content version: inode, mtime in nanoseconds and size. Attributes
version: ctime in nanoseconds and a checksum of the metadata, for file systems whose
clock ticks slowly.
"""

import errno
import json
import os
import stat
import zlib
from collections.abc import Mapping

from mountfs.backends._tokens import key_text
from mountfs.backends.local_errors import store_error
from mountfs.backends.local_paths import Place
from mountfs.storage.errors import MetadataTooLarge, NotFound, WrongKind
from mountfs.storage.types import NO_METADATA, Metadata, Object, ObjectKind, Version

XATTR = "user.mountfs.meta"
# ext4 keeps all extended attributes of a file in one block, mostly of 4 KiB.
METADATA_SIZE_MAX = 3072
"""What fits if nothing else takes that room; a text that is not ASCII needs more."""


def has_xattrs(directory: int) -> bool:
    """Tell whether the file system keeps user attributes; nothing is written."""
    try:
        os.getxattr(directory, XATTR)
    except OSError as error:
        return error.errno != errno.ENOTSUP
    return True


def to_xattr(metadata: Metadata) -> bytes:
    """Return the JSON that stands for the metadata; empty for none."""
    kept: dict[str, object] = {}
    if metadata.user:
        kept["user"] = dict(metadata.user)
    if metadata.commit_id is not None:
        kept["commit"] = metadata.commit_id
    if not kept:
        return b""
    return json.dumps(kept, separators=(",", ":"), sort_keys=True).encode()


def from_xattr(data: bytes) -> Metadata:
    """Return the metadata; those that are not ours to read count as none."""
    try:
        kept = json.loads(data) if data else {}
    except ValueError:
        return NO_METADATA
    if not isinstance(kept, dict):
        return NO_METADATA
    user, commit = kept.get("user"), kept.get("commit")
    return Metadata(
        user=_text_pairs(user) if isinstance(user, dict) else {},
        commit_id=commit if isinstance(commit, str) else None,
    )


def _text_pairs(pairs: Mapping[object, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in pairs.items()}


def read_xattr(where: int | str) -> bytes:
    """Return the metadata of a file as they are kept; empty if there are none."""
    try:
        return os.getxattr(where, XATTR, follow_symlinks=isinstance(where, int))
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP, errno.EPERM}:
            return b""
        raise


def write_xattr(where: int, metadata: Metadata) -> None:
    """Put the metadata on an open file or directory in the place of its own."""
    data = to_xattr(metadata)
    try:
        if data:
            os.setxattr(where, XATTR, data)
        else:
            os.removexattr(where, XATTR)
    except OSError as error:
        if error.errno == errno.ENODATA and not data:
            return
        if error.errno in {errno.E2BIG, errno.ERANGE} or (
            error.errno == errno.ENOSPC and len(data) > METADATA_SIZE_MAX
        ):
            raise MetadataTooLarge("more than the file system keeps") from error
        raise


def foreign_xattrs(source: int) -> dict[str, bytes]:
    """Return the user attributes of an open file that are not ours."""
    try:
        names = os.listxattr(source)
    except OSError:  # a file system without them has none to carry over
        return {}
    wanted = [name for name in names if name.startswith("user.") and name != XATTR]
    return {name: os.getxattr(source, name) for name in wanted}


def content_version(found: os.stat_result) -> str:
    """Return the version of the bytes."""
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def file_object(key: str, found: os.stat_result, xattr: bytes | None) -> Object:
    """Return the object of a plain file; None as metadata are unknown ones."""
    return Object(
        key=key,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        version=Version(content_version(found), _attributes_version(found, xattr)),
        metadata=from_xattr(xattr) if xattr is not None else None,
    )


def directory_object(key: str, found: os.stat_result, xattr: bytes | None) -> Object:
    """Return the object of a directory."""
    if key and not key.endswith("/"):
        key += "/"
    return Object(
        key=key,
        kind=ObjectKind.DIRECTORY,
        mtime_ns=found.st_mtime_ns,
        version=Version(f"{found.st_ino:x}", _attributes_version(found, xattr)),
        metadata=from_xattr(xattr) if xattr is not None else None,
    )


def _attributes_version(found: os.stat_result, xattr: bytes | None) -> str | None:
    if xattr is None:
        return None
    return f"{found.st_ctime_ns:x}-{zlib.crc32(xattr):x}"


def object_at(place: Place, key: str) -> Object:
    """Return the object at a place.

    Raises `NotFound`, or `WrongKind` for pipes, sockets and devices: they are no
    objects, and opening one may never return.
    """
    found = place.lstat()
    if found is None or (key.endswith("/") and not stat.S_ISDIR(found.st_mode)):
        raise NotFound(key=key)
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(place.name, dir_fd=place.directory)
        return Object(
            key=key,
            kind=ObjectKind.LINK,
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            version=Version(content_version(found), f"{found.st_ctime_ns:x}"),
            metadata=NO_METADATA,
            link_target=key_text(target),
        )
    if stat.S_ISDIR(found.st_mode):
        return directory_object(key, found, _xattr_at(place, key))
    check_regular(found, key)
    return file_object(key, found, _xattr_at(place, key))


def _xattr_at(place: Place, key: str) -> bytes | None:
    try:
        return read_xattr(place.path)
    except PermissionError:
        return None  # a file that we may see and not read: metadata unknown
    except OSError as error:
        raise store_error(error, key) from error


def check_regular(found: os.stat_result, key: str) -> None:
    """Raise `WrongKind` for anything but a plain file."""
    if not stat.S_ISREG(found.st_mode):
        raise WrongKind(f"a {_kind_name(found.st_mode)} is here", key=key)


def _kind_name(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "symbolic link"
    return "pipe, socket or device"
