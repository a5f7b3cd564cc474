"""A Storager around another one through which every request passes one point.

What is to happen around each request, whatever it is, derives from `PassageStorager`
and overrides `_passing` alone.
"""

import enum
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from mountfs.storage.body import Body
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


class RequestClass(enum.Enum):
    """What a request costs, and so with which others it competes."""

    METADATA = "metadata"
    """stat, list, delete, and all else that is answered at once."""
    READ = "read"
    UPLOAD = "upload"
    """Writes, parts, appended pieces."""
    COPY = "copy"
    """What the store does by itself and may take long: copy, move, complete."""


class PassageStorager(StoragerWrapper):
    """Forwards every request within `_passing`."""

    def _passing(self, kind: RequestClass) -> AbstractAsyncContextManager[None]:
        """Return what surrounds one request."""
        raise NotImplementedError

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.stat(key, kind=kind)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.list(prefix, mode=mode, token=token, limit=limit)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Forward as a read."""
        async with self._passing(RequestClass.READ):
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
        """Forward as an upload."""
        async with self._passing(RequestClass.UPLOAD):
            return await self._inner.write(
                key,
                body,
                size=size,
                metadata=metadata,
                inherit=inherit,
                condition=condition,
            )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            await self._inner.delete(key, condition=condition)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
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
        """Forward as work of the store."""
        async with self._passing(RequestClass.COPY):
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
        """Forward as work of the store."""
        async with self._passing(RequestClass.COPY):
            return await self._inner.move(source, target, source_version=source_version)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.make_dir(key, metadata=metadata)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.make_link(
                key, target, metadata=metadata, condition=condition
            )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Forward as work of the store."""
        async with self._passing(RequestClass.COPY):
            return await self._inner.set_metadata(object, metadata, condition=condition)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.create_multipart(
                key, metadata=metadata, inherit=inherit
            )

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Forward as an upload."""
        async with self._passing(RequestClass.UPLOAD):
            return await self._inner.write_part(upload, index, body, size=size)

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Forward as work of the store."""
        async with self._passing(RequestClass.COPY):
            return await self._inner.copy_part(upload, index, source, offset, size)

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.list_parts(upload)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.list_uploads(prefix)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Forward as work of the store."""
        async with self._passing(RequestClass.COPY):
            return await self._inner.complete_multipart(
                upload, parts, inherit=inherit, condition=condition
            )

    async def abort_multipart(self, upload: Upload) -> None:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            await self._inner.abort_multipart(upload)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Forward as a question or a small change."""
        async with self._passing(RequestClass.METADATA):
            return await self._inner.create_append(key, base=base, metadata=metadata)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Forward as an upload."""
        async with self._passing(RequestClass.UPLOAD):
            return await self._inner.write_append(append, body)

    async def commit_append(self, append: Append) -> Object:
        """Forward as an upload."""
        async with self._passing(RequestClass.UPLOAD):
            return await self._inner.commit_append(append)
