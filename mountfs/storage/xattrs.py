"""Extended attributes as text: the JSON object of s3fs, name to base64 of the value.

A name stands in the JSON as its bytes, which need not be UTF-8; only `"`, `\\` and
control characters are escaped. So the text is what s3fs writes for every name that it
can write, and no two sets of attributes have one text. In user metadata the text is
percent-encoded.

Read besides: s3fs' own way with names that JSON would escape, its first form, which
held the values verbatim, and no text at all, which it leaves behind for "none".

Pure: no requests, no clock.
"""

import base64
import binascii
import json
import re
import urllib.parse
from collections.abc import Mapping

from mountfs.storage.errors import MetadataTooLarge

NAME_SIZE_MAX = 255
"""XATTR_NAME_MAX: the longest name in bytes."""
LIST_SIZE_MAX = 1 << 16
"""XATTR_LIST_MAX: all names in bytes, each with its terminator."""
TOTAL_SIZE_MAX = 1 << 20
"""All names and values of one object in bytes; the limit is ours."""

_ESCAPED = re.compile(rb'["\\\x00-\x1f]')
_SAFE = "/"
"""What s3fs leaves as it is besides letters, digits, `.`, `-`, `_` and `~`."""


def check_sizes(xattrs: Mapping[bytes, bytes]) -> None:
    """Raise `MetadataTooLarge` for more than an object may have."""
    names = sum(len(name) + 1 for name in xattrs)
    values = sum(map(len, xattrs.values()))
    if names > LIST_SIZE_MAX:
        raise MetadataTooLarge("the names of the extended attributes are too many")
    if names + values > TOTAL_SIZE_MAX:
        raise MetadataTooLarge(
            f"{names + values} bytes of extended attributes, "
            f"the limit is {TOTAL_SIZE_MAX}"
        )


def to_json(xattrs: Mapping[bytes, bytes]) -> bytes:
    """Return the text of a set of attributes, in the order of their names."""
    pairs = (
        b'"%b":"%b"' % (_ESCAPED.sub(_escaped, name), base64.b64encode(xattrs[name]))
        for name in sorted(xattrs)
    )
    return b"{%b}" % b",".join(pairs)


def from_json(text: bytes) -> dict[bytes, bytes] | None:
    """Return the attributes of a text, or None if it is not understood."""
    if not text:
        return {}
    pairs = _json_pairs(text)
    if pairs is None:
        pairs = _s3fs_pairs(text)
    if pairs is None or not all(map(_is_name, pairs)):
        return None
    return {name: _value(value) for name, value in pairs.items()}


def to_header(xattrs: Mapping[bytes, bytes]) -> str:
    """Return the text of a set of attributes as user metadata hold it."""
    return urllib.parse.quote_from_bytes(to_json(xattrs), safe=_SAFE)


def from_header(text: str) -> dict[bytes, bytes] | None:
    """Return the attributes that user metadata hold, or None if not understood."""
    raw = text.encode("utf-8", "surrogatepass")
    return from_json(urllib.parse.unquote_to_bytes(raw))


def _escaped(match: "re.Match[bytes]") -> bytes:
    character = match.group()
    return b"\\" + character if character in b'"\\' else b"\\u%04x" % ord(character)


def _json_pairs(text: bytes) -> dict[bytes, str] | None:
    try:
        found = json.loads(text.decode("utf-8", "surrogateescape"), strict=False)
        if not isinstance(found, dict):
            return None
        if not all(isinstance(value, str) for value in found.values()):
            return None
        return {
            name.encode("utf-8", "surrogateescape"): value
            for name, value in found.items()
        }
    except (ValueError, RecursionError):  # a lone surrogate is a ValueError as well
        return None


def _s3fs_pairs(text: bytes) -> dict[bytes, str] | None:
    """Split a text as s3fs does, which escapes nothing."""
    begin, end = text.find(b"{"), text.rfind(b"}")
    if begin < 0 or end < begin:
        return None
    pairs: dict[bytes, str] = {}
    for pair in text[begin + 1 : end].split(b","):
        name, colon, value = pair.rpartition(b":")
        quoted_name, quoted_value = _unquoted(name), _unquoted(value)
        if not colon or quoted_name is None or quoted_value is None:
            return None
        pairs[quoted_name] = quoted_value.decode("utf-8", "surrogateescape")
    return pairs


def _unquoted(text: bytes) -> bytes | None:
    begin, end = text.find(b'"'), text.rfind(b'"')
    return text[begin + 1 : end] if 0 <= begin < end else None


def _is_name(name: bytes) -> bool:
    return 0 < len(name) <= NAME_SIZE_MAX and b"\0" not in name


def _value(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode("utf-8", "surrogatepass")
