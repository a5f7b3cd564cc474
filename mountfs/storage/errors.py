"""What can go wrong with a store, as one tree.

    StoreError
    ├── NotFound                 no such object
    │   ├── BucketNotFound       no such bucket or root directory
    │   └── UploadNotFound       no such multipart upload (finished or aborted)
    ├── PreconditionFailed       a conditional request lost
    │   ├── AlreadyExists        the key was to be absent
    │   │   └── NameTaken        by a name that the store takes for the same
    │   └── VersionChanged       the object is not the version that was named
    ├── PermissionDenied         the credentials do not allow this
    │   └── CredentialsRejected  missing, wrong or expired credentials
    │       └── CredentialsRenewed   and others have been found since (retryable)
    ├── WrongKind                a directory where a file is wanted, or the reverse
    ├── DirectoryNotEmpty        native directory stores only
    ├── Unsupported              the store cannot do this, and `capabilities` says so
    ├── InvalidRequest           the caller's arguments make no sense
    │   └── BodyTooShort         a body ended before its stated size
    ├── LimitExceeded            over a limit of the store; checked before sending
    │   ├── KeyTooLong
    │   ├── ObjectTooLarge
    │   └── MetadataTooLarge
    ├── Archived                 the bytes lie in cold storage: restore them first
    ├── QuotaExceeded            the account, the bucket or the disk is full
    ├── ReadOnlyStore            the store was opened read-only
    ├── Corrupt                  bytes do not match their checksum      (retryable)
    ├── Throttled                the service asks to slow down          (retryable)
    ├── ServiceFailed            5xx: the service failed                (retryable)
    └── Unreachable              the network or the name service failed (retryable)
        ├── Offline              known to be so: nothing was sent
        └── TimedOut             no answer within the deadline          (retryable)
            └── StayedOffline    known to be unreachable until then: nothing was sent

Backends raise the most specific class, `from` the SDK's own error. `is_retryable`
says that the same request may succeed later; `is_ambiguous` says that a request that
changes something may have been carried out although it failed, so that only a look at
the store can tell (see `mountfs.storage.retry`).
"""

from typing import ClassVar

from mountfs.storage.secrets import redact

MESSAGE_MAX = 1000
"""What a service says may be of any length; so much of it is kept, and shown."""


class StoreError(Exception):
    """A store refused or failed a request.

    `key` is the key that was asked for, if there was one; `code` the service's own
    word for the failure (an S3 error code, an errno name), kept for the log.
    """

    is_retryable: ClassVar[bool] = False
    is_ambiguous: bool = False
    is_unexplained: bool = False
    """The service refused without a reason: the credentials may be to blame."""
    status: int | None = None
    """The HTTP status of the answer; None if none came."""
    request: str = ""
    """What was asked, in the service's own word (`PutObject`)."""
    request_id: str = ""
    """What the service calls this request: its support asks for that."""
    permission: str = ""
    """What the credentials lack, and for what, as far as that can be told."""

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        code: str | None = None,
        is_ambiguous: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message[:MESSAGE_MAX] or type(self).__name__)
        self.key = key
        self.code = code
        self.retry_after_s = retry_after_s
        if is_ambiguous is not None:
            self.is_ambiguous = is_ambiguous

    @property
    def reason(self) -> str:
        """The message alone, without key and code: what a user is told.

        It may repeat what a service has said, and that what was sent to it.
        """
        return redact(super().__str__())

    def __str__(self) -> str:
        parts = [self.reason]
        if self.key is not None:
            parts.append(f"key {self.key!r}")
        if self.code is not None:
            parts.append(self.code)
        return ": ".join([parts[0], ", ".join(parts[1:])]) if parts[1:] else parts[0]


class NotFound(StoreError):
    """No object has this key."""


class BucketNotFound(NotFound):
    """The bucket, or the root directory, does not exist."""


class UploadNotFound(NotFound):
    """The multipart upload is unknown: finished, aborted or expired."""


class PreconditionFailed(StoreError):
    """The condition of a conditional request does not hold."""


class AlreadyExists(PreconditionFailed):
    """The key was to be absent, and an object is there."""


class NameTaken(AlreadyExists):
    """The store takes the name for that of another object, as in another case."""


class VersionChanged(PreconditionFailed):
    """The object is no longer, or never was, the version that was named."""


class PermissionDenied(StoreError):
    """The credentials are good but do not allow this request."""


class CredentialsRejected(PermissionDenied):
    """The credentials are missing, wrong or expired."""


class CredentialsRenewed(CredentialsRejected):
    """The credentials were rejected, and others have been found since."""

    is_retryable = True


class WrongKind(StoreError):
    """The key names a directory where a file is wanted, or the reverse."""


class DirectoryNotEmpty(StoreError):
    """A native directory still has entries."""


class Unsupported(StoreError):
    """The store cannot do this; its capabilities say so beforehand."""


class InvalidRequest(StoreError):
    """The arguments make no sense; nothing was sent."""


class BodyTooShort(InvalidRequest):
    """A body ended before its stated size; nothing was stored."""


class LimitExceeded(StoreError):
    """A limit of the store would be passed; nothing was sent."""


class KeyTooLong(LimitExceeded):
    """The key is longer than the store takes."""


class ObjectTooLarge(LimitExceeded):
    """The object, or the part, is larger than the store takes."""


class MetadataTooLarge(LimitExceeded):
    """The user metadata are larger than the store takes."""


class Archived(StoreError):
    """The object lies in cold storage; restore it before reading."""


class QuotaExceeded(StoreError):
    """The account, the bucket or the disk is full."""


class ReadOnlyStore(StoreError):
    """The store was opened read-only; nothing was sent."""


class Corrupt(StoreError):
    """Bytes do not match the checksum, size or range that came with them."""

    is_retryable = True


class Throttled(StoreError):
    """The service asks to slow down; the request was not carried out."""

    is_retryable = True


class ServiceFailed(StoreError):
    """The service failed (HTTP 5xx)."""

    is_retryable = True
    is_ambiguous = True


class Unreachable(StoreError):
    """The network failed: name service, connect, TLS, reset, cut reply."""

    is_retryable = True
    is_ambiguous = True


class TimedOut(Unreachable):
    """No answer came within the deadline."""


class Offline(Unreachable):
    """The store is known to be out of reach; nothing was sent."""

    is_retryable = False
    is_ambiguous = False


class StayedOffline(TimedOut):
    """The store was known to be out of reach to the deadline; nothing was sent."""

    is_retryable = False
    is_ambiguous = False
