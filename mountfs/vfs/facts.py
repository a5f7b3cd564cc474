"""What mountfs can say of a file, as extended attributes `user.mountfs.*`.

They are read by name and never listed, so that no copying program takes them along.
"""

import os
from collections.abc import Callable, Mapping

from mountfs.storage.types import NO_METADATA, Metadata, Object
from mountfs.vfs.inodes import Node
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.volume import Volume

PREFIX = b"user.mountfs."

PAIR = "pair."
META = "meta."


class Facts:
    """Answers for one volume; None is "there is no such thing"."""

    def __init__(self, volume: Volume, resolver: Resolver) -> None:
        self._volume = volume
        self._resolver = resolver
        self._by_name: Mapping[str, Callable[[Node], str | None]] = {
            "key": _key,
            "url": self._url,
            "etag": _etag,
            "state": self._state,
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

    def _state(self, node: Node) -> str:
        if self._failure(node) is not None:
            return "failed"
        file = node.loaded_file
        return "dirty" if file is not None and file.needs_commit else "clean"

    def _last_error(self, node: Node) -> str | None:
        """Return what went wrong last, although no call can say so any more."""
        error, key = self._failure(node), _key(node)
        if error is not None or key is None:
            return error
        incident = self._volume.incidents.last(key)
        if incident is None:
            return None
        kept = f"; kept as {incident.kept_as!r}" if incident.kept_as else ""
        return f"{incident.kind.value}: {incident.text}{kept}"

    def _failure(self, node: Node) -> str | None:
        """Return why the bytes that are here are not in the store."""
        file = node.loaded_file
        error = (file.failure or file.refusal) if file is not None else None
        if error is not None:
            return str(error)
        key = _key(node)
        return next(
            (
                pending.error
                for pending in self._volume.writeback.pending()
                if pending.error is not None and pending.key == key
            ),
            None,
        )


def _key(node: Node) -> str | None:
    return None if node.is_nameless else node.key()


def _etag(node: Node) -> str | None:
    version = node.object.version if node.object is not None else None
    return None if version is None else version.content


def _group(node: Node) -> str | None:
    return node.attributes.group
