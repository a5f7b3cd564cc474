"""Takes the names of files out of texts that are given away.

A name is known by where it stands: in a field that holds names, or in quotes in a line
of the log. Wherever else it stands it is taken out too, in a URL that a service has
sent back for one.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

IN_THE_PLACE = "<name>"
NAMES_MAX = 5000
SHORTEST = 4
"""What is shorter, and not in quotes, is found in innocent words."""
_QUOTED = re.compile(r"(?P<mark>['\"])(?P<name>(?:\\.|(?!(?P=mark)).)*)(?P=mark)")
_FIELDS = frozenset({"path", "waiting", "kept_as"})
_HARMLESS = frozenset(
    {"url", "mount_point", "state_dir", "config_problem", "untold", "state"}
)


def names_in(status: object, field: str = "") -> Iterator[str]:
    """Yield the names of files in a status as JSON has it."""
    match status:
        case dict():
            for key, each in status.items():
                yield from names_in(each, str(key))
        case list() | tuple():
            for each in status:
                yield from names_in(each, field)
        case str() if field in _FIELDS:
            yield status


def quoted_in(text: str) -> Iterator[str]:
    """Yield what stands in quotes in a log."""
    return (found["name"] for found in _QUOTED.finditer(text))


class Nameless:
    """Replaces names of files, those that it was told and all that is in quotes."""

    def __init__(self, names: Iterable[str]) -> None:
        known = {name.strip("/") for name in names}
        known |= {part for name in known for part in name.split("/")}
        chosen = sorted(known, key=len, reverse=True)[:NAMES_MAX]
        forms = [form for name in chosen for form in (name, quote(name))]
        long = [re.escape(form) for form in forms if len(form) >= SHORTEST]
        self._known = re.compile("|".join(long)) if long else None

    def text(self, text: str) -> str:
        """Return a text of people without names."""
        clean = _QUOTED.sub(IN_THE_PLACE, text)
        return self._known.sub(IN_THE_PLACE, clean) if self._known else clean

    def value(self, value: object, field: str = "") -> object:
        """Return a value of JSON without them."""
        match value:
            case dict():
                return {key: self.value(each, str(key)) for key, each in value.items()}
            case list() | tuple():
                return [self.value(each, field) for each in value]
            case str() if field in _FIELDS:
                return IN_THE_PLACE
            case str() if field not in _HARMLESS:
                return self.text(value)
            case _:
                return value


def every_text(value: object, change: Callable[[str], str]) -> object:
    """Return a value of JSON with each of its texts changed."""
    match value:
        case dict():
            return {str(key): every_text(each, change) for key, each in value.items()}
        case list() | tuple():
            return [every_text(each, change) for each in value]
        case str():
            return change(value)
        case _:
            return value
