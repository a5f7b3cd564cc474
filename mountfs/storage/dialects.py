"""How POSIX attributes and link targets are written in user metadata.

Pure: no requests, no clock. One dialect is written, that of s3fs, so that its users
need no migration; all the others are read. What cannot be understood is ignored and
stays where it is: a foreign program's mistake must never make an object unreadable.

Read, in falling order of trust where two of them name the same attribute:

* gcsfuse and gcloud: `gcsfuse_mtime` (RFC 3339), `goog-reserved-posix-{mode,uid,gid}`
  (mode octal), `goog-reserved-file-{mtime,atime}` (whole seconds). They come first
  because we never write them: standing beside ours, they are the newer ones.
* yas3fs: `attr`, all of them in one text (`mountfs.storage.yas3fs`), and beside it its
  own form of `xattr`. We take it away when we write, too.
* s3fs, GeeseFS, rclone and ourselves: `mode uid gid rdev mtime atime ctime`. Times
  are decimal seconds with any number of decimals, or RFC 3339 (rclone --metadata).
  `mode` is decimal (s3fs, GeeseFS) or octal (rclone); see `_shared_mode`.
* s3fs and ourselves: `xattr`, all extended attributes in one text; ourselves alone:
  `mountfs-xattr`, where that text is too long and lies in an object of its own, and
  `mountfs-link`, the group of hard links that the object is a name of.

A link is an object whose mode says so (its body is the target), or that carries one
of the `LINK_NAMES`. rclone's `.rclonelink` is told by the name alone, which is not
known here (`mountfs.storage.foreign_names`). A named pipe, a socket or a device node is
an object whose mode says so.
"""

import datetime
import functools
import re
import stat
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mountfs.storage import xattrs, yas3fs
from mountfs.storage.quick import maker
from mountfs.storage.types import NO_PAIRS, SPECIAL_TYPES, Attributes, ObjectKind

TARGET_SIZE_MAX = 4095
"""The longest link target in bytes: PATH_MAX without its terminator."""

_IS_LINK = "goog-reserved-file-is-symlink"
_GCSFUSE_TARGET = "gcsfuse_symlink_target"
_GEESEFS_TARGET = "--symlink-target"
# go-storage prefixes the name itself, so on the wire the prefix stands twice.
_GO_STORAGE_TARGET = "x-amz-meta-bs-link-target"

LINK_NAMES = frozenset({_IS_LINK, _GCSFUSE_TARGET, _GEESEFS_TARGET, _GO_STORAGE_TARGET})
"""The names that make an object a link, whatever its mode says."""

XATTR_NAME = "xattr"
SIDECAR_NAME = "mountfs-xattr"
GROUP_NAME = "mountfs-link"

_ID_MAX = 2**32 - 2  # the highest value means "unchanged" to chown(2)
_NS = 10**9
_SECONDS = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]*))?", re.ASCII)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_KINDS = {
    stat.S_IFLNK: ObjectKind.LINK,
    stat.S_IFDIR: ObjectKind.DIRECTORY,
    **dict.fromkeys(SPECIAL_TYPES, ObjectKind.SPECIAL),
}
_TYPES = SPECIAL_TYPES | {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
_TYPE_OF_KIND = {
    ObjectKind.FILE: stat.S_IFREG,
    ObjectKind.DIRECTORY: stat.S_IFDIR,
    ObjectKind.LINK: stat.S_IFLNK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Which attributes are read and written; the names of all others are foreign."""

    posix: bool = False
    """Mode, owner, times and the number of a device."""
    xattrs: bool = False
    group: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What user metadata say of an object."""

    attributes: Attributes | None
    """None if no name of any dialect was understood. If the extended attributes lie
    elsewhere (`SIDECAR_NAME` says where), these are not None and theirs are."""
    kind: ObjectKind
    mode: int | None
    rdev: int | None
    """Both as the metadata say, whether or not the field is wanted."""
    link_target: str | None
    """The target, if it stands in the metadata."""
    foreign: Mapping[str, str]
    """The pairs that are not attributes. Link names stay: the target is in them."""


_make_decoded, _make_attributes = maker(Decoded), maker(Attributes)


def decode(user: Mapping[str, str], fields: Fields) -> Decoded:
    """Read every dialect; ignore and keep what is not understood."""
    if not user and not fields.xattrs:
        return _NOTHING
    found: dict[str, int] = {}
    foreign = dict(user)
    told = yas3fs.pairs(user[yas3fs.NAME]) if yas3fs.NAME in user else {}
    texts = {**user, **told} if told else user
    for name, field, parse in _READERS:
        text = texts.get(name)
        if text is None or (value := parse(text)) is None:
            continue
        if fields.posix:
            foreign.pop(name, None)
        if field not in found or _is_finer(field, value, found[field]):
            found[field] = value
    if told and fields.posix:
        del foreign[yas3fs.NAME]
    target = _link_target(user)
    is_link = target is not None or user.get(_IS_LINK, "").lower() == "true"
    kind = ObjectKind.LINK if is_link else kind_of_mode(found.get("mode"))
    attributes = _posix(found) if fields.posix and found else None
    if fields.group and _GROUP.fullmatch(user.get(GROUP_NAME, "")):
        group = foreign.pop(GROUP_NAME)
        attributes = replace(attributes or Attributes(), group=group)
    if fields.xattrs:
        read = yas3fs.xattrs if told else xattrs.from_header
        attributes = _with_xattrs(attributes, foreign, read)
    return _make_decoded(
        attributes=attributes,
        kind=kind,
        mode=found.get("mode"),
        rdev=found.get("rdev"),
        link_target=target,
        foreign=foreign,
    )


def _is_finer(field: str, value: int, known: int) -> bool:
    """Tell whether a time is what is known, which is in whole seconds, more exactly.

    rclone writes both to Google Cloud Storage.
    """
    is_whole = field.endswith("_ns") and known % _NS == 0
    return is_whole and value // _NS == known // _NS


_NOTHING = Decoded(
    attributes=None,
    kind=ObjectKind.FILE,
    mode=None,
    rdev=None,
    link_target=None,
    foreign=NO_PAIRS,
)


def tellers(user: Mapping[str, str]) -> Mapping[str, str]:
    """Return, by attribute, the name of the pair that `decode` reads it from."""
    found: dict[str, str] = {}
    for name, field, parse in _READERS:
        text = user.get(name)
        if text is not None and parse(text) is not None:
            found.setdefault(field, name)
    return found


def writer_of(name: str, user: Mapping[str, str]) -> str:
    """Return whose dialect a pair is in, as far as that and its company tell it."""
    if name.startswith("gcsfuse_"):
        return "gcsfuse"
    if name.startswith("goog-"):
        return "gcloud"
    mode = user.get("mode", "").strip()
    is_octal = mode.startswith("0") or _valid_mode(_number(mode, 10, 0o177777)) is None
    is_dated = any(
        _RFC3339.fullmatch(user.get(each, "").strip()) for each in ("mtime", "atime")
    )
    return "rclone" if (mode and is_octal) or is_dated else "s3fs"


def _posix(found: Mapping[str, int]) -> Attributes:
    return _make_attributes(
        mode=found.get("mode"),
        uid=found.get("uid"),
        gid=found.get("gid"),
        atime_ns=found.get("atime_ns"),
        mtime_ns=found.get("mtime_ns"),
        ctime_ns=found.get("ctime_ns"),
        rdev=found.get("rdev"),
    )


def _with_xattrs(
    attributes: Attributes | None,
    foreign: dict[str, str],
    read: Callable[[str], dict[bytes, bytes] | None],
) -> Attributes | None:
    """Add the extended attributes, and take the pair that held them out of `foreign`.

    Both pairs stay if some lie elsewhere: a foreign client may have added the one that
    it knows, and then only both together are all.
    """
    if SIDECAR_NAME in foreign:
        return attributes or Attributes()
    text = foreign.get(XATTR_NAME)
    found = read(text) if text is not None else None
    if found is not None:
        del foreign[XATTR_NAME]
    elif attributes is None:
        return None
    return replace(attributes or Attributes(), xattrs=found or {})


def encode(attributes: Attributes, kind: ObjectKind, fields: Fields) -> dict[str, str]:
    """Write attributes in the dialect of s3fs; what is None is not written.

    A mode without type bits gets those of `kind`, because s3fs needs them.
    """
    user = _encoded_posix(attributes, kind) if fields.posix else {}
    if fields.xattrs and attributes.xattrs:
        user[XATTR_NAME] = xattrs.to_header(attributes.xattrs)
    if fields.group and attributes.group is not None:
        user[GROUP_NAME] = attributes.group
    return user


def _encoded_posix(attributes: Attributes, kind: ObjectKind) -> dict[str, str]:
    user: dict[str, str] = {}
    if attributes.mode is not None:
        user["mode"] = str(typed_mode(attributes.mode, kind))
    for name in ("uid", "gid", "rdev"):
        number: int | None = getattr(attributes, name)
        if number is not None:
            user[name] = str(number)
    for name in ("mtime", "atime", "ctime"):
        time_ns: int | None = getattr(attributes, f"{name}_ns")
        if time_ns is not None:
            user[name] = format_seconds(time_ns)
    return user


@functools.lru_cache(maxsize=256)
def kind_of_mode(mode: int | None) -> ObjectKind:
    """Return the kind that the type bits say; a file if they say nothing."""
    return _KINDS.get(stat.S_IFMT(mode or 0), ObjectKind.FILE)


def typed_mode(mode: int, kind: ObjectKind) -> int:
    """Return the mode with type bits: its own, or those of `kind`."""
    return mode if stat.S_IFMT(mode) else mode | _TYPE_OF_KIND.get(kind, 0)


def without_link(user: Mapping[str, str]) -> dict[str, str]:
    """Return the pairs without those that would make a new object no plain file."""
    kept = {name: text for name, text in user.items() if name not in LINK_NAMES}
    if yas3fs.pairs(kept.get(yas3fs.NAME, "")):
        del kept[yas3fs.NAME]
    kind = kind_of_mode(_shared_mode(kept.get("mode", "")))
    if kind in (ObjectKind.LINK, ObjectKind.SPECIAL):
        del kept["mode"]  # it is here only while nobody reads attributes
        kept.pop("rdev", None)
    return kept


def format_seconds(time_ns: int) -> str:
    """Write a time as decimal seconds, with nine decimals unless it is whole."""
    sign = "-" if time_ns < 0 else ""
    seconds, rest = divmod(abs(time_ns), _NS)
    return f"{sign}{seconds}.{rest:09}" if rest else f"{sign}{seconds}"


def parse_seconds(text: str) -> int | None:
    """Read decimal seconds as nanoseconds; more than nine decimals are cut."""
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        return None
    sign, seconds, decimals = match.groups()
    time_ns = int(seconds) * _NS + _fraction_ns(decimals)
    return -time_ns if sign else time_ns


def parse_rfc3339(text: str) -> int | None:
    """Read an RFC 3339 time as nanoseconds; more than nine decimals are cut."""
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        return None
    day, clock, decimals, zone = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(
            f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}"
        )
    except ValueError:  # no such day, hour or zone
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    past = moment - epoch
    return (past.days * 86_400 + past.seconds) * _NS + _fraction_ns(decimals)


def _fraction_ns(decimals: str | None) -> int:
    return int((decimals or "")[:9].ljust(9, "0"))


@functools.lru_cache(maxsize=1024)
def _time(text: str) -> int | None:
    seconds = parse_seconds(text)
    return seconds if seconds is not None else parse_rfc3339(text)


def _number(text: str, base: int, largest: int) -> int | None:
    digits = text.strip()
    # int() takes signs, underscores, prefixes and digits of every script.
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12:
        return None
    try:
        number = int(digits, base)
    except ValueError:  # an 8 or 9 in an octal number
        return None
    return number if number <= largest else None


@functools.lru_cache(maxsize=256)
def _id(text: str) -> int | None:
    return _number(text, 10, _ID_MAX)


def _device(text: str) -> int | None:
    return _number(text, 10, 2**32 - 1)


def _octal_mode(text: str) -> int | None:
    return _valid_mode(_number(text, 8, 0o177777))


@functools.lru_cache(maxsize=256)
def _shared_mode(text: str) -> int | None:
    """Read the `mode` that s3fs and GeeseFS write decimal, and rclone octal.

    A leading zero means octal. Otherwise decimal, if that has a file type which
    exists: s3fs always writes one, and rclone's `100644`, `120777` and `40755` are
    none of them when read as decimal.
    """
    if text.strip().startswith("0"):
        return _octal_mode(text)
    decimal = _valid_mode(_number(text, 10, 0o177777))
    return decimal if decimal is not None else _octal_mode(text)


def _valid_mode(mode: int | None) -> int | None:
    if mode is None or stat.S_IFMT(mode) not in _TYPES:
        return None
    return mode


def _link_target(user: Mapping[str, str]) -> str | None:
    for name, read in _TARGETS:
        text = user.get(name)
        if text and is_target(target := read(text)):
            return target
    return None


def is_target(target: str) -> bool:
    """Tell whether a text can be the target of a link."""
    try:
        size = len(target.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False
    return 0 < size <= TARGET_SIZE_MAX and "\0" not in target


def _verbatim(text: str) -> str:
    return text


def _percent_decoded(text: str) -> str:
    raw = urllib.parse.unquote_to_bytes(text.encode("utf-8", "surrogatepass"))
    return raw.decode("utf-8", "surrogateescape")


def _from_the_root(text: str) -> str:
    # go-storage keeps the whole key without its slash, and shows it with one.
    return f"/{text}" if text else ""


_Reader = tuple[str, str, Callable[[str], int | None]]

# Name, attribute, parser; the first one that is understood wins.
_READERS: tuple[_Reader, ...] = (
    ("gcsfuse_mtime", "mtime_ns", parse_rfc3339),
    ("goog-reserved-file-mtime", "mtime_ns", parse_seconds),
    ("goog-reserved-file-atime", "atime_ns", parse_seconds),
    ("goog-reserved-posix-mode", "mode", _octal_mode),
    ("goog-reserved-posix-uid", "uid", _id),
    ("goog-reserved-posix-gid", "gid", _id),
    ("mode", "mode", _shared_mode),
    ("uid", "uid", _id),
    ("gid", "gid", _id),
    ("rdev", "rdev", _device),
    ("mtime", "mtime_ns", _time),
    ("atime", "atime_ns", _time),
    ("ctime", "ctime_ns", _time),
)

ATTRIBUTE_NAMES = frozenset(
    {
        XATTR_NAME,
        SIDECAR_NAME,
        GROUP_NAME,
        yas3fs.NAME,
        *(name for name, _, _ in _READERS),
    }
)
"""The names that are read as attributes, in every dialect."""

_TARGETS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (_GCSFUSE_TARGET, _verbatim),
    (_GEESEFS_TARGET, _percent_decoded),
    (_GO_STORAGE_TARGET, _from_the_root),
)
