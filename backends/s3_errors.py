"""From what botocore raises to the store's own errors, by code and class alone.

One table of S3 error codes, one of HTTP statuses for answers without a known code, one
of botocore's exception classes; `docs/reference/errors.md` shows all three and a test
holds them together. Texts are never looked at.
"""

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import botocore.exceptions as sdk
import urllib3.exceptions
from botocore.parsers import ResponseParserError

from mountfs.storage import errors
from mountfs.storage.errors import StoreError

Cause = TypeVar("Cause", bound=BaseException)
_NO_FILE = (FileNotFoundError, PermissionError, IsADirectoryError)

CODES: Mapping[str, type[StoreError]] = {
    "NoSuchKey": errors.NotFound,
    "NoSuchVersion": errors.NotFound,
    "NoSuchTagSet": errors.NotFound,
    "OwnershipControlsNotFoundError": errors.NotFound,
    "ObjectLockConfigurationNotFoundError": errors.NotFound,
    "NoSuchBucket": errors.BucketNotFound,
    "NoSuchUpload": errors.UploadNotFound,
    "PreconditionFailed": errors.PreconditionFailed,
    "BucketAlreadyExists": errors.AlreadyExists,
    "BucketAlreadyOwnedByYou": errors.AlreadyExists,
    "BucketNotEmpty": errors.DirectoryNotEmpty,
    "AccessDenied": errors.PermissionDenied,
    "AllAccessDisabled": errors.PermissionDenied,
    "AccountProblem": errors.PermissionDenied,
    "NotSignedUp": errors.PermissionDenied,
    "InvalidPayer": errors.PermissionDenied,
    "KMS.AccessDeniedException": errors.PermissionDenied,
    "KMS.DisabledException": errors.PermissionDenied,
    "KMS.KMSInvalidStateException": errors.PermissionDenied,
    "KMS.NotFoundException": errors.PermissionDenied,
    "InvalidAccessKeyId": errors.CredentialsRejected,
    "SignatureDoesNotMatch": errors.CredentialsRejected,
    "ExpiredToken": errors.CredentialsRejected,
    "ExpiredTokenException": errors.CredentialsRejected,
    "RequestExpired": errors.CredentialsRejected,
    "TokenRefreshRequired": errors.CredentialsRejected,
    "InvalidToken": errors.CredentialsRejected,
    "InvalidSecurity": errors.CredentialsRejected,
    "UnrecognizedClientException": errors.CredentialsRejected,
    "RequestTimeTooSkewed": errors.CredentialsRejected,
    "KeyTooLongError": errors.KeyTooLong,
    "EntityTooLarge": errors.ObjectTooLarge,
    "MetadataTooLarge": errors.MetadataTooLarge,
    "RequestHeaderSectionTooLarge": errors.MetadataTooLarge,
    "InvalidObjectState": errors.Archived,
    "ObjectNotInActiveTierError": errors.Archived,
    "RestoreAlreadyInProgress": errors.Archived,
    "NotImplemented": errors.Unsupported,
    "MethodNotAllowed": errors.Unsupported,
    "ServiceQuotaExceeded": errors.QuotaExceeded,
    "QuotaExceeded": errors.QuotaExceeded,
    "InsufficientStorage": errors.QuotaExceeded,
    "TooManyBuckets": errors.QuotaExceeded,
    "XMinioStorageFull": errors.QuotaExceeded,
    "BadDigest": errors.Corrupt,
    "InvalidDigest": errors.Corrupt,
    "XAmzContentSHA256Mismatch": errors.Corrupt,
    "XAmzContentChecksumMismatch": errors.Corrupt,
    "IncompleteBody": errors.Corrupt,
    "SlowDown": errors.Throttled,
    "Throttling": errors.Throttled,
    "ThrottlingException": errors.Throttled,
    "ThrottledException": errors.Throttled,
    "RequestThrottled": errors.Throttled,
    "RequestThrottledException": errors.Throttled,
    "RequestLimitExceeded": errors.Throttled,
    "TooManyRequests": errors.Throttled,
    "TooManyRequestsException": errors.Throttled,
    "BandwidthLimitExceeded": errors.Throttled,
    "KMS.ThrottlingException": errors.Throttled,
    "ConditionalRequestConflict": errors.Throttled,
    "OperationAborted": errors.Throttled,
    "ServiceUnavailable": errors.ServiceFailed,
    "InternalError": errors.ServiceFailed,
    "RequestTimeout": errors.TimedOut,
    "PermanentRedirect": errors.InvalidRequest,
    "TemporaryRedirect": errors.InvalidRequest,
    "AuthorizationHeaderMalformed": errors.InvalidRequest,
    "IllegalLocationConstraintException": errors.InvalidRequest,
    "InvalidRange": errors.InvalidRequest,
    "InvalidRequest": errors.InvalidRequest,
    "InvalidArgument": errors.InvalidRequest,
    "InvalidPart": errors.InvalidRequest,
    "InvalidPartOrder": errors.InvalidRequest,
    "EntityTooSmall": errors.InvalidRequest,
    "InvalidBucketName": errors.InvalidRequest,
    "InvalidStorageClass": errors.InvalidRequest,
    "MalformedXML": errors.InvalidRequest,
}
"""The class of each error code; an unknown code goes by its HTTP status."""

STATUSES: Mapping[int, type[StoreError]] = {
    301: errors.InvalidRequest,
    307: errors.InvalidRequest,
    400: errors.InvalidRequest,
    401: errors.CredentialsRejected,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    405: errors.Unsupported,
    408: errors.TimedOut,
    409: errors.PreconditionFailed,
    411: errors.InvalidRequest,
    412: errors.PreconditionFailed,
    413: errors.ObjectTooLarge,
    416: errors.InvalidRequest,
    429: errors.Throttled,
    501: errors.Unsupported,
    503: errors.Throttled,
    507: errors.QuotaExceeded,
}
"""The class of each status; any other 5xx is `ServiceFailed`."""

_NOT_CARRIED_OUT = frozenset({"RequestTimeout", "IncompleteBody"})
"""The service itself says that it did not get the whole request."""

_WRONG_REGION = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "301",
        "307",
    }
)

_LOGIN = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.CredentialRetrievalError,
    sdk.NoAuthTokenError,
    sdk.TokenRetrievalError,
    sdk.UnknownCredentialError,
    sdk.RefreshWithMFAUnsupportedError,
    sdk.MetadataRetrievalError,
    sdk.SSOError,
    sdk.LoginError,
)

CLASSES: tuple[tuple[type[Exception], type[StoreError], bool | None], ...] = (
    *((cls, errors.CredentialsRejected, None) for cls in _LOGIN),
    (sdk.ConnectTimeoutError, errors.TimedOut, False),
    (sdk.ReadTimeoutError, errors.TimedOut, True),
    (sdk.EndpointConnectionError, errors.Unreachable, False),
    (sdk.ProxyConnectionError, errors.Unreachable, False),
    (sdk.SSLError, errors.Unreachable, False),
    (sdk.ConnectionError, errors.Unreachable, True),
    (sdk.ConnectionClosedError, errors.Unreachable, True),
    (sdk.ResponseStreamingError, errors.Unreachable, True),
    (sdk.IncompleteReadError, errors.Corrupt, True),
    (sdk.HTTPClientError, errors.Unreachable, True),
    (sdk.FlexibleChecksumError, errors.Corrupt, True),
    (sdk.ChecksumError, errors.Corrupt, True),
    (ResponseParserError, errors.ServiceFailed, True),
    (urllib3.exceptions.HTTPError, errors.Unreachable, True),
    (sdk.BotoCoreError, errors.InvalidRequest, None),
)
"""The class of each exception of the SDK, the first that fits, and whether a request
that fails so may have been carried out. What is left (a profile, a parameter, a
setting that does not exist) is botocore refusing to send."""


_RAISED = (
    sdk.ClientError,
    sdk.BotoCoreError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
)


@contextlib.contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """Turn whatever botocore raises in this block into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except _RAISED as error:
        if isinstance(error.__context__, RecursionError):
            raise _redirects_in_circles(key) from error
        raise translate(error, key) from error
    except RecursionError as error:
        raise _redirects_in_circles(key) from error
    except MemoryError as error:
        raise errors.ServiceFailed(
            "the answer takes more memory than there is", key=key
        ) from error
    except (ValueError, OverflowError) as error:  # numbers and dates that are none
        raise _not_understood(error, key) from error


def _not_understood(error: Exception, key: str | None) -> StoreError:
    return errors.ServiceFailed(
        f"the answer is not that of an S3 service ({type(error).__name__})", key=key
    )


def _redirects_in_circles(key: str | None) -> StoreError:
    # botocore asks where a bucket is that was moved, and is told: elsewhere.
    return errors.InvalidRequest(
        "the server redirects in circles: check endpoint_url", key=key
    )


def translate(error: Exception, key: str | None = None) -> StoreError:
    """Return what an exception of the SDK means to the store."""
    if isinstance(error, sdk.ClientError):
        answered = reply_error(error.response, key)
        answered.request = error.operation_name
        return answered
    for inner in (error.__cause__, error.__context__, getattr(error, "error", None)):
        if isinstance(inner, StoreError):  # our own body reader stopped the request
            return inner
    for known, meaning, is_ambiguous in CLASSES:
        if isinstance(error, known):
            return meaning(
                _sentence(error),
                key=key,
                code=type(error).__name__,
                is_ambiguous=is_ambiguous,
            )
    raise error


@contextlib.contextmanager
def understood(key: str | None = None) -> Iterator[None]:
    """Turn what an answer without its usual fields raises into `ServiceFailed`."""
    try:
        yield
    except StoreError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _not_understood(error, key) from error


def reply_error(reply: Mapping[str, Any], key: str | None = None) -> StoreError:
    """Return what an error answer means: by its code, else by its HTTP status."""
    told: Mapping[str, Any] = reply.get("Error", {})
    code = str(told.get("Code", ""))
    status, headers = _status_and_headers(reply, code)
    meaning = CODES.get(code) or STATUSES.get(status)
    if meaning is None:
        meaning = errors.ServiceFailed if status >= 500 else errors.InvalidRequest
    is_ambiguous = False if code in _NOT_CARRIED_OUT else None
    error = meaning(
        _reason(code, status, told, headers),
        key=key,
        code=code or str(status),
        is_ambiguous=is_ambiguous,
        retry_after_s=_retry_after_s(headers),
    )
    # The answer to a HEAD has no body, and so no word on expired credentials.
    error.is_unexplained = (not code or code.isdigit()) and status in (400, 403)
    error.status = status or None
    error.request_id = headers.get("x-amz-request-id", "")
    return error


def condition_of(error: StoreError) -> str:
    """Return the header whose condition failed, in lower case, if S3 named it."""
    cause = error.__cause__
    if not isinstance(cause, sdk.ClientError):
        return ""
    return str(cause.response.get("Error", {}).get("Condition", "")).lower()


def _status_and_headers(
    reply: Mapping[str, Any], code: str
) -> tuple[int, Mapping[str, str]]:
    about: Mapping[str, Any] = reply.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode", 0))
    if status < 300 and code.isdigit():
        status = int(code)
    return status, about.get("HTTPHeaders", {})


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _reason(
    code: str, status: int, told: Mapping[str, Any], headers: Mapping[str, str]
) -> str:
    if code in _WRONG_REGION:
        region = told.get("Region") or headers.get("x-amz-bucket-region") or "another"
        return f"the bucket is in the region {region}: set the option region to it"
    if code == "RequestTimeTooSkewed":
        return "the clock of this machine is wrong: set it, S3 allows 15 minutes"
    if CODES.get(code) is errors.CredentialsRejected:
        return f"S3 rejects the credentials ({code}): renew or correct them"
    if code == "400":  # the answer to a HEAD has no body and so no reason
        return "S3 calls the request bad: an expired token or a wrong encryption key"
    message = str(told.get("Message", "")).strip()
    return message or f"S3 answered {status}"


def _sentence(error: Exception) -> str:
    if isinstance(error, sdk.NoCredentialsError | sdk.NoAuthTokenError):
        return (
            "no AWS credentials were found: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, run `aws configure`, or use no_sign_request"
        )
    if isinstance(error, sdk.ProfileNotFound):
        return f"{error}: name one that is in ~/.aws/config"
    if isinstance(error, sdk.EndpointConnectionError | sdk.ConnectTimeoutError):
        host = urlsplit(str(error.kwargs.get("endpoint_url", ""))).netloc
        return f"no connection to {host}"
    if isinstance(error, sdk.SSLError) and (unread := _cause(error, *_NO_FILE)):
        return (
            "the file of certificates that AWS_CA_BUNDLE or ca_bundle names cannot be"
            f" read ({unread.strerror}): correct it"
        )
    if (untrusted := _cause(error, ssl.SSLCertVerificationError)) is not None:
        host = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url"))).netloc
        return (
            f"the certificate of {host} is not trusted ({untrusted.verify_message}):"
            " AWS_CA_BUNDLE names the file of its authority"
        )
    if isinstance(error, sdk.NoRegionError):
        return "no region is known: set the option region or AWS_DEFAULT_REGION"
    if isinstance(error, _LOGIN):
        return f"the AWS credentials cannot be had: {error}"
    return str(error)


def _cause(error: BaseException | None, *kinds: type[Cause]) -> Cause | None:
    """Return what of these kinds an exception is about."""
    for _ in range(8):  # botocore wraps what urllib3 has wrapped
        if error is None or isinstance(error, kinds):
            return error
        inner = getattr(error, "kwargs", {}).get("error") or error.__cause__
        first = error.args[0] if error.args else None
        error = inner or (first if isinstance(first, BaseException) else None)
    return None
