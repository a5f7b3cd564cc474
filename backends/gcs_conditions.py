"""Preconditions: how they are asked for, and what it means that one did not hold."""

import contextlib
from collections.abc import Iterator

from mountfs.storage.errors import (
    AlreadyExists,
    InvalidRequest,
    PreconditionFailed,
    Unsupported,
    VersionChanged,
)
from mountfs.storage.types import Absent, Call, Condition, Version


def condition_query(
    key: str, condition: Condition, call: Call, honoured: frozenset[Call]
) -> dict[str, object]:
    """Return the query of a conditional request.

    Raises `Unsupported` for a call whose preconditions the service does not honour.
    """
    if condition is None:
        return {}
    if call not in honoured:
        raise Unsupported(f"this service honours no condition on {call.value}")
    if isinstance(condition, Absent):
        if call is Call.DELETE:
            raise InvalidRequest("what is to be absent need not be deleted", key=key)
        return {"ifGenerationMatch": "0"}
    return {"ifGenerationMatch": generation_of(condition, key)}


def generation_of(version: Version, key: str) -> str:
    """Return the generation that a version stands for.

    Raises `VersionChanged` for one that no object here can have.
    """
    if not version.content.isdecimal():
        raise VersionChanged("no object here has such a version", key=key)
    return version.content


@contextlib.contextmanager
def explained(key: str, condition: Condition) -> Iterator[None]:
    """Say what the condition was that the request in this block lost."""
    try:
        yield
    except PreconditionFailed as error:
        raise lost(key, condition, error) from error


def lost(
    key: str, condition: Condition, error: PreconditionFailed
) -> PreconditionFailed:
    """Return what a lost condition means."""
    if isinstance(condition, Absent):
        return AlreadyExists("an object is there", key=key, code=error.code)
    return VersionChanged(
        "the object is another version by now", key=key, code=error.code
    )
