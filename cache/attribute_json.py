"""POSIX attributes as JSON: in the journal, in the local metadata store, in the index.

Pure. What is None is left out. Numbers are JSON numbers, times whole nanoseconds since
1970. Extended attributes stand as the text that user metadata would hold
(`mountfs.storage.xattrs`).
"""

from collections.abc import Mapping
from typing import TypeAlias

from mountfs.storage import xattrs
from mountfs.storage.types import Attributes

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"

_NUMBERS = ("mode", "uid", "gid", "rdev", "atime_ns", "mtime_ns", "ctime_ns")


def to_json(attributes: Attributes) -> dict[str, Json]:
    """Return what stands for the attributes."""
    told: dict[str, Json] = {}
    for name in _NUMBERS:
        number: int | None = getattr(attributes, name)
        if number is not None:
            told[name] = number
    if attributes.xattrs is not None:
        told["xattrs"] = (
            xattrs.to_header(attributes.xattrs) if attributes.xattrs else ""
        )
    if attributes.group is not None:
        told["group"] = attributes.group
    return told


def from_json(told: object) -> Attributes:
    """Return the attributes; names that are not known are passed over.

    Raises `ValueError` for what `to_json` would not write.
    """
    if not isinstance(told, dict):
        raise ValueError(f"not attributes: {told!r}")  # noqa: TRY004  # of JSON
    numbers = {name: told[name] for name in _NUMBERS if name in told}
    if not all(type(number) is int for number in numbers.values()):
        raise ValueError(f"not numbers: {numbers!r}")
    group = told.get("group")
    if not (group is None or isinstance(group, str)):
        raise ValueError(f"not a group: {group!r}")
    return Attributes(**numbers, xattrs=_xattrs(told.get("xattrs")), group=group)


def _xattrs(told: object) -> Mapping[bytes, bytes] | None:
    if told is None:
        return None
    found = xattrs.from_header(told) if isinstance(told, str) else None
    if found is None:
        raise ValueError(f"not extended attributes: {told!r}")
    return found
