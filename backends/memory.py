"""A store in memory: a flat space of keys, as the key stores have, and exact.

It keeps every promise of the contract that a key store can keep, which makes it the
reference for the others and the ground of most tests. Directories and links are not
its own: markers are plain keys. What it can do may be narrowed by giving other
`capabilities`; whatever they deny raises `Unsupported`.

Nothing here waits except for bodies on disk, so each operation is atomic: the checks
and the effect are one step between two checkpoints.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence

import trio

from mountfs.backends import _checks
from mountfs.backends._threads import Threads
from mountfs.backends._tokens import first_after, key_text, token_after
from mountfs.backends.memory_bucket import Bucket, Entry, OpenAppend, OpenUpload
from mountfs.storage.body import Body, BytesBody, read_exactly, stated_size
from mountfs.storage.errors import (
    BucketNotFound,
    DirectoryNotEmpty,
    InvalidRequest,
    NotFound,
    StoreError,
    Unsupported,
)
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

KEY_SIZE_MAX = 1 << 14
"""Four times the longest path that one call can name, as for `file://`. Bytes."""

MEMORY_CAPABILITIES = Capabilities(
    service="memory",
    copy=True,
    move=True,
    append=True,
    multipart=MultipartLimits(part_size_min=1, part_size_max=5 << 30, parts_max=10_000),
    multipart_copy=True,
    metadata=True,
    metadata_size_max=2048,
    pairs=frozenset(
        {
            "content-type",
            "content-encoding",
            "content-language",
            "content-disposition",
            "cache-control",
            "expires",
            "storage-class",
        }
    ),
    dir_metadata=True,
    list_metadata=True,
    conditions=frozenset(Call),
    set_metadata=True,
    utf8_keys=False,
    key_size_max=KEY_SIZE_MAX,
)

_buckets: dict[str, Bucket] = {}


def open_memory(url: str, options: Mapping[str, object]) -> "MemoryStore":
    """Open `memory://name`; the same name is the same store in the whole process."""
    _checks.check_options(options, (), "memory")
    name = _bucket_name(url.removeprefix("memory://"))
    return MemoryStore(_buckets.setdefault(name, Bucket()))


def open_memory_service(url: str, options: Mapping[str, object]) -> "MemoryService":
    """Open `memory://`: all named stores of the process."""
    _checks.check_options(options, (), "memory")
    if url != "memory://":
        raise InvalidRequest(f"{url!r} is no service; write memory://")
    return MemoryService()


def forget_store(name: str) -> None:
    """Drop a named store and all that is in it."""
    _buckets.pop(name, None)


def _bucket_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]*", name) is None:
        raise InvalidRequest(
            f"{name!r} is no name of a memory store: letters, digits, '.', '_' and "
            "'-' are"
        )
    return name


class MemoryStore:
    """One in-memory store, or one more view of it (`bucket`)."""

    def __init__(
        self,
        bucket: Bucket | None = None,
        *,
        capabilities: Capabilities = MEMORY_CAPABILITIES,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.bucket = bucket if bucket is not None else Bucket()
        self._capabilities = capabilities
        self._now_ns = now_ns
        self._threads = Threads(4)

    @property
    def capabilities(self) -> Capabilities:
        """What was given when it was made."""
        return self._capabilities

    @property
    def features(self) -> Features:
        """No gate is on: nothing is emulated here."""
        return Features()

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Return what is known of one key; a directory is a marker or a prefix."""
        await trio.lowlevel.checkpoint()
        if kind is ObjectKind.DIRECTORY:
            return self._stat_directory(key)
        _checks.check_key(key, self._capabilities)
        if kind is ObjectKind.LINK:
            raise NotFound("no link is here", key=key)
        return _object(key, self._entry(key))

    def _stat_directory(self, key: str) -> Object:
        if key and not key.endswith("/"):
            raise InvalidRequest("the key of a directory ends in '/'", key=key)
        entry = self.bucket.entries.get(key)
        if entry is not None:
            return _object(key, entry)
        if key and not self.bucket.has_below(key):
            raise NotFound(key=key)
        return Object(key=key, kind=ObjectKind.DIRECTORY)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Return one page of the listing."""
        await trio.lowlevel.checkpoint()
        _checks.check_listing(prefix, mode, limit)
        size = min(limit or (1 << 30), self._capabilities.list_page_max)
        start = first_after(token, mode) if token is not None else b""
        keys = (
            self.bucket.children_from(start, prefix)
            if mode is ListMode.DIRECTORY
            else self.bucket.keys_from(start, prefix)
        )
        found: list[bytes] = []
        for key in keys:
            if len(found) == size:
                return Page(self._listed(found, mode), token_after(found[-1]))
            found.append(key)
        return Page(self._listed(found, mode), None)

    def _listed(self, keys: Sequence[bytes], mode: ListMode) -> tuple[Object, ...]:
        return tuple(self._listed_object(key_text(key), mode) for key in keys)

    def _listed_object(self, key: str, mode: ListMode) -> Object:
        if mode is ListMode.DIRECTORY and key.endswith("/"):
            return Object(key=key, kind=ObjectKind.DIRECTORY)
        found = _object(key, self.bucket.entries[key])
        if self._capabilities.list_metadata:
            return found
        return dataclasses.replace(found, metadata=None)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Return a range of bytes."""
        await trio.lowlevel.checkpoint()
        _checks.check_key(key, self._capabilities)
        _checks.check_range(offset, size)
        entry = self._entry(key)
        _checks.check_holds(key, version, entry.version)
        start, count = _checks.cut_range(offset, size, len(entry.data))
        return Content(_object(key, entry), entry.data[start : start + count])

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
        """Create or replace an object."""
        _checks.check_key(key, self._capabilities)
        _checks.check_metadata(metadata, self._capabilities)
        _checks.check_condition(Call.WRITE, condition, self._capabilities)
        _checks.check_write_size(key, stated_size(body, size), self._capabilities)
        data = await self._bytes_of(body, size)
        return self._put(key, data, self._inherited(metadata, inherit), condition)

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Delete one object; absence is success whatever the condition."""
        await trio.lowlevel.checkpoint()
        _checks.check_key(key, self._capabilities)
        _checks.check_condition(Call.DELETE, condition, self._capabilities)
        if key in self.bucket.entries:
            self._check_target(key, condition)
            self.bucket.remove(key)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Delete objects one by one; return the errors."""
        errors: dict[str, Exception] = {}
        for key in keys:
            try:
                await self.delete(key)
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
        """Copy one object; the copy has the content version of its source."""
        await trio.lowlevel.checkpoint()
        self._need(self._capabilities.copy, "copy")
        _checks.check_key(source, self._capabilities)
        _checks.check_key(target, self._capabilities)
        _checks.check_condition(Call.COPY, condition, self._capabilities)
        if metadata is not None:
            _checks.check_metadata(metadata, self._capabilities)
        entry = self._entry(source)
        _checks.check_holds(source, source_version, entry.version)
        self._check_target(target, condition)
        return self._place(target, entry, metadata)

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Move one object; both ends change in one step."""
        await trio.lowlevel.checkpoint()
        self._need(self._capabilities.move, "move")
        for key in (source, target):
            _checks.check_key(key, self._capabilities)
            if key.endswith("/"):
                raise Unsupported("memory moves no directories", key=key)
        entry = self._entry(source)
        _checks.check_holds(source, source_version, entry.version)
        moved = self._place(target, entry, None)
        if source != target:
            self.bucket.remove(source)
        return moved

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Raise `Unsupported`: a flat space of keys has no directories."""
        await trio.lowlevel.checkpoint()
        raise Unsupported("memory has no directories of its own", key=key)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Raise `Unsupported`: a flat space of keys has no links."""
        await trio.lowlevel.checkpoint()
        raise Unsupported("memory has no links of its own", key=key)

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Change the metadata; the content version stays."""
        await trio.lowlevel.checkpoint()
        self._need(self._capabilities.set_metadata, "change of metadata")
        _checks.check_metadata(metadata, self._capabilities)
        _checks.check_condition(Call.COPY, condition, self._capabilities)
        entry = self._entry(object.key)
        self._check_target(object.key, condition)
        return self._place(object.key, entry, metadata)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Begin a multipart upload."""
        await trio.lowlevel.checkpoint()
        self._need(self._capabilities.multipart is not None, "multipart upload")
        _checks.check_key(key, self._capabilities)
        _checks.check_metadata(metadata, self._capabilities)
        upload = OpenUpload(key, self._inherited(metadata, inherit))
        return Upload(key, self.bucket.add_upload(upload), metadata.commit_id)

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Keep one part."""
        _checks.check_part(index, stated_size(body, size), self._capabilities)
        self.bucket.upload(upload.id, upload.key)
        data = await self._bytes_of(body, size)
        return self._put_part(upload, index, data)

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Make a part of a range of an object."""
        await trio.lowlevel.checkpoint()
        self._need(self._capabilities.multipart_copy, "copying into parts")
        _checks.check_range(offset, size)
        _checks.check_part(index, size, self._capabilities)
        self.bucket.upload(upload.id, upload.key)
        entry = self._entry(source.key)
        _checks.check_holds(source.key, source.version, entry.version)
        if offset + size > len(entry.data):
            raise InvalidRequest("the range is not in the source", key=source.key)
        return self._put_part(upload, index, entry.data[offset : offset + size])

    def _put_part(self, upload: Upload, index: int, data: bytes) -> Part:
        part = Part(index, len(data), f"part-{self.bucket.next_number()}")
        self.bucket.upload(upload.id, upload.key).parts[index] = (part, data)
        return part

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return the parts that have arrived, by index."""
        await trio.lowlevel.checkpoint()
        parts = self.bucket.upload(upload.id, upload.key).parts
        return tuple(parts[index][0] for index in sorted(parts))

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return the open uploads."""
        await trio.lowlevel.checkpoint()
        return tuple(
            Upload(upload.key, number, upload.metadata.commit_id)
            for number, upload in self.bucket.uploads(prefix)
        )

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Make the parts the object."""
        await trio.lowlevel.checkpoint()
        _checks.check_condition(Call.COMPLETE, condition, self._capabilities)
        found = self.bucket.upload(upload.id, upload.key)
        _checks.check_parts(
            [part.index for part in parts],
            [part.size for part in parts],
            self._capabilities,
        )
        pieces = []
        for part in parts:
            kept = found.parts.get(part.index)
            if kept is None or kept[0] != part:
                raise InvalidRequest(f"part {part.index} is not known", key=upload.key)
            pieces.append(kept[1])
        done = self._put(upload.key, b"".join(pieces), found.metadata, condition)
        self.bucket.drop_upload(upload.id)
        return done

    async def abort_multipart(self, upload: Upload) -> None:
        """Drop an upload and its parts."""
        await trio.lowlevel.checkpoint()
        self.bucket.drop_upload(upload.id)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin an append; nothing of it is visible before the commit."""
        await trio.lowlevel.checkpoint()
        self._need(self._capabilities.append, "append")
        _checks.check_key(key, self._capabilities)
        _checks.check_metadata(metadata, self._capabilities)
        data = b""
        if base is not None:
            entry = self._entry(key)
            _checks.check_holds(key, base.version, entry.version)
            data = entry.data
            metadata = _checks.inherited(metadata, base.metadata or entry.metadata)
        append = OpenAppend(key, base, metadata, bytearray(data))
        return Append(key, len(data), self.bucket.add_append(append), base)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Add a body at the offset; the same offset again replaces what followed."""
        data = await self._bytes_of(body, None)
        pending = self.bucket.append(append.id, append.key)
        if append.offset > len(pending.data):
            raise InvalidRequest("bytes are missing before the offset", key=append.key)
        del pending.data[append.offset :]
        pending.data += data
        return dataclasses.replace(append, offset=len(pending.data))

    async def commit_append(self, append: Append) -> Object:
        """Make everything visible, if the base is still what it was."""
        await trio.lowlevel.checkpoint()
        pending = self.bucket.append(append.id, append.key)
        condition = pending.base.version if pending.base is not None else None
        data = bytes(pending.data[: append.offset])
        done = self._put(append.key, data, pending.metadata, condition)
        self.bucket.drop_append(append.id)
        return done

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        """Raise `Unsupported`: no URL leads into memory."""
        await trio.lowlevel.checkpoint()
        raise Unsupported("memory has no signed URLs", key=key)

    async def close(self) -> None:
        """Leave everything as it is; other views of the store go on."""
        await trio.lowlevel.checkpoint()

    def _entry(self, key: str) -> Entry:
        entry = self.bucket.entries.get(key)
        if entry is None:
            raise NotFound(key=key)
        return entry

    def _check_target(self, key: str, condition: Condition) -> None:
        entry = self.bucket.entries.get(key)
        _checks.check_holds(key, condition, entry.version if entry else None)

    def _put(
        self, key: str, data: bytes, metadata: Metadata, condition: Condition
    ) -> Object:
        self._check_target(key, condition)
        entry = Entry(
            data=data,
            metadata=metadata,
            content=self.bucket.next_number(),
            attributes=self.bucket.next_number(),
            mtime_ns=self._now_ns(),
        )
        self.bucket.put(key, entry)
        return _object(key, entry)

    def _place(self, key: str, source: Entry, metadata: Metadata | None) -> Object:
        """Put the bytes of an entry under a key, with changed metadata or the same."""
        if metadata is None:
            kept = source.metadata
        else:
            kept = _checks.changed(metadata, source.metadata)
        entry = dataclasses.replace(
            source,
            metadata=kept,
            attributes=self.bucket.next_number(),
            mtime_ns=self._now_ns(),
        )
        self.bucket.put(key, entry)
        return _object(key, entry)

    def _inherited(self, metadata: Metadata, inherit: Object | None) -> Metadata:
        if inherit is None:
            return metadata
        # What the caller knows says what is to be carried over: an emulation above has
        # left out what described the old bytes.
        entry = self.bucket.entries.get(inherit.key)
        found = entry.metadata if entry is not None else None
        return _checks.inherited(metadata, inherit.metadata or found)

    async def _bytes_of(self, body: Body | None, size: int | None) -> bytes:
        if body is None or isinstance(body, BytesBody):
            await trio.lowlevel.checkpoint()
            return read_exactly(body, size)
        return await self._threads.run(read_exactly, body, size)

    def _need(self, can_do: bool, what: str) -> None:
        if not can_do:
            raise Unsupported(f"{self._capabilities.service} has no {what}")


def _object(key: str, entry: Entry) -> Object:
    kind = ObjectKind.DIRECTORY if key.endswith("/") else ObjectKind.FILE
    return Object(
        key=key,
        kind=kind,
        size=len(entry.data),
        mtime_ns=entry.mtime_ns,
        version=entry.version,
        metadata=entry.metadata,
    )


class MemoryService:
    """All named stores of the process."""

    async def list_buckets(self) -> tuple[str, ...]:
        """Return the names of the stores."""
        await trio.lowlevel.checkpoint()
        return tuple(sorted(_buckets))

    async def create_bucket(self, name: str) -> None:
        """Make an empty store unless there is one of that name."""
        await trio.lowlevel.checkpoint()
        _buckets.setdefault(_bucket_name(name), Bucket())

    async def delete_bucket(self, name: str) -> None:
        """Drop an empty store."""
        await trio.lowlevel.checkpoint()
        bucket = _buckets.get(name)
        if bucket is None:
            raise BucketNotFound(f"no store is called {name!r}")
        if bucket.entries:
            raise DirectoryNotEmpty(f"the store {name!r} has objects in it")
        del _buckets[name]

    async def close(self) -> None:
        """Do nothing; the stores stay."""
        await trio.lowlevel.checkpoint()
