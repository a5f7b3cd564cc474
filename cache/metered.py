"""Counts the bytes that go to a store and come from it."""

from mountfs.cache.activity import Activity
from mountfs.storage.body import Body
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Condition,
    Content,
    Metadata,
    Object,
    Part,
    Upload,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper


class MeteredStorager(StoragerWrapper):
    """Counts what arrived, once, however often it was tried."""

    def __init__(self, inner: Storager, activity: Activity) -> None:
        super().__init__(inner)
        self._activity = activity

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Forward the request, and count what it brings."""
        content = await self._inner.read(key, offset, size, version=version)
        self._activity.fetched_bytes += len(content.data)
        return content

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
        """Forward the request, and count what was sent."""
        object = await self._inner.write(
            key,
            body,
            size=size,
            metadata=metadata,
            inherit=inherit,
            condition=condition,
        )
        self._count(body, size)
        return object

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Forward the request, and count what was sent."""
        part = await self._inner.write_part(upload, index, body, size=size)
        self._count(body, size)
        return part

    async def write_append(self, append: Append, body: Body) -> Append:
        """Forward the request, and count what was sent."""
        appended = await self._inner.write_append(append, body)
        self._count(body, None)
        return appended

    def _count(self, body: Body | None, size: int | None) -> None:
        if body is not None:
            self._activity.uploaded_bytes += size if size is not None else body.size
