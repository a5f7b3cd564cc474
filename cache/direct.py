"""The way past the queue: the store itself, asked when it has what is pending.

`DirectStorager` waits for the names that it is asked about, and then asks the store.
`StoreFirstStorager` is what the file system of a mount without a queue of its own sees,
as long as that of an earlier mount is not empty: it shows what is pending, and lets the
store have it before it is changed again.

Nothing is taken into the queue here.
"""

from collections.abc import Sequence

from mountfs.cache.ledger import Ledger
from mountfs.cache.queued import QueuedStorager
from mountfs.cache.settling import Settling
from mountfs.storage.body import Body
from mountfs.storage.types import (
    NO_METADATA,
    Condition,
    Content,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper


class DirectStorager(StoragerWrapper):
    """The store itself, asked when it has what is pending of the names in question."""

    def __init__(self, ledger: Ledger, settling: Settling) -> None:
        super().__init__(ledger.store)
        self._ledger = ledger
        self._settling = settling

    async def _settle(self, *keys: str) -> None:
        """Let the store have what is pending of keys, and below directories."""
        for key in keys:
            await self._settling.settle_name(key)
            if key.endswith("/"):
                for below in self._ledger.table.below(key):
                    await self._settling.settle_name(below)

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Wait, then look up."""
        await self._settle(key)
        return await self._inner.stat(key, kind=kind)

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
        """Wait, then write."""
        await self._settle(key)
        return await self._inner.write(
            key,
            body,
            size=size,
            metadata=metadata,
            inherit=inherit,
            condition=condition,
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Wait, then delete."""
        await self._settle(key)
        await self._inner.delete(key, condition=condition)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Wait, then delete."""
        await self._settle(*keys)
        return await self._inner.delete_many(keys)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Wait, then make a directory."""
        await self._settle(key)
        return await self._inner.make_dir(key, metadata=metadata)

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Wait, then copy."""
        await self._settle(source, target)
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
        """Wait, then move."""
        await self._settle(source, target)
        return await self._inner.move(source, target, source_version=source_version)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Wait, then make a link."""
        await self._settle(key)
        return await self._inner.make_link(
            key, target, metadata=metadata, condition=condition
        )

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Wait, then change metadata."""
        await self._settle(object.key)
        return await self._inner.set_metadata(object, metadata, condition=condition)


class StoreFirstStorager(DirectStorager):
    """Shows what is pending, and lets the store have it before it is changed again."""

    def __init__(
        self, ledger: Ledger, settling: Settling, queued: QueuedStorager
    ) -> None:
        super().__init__(ledger, settling)
        self._queued = queued

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Look up what is pending, then the store."""
        return await self._queued.stat(key, kind=kind)

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """List the store with what is pending."""
        return await self._queued.list(prefix, mode=mode, token=token, limit=limit)

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Wait, then move; what an earlier mount kept here follows its directory."""
        if source.endswith("/") and self._queued.moves_natively:
            return await self._queued.move(source, target)
        return await super().move(source, target, source_version=source_version)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Read what is pending from here, else from the store."""
        return await self._queued.read(key, offset, size, version=version)
