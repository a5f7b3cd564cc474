"""Appends: a new file that gathers among the uploads, or the old one made longer.

An append to a new object is an upload of one part that grows; nothing is visible
before the commit. An append to an existing object writes behind its old end at once,
so that it costs only the new bytes. What a crash leaves then is the old bytes and some
of the new ones; the version that travels in `Append.base` keeps two appends from
mixing.
"""

import dataclasses
import os
import time

from mountfs.backends._checks import check_holds, inherited
from mountfs.backends.local_objects import (
    content_version,
    file_object,
    from_xattr,
    read_xattr,
    write_xattr,
)
from mountfs.backends.local_paths import Root
from mountfs.backends.local_uploads import Uploads
from mountfs.backends.local_writes import body_writer, opened
from mountfs.storage.body import Body
from mountfs.storage.errors import InvalidRequest, WrongKind
from mountfs.storage.types import (
    Append,
    Capabilities,
    Metadata,
    Object,
    Upload,
    Version,
)


def create_append(
    root: Root, uploads: Uploads, key: str, base: Object | None, metadata: Metadata
) -> Append:
    """Begin an append."""
    if key.endswith("/"):
        raise WrongKind("a key that ends in '/' is a directory", key=key)
    offset = 0
    if base is not None:
        with opened(root, key) as (fd, found):
            base = file_object(key, found, read_xattr(fd)) if not base.version else base
            check_holds(key, base.version, Version(content_version(found)))
            offset = found.st_size
            known = base.metadata or from_xattr(read_xattr(fd))
            metadata = inherited(metadata, known)
    upload = uploads.create(key, metadata, None)
    return Append(key, offset, upload.id, base)


def write_append(root: Root, uploads: Uploads, append: Append, body: Body) -> Append:
    """Write a body at the offset."""
    if append.base is None:
        path = uploads.part_path(_upload(append), 0)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < append.offset:
                raise InvalidRequest("bytes are missing before the offset")
            _write_at(fd, append.offset, body)
        finally:
            os.close(fd)
        return dataclasses.replace(append, offset=append.offset + body.size)
    uploads.part_path(_upload(append), 0)  # raises if it is committed already
    with opened(root, append.key, write=True) as (fd, _), root.locked():
        check_holds(append.key, append.base.version, _version_of(fd))
        _write_at(fd, append.offset, body)
        longer = file_object(append.key, os.fstat(fd), read_xattr(fd))
    return dataclasses.replace(append, offset=append.offset + body.size, base=longer)


def _write_at(fd: int, offset: int, body: Body) -> None:
    """Make a file end with the body, or leave it as it was up to the offset."""
    os.ftruncate(fd, offset)
    try:
        body_writer(body, None, at=offset)(fd)
    except BaseException:
        os.ftruncate(fd, offset)
        raise
    finally:
        now = time.time_ns()
        os.utime(fd, ns=(now, now))


def _version_of(fd: int) -> Version:
    return Version(content_version(os.fstat(fd)))


def commit_append(
    root: Root, uploads: Uploads, append: Append, capabilities: Capabilities
) -> Object:
    """Sync what was appended; make a new object visible."""
    upload = _upload(append)
    if append.base is None:
        path = uploads.part_path(upload, 0)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, append.offset)
            os.fsync(fd)
        finally:
            os.close(fd)
        return uploads.complete(upload, uploads.parts(upload), capabilities, None)
    metadata = uploads.metadata(upload)
    with opened(root, append.key) as (fd, _):
        with root.locked():
            check_holds(append.key, append.base.version, _version_of(fd))
            if metadata != from_xattr(read_xattr(fd)):
                write_xattr(fd, metadata)
        os.fsync(fd)
        done = file_object(append.key, os.fstat(fd), read_xattr(fd))
    # A crash before here leaves a record that no one asks for again.
    uploads.abort(upload)
    return done


def _upload(append: Append) -> Upload:
    return Upload(append.key, append.id)
