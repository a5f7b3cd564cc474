"""Objects whose key tells what they are: rclone's links, Hadoop's directories.

rclone keeps the link `a` as `a.rclonelink`, an object whose body is the target; Hadoop
(and EMR) keep the empty directory `a` as `a_$folder$`, an object without bytes. The
key alone does not prove it: a program may give a file such a name here. What we wrote
says so by its commit id or its mode, and keeps its name.

Pure: no requests.
"""

import stat

from mountfs.storage.types import Object, ObjectKind

LINK_SUFFIX = ".rclonelink"
FOLDER_SUFFIX = "_$folder$"


def shown_as(object: Object) -> str | None:
    """Return the key whose name an object has; None if that is its own."""
    return named_key(object.key) if object.has_foreign_name else None


def named_key(key: str) -> str | None:
    """Return the key whose name such an object would have; None for other keys."""
    for suffix, tail in ((LINK_SUFFIX, ""), (FOLDER_SUFFIX, "/")):
        stem = key.removesuffix(suffix)
        if stem != key and stem and not stem.endswith("/"):
            return stem + tail
    return None


def other_key(key: str) -> str:
    """Return the key under which a foreign tool keeps this directory or link."""
    return key[:-1] + FOLDER_SUFFIX if key.endswith("/") else key + LINK_SUFFIX


def directory_of(folder: Object) -> Object:
    """Return the directory that an object of Hadoop's stands for."""
    key = named_key(folder.key)
    assert key is not None
    return Object(
        key=key,
        kind=ObjectKind.DIRECTORY,
        mtime_ns=folder.mtime_ns,
        metadata=folder.metadata,
    )


def is_mode_of_rclone_link(text: str) -> bool:
    """Tell whether a mode is that of a link as rclone writes it, in octal."""
    digits = text.strip()
    if not 6 <= len(digits) <= 7 or not set(digits) <= set("01234567"):
        return False
    return stat.S_ISLNK(int(digits, 8))
