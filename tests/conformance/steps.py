"""Steps that many tests take."""

from collections.abc import Awaitable, Callable, Iterable

import pytest
import trio

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import NotFound, Unsupported
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Capabilities,
    ListMode,
    Metadata,
    MultipartLimits,
    Object,
    ObjectKind,
)

PAGES_MAX = 10_000


async def put(
    store: Storager, key: str, data: bytes = b"", metadata: Metadata = NO_METADATA
) -> Object:
    """Write an object."""
    return await store.write(key, BytesBody(data), metadata=metadata)


async def put_all(store: Storager, keys: Iterable[str]) -> None:
    """Write an object with its own key as bytes under each key, many at once."""
    limit = trio.CapacityLimiter(8)

    async def put_one(key: str) -> None:
        async with limit:
            await put(store, key, key.encode())

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(put_one, key)


async def get(store: Storager, key: str) -> bytes:
    """Read a whole object."""
    return (await store.read(key)).data


async def list_all(
    store: Storager,
    prefix: str = "",
    mode: ListMode = ListMode.DIRECTORY,
    limit: int | None = None,
) -> list[Object]:
    """Return what all pages hold, the first one first."""
    found: list[Object] = []
    token: str | None = None
    for _ in range(PAGES_MAX):
        page = await store.list(prefix, mode=mode, token=token, limit=limit)
        if limit is not None:
            assert len(page.objects) <= limit
        found.extend(page.objects)
        token = page.token
        if token is None:
            return found
    raise AssertionError("the listing does not end")


async def keys_of(
    store: Storager, prefix: str = "", mode: ListMode = ListMode.DIRECTORY
) -> list[str]:
    """Return the keys of a listing."""
    return [found.key for found in await list_all(store, prefix, mode)]


async def is_absent(store: Storager, key: str, kind: ObjectKind | None = None) -> bool:
    """Tell whether the store says that there is no such object."""
    try:
        await store.stat(key, kind=kind)
    except NotFound:
        return True
    return False


async def unless_unsupported(
    can_do: bool, request: Callable[[], Awaitable[Object]]
) -> Object | None:
    """Send a request; without the capability it must raise `Unsupported`."""
    if can_do:
        return await request()
    with pytest.raises(Unsupported):
        await request()
    return None


def multipart_limits(capabilities: Capabilities) -> MultipartLimits:
    """Return the limits of multipart uploads, which every store here has."""
    assert capabilities.multipart is not None
    return capabilities.multipart


def part_bytes(store: Storager, text: bytes) -> bytes:
    """Return a part of the smallest size that is not the last."""
    limits = store.capabilities.multipart
    size = max(limits.part_size_min if limits is not None else 1, len(text))
    return (text * (size // len(text) + 1))[:size]


def can_make_dirs(store: Storager) -> bool:
    """Tell whether directories can be made."""
    return store.capabilities.native_dirs or store.features.virtual_dir


def can_make_links(store: Storager) -> bool:
    """Tell whether links can be made."""
    return store.capabilities.native_links or store.features.virtual_link
