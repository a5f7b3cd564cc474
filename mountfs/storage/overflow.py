"""A Storager that finds room for extended attributes that metadata have none for.

It stands between `VirtualStorager` and the store where extended attributes ride in user
metadata. What is over the limit of the store, or what the store itself refuses as too
large, is sent once more with the attributes in a sidecar.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from mountfs.storage.body import Body
from mountfs.storage.errors import MetadataTooLarge
from mountfs.storage.protocol import Storager
from mountfs.storage.sidecars import Sidecars, can_move_out
from mountfs.storage.translate import COMMIT_NAME
from mountfs.storage.types import (
    NO_METADATA,
    Append,
    Condition,
    Metadata,
    Object,
    Upload,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper

T = TypeVar("T")


class OverflowStorager(StoragerWrapper):
    """Moves extended attributes out of metadata that would be too large."""

    def __init__(self, inner: Storager, sidecars: Sidecars) -> None:
        super().__init__(inner)
        self._sidecars = sidecars

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
        """Write with metadata that fit."""

        async def send(fitting: Metadata) -> Object:
            return await self._inner.write(
                key,
                body,
                size=size,
                metadata=fitting,
                inherit=inherit,
                condition=condition,
            )

        return await self._send(metadata, send)

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Copy with metadata that fit."""

        async def send(fitting: Metadata | None) -> Object:
            return await self._inner.copy(
                source,
                target,
                source_version=source_version,
                metadata=fitting,
                condition=condition,
            )

        return await (send(None) if metadata is None else self._send(metadata, send))

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Make a directory with metadata that fit."""

        async def send(fitting: Metadata) -> Object:
            return await self._inner.make_dir(key, metadata=fitting)

        return await self._send(metadata, send)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Make a link with metadata that fit."""

        async def send(fitting: Metadata) -> Object:
            return await self._inner.make_link(
                key, target, metadata=fitting, condition=condition
            )

        return await self._send(metadata, send)

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Set metadata that fit."""

        async def send(fitting: Metadata) -> Object:
            return await self._inner.set_metadata(object, fitting, condition=condition)

        return await self._send(metadata, send)

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Begin an upload with metadata that fit."""

        async def send(fitting: Metadata) -> Upload:
            return await self._inner.create_multipart(
                key, metadata=fitting, inherit=inherit
            )

        return await self._send(metadata, send)

    async def create_append(
        self,
        key: str,
        *,
        base: Object | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Append:
        """Begin an append with metadata that fit."""

        async def send(fitting: Metadata) -> Append:
            return await self._inner.create_append(key, base=base, metadata=fitting)

        return await self._send(metadata, send)

    async def _send(
        self, metadata: Metadata, send: Callable[[Metadata], Awaitable[T]]
    ) -> T:
        limit = self.capabilities.metadata_size_max
        if limit is None or _size(metadata) <= limit:
            try:
                return await send(metadata)
            except MetadataTooLarge:
                # The store counts otherwise, or other things lie there as well.
                if not can_move_out(metadata):
                    raise
        elif not can_move_out(metadata):
            return await send(metadata)
        return await send(await self._sidecars.moved_out(metadata))


def _size(metadata: Metadata) -> int:
    user = dict(metadata.user)
    if metadata.commit_id is not None:
        user[COMMIT_NAME] = metadata.commit_id
    return sum(
        len((name + text).encode(errors="replace")) for name, text in user.items()
    )
