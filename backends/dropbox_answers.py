"""Answers of Dropbox that are none: what its SDK makes nothing of, and what cannot be.

The SDK takes an answer for what the documentation says, and breaks in many ways if it
is something else: a page of a proxy, a number where a text should be, brackets without
end. All of them are `ServiceFailed` here, like any other failure of the service.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from dropbox import Dropbox, files
from stone.backends.python_rsrc.stone_validators import ValidationError

from mountfs.backends.dropbox_errors import SDK_ERRORS
from mountfs.backends.dropbox_objects import is_one_name, last_name
from mountfs.storage.errors import Corrupt, ServiceFailed

TOKEN_SIZE_MAX = 16 << 10
_NOT_UNDERSTOOD = (
    ValidationError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    RecursionError,
)
"""How the SDK breaks, and the decoder of JSON below it."""


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Turn what the SDK makes nothing of into `ServiceFailed`; its own errors pass."""
    try:
        yield
    except SDK_ERRORS:
        raise
    except _NOT_UNDERSTOOD as error:
        raise ServiceFailed(
            "Dropbox answered something that is no answer", code=type(error).__name__
        ) from error


class Api(Dropbox):  # type: ignore[misc]  # the SDK has no types
    """The SDK, whose requests fail in known ways alone."""

    _oauth2_access_token: Any

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request; whatever comes is an answer to it, or an error."""
        try:
            with understood():
                return super().request(*args, **kwargs)
        except Exception:
            # Nobody else has what is left of it, nor its connection: of a download
            # that is to wait (429) the SDK reads nothing.
            self._session.drop_answer()
            raise

    def refresh_access_token(self, *args: Any, **kwargs: Any) -> None:
        """Get another token, which can be one."""
        with understood():
            super().refresh_access_token(*args, **kwargs)
        if not can_be_token(self._oauth2_access_token):
            self._oauth2_access_token = None
            raise ServiceFailed("Dropbox gave a token that is none")


def can_be_token(token: object) -> bool:
    """Tell whether something can be a token, and so stand in a header."""
    if not isinstance(token, str) or not 0 < len(token) <= TOKEN_SIZE_MAX:
        return False
    return token.isascii() and token.isprintable()


def check_file(key: str, made: Any, size: int, content_hash: str) -> None:
    """Raise unless an answer tells of the bytes that were just written under a key."""
    check_made(key, made)
    if int(made.size) != size:
        raise Corrupt(f"{size} bytes were written, and {made.size} are there", key=key)
    check_hash(made, content_hash, key)


def check_made(key: str, made: Any) -> None:
    """Raise `ServiceFailed` unless an answer tells of what was to be under a key."""
    kind = files.FolderMetadata if key.endswith("/") else files.FileMetadata
    if not isinstance(made, kind) or not is_one_name(made.name, last_name(key)):
        raise ServiceFailed("Dropbox tells of something that nobody made", key=key)


def check_hash(known: Any, wanted: str, key: str) -> None:
    """Raise `Corrupt` if an answer has another content hash."""
    if known.content_hash is not None and known.content_hash != wanted:
        raise Corrupt(
            f"the content hash is {known.content_hash}, and should be {wanted}", key=key
        )
