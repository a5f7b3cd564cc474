"""From what Dropbox's SDK raises to the store's own errors, by tag and class alone.

An answer 409 carries nested unions; the tags along the way say what is wrong, and the
last one that is in the table counts. Texts are never looked at.
`docs/reference/errors.md` shows the tables, and a test holds them together.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3.exceptions
from dropbox import exceptions as sdk
from dropbox.dropbox_client import BadInputException

from mountfs.backends.dropbox_pace import PAUSE_MAX_S
from mountfs.backends.dropbox_tokens import RUN_AUTH
from mountfs.storage import errors
from mountfs.storage.errors import StoreError

TAGS: Mapping[str, type[StoreError]] = {
    "not_found": errors.NotFound,
    "not_file": errors.WrongKind,
    "not_folder": errors.WrongKind,
    "conflict": errors.PreconditionFailed,
    "folder": errors.WrongKind,
    "file_ancestor": errors.WrongKind,
    "malformed_path": errors.InvalidRequest,
    "disallowed_name": errors.InvalidRequest,
    "duplicated_or_nested_paths": errors.InvalidRequest,
    "cant_move_folder_into_itself": errors.InvalidRequest,
    "cant_nest_shared_folder": errors.PermissionDenied,
    "cant_move_shared_folder": errors.PermissionDenied,
    "cant_copy_shared_folder": errors.PermissionDenied,
    "cant_transfer_ownership": errors.PermissionDenied,
    "no_write_permission": errors.PermissionDenied,
    "no_permission": errors.PermissionDenied,
    "access_restricted": errors.PermissionDenied,
    "restricted_content": errors.PermissionDenied,
    "team_folder": errors.PermissionDenied,
    "operation_suppressed": errors.PermissionDenied,
    "locked": errors.PermissionDenied,
    "encryption_not_supported": errors.PermissionDenied,
    "unsupported_file": errors.Unsupported,
    "unsupported_content_type": errors.Unsupported,
    "unsupported_folder": errors.Unsupported,
    "insufficient_space": errors.QuotaExceeded,
    "insufficient_quota": errors.QuotaExceeded,
    "team_folder_insufficient_space": errors.QuotaExceeded,
    "member_folder_insufficient_space": errors.QuotaExceeded,
    "team_folder_insufficient_quota": errors.QuotaExceeded,
    "member_folder_insufficient_quota": errors.QuotaExceeded,
    "upload_traffic_limit_reached": errors.QuotaExceeded,
    "payload_too_large": errors.ObjectTooLarge,
    "too_large": errors.ObjectTooLarge,
    "too_many_files": errors.LimitExceeded,
    "property_field_too_large": errors.MetadataTooLarge,
    "content_hash_mismatch": errors.Corrupt,
    "too_many_write_operations": errors.Throttled,
    "internal_error": errors.ServiceFailed,
    "invalid_root": errors.InvalidRequest,
}
"""The class of each tag; the last tag of an error that stands here counts."""

STATUSES: Mapping[int, type[StoreError]] = {
    400: errors.InvalidRequest,
    403: errors.PermissionDenied,
    404: errors.InvalidRequest,
    408: errors.TimedOut,
    409: errors.InvalidRequest,
    416: errors.InvalidRequest,
    422: errors.InvalidRequest,
    429: errors.Throttled,
}
"""The class of each status without a known tag; any 5xx is `ServiceFailed`."""

CLASSES: tuple[tuple[type[Exception], type[StoreError], bool], ...] = (
    (requests.exceptions.ConnectTimeout, errors.TimedOut, False),
    (requests.exceptions.Timeout, errors.TimedOut, True),
    (requests.exceptions.SSLError, errors.Unreachable, False),
    (requests.exceptions.ProxyError, errors.Unreachable, False),
    (requests.exceptions.ConnectionError, errors.Unreachable, True),
    (requests.exceptions.ChunkedEncodingError, errors.Unreachable, True),
    (requests.exceptions.ContentDecodingError, errors.Corrupt, True),
    (requests.exceptions.RequestException, errors.ServiceFailed, True),
    (urllib3.exceptions.ReadTimeoutError, errors.TimedOut, True),
    (urllib3.exceptions.HTTPError, errors.Unreachable, True),
    (BadInputException, errors.InvalidRequest, False),
)
"""The class of each exception below the API, the first that fits, and whether a request
that fails so may have been carried out."""

SDK_ERRORS = (sdk.DropboxException, *(known for known, _, _ in CLASSES))
"""All that the SDK is meant to raise."""


@contextlib.contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """Turn whatever the SDK raises in this block into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except SDK_ERRORS as error:
        found = translate(error, key)
        found.status = _status_of(error)
        found.request_id = str(getattr(error, "request_id", None) or "")
        raise found from error


def _status_of(error: Exception) -> int | None:
    if isinstance(error, sdk.ApiError):
        return 409
    return int(error.status_code) if isinstance(error, sdk.HttpError) else None


def translate(error: Exception, key: str | None = None) -> StoreError:
    """Return what an exception of the SDK means to the store."""
    match error:
        case sdk.ApiError():
            return union_error(error.error, key)
        case sdk.RateLimitError():
            return errors.Throttled(
                "Dropbox asks to slow down",
                key=key,
                code=_code(tags_of(getattr(error.error, "reason", None))) or "429",
                retry_after_s=_pause_s(error.backoff),
            )
        case sdk.AuthError():
            return _auth_error(error, key)
        case sdk.PathRootError():
            tags = tags_of(error.error)
            return errors.InvalidRequest(
                "path_root is no namespace of this account", key=key, code=_code(tags)
            )
        case sdk.HttpError():
            return _status_error(int(error.status_code), str(error.body or ""), key)
        case _:
            return _broken(error, key)


def _pause_s(told: int | None) -> float | None:
    """Return when to come back; neither before now nor in a year."""
    return None if told is None else float(min(max(told, 0), PAUSE_MAX_S))


def _broken(error: Exception, key: str | None) -> StoreError:
    for known, meaning, is_ambiguous in CLASSES:
        if isinstance(error, known):
            is_sent = is_ambiguous and not _is_before_sending(error)
            return meaning(
                _sentence(error),
                key=key,
                code=type(error).__name__,
                is_ambiguous=is_sent,
            )
    raise error


def union_error(error: Any, key: str | None = None) -> StoreError:
    """Return what the union of an answer 409, or of an entry of a batch, means."""
    tags = tags_of(error)
    meaning: type[StoreError] = errors.InvalidRequest
    for tag in tags:
        meaning = TAGS.get(tag, meaning)
    return meaning(_reason(tags), key=key, code=_code(tags))


def tags_of(error: Any) -> tuple[str, ...]:
    """Return the tags of nested unions, from outside to inside."""
    tags: list[str] = []
    while error is not None:
        tag = getattr(error, "_tag", None)
        if tag is None:  # a struct: UploadWriteFailed has its reason in a field
            error = getattr(error, "reason", None)
            continue
        tags.append(str(tag))
        error = getattr(error, "_value", None)
    return tuple(tags)


def _auth_error(error: Any, key: str | None) -> StoreError:
    tags = tags_of(error.error)
    if "missing_scope" in tags:
        scope = getattr(error.error.get_missing_scope(), "required_scope", "another")
        denied = errors.PermissionDenied(
            f"the app lacks the permission {scope}: tick it in the app console, then"
            f" {RUN_AUTH}",
            key=key,
            code="missing_scope",
        )
        denied.permission = f"the scope {scope} of the app"
        return denied
    return errors.CredentialsRejected(
        f"Dropbox rejects the token, which expired or was revoked: {RUN_AUTH}",
        key=key,
        code=_code(tags),
    )


def _status_error(status: int, body: str, key: str | None) -> StoreError:
    meaning = STATUSES.get(status)
    if meaning is None:
        meaning = errors.ServiceFailed if status >= 500 else errors.InvalidRequest
    reason = f"Dropbox answered {status}"
    if status == 400 and body:
        reason = f"{reason}: {' '.join(body.split())[:200]}"
    return meaning(reason, key=key, code=str(status))


def _reason(tags: tuple[str, ...]) -> str:
    if "disallowed_name" in tags:
        return "Dropbox refuses a file of this name"
    if "malformed_path" in tags:
        return "Dropbox takes no such path"
    return f"Dropbox refused: {_code(tags)}"


def _code(tags: tuple[str, ...]) -> str:
    return "/".join(tags)


def _is_before_sending(error: BaseException) -> bool:
    """Tell whether no connection was made: the request was certainly not sent."""
    seen: BaseException | None = error
    for _ in range(8):
        if isinstance(
            seen,
            urllib3.exceptions.NewConnectionError
            | urllib3.exceptions.ConnectTimeoutError
            | urllib3.exceptions.NameResolutionError,
        ):
            return True
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            arguments = seen.args if seen is not None else ()
            inner = next(
                (each for each in arguments if isinstance(each, BaseException)), None
            )
        seen = inner
        if seen is None:
            return False
    return False


def _sentence(error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "the certificate of the server is not trusted"
    if isinstance(error, requests.exceptions.Timeout):
        return "Dropbox did not answer in time"
    if _is_before_sending(error):
        return "no connection to Dropbox"
    return "the connection to Dropbox broke"
