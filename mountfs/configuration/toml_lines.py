"""Which line of a TOML file each key stands in.

The parser of the standard library reads TOML as it must be read, and tells no lines.
No second parser is asked, which might read something else: the text is cut into
statements, each the fewest lines that the same parser takes by themselves, and what
it finds in a statement stands where the statement begins.
"""

import tomllib
from collections.abc import Iterator, Mapping

LINES_MAX = 300
"""No value that an option takes goes over so many lines."""
DEPTH_MAX = 8
"""What lies deeper means nothing to anybody."""

Keys = tuple[str, ...]
"""The names of a key from the outside in; tables of an array have no number."""


def lines_of(text: str) -> dict[Keys, int]:
    """Return the line, from 1, of each key and each header of valid TOML."""
    found: dict[Keys, int] = {}
    table: Keys = ()
    for line, statement in _statements(text):
        keys = list(_keys(tomllib.loads(statement)))
        if statement.lstrip().startswith("["):
            table = max(keys, key=len)
        else:
            keys = [table + each for each in keys]
        for each in keys:
            found.setdefault(each, line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement with the line that it begins in."""
    lines = text.split("\n")
    start = 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and not _is_whole("\n".join(lines[start:end])):
            end += 1
            if end - start > LINES_MAX:
                return  # what follows has no lines: that is no reason to take minutes
        yield start + 1, "\n".join(lines[start:end])
        start = end


def _is_whole(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _keys(table: Mapping[str, object], depth: int = DEPTH_MAX) -> Iterator[Keys]:
    for name, value in table.items():
        yield (name,)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and depth > 1:
                yield from ((name, *keys) for keys in _keys(each, depth - 1))
