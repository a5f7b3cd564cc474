"""Where each attribute that programs see comes from, in words for people.

Pure: no I/O, no clock.
"""

import datetime
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mountfs.storage import dialects
from mountfs.storage.types import Attributes, Metadata, Object, ObjectKind
from mountfs.vfs.attributes import Defaults, effective

NAMES = ("mode", "uid", "gid", "mtime", "atime", "ctime")
_NOT_STORED = "changed here; the store does not have it yet"
_READ = "read here since; it is stored with the next change"


@dataclass(frozen=True, slots=True)
class Origin:
    """One attribute: what programs see, and who says so."""

    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What there is to tell attributes from."""

    object: Object
    """What the store says of it, its attributes those that are kept with it."""
    user: Mapping[str, str]
    """The user metadata as they lie in the store."""
    is_native: bool
    """Whether the store keeps attributes by itself."""
    is_read: bool = True
    """Whether attributes are read out of metadata at all."""
    is_new: bool = False
    """Whether the store has never had it."""
    is_asked: bool = True
    """Whether the store has told it just now."""
    index: Attributes | None = None
    """What the attribute index keeps, where the store has no place."""
    commit_id: str | None = None
    """Of one of our commits, if it made the object."""


def origins(
    seen: Attributes, told: Told, defaults: Defaults, *, is_changed: bool
) -> Mapping[str, Origin]:
    """Return where the attributes of a file come from.

    `is_changed` says that something of it is only here.
    """
    kept = told.index or told.object.attributes or Attributes()
    metadata = Metadata(attributes=kept)
    expected = effective(replace(told.object, metadata=metadata), defaults)
    found: dict[str, Origin] = {}
    for name in NAMES:
        field = name if name in ("mode", "uid", "gid") else f"{name}_ns"
        value: int | None = getattr(seen, field)
        if value is None:
            continue
        meant: int | None = getattr(expected, field)
        is_told = getattr(kept, field) is not None
        if name == "mode":  # a mode that nobody can have meant is not taken
            is_told = is_told and stat.S_IMODE(kept.mode or 0) == stat.S_IMODE(
                meant or 0
            )
        source = _source(field, told) if is_told else _default(name, told)
        if told.is_new:
            source = _NOT_STORED
        elif value != meant:
            stored = shown(name, meant)
            kept_here = _READ if name == "atime" else f"kept here (else {stored})"
            source = _NOT_STORED if is_changed else kept_here
        found[name] = Origin(shown(name, value), source)
    return found


def shown(name: str, value: int | None) -> str:
    """Return an attribute as people write it."""
    if value is None:
        return "-"
    if name == "mode":
        return f"{stat.S_IMODE(value):04o}"
    return str(value) if name in ("uid", "gid") else moment(value)


def moment(time_ns: int) -> str:
    """Return a time in UTC; as many decimals as it has."""
    seconds, rest = divmod(time_ns, 10**9)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    try:
        at = epoch + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds} s"
    decimals = f".{rest:09}".rstrip("0").rstrip(".") if rest else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{decimals}Z"


def _source(field: str, told: Told) -> str:
    if told.index is not None:
        return "the attribute index of its directory"
    if not told.is_asked:
        return "known here; the store was not asked"
    if told.is_native:
        return "the store itself"
    pair = dialects.tellers(told.user).get(field)
    if pair is None:
        return "the metadata of the object"
    writer = dialects.writer_of(pair, told.user)
    if told.commit_id is not None:
        writer = "mountfs"
    return f"user metadata {pair}={told.user[pair]} ({writer})"


def _default(name: str, told: Told) -> str:
    off = "" if told.is_read else "; virtual_object_metadata is off"
    match name:
        case "mode" if told.object.kind is ObjectKind.LINK:
            return "symbolic links have no mode of their own"
        case "mode":
            is_directory = told.object.kind is ObjectKind.DIRECTORY
            option = "--dir-mode" if is_directory else "--file-mode"
            return f"the mount ({option}{off})"
        case "uid" | "gid":
            return f"the mount (--{name}{off})"
        case "mtime" if told.object.mtime_ns is not None:
            return f"the store's time of change{off}"
        case "mtime":
            return f"the time of the mount: the store tells none{off}"
        case _:
            return f"as mtime{off}"
