"""Files that are large enough to be sent while they are written."""

import ctypes
import functools
import os
import random
from pathlib import Path

from tests.fuse.stores import S3Objects, Store

MIB = 1 << 20
WRITE_AND_WAIT = 7
SIZE = 64 * MIB


@functools.cache
def content() -> bytes:
    """Return what the files hold; made when it is first needed."""
    return random.Random(11).randbytes(SIZE)


def write(descriptor: int, begin: int, end: int) -> None:
    """Write a range of the content, MiB by MiB, and out of the kernel's cache."""
    for offset in range(begin, end, MIB):
        os.pwrite(descriptor, content()[offset : offset + MIB], offset)
    libc = ctypes.CDLL(None, use_errno=True)
    everything = ctypes.c_long(0), ctypes.c_long(0)
    assert libc.sync_file_range(descriptor, *everything, WRITE_AND_WAIT) == 0


def open_new(path: Path) -> int:
    """Make a file and return its descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


def unfinished_uploads(store: Store) -> int:
    """Return how many multipart uploads the bucket has below the store."""
    assert isinstance(store.there, S3Objects)
    answer = store.there.client.list_multipart_uploads(Bucket=store.there.bucket)
    uploads = answer.get("Uploads", [])
    return sum(each["Key"].startswith(store.there.prefix) for each in uploads)
