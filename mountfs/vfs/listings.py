"""Listing the children of a directory, whole."""

from mountfs.storage.protocol import Storager
from mountfs.storage.types import Object, ObjectKind


async def list_all(store: Storager, prefix: str) -> list[Object]:
    """Ask the store for everything directly below a prefix."""
    objects: list[Object] = []
    token: str | None = None
    while True:
        page = await store.list(prefix, token=token)
        objects.extend(page.objects)
        if page.token is None:
            return objects
        token = page.token


def component_of(object: Object) -> str:
    """Return the last component of an object's key, without a slash at its end."""
    key = object.key[:-1] if object.kind is ObjectKind.DIRECTORY else object.key
    return key.rpartition("/")[2]
