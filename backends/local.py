"""A store in a directory of plain files, for tests, for NFS and for staging.

What every other program sees are ordinary files, directories and symbolic links under
their keys; what other programs do is seen at once, for nothing is cached. User
metadata lie in an extended attribute. The parts:

    local_paths     from a key to an open directory, and never out of the root
    local_objects   what a file is as an object; metadata in the extended attribute
    local_writes    reading, atomic replacement, conditions
    local_names     delete, move, directories, links, metadata
    local_listing   pages in byte order
    local_uploads   multipart uploads
    local_appends   appends

This module checks arguments and runs those in worker threads; they know no trio.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import trio

from mountfs.backends import _checks, local_appends, local_listing, local_names
from mountfs.backends import local_writes as writes
from mountfs.backends._threads import Threads
from mountfs.backends._tokens import key_text
from mountfs.backends.local_errors import translated
from mountfs.backends.local_objects import METADATA_SIZE_MAX, has_xattrs
from mountfs.backends.local_paths import Root, components
from mountfs.backends.local_uploads import Uploads
from mountfs.storage.body import Body, stated_size
from mountfs.storage.errors import InvalidRequest, StoreError, Unsupported
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Call,
    Capabilities,
    Condition,
    Content,
    Features,
    ListMode,
    Metadata,
    MultipartLimits,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 32
KEY_SIZE_MAX = 1 << 14
"""Each name is opened below the one before, so the system's own limit on one path does
not bind us: this is four times as much. Programs reach such files step by step, as they
do on any file system. Bytes."""


def open_local(url: str, options: Mapping[str, object]) -> "LocalStore":
    """Open `file:///directory`; the directory must be there."""
    _checks.check_options(options, (), "file")
    return LocalStore(path_of(url))


def path_of(url: str) -> Path:
    """Return the path that a file URL (RFC 8089) names."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidRequest(f"{url!r} is no URL") from error
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise InvalidRequest(f"{url!r} names no directory; write file:///directory")
    if parts.query or parts.fragment:
        raise InvalidRequest(f"in {url!r} write '?' as %3F and '#' as %23")
    path = key_text(unquote_to_bytes(parts.path.encode("utf-8", "surrogateescape")))
    if "\0" in path:
        raise InvalidRequest("no directory has a NUL byte in its name")
    return Path(path)


class LocalStore:
    """One directory as a store."""

    def __init__(self, path: Path) -> None:
        """Open the directory. Blocks; raises `BucketNotFound`, `PermissionDenied`."""
        with translated(None):
            self._root = Root(path)
            with self._root.directory("") as fd:
                has_metadata = has_xattrs(fd)
        self._capabilities = _capabilities(has_metadata=has_metadata)
        self._uploads = Uploads(self._root)
        self._threads = Threads(_THREADS)

    @property
    def capabilities(self) -> Capabilities:
        """What the file system can do, found out when the store was opened."""
        return self._capabilities

    @property
    def features(self) -> Features:
        """No gate is on: nothing is emulated here."""
        return Features()

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Return what the directory says of one key."""
        return await self._run(key, local_names.stat_object, self._root, key, kind)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Return one page of the listing; an absent directory is `NotFound`.

        In prefix mode an absent prefix is an empty page: it need not name a directory.
        """
        _checks.check_listing(prefix, mode, limit)
        size = min(limit or (1 << 30), self._capabilities.list_page_max)
        lister = (
            local_listing.list_directory
            if mode is ListMode.DIRECTORY
            else local_listing.list_prefix
        )
        return await self._run(prefix, lister, self._root, prefix, token, size)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Return a range of bytes."""
        _checks.check_key(key, self._capabilities)
        _checks.check_range(offset, size)
        return await self._run(
            key, writes.read_file, self._root, key, offset, size, version
        )

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
        """Create or replace a file, and the directories above it."""
        _checks.check_key(key, self._capabilities)
        return await self._run(
            key,
            writes.replace_file,
            self._root,
            key,
            writes.body_writer(body, size),
            self._kept(metadata),
            inherit=inherit,
            condition=condition,
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Delete a file, a link or an empty directory."""
        _checks.check_key(key, self._capabilities)
        _checks.check_condition(Call.DELETE, condition, self._capabilities)
        await self._run(key, local_names.delete_object, self._root, key, condition)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Delete one by one, what is in a directory before the directory."""
        return await self._threads.run(self._delete_each, keys)

    def _delete_each(self, keys: Sequence[str]) -> dict[str, Exception]:
        errors: dict[str, Exception] = {}
        for key in sorted(keys, reverse=True):
            try:
                _checks.check_key(key, self._capabilities)
                with translated(key):
                    local_names.delete_object(self._root, key, None)
            except StoreError as error:
                errors[key] = error
        return errors

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy a plain file."""
        _checks.check_key(source, self._capabilities)
        _checks.check_key(target, self._capabilities)
        return await self._run(
            source,
            writes.copy_file,
            self._root,
            source,
            target,
            source_version=source_version,
            metadata=None if metadata is None else self._kept(metadata),
            condition=condition,
        )

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Rename a file, a link or a directory."""
        _checks.check_key(source, self._capabilities)
        _checks.check_key(target, self._capabilities)
        return await self._run(
            source,
            local_names.move_object,
            self._root,
            source,
            target,
            source_version,
        )

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Make a directory."""
        _checks.check_key(key, self._capabilities)
        return await self._run(
            key, local_names.make_directory, self._root, key, self._kept(metadata)
        )

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make a symbolic link. Links keep no metadata (`link_metadata` is off)."""
        _checks.check_key(key, self._capabilities)
        return await self._run(
            key, local_names.make_symlink, self._root, key, target, condition
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Change the metadata in place; the content version stays."""
        if not self._capabilities.set_metadata:
            raise Unsupported("the file system keeps no metadata", key=object.key)
        return await self._run(
            object.key,
            local_names.change_metadata,
            self._root,
            object.key,
            self._kept(metadata),
            condition,
        )

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Begin a multipart upload."""
        _checks.check_key(key, self._capabilities)
        return await self._run(
            key, self._uploads.create, key, self._kept(metadata), inherit
        )

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Write one part."""
        _checks.check_part(index, stated_size(body, size), self._capabilities)
        fill = writes.body_writer(body, size)
        return await self._run(
            upload.key, self._uploads.write_part, upload, index, fill
        )

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Make a part of a range of a file."""
        _checks.check_range(offset, size)
        _checks.check_part(index, size, self._capabilities)
        return await self._run(
            source.key, self._uploads.copy_part, upload, index, source, offset, size
        )

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return the parts that have arrived, by index."""
        return await self._run(upload.key, self._uploads.parts, upload)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return the open uploads; open appends are among them."""
        return await self._run(prefix, self._uploads.all, prefix)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Make the parts the object."""
        return await self._run(
            upload.key,
            self._uploads.complete,
            upload,
            parts,
            self._capabilities,
            condition,
        )

    async def abort_multipart(self, upload: Upload) -> None:
        """Drop an upload and its parts."""
        await self._run(upload.key, self._uploads.abort, upload)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin an append."""
        _checks.check_key(key, self._capabilities)
        return await self._run(
            key,
            local_appends.create_append,
            self._root,
            self._uploads,
            key,
            base,
            self._kept(metadata),
        )

    async def write_append(self, append: Append, body: Body) -> Append:
        """Add a body; with a base it is visible at once."""
        return await self._run(
            append.key,
            local_appends.write_append,
            self._root,
            self._uploads,
            append,
            body,
        )

    async def commit_append(self, append: Append) -> Object:
        """Sync what was appended, and make a new object visible."""
        return await self._run(
            append.key,
            local_appends.commit_append,
            self._root,
            self._uploads,
            append,
            self._capabilities,
        )

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        """Raise `Unsupported`: a path is no URL for others."""
        await trio.lowlevel.checkpoint()
        raise Unsupported("a directory has no signed URLs", key=key)

    async def close(self) -> None:
        """Close the directory."""
        await trio.lowlevel.checkpoint()
        with contextlib.suppress(OSError):
            self._root.close()

    def _kept(self, metadata: Metadata) -> Metadata:
        """Return the metadata after a check that they can be kept."""
        _checks.check_metadata(metadata, self._capabilities)
        return metadata if self._capabilities.metadata else NO_METADATA

    async def _run(
        self, key: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that blocks in a thread; its errors come out as ours."""

        def call() -> T:
            with translated(key):
                return function(*args, **kwargs)

        return await self._threads.run(call)


def _capabilities(*, has_metadata: bool) -> Capabilities:
    return Capabilities(
        service="local",
        native_dirs=True,
        native_links=True,
        copy=True,
        move=True,
        move_dir=True,
        append=True,
        multipart=MultipartLimits(
            part_size_min=1, part_size_max=1 << 40, parts_max=10_000
        ),
        multipart_copy=True,
        metadata=has_metadata,
        metadata_size_max=METADATA_SIZE_MAX if has_metadata else 0,
        dir_metadata=has_metadata,
        link_metadata=False,
        list_metadata=has_metadata,
        conditions=frozenset(Call),
        set_metadata=has_metadata,
        utf8_keys=False,
        key_size_max=KEY_SIZE_MAX,
        key_check=components,
        list_page_max=10_000,
    )
