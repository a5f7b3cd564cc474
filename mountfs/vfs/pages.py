"""The pages of one listing: all that is directly below a prefix, as the store says."""

import itertools
from collections.abc import AsyncIterator

from mountfs.storage.errors import ServiceFailed
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Object, ObjectKind

ENTRIES_MAX = 5_000_000
"""Of one directory. Five times what was tried, a gigabyte and more in memory."""
EMPTY_PAGES_MAX = 10_000
"""One after the other; a bucket with many versions has some."""


class TooManyPages(Exception):
    """A directory is larger than was to be listed."""


async def list_all(store: Storager, prefix: str) -> list[Object]:
    """Ask the store for everything directly below a prefix."""
    return [object async for page in pages(store, prefix) for object in page]


async def pages(
    store: Storager, prefix: str, *, pages_max: int | None = None
) -> AsyncIterator[tuple[Object, ...]]:
    """Ask the store for everything directly below a prefix, page by page.

    Raises `TooManyPages` if that takes more than `pages_max` requests, and
    `ServiceFailed` for a listing without an end: all of it is held in memory.
    """
    token: str | None = None
    entries = empty = 0
    for _ in itertools.count() if pages_max is None else range(pages_max):
        page = await store.list(prefix, token=token)
        entries += len(page.objects)
        empty = 0 if page.objects else empty + 1
        if entries > ENTRIES_MAX or empty > EMPTY_PAGES_MAX:
            raise ServiceFailed(
                f"the listing has no end: {entries} entries, then {empty} empty pages",
                key=prefix,
            )
        yield page.objects
        if page.token is None:
            return
        token = page.token
    raise TooManyPages(prefix)


def component_of(object: Object) -> str:
    """Return the last component of an object's key, without a slash at its end."""
    key = object.key[:-1] if object.kind is ObjectKind.DIRECTORY else object.key
    return key[key.rfind("/") + 1 :]
