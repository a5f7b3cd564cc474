"""What a store answers, vetted before anything above believes it.

A store is not trusted: it may be broken, or somebody else's. What cannot be an answer
to the question (a key that was not asked for, a negative size, more bytes than wanted,
a page that leads to itself) is `ServiceFailed`, or `Corrupt` for bytes: the program
gets an error, and nothing of it reaches a name, a number for the kernel, or the memory
of this process.

What is well-formed and false is believed; versions and checksums are for that.
"""

from mountfs.storage.errors import Corrupt, ServiceFailed
from mountfs.storage.types import (
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
        key_size_max = able.key_size_max or KEY_SIZE_MAX
        start = len(prefix)
        for object in page.objects:
            key = object.key
            if not key.startswith(prefix):
                raise ServiceFailed("the listing has a key of elsewhere", key=prefix)
            if able.utf8_keys and not _is_utf8(key):
                raise ServiceFailed("the listing has a key that is no text", key=prefix)
            if len(key) > key_size_max:
                raise ServiceFailed("the listing has an endless key", key=prefix)
            if mode is ListMode.DIRECTORY and "/" in key[start:-1]:
                raise ServiceFailed("the listing has a key from below", key=prefix)
            _vetted(object)
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
        if whole is not None and length and offset + length > whole:
            raise Corrupt(f"of {whole} bytes came those behind the end", key=key)
        return content


def _vetted(object: Object) -> Object:
    size, time_ns = object.size, object.mtime_ns
    if size is not None and not 0 <= size <= SIZE_MAX:
        raise ServiceFailed(f"nothing has a size of {size}", key=object.key)
    if time_ns is not None and not -TIME_MAX_NS <= time_ns <= TIME_MAX_NS:
        raise ServiceFailed(f"nothing is of the time {time_ns}", key=object.key)
    return object


def _is_utf8(key: str) -> bool:
    if key.isascii():
        return True
    try:
        key.encode()
    except UnicodeEncodeError:  # a byte that is none, as a lone surrogate
        return False
    return True
