"""The one table from what can go wrong to the errno that a program gets.

The most specific class wins. `docs/reference/errors.md` shows the same table from the
side of the service's own codes.
"""

import errno

from mountfs.storage import errors

_TABLE: dict[type[errors.StoreError], int] = {
    errors.StoreError: errno.EIO,
    errors.NotFound: errno.ENOENT,
    errors.BucketNotFound: errno.EIO,
    errors.UploadNotFound: errno.EIO,
    errors.PreconditionFailed: errno.ESTALE,
    errors.NameTaken: errno.EEXIST,
    errors.PermissionDenied: errno.EACCES,
    errors.WrongKind: errno.EISDIR,
    errors.DirectoryNotEmpty: errno.ENOTEMPTY,
    errors.Unsupported: errno.EOPNOTSUPP,
    errors.InvalidRequest: errno.EINVAL,
    errors.LimitExceeded: errno.EINVAL,
    errors.KeyTooLong: errno.ENAMETOOLONG,
    errors.ObjectTooLarge: errno.EFBIG,
    errors.MetadataTooLarge: errno.ENOSPC,
    errors.Archived: errno.EACCES,
    errors.QuotaExceeded: errno.ENOSPC,
    errors.ReadOnlyStore: errno.EROFS,
    errors.Corrupt: errno.EIO,
    errors.Throttled: errno.EIO,
    errors.ServiceFailed: errno.EIO,
    errors.Unreachable: errno.EIO,
    errors.TimedOut: errno.ETIMEDOUT,
}


def errno_of(error: errors.StoreError | OSError) -> int:
    """Return the errno for a failure, never 0 and never ENOSYS.

    An ENOSYS would switch the operation off for the whole mount, for ever.
    """
    if isinstance(error, OSError):
        code = error.errno or errno.EIO
        return errno.EOPNOTSUPP if code == errno.ENOSYS else code
    for kind in type(error).__mro__:
        if issubclass(kind, errors.StoreError) and kind in _TABLE:
            return _TABLE[kind]
    return errno.EIO
