"""Objects that hold extended attributes which do not fit into an object's metadata.

The key of a sidecar is `.mountfs/xattr/` and the SHA-256 of its bytes, which are the
JSON text of the attributes (`mountfs.storage.xattrs`). The object that they belong to
names it in its metadata. The key being the sum of the bytes, a sidecar never changes,
and any number of objects may share one: copies made by anybody keep their attributes.
So nobody can tell that a sidecar is not needed any more, and none is ever deleted.

The sidecar is stored before the object that names it: a crash between the two leaves
one that nobody names.
"""

import dataclasses
import hashlib
import logging
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from cachetools import LRUCache

from mountfs.storage import dialects, xattrs
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import AlreadyExists, Corrupt, NotFound, StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ABSENT, NO_METADATA, Call, Metadata, Object

PREFIX = ".mountfs/xattr/"

_log = logging.getLogger(__name__)

_KNOWN_SIZE_MAX = 8 << 20
# Base64 takes a third more, and escapes take six bytes for one of a name.
_TEXT_MAX = 2 * xattrs.TOTAL_SIZE_MAX
_WARNINGS_MAX = 1000
_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class _Sidecar:
    xattrs: Mapping[bytes, bytes]
    size: int


class Sidecars:
    """The sidecars of one store, and what stands in those that were used lately."""

    def __init__(self, store: Storager) -> None:
        self._store = store
        self._known: LRUCache[str, _Sidecar] = LRUCache(
            _KNOWN_SIZE_MAX, getsizeof=lambda sidecar: sidecar.size
        )
        self._lost: set[str] = set()

    async def moved_out(self, metadata: Metadata) -> Metadata:
        """Store the extended attributes apart; return the metadata that name them."""
        user = dict(metadata.user)
        text = urllib.parse.unquote_to_bytes(user.pop(dialects.XATTR_NAME))
        found = xattrs.from_json(text)
        assert found is not None, "asked by `can_move_out`"
        name = hashlib.sha256(text).hexdigest()
        if name not in self._known or not await self._is_there(name):
            await self._write(name, text)
        self._known[name] = _Sidecar(found, len(text))
        user[dialects.SIDECAR_NAME] = name
        return dataclasses.replace(metadata, user=user)

    async def resolved(self, object: Object) -> Object:
        """Return an object with its extended attributes, asking if they are elsewhere.

        They stay unknown, and the object readable, if they cannot be had.
        """
        name = _named(object)
        if name is None:
            return object
        try:
            self._known[name] = await self._read(name)
        except StoreError as error:
            self._warn(name, error)
            return object
        return self.resolved_nowait(object)

    def resolved_nowait(self, object: Object) -> Object:
        """Return an object with its extended attributes if they are known here."""
        name = _named(object)
        sidecar = self._known.get(name) if name is not None else None
        return object if sidecar is None else _with_xattrs(object, sidecar.xattrs)

    async def _is_there(self, name: str) -> bool:
        try:
            await self._store.stat(PREFIX + name)
        except NotFound:
            return False
        return True

    async def _write(self, name: str, text: bytes) -> None:
        able = self._store.capabilities
        metadata = NO_METADATA
        if "content-type" in able.pairs:
            metadata = Metadata(pairs={"content-type": _TYPE})
        condition = ABSENT if Call.WRITE in able.conditions else None
        try:
            await self._store.write(
                PREFIX + name, BytesBody(text), metadata=metadata, condition=condition
            )
        except AlreadyExists:
            return  # of the same bytes

    async def _read(self, name: str) -> _Sidecar:
        key = PREFIX + name
        # One byte more than there can be shows that it is none of ours.
        text = (await self._store.read(key, 0, _TEXT_MAX + 1)).data
        found = xattrs.from_json(text)
        if hashlib.sha256(text).hexdigest() != name or found is None:
            raise Corrupt("these are not the bytes that were stored here", key=key)
        return _Sidecar(found, len(text))

    def _warn(self, name: str, error: StoreError) -> None:
        """Say once of each sidecar that it cannot be read."""
        if name not in self._lost and len(self._lost) < _WARNINGS_MAX:
            self._lost.add(name)
            _log.warning("no extended attributes at %s%s: %s", PREFIX, name, error)


def can_move_out(metadata: Metadata) -> bool:
    """Tell whether there are extended attributes, all of them, and understood."""
    text = metadata.user.get(dialects.XATTR_NAME)
    if text is None or dialects.SIDECAR_NAME in metadata.user:
        return False
    return xattrs.from_header(text) is not None


def _named(object: Object) -> str | None:
    """Return the sidecar that an object names and that is not looked at yet."""
    attributes = object.attributes
    if object.metadata is None or attributes is None or attributes.xattrs is not None:
        return None
    return object.metadata.user.get(dialects.SIDECAR_NAME)


def _with_xattrs(object: Object, stored: Mapping[bytes, bytes]) -> Object:
    """Return an object with the attributes of its sidecar and those of its metadata.

    Who knows nothing of sidecars adds new ones there, so those are the newer.
    """
    assert object.metadata is not None
    assert object.metadata.attributes is not None
    user = dict(object.metadata.user)
    del user[dialects.SIDECAR_NAME]
    added = xattrs.from_header(user.get(dialects.XATTR_NAME, ""))
    if added is not None:
        user.pop(dialects.XATTR_NAME, None)
    attributes = dataclasses.replace(
        object.metadata.attributes, xattrs={**stored, **(added or {})}
    )
    return dataclasses.replace(
        object,
        metadata=dataclasses.replace(object.metadata, user=user, attributes=attributes),
    )
