"""How names and keys correspond: a bijection between POSIX names and key components.

A name is what a program sees: 1 to 255 bytes without `/` and NUL, not `.` or `..`.
A component is what stands between two slashes of a key, and may be anything that the
store takes. Almost always they are the same bytes. The two exceptions:

* A component that is no name (empty, `.`, `..`, with a NUL) is shown as `mountfs%`
  and the component with every byte outside `A-Z a-z 0-9 _ - . ~` as `%XX`.
* A name that is not UTF-8, on a store whose keys must be, is stored as
  `mountfs-bytes%` and the name encoded in the same way.

Whatever would be mistaken for such a form is itself written in that form, so both maps
are total and inverse to each other: no key is hidden, no two names meet in one key.

A key `a` beside keys `a/...` is a file and a directory of one name. The directory
keeps the name; the file is shown as `mountfs%=` and its encoded name.

What would have more than 255 bytes as a name, by the rules above, is shown in a short
form: `mountfs%#`, the beginning of the component encoded as above, `~`, and the SHA-256
of the component in hexadecimal (of a shadowed file `mountfs%#=` and so on). Which
component that is cannot be told from the name, only found among those that are there.

Pure: no I/O.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

NAME_SIZE_MAX = 255

_ODD_MARK = "mountfs%"
_SHADOWED_MARK = "mountfs%="
_BYTES_MARK = "mountfs-bytes%"
_SHORT_MARK = "mountfs%#"
_SHORT_SHADOWED_MARK = "mountfs%#="
_ENCODED = re.compile(r"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})*")
_SHORT = re.compile(rf"{_SHORT_MARK}(=?){_ENCODED.pattern}~[0-9a-f]{{64}}")
_PREFIX_SIZE_MAX = 120
_LATELY_MAX = 512
"""The kernel looks up what is then made or removed: so many names are remembered."""
_CUT_ESCAPE = re.compile(r"%[0-9A-F]?\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name stands for: a component, and whether only the file is meant."""

    component: str
    is_shadowed: bool = False


@dataclass(frozen=True, slots=True)
class ShortEntry:
    """A name in short form. `Names.matching` finds what it stands for, if anything."""

    name: bytes
    is_shadowed: bool


class Names:
    """The bijection for one store; `utf8_keys` says that its keys must be UTF-8."""

    def __init__(self, *, utf8_keys: bool) -> None:
        self._utf8_keys = utf8_keys

    def entry(self, name: bytes) -> Entry | ShortEntry:
        """Return what a name stands for."""
        return _entry(name, self._utf8_keys)

    def name(self, component: str, *, is_shadowed: bool = False) -> bytes:
        """Return the name under which a component is shown."""
        text = _shadowed_text(component) if is_shadowed else _escape_odd(component)
        name = self._name(text)
        if len(name) <= NAME_SIZE_MAX:
            return name
        return _short(component, is_shadowed=is_shadowed)

    def matching(self, short: ShortEntry, components: Iterable[str]) -> Entry | None:
        """Return what a name in short form stands for, if it is among these."""
        for component in components:
            if self.name(component, is_shadowed=short.is_shadowed) == short.name:
                return Entry(component, short.is_shadowed)
        return None

    def _name(self, text: str) -> bytes:
        if self._utf8_keys and text.startswith(_BYTES_MARK):
            raw = _decoded_bytes(text.removeprefix(_BYTES_MARK))
            if raw is not None and _needs_bytes_form(raw):
                return raw
        return os.fsencode(text)


@lru_cache(maxsize=_LATELY_MAX)
def _entry(name: bytes, utf8_keys: bool) -> Entry | ShortEntry:
    if utf8_keys and _needs_bytes_form(name):
        text = _BYTES_MARK + _encoded(name)
    else:
        text = os.fsdecode(name)
    short = _SHORT.fullmatch(text)
    if short is not None:
        return ShortEntry(name, is_shadowed=bool(short[1]))
    shadowed = _shadowed(text)
    if shadowed is not None:
        return Entry(shadowed, is_shadowed=True)
    return Entry(_unescape_odd(text))


def _needs_bytes_form(name: bytes) -> bool:
    """Tell whether a name is not UTF-8, or looks like the form of one that is not."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return True
    if not text.startswith(_BYTES_MARK):
        return False
    raw = _decoded_bytes(text.removeprefix(_BYTES_MARK))
    return raw is not None and _needs_bytes_form(raw)


def _is_odd(component: str) -> bool:
    """Tell whether a component is no name, or looks like the form of one that is none.

    The recursion ends because the encoded form is longer than what it stands for.
    """
    if component in ("", ".", "..") or "\0" in component:
        return True
    if _shadowed(component) is not None or _SHORT.fullmatch(component):
        return True
    if not component.startswith(_ODD_MARK):
        return False
    inner = _decoded(component.removeprefix(_ODD_MARK))
    return inner is not None and _is_odd(inner)


def _escape_odd(component: str) -> str:
    if not _is_odd(component):
        return component
    return _ODD_MARK + _encoded(os.fsencode(component))


def _unescape_odd(text: str) -> str:
    if text.startswith(_ODD_MARK):
        inner = _decoded(text.removeprefix(_ODD_MARK))
        if inner is not None and _is_odd(inner):
            return inner
    return text


def _shadowed(text: str) -> str | None:
    """Return the component whose shadowed form a text is, or None."""
    if not text.startswith(_SHADOWED_MARK):
        return None
    return _decoded(text.removeprefix(_SHADOWED_MARK))


def _shadowed_text(component: str) -> str:
    return _SHADOWED_MARK + _encoded(os.fsencode(component))


def _short(component: str, *, is_shadowed: bool) -> bytes:
    """Return the short form of a component whose name would be too long."""
    raw = os.fsencode(component)
    prefix = _encoded(raw[:_PREFIX_SIZE_MAX])[:_PREFIX_SIZE_MAX]
    mark = _SHORT_SHADOWED_MARK if is_shadowed else _SHORT_MARK
    digest = hashlib.sha256(raw).hexdigest()
    return f"{mark}{_CUT_ESCAPE.sub('', prefix)}~{digest}".encode()


def _encoded(raw: bytes) -> str:
    return quote_from_bytes(raw, safe="")


def _decoded_bytes(text: str) -> bytes | None:
    """Return the bytes of an encoded form, or None if we would not write it so."""
    if not _ENCODED.fullmatch(text):
        return None
    raw = unquote_to_bytes(text)
    return raw if _encoded(raw) == text else None


def _decoded(text: str) -> str | None:
    raw = _decoded_bytes(text)
    if raw is None or b"/" in raw:  # a slash would reach into another directory
        return None
    return os.fsdecode(raw)
