"""The URL and the options of a Dropbox store, checked in one place.

Values come from a command line, a file or a program, so each may be a string or
already have its type. Nothing is read from the disk or the network here.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mountfs.backends import _checks
from mountfs.backends._option_values import switch_of, text_of
from mountfs.storage.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class DropboxOptions:
    """How to talk to Dropbox, and as whom."""

    token_file: str | None = None
    """What `mountfs auth dropbox` wrote; None is the usual place."""
    access_token: str | None = field(default=None, repr=False)
    """In place of the file; it lasts for hours, and nobody renews it."""
    path_root: str | None = None
    """The namespace that paths begin in: the id of a team space or shared folder."""
    properties: bool = True
    """Keep metadata in a property group of each file and folder."""
    endpoint: str | None = None
    """A server that stands for all hosts of Dropbox."""
    ca_file: str | None = None
    """The certificates to trust in place of the usual ones."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    requests_max: int = 16
    poll_s: int = 60
    """How long a question for changes may stay unanswered, without the 90 s at most
    that Dropbox adds."""


def parse_options(options: Mapping[str, object]) -> DropboxOptions:
    """Return the checked options. Raises `InvalidRequest` with a sentence."""
    known = [field.name for field in dataclasses.fields(DropboxOptions)]
    _checks.check_options(options, known, "dropbox")
    given = {name: value for name, value in options.items() if value is not None}
    parsed = {
        name: _PARSERS.get(name, text_of)(name, value) for name, value in given.items()
    }
    return DropboxOptions(**parsed)  # type: ignore[arg-type]  # each parser gives its field's type


def root_of(url: str) -> str:
    """Return the key of the folder that a URL names: "" or ending in `/`.

    What follows `dropbox:///` is taken as it stands: nothing is percent-decoded.
    """
    scheme, separator, rest = url.partition("://")
    if scheme != "dropbox" or not separator or not rest.startswith("/"):
        raise InvalidRequest(f"{url!r} names no folder; write dropbox:///FOLDER")
    path = rest.strip("/")
    if any(name in {"", ".", ".."} for name in path.split("/")) and path:
        raise InvalidRequest(f"{url!r} has an empty name, '.' or '..' in it")
    return f"{path}/" if path else ""


def default_token_file(environment: Mapping[str, str]) -> Path:
    """Return where `mountfs auth dropbox` keeps what it was given."""
    base = environment.get("XDG_CONFIG_HOME") or str(
        Path(environment.get("HOME", "/")) / ".config"
    )
    return Path(base) / "mountfs" / "dropbox.json"


def _between(low: int, high: int) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        text = str(value)
        if isinstance(value, bool) or re.fullmatch(r"\d{1,9}", text) is None:
            raise InvalidRequest(f"{name} must be a whole number, not {value!r}")
        if not low <= int(text) <= high:
            raise InvalidRequest(f"{name} must be from {low} to {high}, not {value!r}")
        return int(text)

    return parse


def _seconds(name: str, value: object) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if 0 < number <= 3600:
            return number
    raise InvalidRequest(f"{name} must be above 0 and at most 3600, not {value!r}")


def _endpoint(name: str, value: object) -> str:
    text = text_of(name, value)
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise InvalidRequest(f"{name} must look like https://HOST:PORT, not {text!r}")
    return text.rstrip("/")


_PARSERS: Mapping[str, Callable[[str, object], object]] = {
    "properties": switch_of,
    "endpoint": _endpoint,
    "connect_timeout_s": _seconds,
    "read_timeout_s": _seconds,
    "requests_max": _between(1, 256),
    "poll_s": _between(30, 480),
}
