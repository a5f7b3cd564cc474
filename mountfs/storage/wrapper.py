"""A Storager around another one that changes nothing.

Wrappers derive from it and override only what they are for, so that a new operation
of the contract passes through all of them at once.
"""

from collections.abc import Sequence

from mountfs.storage.body import Body
from mountfs.storage.protocol import Storager
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


class StoragerWrapper:
    """Forwards every operation to `inner`."""

    def __init__(self, inner: Storager) -> None:
        self._inner = inner

    @property
    def capabilities(self) -> Capabilities:
        """What the inner store can do."""
        return self._inner.capabilities

    @property
    def features(self) -> Features:
        """The gates that are on in the inner store."""
        return self._inner.features

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Forward the request."""
        return await self._inner.stat(key, kind=kind)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Forward the request."""
        return await self._inner.list(prefix, mode=mode, token=token, limit=limit)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Forward the request."""
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
        """Forward the request."""
        return await self._inner.write(
            key,
            body,
            size=size,
            metadata=metadata,
            inherit=inherit,
            condition=condition,
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Forward the request."""
        await self._inner.delete(key, condition=condition)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Forward the request."""
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
        """Forward the request."""
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
        """Forward the request."""
        return await self._inner.move(source, target, source_version=source_version)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Forward the request."""
        return await self._inner.make_dir(key, metadata=metadata)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Forward the request."""
        return await self._inner.make_link(
            key, target, metadata=metadata, condition=condition
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Forward the request."""
        return await self._inner.set_metadata(object, metadata, condition=condition)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Forward the request."""
        return await self._inner.create_multipart(
            key, metadata=metadata, inherit=inherit
        )

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Forward the request."""
        return await self._inner.write_part(upload, index, body, size=size)

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Forward the request."""
        return await self._inner.copy_part(upload, index, source, offset, size)

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Forward the request."""
        return await self._inner.list_parts(upload)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Forward the request."""
        return await self._inner.list_uploads(prefix)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Forward the request."""
        return await self._inner.complete_multipart(
            upload, parts, inherit=inherit, condition=condition
        )

    async def abort_multipart(self, upload: Upload) -> None:
        """Forward the request."""
        await self._inner.abort_multipart(upload)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Forward the request."""
        return await self._inner.create_append(key, base=base, metadata=metadata)

    async def write_append(self, append: Append, body: Body) -> Append:
        """Forward the request."""
        return await self._inner.write_append(append, body)

    async def commit_append(self, append: Append) -> Object:
        """Forward the request."""
        return await self._inner.commit_append(append)

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        """Forward the request."""
        return await self._inner.sign_read(key, expires_s=expires_s)

    async def close(self) -> None:
        """Close the inner store."""
        await self._inner.close()
