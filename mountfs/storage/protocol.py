"""The storage contract: what every store, and every wrapper around one, can be asked.

A `Storager` is one bucket with a prefix, one directory, one account: everything below
it has a key. Wrappers (`virtual`, `retry`, `limit`) have the same shape, so the stack
is read from the inside out where it is built. What a store cannot do raises
`Unsupported`, and `capabilities` says so beforehand; nothing is found out by trying.

Rules that hold for every operation:

* All may raise any `StoreError`; foreign exceptions never leave a backend.
* A write replaces whole objects and never fails because one is there, unless
  `condition` says so. What is written is visible at once and in whole.
* A condition on a call that is not in `capabilities.conditions` raises `Unsupported`:
  it is never dropped silently.
* `inherit` names the object that a write takes the place of: whatever of it is not
  ours and is not in `metadata` (tags, ACL, storage class, retention, Content-*) is
  carried over as far as the credentials can read it. Where `inherit.metadata` are
  known they say what user metadata and pairs there are to carry over, not the store:
  an emulation leaves out what described the old bytes.
* Cancelling abandons the request; whether it was carried out is then unknown.
"""

from collections.abc import Sequence
from typing import Protocol

from mountfs.storage.body import Body
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Capabilities,
    Condition,
    Content,
    Features,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)


class Storager(Protocol):
    """One place that holds objects under keys."""

    @property
    def capabilities(self) -> Capabilities:
        """What the service can do; with a wrapper, what is emulated too."""
        ...

    @property
    def features(self) -> Features:
        """The gates that are on."""
        ...

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Return what the store knows of one object.

        Without `kind`, `key` is looked up as it stands: `a` is the object `a` and, on
        stores with native directories, also the directory (returned with the key
        `a/`). `kind=DIRECTORY` with `a/` asks for the directory: the marker, or any
        key below it. Raises `NotFound`.
        """
        ...

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Return one page of the objects below `prefix`, in byte order of the keys.

        In directory mode `prefix` is "" or ends in `/`; children that have children
        come back as directories (key with `/`), and the directory's own marker never
        as its child. In prefix mode everything whose key starts with `prefix` comes,
        markers included. `token` resumes after the page that it came with, in another
        process too. `limit` is the most objects wanted in the page; a page may be empty
        and have a token. Pages follow each other in byte order as well, where
        `capabilities.ordered_pages`. An absent directory raises `NotFound` on stores
        with native directories; else, and in prefix mode, it is an empty page.
        """
        ...

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Return a range of bytes, wholly in memory, with the object they belong to.

        `size` None reads to the end; a range past the end is cut, and empty at or
        behind it. `version` pins the content: raises `VersionChanged` if the object
        is another by now. Raises `NotFound`, `Archived`, `InvalidRequest` for a
        negative offset or size, `Corrupt` if fewer bytes or other ones came.
        """
        ...

    async def write(
        self,
        key: str,
        body: Body | None,
        *,
        size: int | None = None,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Create or replace an object with exactly `size` bytes of `body`.

        `size` defaults to the body's own. A longer body is cut; a shorter one raises
        `BodyTooShort` and nothing is stored; no body and no size is an empty object,
        which is a pipe, a socket or a device if the mode in its attributes says so and
        `capabilities.specials` are kept. Raises `ObjectTooLarge` over
        `capabilities.write_size_max`.
        """
        ...

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Delete exactly one object; absence is success.

        A key ending in `/` names the directory or its marker; on stores with native
        directories a non-empty one raises `DirectoryNotEmpty`.
        """
        ...

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Delete many objects; return the error of each key that is still there.

        Any number of keys may be given; they are sent in as few requests as the
        store allows.
        """
        ...

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy one object inside the store, metadata, tags and all.

        With `metadata` they take the place of the source's own; what is not in them
        (tags, ACL, storage class) is still carried over. `source_version` pins the
        source, `condition` is on the target. Sizes over
        `capabilities.copy_size_max` are copied in parts. Raises `NotFound`,
        `VersionChanged`.
        """
        ...

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Move one object, or a directory (keys ending in `/`) where `move_dir` is.

        Replaces a file at `target`. `source_version` pins the source: a newer object
        there is neither moved nor deleted. Not atomic where it is emulated: for a
        moment both keys exist, never neither. Raises `VersionChanged`, and `NotFound`
        if the source is gone.
        """
        ...

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Make a directory (key ending in `/`); one that is there is success."""
        ...

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make a symbolic link with `target` as its text, kept verbatim.

        The target is neither resolved nor need it exist; bytes that are not UTF-8 are
        lone surrogates, as in keys. An existing link is replaced; an existing native
        directory raises `WrongKind`.
        """
        ...

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Replace the metadata of an object and leave its bytes alone.

        `object` is the newest that is known of it: a store that must write all
        metadata at once needs it, and asks first if its metadata are unknown. What
        is not in `metadata` (tags, ACL, storage class, pairs not named) survives.
        Raises `Unsupported` without `capabilities.set_metadata`.
        """
        ...

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Begin a multipart upload. Nothing is visible before it is complete."""
        ...

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Send one part; the same index again replaces it. Raises `UploadNotFound`."""
        ...

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Make a part of a range of an existing object, without moving bytes here.

        `source.version` pins the content. Raises `VersionChanged`.
        """
        ...

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return the parts that have arrived, by index."""
        ...

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return the open uploads of keys that start with `prefix`."""
        ...

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Make the parts, in order of index, the object.

        `inherit` as given to `create_multipart`: carries over what can only be set
        on a finished object. Raises `UploadNotFound`, `InvalidRequest` for parts that
        the store does not know.
        """
        ...

    async def abort_multipart(self, upload: Upload) -> None:
        """Drop an upload and its parts; one that is gone already is success."""
        ...

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin an append: to an empty object, or to `base`, pinned by its version.

        Without `base` an existing object is replaced.
        """
        ...

    async def write_append(self, append: Append, body: Body) -> Append:
        """Add the whole body; return where the next one goes.

        Whether the bytes are visible before the commit is the store's affair.
        """
        ...

    async def commit_append(self, append: Append) -> Object:
        """Make everything that was appended visible."""
        ...

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        """Return a URL that reads the object without credentials until it expires."""
        ...

    async def close(self) -> None:
        """Give back connections and threads. No other call may follow."""
        ...


class Servicer(Protocol):
    """An account: the buckets it holds."""

    async def list_buckets(self) -> tuple[str, ...]:
        """Return the names of the buckets."""
        ...

    async def create_bucket(self, name: str) -> None:
        """Create a bucket; one that is ours already is success."""
        ...

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket. Raises `BucketNotFound`, `DirectoryNotEmpty`."""
        ...

    async def close(self) -> None:
        """Give back connections and threads."""
        ...
