"""A flat key store in memory whose capabilities a test can choose.

Faithful to the contract where it matters: versions, conditions, pinned reads, paged
listings, multipart uploads. It answers from the trio thread and never waits long.
"""

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from mountfs.storage.body import Body, read_exactly
from mountfs.storage.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    Unsupported,
    UploadNotFound,
    VersionChanged,
)
from mountfs.storage.types import (
    ABSENT,
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

KEY_STORE = Capabilities(
    service="flat",
    copy=True,
    multipart=MultipartLimits(part_size_min=10, part_size_max=40, parts_max=100),
    multipart_copy=True,
    metadata=True,
    pairs=frozenset({"content-type", "cache-control", "content-encoding"}),
    dir_metadata=True,
    conditions=frozenset(Call),
    set_metadata=True,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as it lies in the store."""

    data: bytes
    metadata: Metadata
    mtime_ns: int
    serial: int


@dataclass(slots=True)
class _Open:
    upload: Upload
    metadata: Metadata
    parts: dict[int, tuple[Part, bytes]]


class FlatStore:
    """Objects under keys; prefixes are only prefixes.

    `ignored` are calls whose conditions the store claims to honour and does not.
    """

    def __init__(
        self,
        capabilities: Capabilities = KEY_STORE,
        *,
        ignored: frozenset[Call] = frozenset(),
    ) -> None:
        self.capabilities = capabilities
        self.features = Features()
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, _Open] = {}
        self.requests: list[str] = []
        self.now_ns = time.time_ns()
        self.is_closed = False
        self._ignored = ignored
        self._serials = itertools.count(1)

    # What a test looks at or puts in, without a request.

    def put(
        self, key: str, data: bytes = b"", metadata: Metadata = NO_METADATA
    ) -> Object:
        """Let a foreign client write an object."""
        self.now_ns += 1
        self.objects[key] = Stored(data, metadata, self.now_ns, next(self._serials))
        return self._object(key)

    # The contract.

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        await self._begin("stat")
        if key not in self.objects:
            raise NotFound(key=key)
        return self._object(key)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        await self._begin("list")
        most = min(limit or 10**9, self.capabilities.list_page_max)
        found = [
            entry
            for entry in self._entries(prefix, mode)
            if token is None or entry.key > token
        ]
        more = len(found) > most
        return Page(tuple(found[:most]), found[most - 1].key if more else None)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        await self._begin("read")
        if offset < 0 or (size is not None and size < 0):
            raise InvalidRequest(key=key)
        if key not in self.objects:
            raise NotFound(key=key)
        if version is not None and version.content != _etag(self.objects[key].data):
            raise VersionChanged(key=key)
        data = self.objects[key].data
        end = len(data) if size is None else offset + size
        return Content(self._object(key), data[offset:end])

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
        await self._begin("write")
        data = read_exactly(body, size)
        self._check(Call.WRITE, key, condition)
        return self._store(key, data, metadata)

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        await self._begin("delete")
        if key in self.objects or condition is None:
            self._check(Call.DELETE, key, condition)
        else:
            raise NotFound(key=key)
        self.objects.pop(key, None)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        await self._begin("delete_many")
        for key in keys:
            self.objects.pop(key, None)
        return {}

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        await self._begin("copy")
        if not self.capabilities.copy:
            raise Unsupported(key=source)
        if source not in self.objects:
            raise NotFound(key=source)
        stored = self.objects[source]
        if source_version is not None and source_version.content != _etag(stored.data):
            raise VersionChanged(key=source)
        self._check(Call.COPY, target, condition)
        return self._store(
            target, stored.data, stored.metadata if metadata is None else metadata
        )

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        await self._begin("move")
        if not self.capabilities.move:
            raise Unsupported(key=source)
        if source not in self.objects:
            raise NotFound(key=source)
        pinned = source_version.content if source_version is not None else None
        if pinned not in (None, _etag(self.objects[source].data)):
            raise VersionChanged(key=source)
        self.objects[target] = self.objects.pop(source)
        return self._object(target)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        await self._begin("make_dir")
        if not self.capabilities.native_dirs:
            raise Unsupported(key=key)
        return self._store(key, b"", metadata)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        await self._begin("make_link")
        if not self.capabilities.native_links:
            raise Unsupported(key=key)
        self._check(Call.WRITE, key, condition)
        self._store(key, b"\0link" + target.encode(), metadata)
        return self._object(key)

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        await self._begin("set_metadata")
        if not self.capabilities.set_metadata:
            raise Unsupported(key=object.key)
        if object.key not in self.objects:
            raise NotFound(key=object.key)
        self._check(Call.COPY, object.key, condition)
        return self._store(object.key, self.objects[object.key].data, metadata)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        await self._begin("create_multipart")
        if self.capabilities.multipart is None:
            raise Unsupported(key=key)
        upload = Upload(key, f"upload-{next(self._serials)}", metadata.commit_id)
        self.uploads[upload.id] = _Open(upload, metadata, {})
        return upload

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        await self._begin("write_part")
        return self._add_part(upload, index, read_exactly(body, size))

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        await self._begin("copy_part")
        if not self.capabilities.multipart_copy:
            raise Unsupported(key=source.key)
        if source.key not in self.objects:
            raise NotFound(key=source.key)
        data = self.objects[source.key].data
        if source.version is None or source.version.content != _etag(data):
            raise VersionChanged(key=source.key)
        return self._add_part(upload, index, data[offset : offset + size])

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        await self._begin("list_parts")
        parts = self._open(upload).parts
        return tuple(parts[index][0] for index in sorted(parts))

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        await self._begin("list_uploads")
        return tuple(
            pending.upload
            for pending in self.uploads.values()
            if pending.upload.key.startswith(prefix)
        )

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        await self._begin("complete_multipart")
        pending = self._open(upload)
        limits = self.capabilities.multipart
        assert limits is not None
        pieces = [pending.parts[part.index] for part in parts]
        for part, _ in pieces[:-1]:
            if part.size < limits.part_size_min:
                raise InvalidRequest(f"part {part.index} is too small")
        self._check(Call.COMPLETE, upload.key, condition)
        del self.uploads[upload.id]
        return self._store(
            upload.key, b"".join(data for _, data in pieces), pending.metadata
        )

    async def abort_multipart(self, upload: Upload) -> None:
        await self._begin("abort_multipart")
        self.uploads.pop(upload.id, None)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        await self._begin("create_append")
        if not self.capabilities.append:
            raise Unsupported(key=key)
        if base is None:
            self._store(key, b"", metadata)
        return Append(key, (base.size or 0) if base else 0, base=base)

    async def write_append(self, append: Append, body: Body) -> Append:
        await self._begin("write_append")
        stored = self.objects[append.key]
        if len(stored.data) != append.offset:
            raise VersionChanged(key=append.key)
        data = read_exactly(body, None)
        self._store(append.key, stored.data + data, stored.metadata)
        return dataclasses.replace(append, offset=append.offset + len(data))

    async def commit_append(self, append: Append) -> Object:
        await self._begin("commit_append")
        return self._object(append.key)

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        await self._begin("sign_read")
        return f"https://flat.invalid/{key}?expires={expires_s}"

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_closed = True

    # The inside.

    async def _begin(self, call: str) -> None:
        self.requests.append(call)
        await trio.lowlevel.checkpoint()

    def _check(self, call: Call, key: str, condition: Condition) -> None:
        if condition is None:
            return
        if call not in self.capabilities.conditions:
            raise Unsupported(f"{call.value} takes no condition", key=key)
        if call in self._ignored:
            return
        stored = self.objects.get(key)
        if condition is ABSENT:
            if stored is not None:
                raise AlreadyExists(key=key)
            return
        assert isinstance(condition, Version)
        if stored is None or _etag(stored.data) != condition.content:
            raise VersionChanged(key=key)

    def _store(self, key: str, data: bytes, metadata: Metadata) -> Object:
        if metadata.attributes is not None and not self.capabilities.attributes:
            raise InvalidRequest("attributes reached a store that keeps none", key=key)
        refused = set(metadata.pairs) - self.capabilities.pairs
        if refused:
            raise Unsupported(f"pairs {sorted(refused)}", key=key)
        is_marker = key.endswith("/") and not self.capabilities.dir_metadata
        if is_marker or not self.capabilities.metadata:
            metadata = Metadata(attributes=metadata.attributes)
        return self.put(key, data, metadata)

    def _object(self, key: str) -> Object:
        stored = self.objects[key]
        target = None
        kind = ObjectKind.DIRECTORY if key.endswith("/") else ObjectKind.FILE
        if stored.data.startswith(b"\0link"):
            kind, target = ObjectKind.LINK, stored.data[5:].decode()
        return Object(
            key=key,
            kind=kind,
            size=len(stored.data),
            mtime_ns=stored.mtime_ns,
            version=Version(_etag(stored.data), str(stored.serial)),
            metadata=stored.metadata,
            link_target=target,
        )

    def _entries(self, prefix: str, mode: ListMode) -> Sequence[Object]:
        entries: dict[str, Object] = {}
        for key in self.objects:
            if not key.startswith(prefix):
                continue
            name, slash, _ = key[len(prefix) :].partition("/")
            if mode is ListMode.PREFIX:
                entries[key] = self._listed(key)
            elif slash:
                child = f"{prefix}{name}/"
                entries[child] = Object(key=child, kind=ObjectKind.DIRECTORY)
            elif name:
                entries[key] = self._listed(key)
        return [entries[key] for key in sorted(entries, key=_bytes)]

    def _listed(self, key: str) -> Object:
        found = self._object(key)
        if self.capabilities.list_metadata:
            return found
        return dataclasses.replace(found, metadata=None)

    def _open(self, upload: Upload) -> _Open:
        if upload.id not in self.uploads:
            raise UploadNotFound(key=upload.key)
        return self.uploads[upload.id]

    def _add_part(self, upload: Upload, index: int, data: bytes) -> Part:
        limits = self.capabilities.multipart
        assert limits is not None
        if len(data) > limits.part_size_max:
            raise InvalidRequest("the part is too large", key=upload.key)
        part = Part(index, len(data), _etag(data))
        self._open(upload).parts[index] = (part, data)
        return part


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
