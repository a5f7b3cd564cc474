"""From what Google Cloud Storage answers to the store's own errors.

One table of error reasons, one of HTTP statuses for answers without a known reason,
one of the exceptions of urllib3 and google-auth. Texts are never looked at.
"""

import contextlib
import json
import ssl
from collections.abc import Iterator, Mapping

import google.auth.exceptions as auth
import urllib3.exceptions as http

from mountfs.storage import errors
from mountfs.storage.errors import StoreError

REASONS: Mapping[str, type[StoreError]] = {
    "notFound": errors.NotFound,
    "conditionNotMet": errors.PreconditionFailed,
    "conflict": errors.Throttled,
    "bucketNotEmpty": errors.DirectoryNotEmpty,
    "forbidden": errors.PermissionDenied,
    "insufficientPermissions": errors.PermissionDenied,
    "accountDisabled": errors.PermissionDenied,
    "userProjectMissing": errors.PermissionDenied,
    "userProjectAccessDenied": errors.PermissionDenied,
    "retentionPolicyNotMet": errors.PermissionDenied,
    "objectUnderActiveHold": errors.PermissionDenied,
    "authError": errors.CredentialsRejected,
    "required": errors.InvalidRequest,
    "unauthorized": errors.CredentialsRejected,
    "expired": errors.CredentialsRejected,
    "invalidCredentials": errors.CredentialsRejected,
    "rateLimitExceeded": errors.Throttled,
    "userRateLimitExceeded": errors.Throttled,
    "quotaExceeded": errors.QuotaExceeded,
    "dailyLimitExceeded": errors.QuotaExceeded,
    "backendError": errors.ServiceFailed,
    "internalError": errors.ServiceFailed,
    "uploadTooLarge": errors.ObjectTooLarge,
    "requestedRangeNotSatisfiable": errors.InvalidRequest,
    "invalid": errors.InvalidRequest,
    "badRequest": errors.InvalidRequest,
    "invalidArgument": errors.InvalidRequest,
    "invalidParameter": errors.InvalidRequest,
    "parseError": errors.InvalidRequest,
}
"""The class of each reason; an unknown one goes by its HTTP status."""

STATUSES: Mapping[int, type[StoreError]] = {
    304: errors.PreconditionFailed,
    400: errors.InvalidRequest,
    401: errors.CredentialsRejected,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    405: errors.Unsupported,
    408: errors.TimedOut,
    409: errors.Throttled,
    410: errors.UploadNotFound,
    411: errors.InvalidRequest,
    412: errors.PreconditionFailed,
    413: errors.ObjectTooLarge,
    416: errors.InvalidRequest,
    429: errors.Throttled,
    499: errors.ServiceFailed,
    501: errors.Unsupported,
    503: errors.Throttled,
    507: errors.QuotaExceeded,
}
"""The class of each status; any other 5xx is `ServiceFailed`."""

CLASSES: tuple[tuple[type[Exception], type[StoreError], bool | None], ...] = (
    (auth.DefaultCredentialsError, errors.CredentialsRejected, None),
    (auth.TransportError, errors.Unreachable, False),
    (auth.GoogleAuthError, errors.CredentialsRejected, None),
    (http.ConnectTimeoutError, errors.TimedOut, False),
    (http.ReadTimeoutError, errors.TimedOut, True),
    (http.NewConnectionError, errors.Unreachable, False),
    (http.ProxyError, errors.Unreachable, False),
    (http.SSLError, errors.Unreachable, False),
    (ssl.SSLError, errors.Unreachable, False),
    (http.IncompleteRead, errors.Corrupt, True),
    (http.ProtocolError, errors.Unreachable, True),
    (http.LocationValueError, errors.InvalidRequest, None),
    (http.HTTPError, errors.Unreachable, True),
    (OSError, errors.Unreachable, True),
)
"""The class of each exception, the first that fits, and whether a request that fails
so may have been carried out."""

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading an answer of some other server ends in."""
NOT_UNDERSTOOD = "the answer is not that of the service"

THROTTLED_S = 1.0
"""An object takes about one change a second; sooner than that nothing is worth it."""


@contextlib.contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """Turn whatever urllib3 or google-auth raises in this block into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except (http.HTTPError, auth.GoogleAuthError, OSError) as error:
        raise translate(error, key) from error


@contextlib.contextmanager
def understood(key: str | None = None) -> Iterator[None]:
    """Raise `ServiceFailed` if what an answer holds is not what the service says."""
    try:
        yield
    except MALFORMED as error:
        raise errors.ServiceFailed(NOT_UNDERSTOOD, key=key) from error


def translate(error: Exception, key: str | None = None) -> StoreError:
    """Return what an exception of the transport means to the store."""
    for known, meaning, is_ambiguous in CLASSES:
        if isinstance(error, known):
            return meaning(
                _sentence(error),
                key=key,
                code=type(error).__name__,
                is_ambiguous=is_ambiguous,
            )
    raise error


def reply_error(
    status: int, headers: Mapping[str, str], body: bytes, key: str | None = None
) -> StoreError:
    """Return what an error answer means: by its reason, else by its HTTP status."""
    reason, message = _told(body)
    meaning = REASONS.get(reason)
    if meaning is None or status == 401:  # what is required is a login
        meaning = STATUSES.get(status)
    if meaning is None:
        meaning = errors.ServiceFailed if status >= 500 else errors.InvalidRequest
    retry_after = headers.get("retry-after", "")
    error = meaning(
        message or f"Google Cloud Storage answered {status}",
        key=key,
        code=reason or str(status),
        retry_after_s=float(retry_after) if retry_after.isdigit() else None,
    )
    error.status = status
    error.request_id = headers.get("x-guploader-uploadid", "")
    if isinstance(error, errors.Throttled) and error.retry_after_s is None:
        error.retry_after_s = THROTTLED_S if status == 429 else None
    return error


def _told(body: bytes) -> tuple[str, str]:
    """Return the reason and the message in the body of an error, if it has them."""
    try:
        told = json.loads(body)["error"]
        first = (told.get("errors") or [{}])[0]
        return str(first.get("reason", "")), str(told.get("message", "")).strip()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "", ""


def _sentence(error: Exception) -> str:
    match error:
        case auth.DefaultCredentialsError():
            return (
                "no Google credentials were found: run `gcloud auth application-default"
                " login`, set GOOGLE_APPLICATION_CREDENTIALS, or use no_sign_request"
            )
        case auth.GoogleAuthError():
            return f"the Google credentials cannot be used: {error.args[0]}"
        case http.NewConnectionError() | http.ConnectTimeoutError():
            return "no connection to the service"
        case _:
            return str(error)
