"""Keys as Dropbox names, and back: one bijection, component by component.

Dropbox takes almost any name. What it does not take is written as rclone writes it, so
that each shows what the other stored: `\\`, DEL and a space at the end as a symbol of
their own (U+FF3C, U+2421, U+2420), other bytes as U+201B and two hexadecimal digits, a
literal symbol with U+201B before it. Two things are ours: a name that Dropbox keeps for
itself has its first byte written so, and a name in another normal form than NFC has the
bytes that make the difference written so: Dropbox takes both forms for one name.

A name of another program that this never makes is its own component; the component
that would have had it moves one step up, and so on (`_is_literal`).

Pure. Case is not treated here: names that differ in nothing else are one name to
Dropbox, and the store refuses the second.
"""

import functools
import re
import unicodedata

from mountfs.backends._tokens import key_bytes, key_text

QUOTE = "\u201b"
_SPACE = "\u2420"
_SYMBOLS = {"\\": "\uff3c", "\x7f": "\u2421", "\0": "\u2400"}
_SYMBOL_OF = {**_SYMBOLS, " ": _SPACE}
_MEANING = {symbol: char for char, symbol in _SYMBOL_OF.items()}
_RESERVED = re.compile(
    r"(?i)(desktop\.ini|thumbs\.db|\.ds_store|icon\r|\.dropbox(\.attr|\.cache)?)"
    r"|~\$.*|\.~.*|~.*\.tmp"
)
"""What the clients of Dropbox keep for themselves, and its service may refuse."""
_HEX = re.compile("[0-9A-F]{2}")
NAME_SIZE_MAX = 255
"""Characters of one name."""


def path_of(key: str) -> str:
    """Return the path below the root of a key; that of a directory has no slash."""
    return "/".join(name_of(part) for part in key.rstrip("/").split("/"))


@functools.lru_cache(maxsize=8192)
def name_of(component: str) -> str:
    """Return the Dropbox name of a component of a key."""
    if _is_literal(component):
        return component
    return _escaped(component)


@functools.lru_cache(maxsize=8192)
def component_of(name: str) -> str | None:
    """Return the component of a key that has a Dropbox name.

    None for what no key leads to: what this writes otherwise (a `desktop.ini` of a
    program that does not), and what is no name at all.
    """
    if not _can_be_name(name):
        return None
    return name if _is_literal(name) else _unescaped(name)


def _can_be_name(name: str) -> bool:
    if name in {"", ".", ".."} or "/" in name or len(name) > NAME_SIZE_MAX:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in name)


def is_plain(name: str) -> bool:
    """Tell whether Dropbox takes a name as it is, and gives it back as it was."""
    if not name or name in {".", ".."} or name.endswith(" "):
        return False
    if any(char in _SYMBOLS or _is_surrogate(char) for char in name):
        return False
    return not _RESERVED.fullmatch(name) and unicodedata.is_normalized("NFC", name)


def _is_literal(text: str) -> bool:
    """Tell whether a name stands for itself although escaping would change it.

    So it is with a name that escaping never makes, and then with each that would be
    made of it.
    """
    while True:
        if not is_plain(text):
            return False
        before = _unescaped(text)
        if before is None:
            return True
        if before == text:
            return False
        text = before


def _unescaped(name: str) -> str | None:
    """Return what was escaped to a name; None if nothing could be."""
    meant: list[bytes] = []
    at = 0
    while at < len(name):
        char, after = name[at], name[at + 1 : at + 3]
        if char == QUOTE and _HEX.fullmatch(after):
            meant.append(bytes([int(after, 16)]))
            at += 3
        elif char == QUOTE and after[:1] in {QUOTE, *_MEANING}:
            meant.append(after[:1].encode())
            at += 2
        else:
            meant.append(key_bytes(_MEANING.get(char, char)))
            at += 1
    text = key_text(b"".join(meant))
    if not text or "/" in text or _escaped(text) != name:
        return None
    return text


def _escaped(component: str) -> str:
    quoted = "".join(_quoted(char) for char in component[:-1])
    last = component[-1:]
    quoted += _SPACE if last == " " else _quoted(last)
    if _RESERVED.fullmatch(quoted):
        quoted = _hex(quoted[0]) + quoted[1:]
    return quoted if unicodedata.is_normalized("NFC", quoted) else _composed(quoted)


def _quoted(char: str) -> str:
    if char in _SYMBOLS:
        return _SYMBOLS[char]
    if char == QUOTE or char in _MEANING:
        return QUOTE + char
    return _hex(char) if _is_surrogate(char) else char


def _composed(quoted: str) -> str:
    """Write out the characters that another normal form would change."""
    made = ""
    for char in quoted:
        is_kept = unicodedata.is_normalized("NFC", made + char)
        made += char if is_kept else _hex(char)
    return made


def _hex(char: str) -> str:
    return "".join(f"{QUOTE}{byte:02X}" for byte in key_bytes(char))


def _is_surrogate(char: str) -> bool:
    return "\udc80" <= char <= "\udcff"
