"""Conditions: how they are asked for, and what it means that one did not hold."""

import contextlib
from collections.abc import Iterator

from mountfs.backends.s3_errors import condition_of
from mountfs.backends.s3_metadata import quoted_etag
from mountfs.storage.errors import (
    AlreadyExists,
    BucketNotFound,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    Unsupported,
    UploadNotFound,
    VersionChanged,
)
from mountfs.storage.types import Absent, Call, Condition, Version


def condition_parameters(
    condition: Condition, call: Call, honoured: frozenset[Call]
) -> dict[str, object]:
    """Return the parameters of a conditional request.

    Raises `Unsupported` for a call whose conditions the service does not honour.
    """
    if condition is None:
        return {}
    if call not in honoured:
        raise Unsupported(f"this service honours no condition on {call.value}")
    if not isinstance(condition, Absent):
        return {"IfMatch": quoted_etag(condition)}
    if call is Call.DELETE:
        raise InvalidRequest("what is to be absent need not be deleted")
    return {"IfNoneMatch": "*"}


@contextlib.contextmanager
def explained(
    key: str,
    condition: Condition,
    *,
    source: str | None = None,
    source_version: Version | None = None,
) -> Iterator[None]:
    """Say which condition of the request in this block was lost.

    On a write, S3 answers an If-Match on an absent key as if something were not found.
    """
    try:
        yield
    except PreconditionFailed as error:
        header = condition_of(error)
        is_of_source = "source" in header
        is_known = bool(header) or condition is None or source_version is None
        if source_version is not None and (is_of_source or condition is None):
            raise VersionChanged(
                "the object is another version by now", key=source, code=error.code
            ) from error
        if not is_known:
            raise
        raise _lost(key, condition, error) from error
    except (BucketNotFound, UploadNotFound):
        raise
    except NotFound as error:
        if source is None and isinstance(condition, Version):
            raise VersionChanged(
                "the object is gone", key=key, code=error.code
            ) from error
        raise


def _lost(
    key: str, condition: Condition, error: PreconditionFailed
) -> PreconditionFailed:
    if isinstance(condition, Absent):
        return AlreadyExists("an object is there", key=key, code=error.code)
    if condition is None:
        return error
    return VersionChanged(
        "the object is another version by now", key=key, code=error.code
    )
