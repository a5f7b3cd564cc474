"""Listing tokens for stores that keep their keys in order: the last key of the page.

Such a token resumes in any process and after any change: what follows is what sorts
behind that key now.
"""

import base64
import binascii
import operator
from collections.abc import Iterable

from mountfs.storage.errors import InvalidRequest
from mountfs.storage.types import ListMode, Object

_KEY_OF = operator.attrgetter("key")


def key_bytes(key: str) -> bytes:
    """Return the bytes that a key stands for."""
    return key.encode("utf-8", "surrogateescape")


def key_text(key: bytes) -> str:
    """Return the key that stands for bytes."""
    return key.decode("utf-8", "surrogateescape")


def in_byte_order(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Return objects in the order of the bytes that their keys stand for."""
    found = sorted(objects, key=_KEY_OF)
    try:
        "".join(map(_KEY_OF, found)).encode()
    except UnicodeEncodeError:
        # The order of texts is that of their UTF-8, and here is a byte that is none.
        found.sort(key=lambda item: key_bytes(item.key))
    return tuple(found)


def token_after(last: bytes) -> str:
    """Return the token of a page that ends with this key."""
    return base64.urlsafe_b64encode(last).decode()


def first_after(token: str, mode: ListMode) -> bytes:
    """Return the first key that may come after the page of a token."""
    try:
        last = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{token!r} is no token of a listing") from error
    if mode is ListMode.DIRECTORY and last.endswith(b"/"):
        return after_all(last)
    return last + b"\0"


def after_all(directory: bytes) -> bytes:
    """Return the first key that can follow everything below a directory key."""
    return directory[:-1] + b"0"  # "0" follows "/" in ASCII
