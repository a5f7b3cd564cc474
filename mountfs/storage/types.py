"""The values that pass between the store and everything above it.

All are frozen: an `Object` is what a store said at one moment, and no attribute of it
hides a request. What the store did not say is None, never a guess.

Keys are `str`. A byte that is not UTF-8 is carried as a lone surrogate
(`os.fsdecode`, PEP 383), so that stores which take bytes get back exactly what a
program wrote. A key is relative to the root of its store and has no leading slash of
ours; the key of a directory ends in `/`.
"""

import dataclasses
import enum
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

SPECIAL_TYPES = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})
"""The file types of a mode that make an object special."""

NO_PAIRS: Mapping[str, str] = MappingProxyType({})


class ObjectKind(enum.Enum):
    """What an object is to a program."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    SPECIAL = "special"
    """A named pipe, a socket or a device node; its `mode` says which, `rdev` whose."""


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of an object is meant; opaque, comparable for equality only.

    `content` changes with every change of the bytes (ETag, generation, rev).
    `attributes` changes with every change of the metadata as well (LastModified,
    metageneration, server_modified); None if the answer did not tell, as an S3 PUT.
    Cached bytes follow `content` alone.
    """

    content: str
    attributes: str | None = None


class Absent(enum.Enum):
    """The condition, or the knowledge, that no object has a key."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT

Condition = Version | Absent | None
"""What must hold for a write: this content version, absence, or anything (None)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """POSIX attributes as they are kept with an object; None is "not kept".

    `mode` holds the permission bits and, where an object carries them, the file type
    bits (stat(2)). Times are nanoseconds since 1970. `xattrs` are all extended
    attributes (xattr(7)) by full name; empty is "none", None is "not kept". `group` is
    the id of the group of hard links that the object is a name of.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    rdev: int | None = None
    xattrs: Mapping[bytes, bytes] | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What travels with the bytes of an object.

    `user` are the free pairs (S3 user metadata); names are lower case. `pairs` are
    the standard ones under their HTTP names in lower case (`content-type`,
    `content-encoding`, `content-language`, `content-disposition`, `cache-control`,
    `expires`, `content-md5`) and `storage-class`. `attributes` and `link_target` are
    understood by `VirtualStorager`, or by stores that keep them natively.
    `commit_id` marks one commit of ours, so that a lost reply can be resolved.

    Unless `is_whole`, somebody other than the store told `attributes`, and everything
    else is unknown: ask the store before writing metadata in the place of these.
    """

    user: Mapping[str, str] = field(default_factory=lambda: NO_PAIRS)
    pairs: Mapping[str, str] = field(default_factory=lambda: NO_PAIRS)
    attributes: Attributes | None = None
    commit_id: str | None = None
    system: Mapping[str, str] = field(default_factory=lambda: NO_PAIRS, compare=False)
    """What the store said besides (encryption, holds, number of tags), in its own
    words. Nobody but the backend reads it; give it back as it came, or leave it out."""
    is_whole: bool = True

    def with_attributes(self, attributes: Attributes | None) -> "Metadata":
        """Return the same metadata with other attributes."""
        return dataclasses.replace(self, attributes=attributes)


NO_METADATA = Metadata()


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """What a store said about one key.

    `size` (bytes) and `mtime_ns` (the store's own time of change) are None where the
    answer did not carry them, as for a common prefix. `metadata` is None if the
    answer carried none (an S3 listing): unknown, not empty. `link_target` is the
    text of a symbolic link, verbatim, or None if unknown or no link. `has_foreign_name`
    says that a foreign tool keeps something of another name under this key
    (`mountfs.storage.foreign_names`).
    """

    key: str
    kind: ObjectKind = ObjectKind.FILE
    size: int | None = None
    mtime_ns: int | None = None
    version: Version | None = None
    metadata: Metadata | None = None
    link_target: str | None = None
    has_foreign_name: bool = False

    @property
    def attributes(self) -> Attributes | None:
        """The POSIX attributes, if the answer carried any."""
        return self.metadata.attributes if self.metadata is not None else None

    @property
    def is_described(self) -> bool:
        """Whether all metadata are known, as a HEAD tells them."""
        return self.metadata is not None and self.metadata.is_whole


# S3 answers a PUT without the LastModified that a listing will show; the Date of the
# answer is at most this much earlier, because both are cut to seconds.
PUT_TIME_SLACK_NS = 1_000_000_000


def is_same_state(known: Object, listed: Object) -> bool:
    """Tell whether what is known of an object still holds for a newer answer.

    Both parts of the version and the size must agree. A version without attributes
    part comes from a write of ours; it agrees with an object that did not change
    later than that write was answered.
    """
    if known.version is None or listed.version is None:
        return False
    if known.version.content != listed.version.content or known.size != listed.size:
        return False
    if known.version.attributes is None or listed.version.attributes is None:
        if known.mtime_ns is None or listed.mtime_ns is None:
            return False
        return listed.mtime_ns <= known.mtime_ns + PUT_TIME_SLACK_NS
    return known.version.attributes == listed.version.attributes


@dataclass(frozen=True, slots=True)
class Content:
    """A range of bytes and the object, of exactly the version they belong to.

    `object.size` is the size of the whole object.
    """

    object: Object
    data: bytes


class ListMode(enum.Enum):
    """How deep a listing goes."""

    DIRECTORY = "directory"
    """One level: children of a directory; deeper keys appear as directories."""
    PREFIX = "prefix"
    """Every key that starts with the prefix, flat, markers included."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. It may be empty although `token` says that more come."""

    objects: tuple[Object, ...]
    token: str | None
    """Opaque; resumes after this page, also from another process. None at the end."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An open multipart upload; all that is needed to go on with it later."""

    key: str
    id: str
    commit_id: str | None = None
    """The commit id that its object will carry, if one was given."""
    begun_ns: int | None = field(default=None, compare=False)
    """When it was opened, by the clock of the store, if a listing tells."""


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part. `index` counts from zero."""

    index: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Append:
    """An append under way: where the next byte goes."""

    key: str
    offset: int
    id: str = ""
    base: Object | None = None


class Call(enum.Enum):
    """A request that may carry a condition."""

    WRITE = "write"
    COPY = "copy"
    COMPLETE = "complete"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipartLimits:
    """Limits of multipart uploads, in bytes. The last part may be smaller than the
    minimum; `equal_parts` demands that all others have one size.
    """

    part_size_min: int
    part_size_max: int
    parts_max: int
    equal_parts: bool = False
    in_place: bool = False
    """A part lies at its index times the one size, so that none is left out, and one of
    that size is never replaced by other bytes."""
    lists: bool = True
    """The store tells which uploads are open, and which parts of them have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a service can do by itself. Facts, not choices; fixed while it is open.

    Sizes are bytes; None is "no limit known".
    """

    service: str
    """For people and logs only; nobody decides by it."""
    native_dirs: bool = False
    native_links: bool = False
    copy: bool = False
    move: bool = False
    move_is_copy: bool = False
    """Whether a move is emulated, by a copy and a removal."""
    move_clears: bool = False
    """Whether a move removes what is at the target first, so that neither of the two is
    there for a moment."""
    move_dir: bool = False
    move_dir_keeps_versions: bool = True
    """Whether what is below a directory has its versions still when that has moved."""
    append: bool = False
    append_size_min: int = 0
    """To append to a smaller object takes more than to write it anew."""
    multipart: MultipartLimits | None = None
    multipart_copy: bool = False
    metadata: bool = False
    """User metadata are kept."""
    metadata_size_max: int | None = None
    pairs: frozenset[str] = frozenset()
    """The names in `Metadata.pairs` that are kept."""
    attributes: bool = False
    """The mode, owner, times and device number of `Metadata.attributes` are kept."""
    xattrs: bool = False
    """`Attributes.xattrs` are kept."""
    groups: bool = False
    """`Attributes.group` is kept."""
    specials: bool = False
    """Named pipes, sockets and device nodes are kept: a write of no bytes whose mode
    says so makes one."""
    dir_metadata: bool = False
    """Directories, or the markers that stand for them, keep metadata."""
    link_metadata: bool = True
    """Links keep metadata; where they do not, a link is made without them."""
    root_metadata: bool = False
    """The root keeps attributes."""
    indexed: frozenset[ObjectKind] = frozenset()
    """The kinds whose attributes are kept beside them: changing those of a directory
    needs no marker."""
    list_metadata: bool = False
    """Listings carry metadata."""
    conditions: frozenset[Call] = frozenset()
    """The calls that honour a condition."""
    set_metadata: bool = False
    """Metadata can be changed without sending the bytes again."""
    signed_urls: bool = False
    utf8_keys: bool = True
    """Keys must be valid UTF-8."""
    key_size_max: int | None = None
    key_check: Callable[[str], object] | None = field(default=None, compare=False)
    """Raises what every request for a key would that the store can never hold:
    `InvalidRequest`, `KeyTooLong`. None: there are no such keys but for their size."""
    object_size_max: int | None = None
    write_size_max: int | None = None
    """The largest body of one write."""
    copy_size_max: int | None = None
    """The largest object of one copy request."""
    list_page_max: int = 1000
    ordered_pages: bool = True
    """The keys of each page of a listing come behind all those of the page before."""
    delete_many_max: int = 1000

    def kept(self, attributes: Attributes) -> Attributes | None:
        """Return the attributes without what is not kept; None if that is all."""
        if self.attributes and self.xattrs and self.groups and attributes.mode:
            return attributes
        kept = attributes if self.attributes else Attributes()
        if self.specials and stat.S_IFMT(attributes.mode or 0) in SPECIAL_TYPES:
            kept = dataclasses.replace(kept, mode=attributes.mode, rdev=attributes.rdev)
        kept = dataclasses.replace(
            kept,
            xattrs=attributes.xattrs if self.xattrs else None,
            group=attributes.group if self.groups else None,
        )
        return kept if kept != Attributes() else None


class OfflinePolicy(enum.Enum):
    """What becomes of a request while the store is OFFLINE."""

    WAIT = "wait"
    """It waits for the store, to its deadline."""
    EIO = "eio"
    """It fails at once."""
    CACHED = "cached"
    """It fails at once; what is known here is believed, whatever its age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The gates: what the user switched on (see docs/reference/features.md)."""

    virtual_dir: bool = False
    virtual_link: bool = False
    virtual_move: bool = False
    virtual_append: bool = False
    virtual_object_metadata: bool = False
    virtual_index: bool = False
    virtual_xattr: bool = False
    virtual_hard_link: bool = False
    virtual_special: bool = False
    virtual_pair: bool = False
    loose_operation: bool = False

    @classmethod
    def all(cls) -> "Features":
        """Return every gate switched on."""
        return cls(**{gate.name: True for gate in dataclasses.fields(cls)})

    @classmethod
    def for_mounts(cls) -> "Features":
        """Return the gates that a mount has on by default."""
        return cls(
            virtual_dir=True,
            virtual_link=True,
            virtual_move=True,
            virtual_append=True,
            virtual_object_metadata=True,
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of the gates that are on."""
        gates = (gate.name for gate in dataclasses.fields(self))
        return tuple(name for name in gates if getattr(self, name))
