"""What the operating system's errors mean to a store."""

import contextlib
import errno
from collections.abc import Iterator

from mountfs.storage.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidRequest,
    KeyTooLong,
    NotFound,
    ObjectTooLarge,
    PermissionDenied,
    QuotaExceeded,
    ReadOnlyStore,
    ServiceFailed,
    StoreError,
    Throttled,
    TimedOut,
    Unreachable,
    Unsupported,
    WrongKind,
)

_ERRORS: dict[int, type[StoreError]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: ReadOnlyStore,
    errno.ENOSPC: QuotaExceeded,
    errno.EDQUOT: QuotaExceeded,
    errno.ENAMETOOLONG: KeyTooLong,
    errno.ENOTDIR: WrongKind,
    errno.EISDIR: WrongKind,
    errno.ELOOP: WrongKind,
    errno.ENXIO: WrongKind,
    errno.ENOTEMPTY: DirectoryNotEmpty,
    errno.EINVAL: InvalidRequest,
    errno.EILSEQ: InvalidRequest,
    errno.EFBIG: ObjectTooLarge,
    errno.EXDEV: Unsupported,
    errno.ENOTSUP: Unsupported,
    # The next ones pass: too many open files, no memory, a file server in trouble.
    errno.EMFILE: Throttled,
    errno.ENFILE: Throttled,
    errno.ENOMEM: Throttled,
    errno.EAGAIN: Throttled,
    errno.EIO: ServiceFailed,
    errno.ESTALE: Unreachable,
    errno.EHOSTDOWN: Unreachable,
    errno.ETIMEDOUT: TimedOut,
}


@contextlib.contextmanager
def translated(key: str | None) -> Iterator[None]:
    """Raise the `StoreError` that an `OSError` of the block means."""
    try:
        yield
    except OSError as error:
        raise store_error(error, key) from error


def store_error(error: OSError, key: str | None) -> StoreError:
    """Return what an `OSError` means."""
    number = error.errno or 0
    kind = _ERRORS.get(number, StoreError)
    code = errno.errorcode.get(number, str(number))
    return kind(error.strerror or str(error), key=key, code=code)
