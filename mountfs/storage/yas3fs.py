"""What yas3fs keeps of a file in user metadata: one JSON text of all attributes.

The pair `attr` holds `{"st_mode": 33188, "st_uid": 0, "st_mtime": 1700000000.25, …}`,
or in an older form `st_mode=33188;st_uid=0;…`; `xattr` holds a JSON object of texts.
Both are percent-encoded where the SDK that it uses has found that necessary. A link is
an object whose mode says so, and whose body is the target.

Read, and never written. Pure.
"""

import json
import urllib.parse
from collections.abc import Mapping

NAME = "attr"

_DIGITS_MAX = 12
_FIELDS: Mapping[str, str] = {
    "st_mode": "mode",
    "st_uid": "uid",
    "st_gid": "gid",
    "st_rdev": "rdev",
    "st_mtime": "mtime",
    "st_atime": "atime",
    "st_ctime": "ctime",
}
"""Its words for what s3fs keeps in pairs of its own."""


def pairs(text: str) -> dict[str, str]:
    """Return the attributes as s3fs would name them; nothing if it is no such text.

    The mode is octal, with a zero in front.
    """
    found = _object(text) or _older(text)
    mode = found.get("st_mode", "")
    if not (mode.isascii() and mode.isdigit() and len(mode) < _DIGITS_MAX):
        return {}
    found["st_mode"] = f"0{int(mode):o}"
    return {ours: found[theirs] for theirs, ours in _FIELDS.items() if theirs in found}


def xattrs(text: str) -> dict[bytes, bytes] | None:
    """Return extended attributes, whose values stand as they are."""
    found = _object(text)
    if not found and urllib.parse.unquote(text).strip() != "{}":
        return None
    return {
        name.encode("utf-8", "surrogatepass"): value.encode("utf-8", "surrogatepass")
        for name, value in found.items()
    }


def _object(text: str) -> dict[str, str]:
    try:
        found = json.loads(urllib.parse.unquote(text), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(
        isinstance(value, str) for value in found.values()
    ):
        return {}
    return found


def _older(text: str) -> dict[str, str]:
    words = (word.partition("=") for word in urllib.parse.unquote(text).split(";"))
    return {name.strip(): value for name, equals, value in words if equals}
