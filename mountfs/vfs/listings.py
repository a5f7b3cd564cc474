"""Listing the children of a directory, whole."""

import itertools
from collections.abc import AsyncIterator

from mountfs.storage.protocol import Storager
from mountfs.storage.types import Object, ObjectKind


class TooManyPages(Exception):
    """A directory is larger than was to be listed."""


async def list_all(store: Storager, prefix: str) -> list[Object]:
    """Ask the store for everything directly below a prefix."""
    return [object async for page in pages(store, prefix) for object in page]


async def pages(
    store: Storager, prefix: str, *, pages_max: int | None = None
) -> AsyncIterator[tuple[Object, ...]]:
    """Ask the store for everything directly below a prefix, page by page.

    Raises `TooManyPages` if that takes more than `pages_max` requests.
    """
    token: str | None = None
    for _ in itertools.count() if pages_max is None else range(pages_max):
        page = await store.list(prefix, token=token)
        yield page.objects
        if page.token is None:
            return
        token = page.token
    raise TooManyPages(prefix)


def component_of(object: Object) -> str:
    """Return the last component of an object's key, without a slash at its end."""
    key = object.key[:-1] if object.kind is ObjectKind.DIRECTORY else object.key
    return key.rpartition("/")[2]
