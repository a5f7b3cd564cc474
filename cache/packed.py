"""Objects as small byte strings, for the many that are known and rarely looked at.

A million of them as `Object` take 400 MiB, mostly for what makes each part an object of
Python. Packed they take 64. The key is not in it: whoever keeps one knows the key.

What an S3 listing tells has a form of its own; everything else goes through `marshal`,
which is fast and keeps every string. Neither ever leaves this process.
"""

import dataclasses
import functools
import marshal
import re
import struct
from typing import Any

from mountfs.storage.types import (
    NO_METADATA,
    Attributes,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

_LISTED = struct.Struct("<BQI16sH")
_PLAIN, _DESCRIBED, _OTHER = range(3)
_TAG = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,3}))?")
"""A digest of the bytes; or one of digests, of so many parts."""
_UNPACKED_MAX = 1024
"""So many are kept unpacked: what is looked at once is looked at again just then."""
_SECOND_NS = 10**9
_TIME_MAX = 1 << 32
_ATTRIBUTES = tuple(field.name for field in dataclasses.fields(Attributes))
_XATTRS = _ATTRIBUTES.index("xattrs")
_KINDS = tuple(ObjectKind)
_KIND_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}


def pack(object: Object) -> bytes:
    """Return all that is known of an object but its key."""
    listed = _as_listed(object)
    return listed if listed is not None else _in_full(object)


def unpack(key: str, packed: bytes) -> Object:
    """Return the object that was packed."""
    form = packed[0]
    if form == _OTHER:
        return _from_full(key, packed)
    _, size, seconds, digest, parts = _LISTED.unpack(packed)
    tag = f"{digest.hex()}-{parts}" if parts else digest.hex()
    return Object(
        key=key,
        size=size,
        mtime_ns=seconds * _SECOND_NS,
        version=Version(tag, str(seconds)),
        metadata=NO_METADATA if form == _DESCRIBED else None,
    )


def group_in(packed: bytes) -> str | None:
    """Return the id of the hard links that a packed object belongs to."""
    if packed[0] != _OTHER:
        return None
    kept = unpack("", packed).attributes
    return kept.group if kept is not None else None


def _as_listed(object: Object) -> bytes | None:
    """Return the short form, if there is one: a file as S3 lists it, or as plain."""
    version, size, mtime_ns = object.version, object.size, object.mtime_ns
    if version is None or size is None or size >> 64 or mtime_ns is None:
        return None
    seconds, rest = divmod(mtime_ns, _SECOND_NS)
    if rest or not 0 <= seconds < _TIME_MAX or version.attributes != str(seconds):
        return None
    tag = _TAG.fullmatch(version.content)
    if object.kind is not ObjectKind.FILE or tag is None:
        return None
    if object.link_target is not None or object.has_foreign_name:
        return None
    form = _PLAIN
    if object.metadata is not None:
        if object.metadata is not NO_METADATA:
            return None
        form = _DESCRIBED
    digest, parts = tag.groups("0")
    return _LISTED.pack(form, size, seconds, bytes.fromhex(digest), int(parts))


def _in_full(object: Object) -> bytes:
    version, metadata = object.version, object.metadata
    fields: tuple[Any, ...] = (
        _KIND_NUMBERS[object.kind],
        object.size,
        object.mtime_ns,
        None if version is None else (version.content, version.attributes),
        None if metadata is None else _fields_of(metadata),
        object.link_target,
        object.has_foreign_name,
    )
    return bytes((_OTHER,)) + marshal.dumps(fields)


def _fields_of(metadata: Metadata) -> tuple[Any, ...]:
    kept = metadata.attributes
    attributes: list[Any] | None = None
    if kept is not None:
        attributes = [getattr(kept, name) for name in _ATTRIBUTES]
        if kept.xattrs is not None:
            attributes[_XATTRS] = dict(kept.xattrs)
    return (
        dict(metadata.user),
        dict(metadata.pairs),
        attributes,
        metadata.commit_id,
        dict(metadata.system),
        metadata.is_whole,
    )


@functools.lru_cache(maxsize=_UNPACKED_MAX)
def _from_full(key: str, packed: bytes) -> Object:
    # `pack` has made it, in this process.
    fields = marshal.loads(packed[1:])  # noqa: S302
    kind, size, mtime_ns, version, metadata, target, is_foreign = fields
    return Object(
        key=key,
        kind=_KINDS[kind],
        size=size,
        mtime_ns=mtime_ns,
        version=None if version is None else Version(*version),
        metadata=None if metadata is None else _metadata(metadata),
        link_target=target,
        has_foreign_name=is_foreign,
    )


def _metadata(fields: tuple[Any, ...]) -> Metadata:
    user, pairs, kept, commit_id, system, is_whole = fields
    attributes = None
    if kept is not None:
        attributes = Attributes(**dict(zip(_ATTRIBUTES, kept, strict=True)))
    return Metadata(
        user=user,
        pairs=pairs,
        attributes=attributes,
        commit_id=commit_id,
        system=system,
        is_whole=is_whole,
    )
