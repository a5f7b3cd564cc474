"""Where keys lie in an account, and what its answers say of them as objects.

Pure. The content version of a file is its rev; its attributes version is the time of
change with a digest of what our property group says, for a change of properties makes
no new rev. A folder has its id for the one and the digest for the other.
"""

import calendar
import dataclasses
import datetime
import math
import unicodedata
from typing import Any

from dropbox import files

from mountfs.backends import _checks
from mountfs.backends.dropbox_names import NAME_SIZE_MAX, component_of, name_of, path_of
from mountfs.backends.dropbox_properties import digest_of, metadata_of
from mountfs.storage.errors import (
    InvalidRequest,
    KeyTooLong,
    NameTaken,
    ServiceFailed,
)
from mountfs.storage.types import Capabilities, Metadata, Object, ObjectKind, Version
from mountfs.storage.vetted import SIZE_MAX, TIME_MAX_NS

KEY_SIZE_MAX = 8192
"""Dropbox states no limit of its own for paths, but one for names. A path of an upload
travels in a header, and this is more than one call of the kernel can name."""


class Keys:
    """The keys below one folder of an account."""

    def __init__(self, root: str) -> None:
        """`root` is "" or a key that ends in `/`."""
        self.root = root
        self._root_path = f"/{path_of(root)}" if root else ""

    def path(self, key: str) -> str:
        """Return the path of a key in the account; that of the root is ""."""
        return f"{self._root_path}/{path_of(key)}" if key else self._root_path

    def check(self, key: str, capabilities: Capabilities) -> None:
        """Raise `InvalidRequest` or `KeyTooLong` for what can be no path."""
        _checks.check_key(key, capabilities)
        check_components(key)


def check_components(key: str) -> None:
    """Raise `InvalidRequest` or `KeyTooLong` for names that no path can have."""
    names = key.removesuffix("/").split("/")
    if any(name in {"", ".", ".."} or "\0" in name for name in names):
        raise InvalidRequest("a path has an empty name, '.' or '..' in it", key=key)
    if any(len(name_of(name)) > NAME_SIZE_MAX for name in names):
        raise KeyTooLong(f"a name is longer than {NAME_SIZE_MAX}", key=key)


def last_name(key: str) -> str:
    """Return the Dropbox name of the last component of a key."""
    return name_of(key.rstrip("/").rpartition("/")[2])


def is_named(key: str, known: Any) -> bool:
    """Tell whether an answer has just this name, in this case of its letters."""
    return bool(known.name == last_name(key))


def check_named(key: str, known: Any) -> None:
    """Raise `NameTaken` if a path has something of another case of its letters."""
    if not is_named(key, known):
        raise NameTaken(
            f"Dropbox has {component_of(known.name) or known.name!r} there, and takes"
            " names that differ only in case for one",
            key=key,
        )


def names_below(path: str, known: Any) -> tuple[str, ...] | None:
    """Return the names that lead from a folder to an entry, lowered as Dropbox does.

    None for an entry of elsewhere, or whose path is not that of its name.
    """
    names = str(known.path_lower or "").split("/")
    depth = path.count("/") + 1
    if len(names) < depth or not _is_alike(names[-1], known.name):
        return None
    above = "/".join(names[:depth])
    return tuple(names[depth:]) if _is_alike(above, path) else None


def _is_alike(lowered: str, path: str) -> bool:
    """Tell whether something can be what Dropbox makes of a path."""
    return lowered == path.lower() or _skeleton(lowered) == _skeleton(path)


def _skeleton(path: str) -> str:
    """Return what two spellings of a path have in common, however they are lowered."""
    plain = unicodedata.normalize("NFKD", path).casefold()
    plain = unicodedata.normalize("NFKD", plain)
    return "".join(char for char in plain if not unicodedata.combining(char))


def is_one_name(first: str, second: str) -> bool:
    """Tell whether Dropbox takes two paths for one."""
    return _folded(first) == _folded(second)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).lower()


def object_of(
    key: str,
    known: Any,
    template_id: str | None,
    *,
    metadata: Metadata | None = None,
) -> Object:
    """Return the object that an answer tells of.

    `metadata` are known from elsewhere where the answer cannot carry them.
    """
    content_hash = getattr(known, "content_hash", None) or ""
    if metadata is None:
        metadata = metadata_of(known.property_groups, template_id, content_hash)
    if isinstance(known, files.FolderMetadata):
        return Object(
            key=key if not key or key.endswith("/") else f"{key}/",
            kind=ObjectKind.DIRECTORY,
            version=Version(str(known.id), digest_of(metadata)),
            metadata=metadata,
        )
    if known.size > SIZE_MAX:
        raise ServiceFailed(f"no file has a size of {known.size}", key=key)
    changed_ns = _ns(known.server_modified)
    # Any client may say so, and of a time that no kernel takes.
    mtime_ns = _ns(known.client_modified)
    found = Object(
        key=key,
        size=int(known.size),
        mtime_ns=mtime_ns if abs(mtime_ns) <= TIME_MAX_NS else changed_ns,
        version=Version(str(known.rev), f"{changed_ns}-{digest_of(metadata)}"),
        metadata=metadata,
    )
    link = getattr(known, "symlink_info", None)
    if link is None or not link.target:
        return found
    # What a desktop client found as a link: nobody makes one by the API.
    target = str(link.target)
    size = len(target.encode("utf-8", "surrogatepass"))
    return dataclasses.replace(
        found, kind=ObjectKind.LINK, size=size, link_target=target
    )


def client_modified(metadata: Metadata) -> datetime.datetime | None:
    """Return the time of change that other clients of Dropbox are to show."""
    try:
        seconds = math.floor(float(metadata.user.get("mtime", "")))
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=None)


def _ns(moment: datetime.datetime) -> int:
    return calendar.timegm(moment.timetuple()) * 10**9
