"""What the options of a store may be, as texts of the command line or as values.

Each function takes the name of an option and what was given for it, and raises
`InvalidRequest` with a sentence if that is no such value.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from mountfs.storage.errors import InvalidRequest
from mountfs.storage.types import Call

SECONDS_MAX = 3600


def text_of(name: str, value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name} must be a text, not {value!r}")
    return value


def switch_of(name: str, value: object) -> bool:
    """Return whether an option is on."""
    words = {"on": True, "true": True, "yes": True, "1": True, "": True}
    words |= {"off": False, "false": False, "no": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise InvalidRequest(f"{name} must be on or off, not {value!r}")


def number_of(name: str, value: object) -> float:
    """Return a number."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError):
            found = float(value)
            if math.isfinite(found):
                return found
    raise InvalidRequest(f"{name} must be a number, not {value!r}")


def seconds_of(name: str, value: object) -> float:
    """Return a time of up to an hour."""
    found = number_of(name, value)
    if not 0 < found <= SECONDS_MAX:
        raise InvalidRequest(
            f"{name} must be above 0 and at most {SECONDS_MAX}, not {value!r}"
        )
    return found


def between(low: int, high: int) -> Callable[[str, object], int]:
    """Return what returns a whole number within these bounds."""

    def parse(name: str, value: object) -> int:
        found = number_of(name, value)
        if found != int(found) or not low <= found <= high:
            raise InvalidRequest(
                f"{name} must be a whole number from {low} to {high}, not {value!r}"
            )
        return int(found)

    return parse


def endpoint_of(name: str, value: object) -> str:
    """Return the URL of a server."""
    text = text_of(name, value)
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_good = is_good and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise InvalidRequest(
            f"{name} must look like https://HOST or http://HOST:PORT, not {text!r}"
        )
    return text


def calls_of(name: str, value: object) -> frozenset[Call]:
    """Return some kinds of calls, by their names with commas between."""
    if isinstance(value, frozenset):
        return value
    words = text_of(name, value).split(",") if value != "none" else []
    try:
        return frozenset(Call(word.strip()) for word in words)
    except ValueError as error:
        known = ", ".join(call.value for call in Call)
        raise InvalidRequest(
            f"{name} must be none or some of {known}, not {value!r}"
        ) from error
