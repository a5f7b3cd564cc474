"""What a store answers, vetted before anything above believes it.

A store is not trusted: it may be broken, or somebody else's. What cannot be an answer
to the question (a key that was not asked for, a negative size, more bytes than wanted,
a page that leads to itself) is `ServiceFailed`, or `Corrupt` for bytes: the program
gets an error, and nothing of it reaches a name, a number for the kernel, or the memory
of this process.

What is well-formed and false is believed, but for another version than was wanted.
"""

from mountfs.storage.errors import Corrupt, ServiceFailed, VersionChanged
from mountfs.storage.types import (
    Capabilities,
    Content,
    ListMode,
    Object,
    ObjectKind,
    Page,
    Version,
)
from mountfs.storage.wrapper import StoragerWrapper

SIZE_MAX = 1 << 62
"""Bytes; with room below what a signed number of the kernel holds."""
TIME_MAX_NS = 1 << 62
KEY_SIZE_MAX = 1 << 14
"""Bytes of a key, where the store says nothing: four times the longest path."""


class VettedStorager(StoragerWrapper):
    """Refuses answers that cannot be true."""

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Ask, and look at what is told."""
        return _vetted(await self._inner.stat(key, kind=kind))

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Ask, and look at each entry and at what leads on."""
        page = await self._inner.list(prefix, mode=mode, token=token, limit=limit)
        if page.token is not None and page.token == token:
            raise ServiceFailed("a page of the listing leads to itself", key=prefix)
        able = self.capabilities
        most = able.key_size_max or KEY_SIZE_MAX
        start, is_flat = len(prefix), mode is ListMode.PREFIX
        # One look at each of the thousands that are as they should be, and a second one
        # at the others.
        for object in page.objects:
            key, size = object.key, object.size
            if not (
                key.isascii()
                and len(key) <= most
                and key.startswith(prefix)
                and (is_flat or key.find("/", start, -1) < 0)
                and (size is None or 0 <= size <= SIZE_MAX)
                and (object.mtime_ns is None or 0 <= object.mtime_ns <= TIME_MAX_NS)
            ):
                _check_entry(object, prefix, mode, able)
        return page

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Ask, and compare the bytes with the question and with what they are of."""
        content = await self._inner.read(key, offset, size, version=version)
        whole, length = _vetted(content.object).size, len(content.data)
        if size is not None and length > size:
            raise Corrupt(f"{size} bytes were asked for, and {length} came", key=key)
        found = content.object.version
        if version and found and found.content != version.content:
            raise VersionChanged("the store answers with another version", key=key)
        if whole is not None and length and offset + length > whole:
            raise Corrupt(f"of {whole} bytes came those behind the end", key=key)
        return content


def _check_entry(
    object: Object, prefix: str, mode: ListMode, able: Capabilities
) -> None:
    key = object.key
    if not key.startswith(prefix):
        raise ServiceFailed("the listing has a key of elsewhere", key=prefix)
    if able.utf8_keys and not _is_utf8(key):
        raise ServiceFailed("the listing has a key that is no text", key=prefix)
    if len(key) > (able.key_size_max or KEY_SIZE_MAX):
        raise ServiceFailed("the listing has an endless key", key=prefix)
    if mode is ListMode.DIRECTORY and key.find("/", len(prefix), -1) >= 0:
        raise ServiceFailed("the listing has a key from below", key=prefix)
    _vetted(object)


def _vetted(object: Object) -> Object:
    size, time_ns = object.size, object.mtime_ns
    if size is not None and not 0 <= size <= SIZE_MAX:
        raise ServiceFailed(f"nothing has a size of {size}", key=object.key)
    if time_ns is not None and not -TIME_MAX_NS <= time_ns <= TIME_MAX_NS:
        raise ServiceFailed(f"nothing is of the time {time_ns}", key=object.key)
    return object


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:  # a byte that is none, as a lone surrogate
        return False
    return True
