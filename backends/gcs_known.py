"""What was just heard of objects, so that a change of one needs no question first.

A copy loses the storage class of its source unless it is said, and to say one thing is
to say all of the metadata: what is sent with a copy is what was known of the source.
Every such request is pinned to the generation and the metageneration that it was known
of, so that old knowledge costs a refusal and never does harm.
"""

from collections import OrderedDict
from collections.abc import Iterable

from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_objects import FIELDS, object_of
from mountfs.storage.types import Object, Version

REMEMBERED_MAX = 16_384


class Known:
    """Remembers objects, and asks for those that it does not know."""

    def __init__(self, client: GcsClient, keys: KeySpace) -> None:
        self._client = client
        self._keys = keys
        self._objects: OrderedDict[str, Object] = OrderedDict()

    async def ask(self, key: str) -> Object:
        """Send one request for an object, and remember the answer."""
        reply = await self._client.call(
            "GET", self._keys.path(key), {"fields": FIELDS}, key=key
        )
        found = object_of(key, reply)
        self.remember([found])
        return found

    async def source(self, key: str, version: Version | None = None) -> Object:
        """Return all that is known of an object, from memory if that may hold."""
        known = self._objects.get(key)
        there = known.version if known is not None else None
        if known is not None and there is not None:
            is_wanted = version is None or version.content == there.content
            return known if is_wanted else await self.ask(key)
        return await self.ask(key)

    def remember(self, found: Iterable[Object]) -> None:
        """Remember what was just heard."""
        objects = self._objects
        for item in found:
            if item.is_described:
                objects.pop(item.key, None)
                objects[item.key] = item
        while len(objects) > REMEMBERED_MAX:
            objects.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget an object that was removed or replaced."""
        self._objects.pop(key, None)

    def same(self, key: str, version: Version) -> Object | None:
        """Return what is known of exactly this state of an object."""
        known = self._objects.get(key)
        return known if known is not None and known.version == version else None
