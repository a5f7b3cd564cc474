"""Bounds on how many requests are under way, one pool for each class of request.

Metadata, reads, uploads and the store's own copies have pools of their own: a hundred
parts on their way up never keep a `stat` waiting. This wrapper stands innermost, below
the retries, so that a request that is backing off holds no place. Waiting for a place
does not count against a deadline: the store is not to blame for our queue.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import trio

from mountfs.storage.body import Body
from mountfs.storage.deadline import not_counted
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Condition,
    Content,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most requests of each class that are under way at once."""

    metadata: int = 64
    """stat, list, delete, and all else that is answered at once."""
    reads: int = 16
    uploads: int = 16
    """Writes, parts, appended pieces."""
    copies: int = 48
    """What the store does by itself and may take long: copy, move, complete."""

    def __post_init__(self) -> None:
        if min(self.metadata, self.reads, self.uploads, self.copies) < 1:
            raise InvalidRequest(f"every limit must be at least 1: {self}")


class LimitStorager(StoragerWrapper):
    """Lets at most so many requests of each class through; the others wait."""

    def __init__(self, inner: Storager, limits: Limits) -> None:
        super().__init__(inner)
        self._metadata = trio.CapacityLimiter(limits.metadata)
        self._reads = trio.CapacityLimiter(limits.reads)
        self._uploads = trio.CapacityLimiter(limits.uploads)
        self._copies = trio.CapacityLimiter(limits.copies)

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.stat(key, kind=kind)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.list(prefix, mode=mode, token=token, limit=limit)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Forward within the pool of reads."""
        async with _place(self._reads):
            return await self._inner.read(key, offset, size, version=version)

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
        """Forward within the pool of uploads."""
        async with _place(self._uploads):
            return await self._inner.write(
                key,
                body,
                size=size,
                metadata=metadata,
                inherit=inherit,
                condition=condition,
            )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            await self._inner.delete(key, condition=condition)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.delete_many(keys)

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Forward within the pool of copies."""
        async with _place(self._copies):
            return await self._inner.copy(
                source,
                target,
                source_version=source_version,
                metadata=metadata,
                condition=condition,
            )

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Forward within the pool of copies."""
        async with _place(self._copies):
            return await self._inner.move(source, target, source_version=source_version)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.make_dir(key, metadata=metadata)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.make_link(
                key, target, metadata=metadata, condition=condition
            )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Forward within the pool of copies."""
        async with _place(self._copies):
            return await self._inner.set_metadata(object, metadata, condition=condition)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.create_multipart(
                key, metadata=metadata, inherit=inherit
            )

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Forward within the pool of uploads."""
        async with _place(self._uploads):
            return await self._inner.write_part(upload, index, body, size=size)

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Forward within the pool of copies."""
        async with _place(self._copies):
            return await self._inner.copy_part(upload, index, source, offset, size)

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.list_parts(upload)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.list_uploads(prefix)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Forward within the pool of copies."""
        async with _place(self._copies):
            return await self._inner.complete_multipart(
                upload, parts, inherit=inherit, condition=condition
            )

    async def abort_multipart(self, upload: Upload) -> None:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            await self._inner.abort_multipart(upload)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Forward within the metadata pool."""
        async with _place(self._metadata):
            return await self._inner.create_append(key, base=base, metadata=metadata)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Forward within the pool of uploads."""
        async with _place(self._uploads):
            return await self._inner.write_append(append, body)

    async def commit_append(self, append: Append) -> Object:
        """Forward within the pool of uploads."""
        async with _place(self._uploads):
            return await self._inner.commit_append(append)


@contextlib.asynccontextmanager
async def _place(pool: trio.CapacityLimiter) -> AsyncIterator[None]:
    with not_counted():
        await pool.acquire()
    try:
        yield
    finally:
        pool.release()
