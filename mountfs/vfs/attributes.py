"""Attributes: what programs see, made of what is kept with an object and of defaults.

Pure: no I/O, no clock.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from mountfs.storage.types import Attributes, Object, ObjectKind
from mountfs.vfs.inodes import Inode, Node

PERMISSION_BITS = 0o7777
BLOCK_SIZE = 512
LINK_MODE = 0o777
_DAY_NS = 24 * 3600 * 10**9
_NOTHING_KEPT = Attributes()
DEVICE_TYPES = frozenset({stat.S_IFCHR, stat.S_IFBLK})

_TYPE_BITS = {
    ObjectKind.FILE: stat.S_IFREG,
    ObjectKind.DIRECTORY: stat.S_IFDIR,
    ObjectKind.LINK: stat.S_IFLNK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The attributes of objects that carry none. Modes are permission bits only;
    `time_ns` stands in for directories, which have no time on key stores.
    """

    uid: int
    gid: int
    file_mode: int = 0o644
    directory_mode: int = 0o755
    time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a program wants changed; None leaves a field alone. Size in bytes."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    xattrs: Mapping[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The answer to stat(2) for one inode. Size in bytes, times in nanoseconds."""

    inode: Inode
    generation: int
    mode: int
    links: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    rdev: int = 0


def effective(object: Object, defaults: Defaults) -> Attributes:
    """Return the attributes that programs see, every field set.

    What the object does not carry is the mount's default; a time that it does not
    carry is the store's own time of change.
    """
    kept = object.attributes or _NOTHING_KEPT
    time_ns = object.mtime_ns if object.mtime_ns is not None else defaults.time_ns
    mtime_ns = kept.mtime_ns if kept.mtime_ns is not None else time_ns
    return Attributes(
        mode=_mode(object.kind, kept.mode, defaults),
        uid=kept.uid if kept.uid is not None else defaults.uid,
        gid=kept.gid if kept.gid is not None else defaults.gid,
        atime_ns=kept.atime_ns if kept.atime_ns is not None else mtime_ns,
        mtime_ns=mtime_ns,
        ctime_ns=kept.ctime_ns if kept.ctime_ns is not None else mtime_ns,
        rdev=kept.rdev,
        xattrs=kept.xattrs,
        group=kept.group,
    )


def fresh(kind: ObjectKind, mode: int, uid: int, gid: int, now_ns: int) -> Attributes:
    """Return the attributes of something that is made now."""
    return Attributes(
        mode=_type_bits(kind, mode) | (mode & PERMISSION_BITS),
        uid=uid,
        gid=gid,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
    )


def changed(
    attributes: Attributes, change: Change, *, ctime_ns: int | None = None
) -> Attributes:
    """Return the attributes after a change, at another time if one is given."""
    mode = attributes.mode
    if change.mode is not None:
        assert mode is not None, "effective attributes have every field"
        mode = stat.S_IFMT(mode) | (change.mode & PERMISSION_BITS)
    # Not by `replace`, which takes twice as long: several of these come with each file.
    return Attributes(
        mode=mode,
        uid=_either(change.uid, attributes.uid),
        gid=_either(change.gid, attributes.gid),
        rdev=attributes.rdev,
        atime_ns=_either(change.atime_ns, attributes.atime_ns),
        mtime_ns=_either(change.mtime_ns, attributes.mtime_ns),
        ctime_ns=_either(_either(ctime_ns, change.ctime_ns), attributes.ctime_ns),
        xattrs=attributes.xattrs if change.xattrs is None else change.xattrs,
        group=attributes.group,
    )


def with_later_times(attributes: Attributes, other: Attributes) -> Attributes:
    """Return attributes with the later of two times of change."""
    return replace(
        attributes,
        mtime_ns=max(attributes.mtime_ns or 0, other.mtime_ns or 0),
        ctime_ns=max(attributes.ctime_ns or 0, other.ctime_ns or 0),
    )


def with_later_ctime(attributes: Attributes, other: Attributes) -> Attributes:
    """Return attributes whose inode did not change before the others' did.

    What changes nothing but the ctime is not stored at once, and must not be undone by
    what the store still has.
    """
    ctime_ns = max(attributes.ctime_ns or 0, other.ctime_ns or 0)
    return replace(attributes, ctime_ns=ctime_ns)


def after_read(attributes: Attributes, now_ns: int) -> Attributes:
    """Return the attributes of a file that somebody opens to read it.

    As Linux does it by default (relatime): an atime that is later than all changes
    stays for a day.
    """
    atime_ns = attributes.atime_ns or 0
    changed_ns = max(attributes.mtime_ns or 0, attributes.ctime_ns or 0)
    if changed_ns < atime_ns and now_ns - atime_ns < _DAY_NS:
        return attributes
    return replace(attributes, atime_ns=now_ns)


def is_only_ctime(before: Attributes, after: Attributes) -> bool:
    """Tell whether nothing but the time of the inode's change differs.

    The kernel reports such a time after each rename and unlink by itself; it is not
    worth a request and travels with the next commit.
    """
    return _but_ctime(before) == _but_ctime(after)


def is_same_special(one: Attributes, other: Attributes) -> bool:
    """Tell whether two special files are of the same type and device.

    The kernel never lets an inode become another type.
    """
    return (stat.S_IFMT(one.mode or 0), one.rdev or 0) == (
        stat.S_IFMT(other.mode or 0),
        other.rdev or 0,
    )


def stat_of(node: Node) -> Stat:
    """Return the answer to stat(2) for a node."""
    kept, size = node.seen()
    assert kept.mode is not None, "a node is given its attributes when it is made"
    return Stat(
        inode=node.inode,
        generation=node.generation,
        mode=kept.mode,
        links=_links(node),
        uid=kept.uid or 0,
        gid=kept.gid or 0,
        size=size,
        atime_ns=kept.atime_ns or 0,
        mtime_ns=kept.mtime_ns or 0,
        ctime_ns=kept.ctime_ns or 0,
        rdev=kept.rdev or 0,
    )


def _mode(kind: ObjectKind, kept: int | None, defaults: Defaults) -> int:
    if kind is ObjectKind.LINK:
        permissions = LINK_MODE
    elif kept is not None and _is_believed(kind, kept):
        permissions = kept & PERMISSION_BITS
    elif kind is ObjectKind.DIRECTORY:
        permissions = defaults.directory_mode
    else:
        permissions = defaults.file_mode
    return _type_bits(kind, kept) | permissions


def _is_believed(kind: ObjectKind, mode: int) -> bool:
    """Tell whether somebody meant the permissions of a mode that was kept.

    Of a mode that allows nothing only one is taken seriously that is a whole mode, and
    of such an object: chmod(2) wrote it. A zero is what programs write who know no
    modes, and would lock everybody out.
    """
    allows_something = bool(mode & 0o777)
    return allows_something or stat.S_IFMT(mode) == _type_bits(kind, mode) != 0


def _type_bits(kind: ObjectKind, mode: int | None) -> int:
    """Return the bits that stat(2) shows for a kind; a special file's mode has them."""
    if kind is ObjectKind.SPECIAL:
        return stat.S_IFMT(mode or 0)
    return _TYPE_BITS[kind]


def _links(node: Node) -> int:
    if node.is_nameless:
        return 0
    return node.links


_but_ctime = attrgetter(
    *(field.name for field in fields(Attributes) if field.name != "ctime_ns")
)


def _either(new: int | None, old: int | None) -> int | None:
    return new if new is not None else old
