"""What mountfs can say of a file, as extended attributes `user.mountfs.*`.

They are read by name and never listed, so that no copying program takes them along.
What only the store knows is asked for; everything else is told at once.
"""

import json
import os
from collections.abc import Callable, Mapping

from mountfs.cache.extents import Extents
from mountfs.storage.types import NO_METADATA, Metadata, Object
from mountfs.vfs.explain import Explainer
from mountfs.vfs.here import Here
from mountfs.vfs.inodes import Node
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.volume import Volume

PREFIX = b"user.mountfs."

PAIR = "pair."
META = "meta."
RANGES_MAX = 500
"""So many ranges are told; more end in `...`."""


class Facts:
    """Answers for one volume; None is "there is no such thing"."""

    def __init__(
        self, volume: Volume, resolver: Resolver, explainer: Explainer
    ) -> None:
        self._volume = volume
        self._resolver = resolver
        self._explainer = explainer
        self._here = Here(volume)
        self._by_name: Mapping[str, Callable[[Node], str | None]] = {
            "key": _key,
            "url": self._url,
            "etag": self._here.etag,
            "version": self._version,
            "size": self._size,
            "state": self._here.state,
            "cached": self._cached,
            "dirty": self._dirty,
            "pending": self._pending,
            "error": self._error,
            "last_error": self._last_error,
            "group": _group,
        }

    async def get(self, node: Node, name: bytes) -> bytes | None:
        """Return one fact, asking the store if only it knows."""
        text = os.fsdecode(name)
        tell = self._by_name.get(text)
        fact = tell(node) if tell is not None else await self._stored(node, text)
        return None if fact is None else os.fsencode(fact)

    async def _stored(self, node: Node, name: str) -> str | None:
        """Return what the store keeps with the object besides attributes."""
        if name == "explain":
            return _json(await self._explainer.of(node))
        if name == "content-type":
            return (await self._metadata(node)).pairs.get(name)
        if name.startswith(PAIR):
            return (await self._metadata(node)).pairs.get(name.removeprefix(PAIR))
        if name.startswith(META):
            return (await self._metadata(node)).user.get(name.removeprefix(META))
        return None

    async def _metadata(self, node: Node) -> Metadata:
        if node.object is not None and not node.object.is_described:
            await self._resolver.ask_again(node)
        known: Object | None = node.object
        if known is None or known.metadata is None:
            return NO_METADATA
        return known.metadata

    def _url(self, node: Node) -> str | None:
        key = _key(node)
        return None if key is None else self._volume.url_of(key)

    def _version(self, node: Node) -> str | None:
        """Return both parts of the version, as the store has given them."""
        version = self._here.version(node)
        if version is None:
            return None
        return " ".join(filter(None, (version.content, version.attributes)))

    def _size(self, node: Node) -> str | None:
        """Return the size of the object, which programs may have changed here."""
        known = node.object
        return None if known is None or known.size is None else str(known.size)

    def _cached(self, node: Node) -> str | None:
        return _ranges(self._here.cached(node))

    def _dirty(self, node: Node) -> str | None:
        dirty = self._here.dirty(node)
        return None if dirty is None else _ranges(dirty.extents)

    def _pending(self, node: Node) -> str | None:
        return _json(pending) if (pending := self._here.pending(node)) else None

    def _error(self, node: Node) -> str | None:
        error = self._here.error(node)
        return None if error is None else _json(error)

    def _last_error(self, node: Node) -> str | None:
        """Return what went wrong last, although no call can say so any more."""
        error, key = self._here.failure(node), _key(node)
        if error is not None or key is None:
            return error
        incident = self._volume.incidents.last(key)
        if incident is None:
            return None
        kept = f"; kept as {incident.kept_as!r}" if incident.kept_as else ""
        return f"{incident.kind.value}: {incident.text}{kept}"


def _key(node: Node) -> str | None:
    return None if node.is_nameless else node.key()


def _ranges(extents: Extents) -> str | None:
    """Return ranges as `FIRST-LAST`, both in them; None if there are none."""
    told = [f"{start}-{end - 1}" for start, end in extents]
    more = ["..."] if len(told) > RANGES_MAX else []
    return " ".join([*told[:RANGES_MAX], *more]) or None


def _json(told: object) -> str:
    return json.dumps(told, separators=(",", ":"))


def _group(node: Node) -> str | None:
    return node.group
