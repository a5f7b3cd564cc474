"""A store with any number of objects that takes no memory for them.

It stands in for buckets that no test server holds in reasonable time: `directories`
times `files` objects, `d000001/f000001` and so on, made up when they are asked for. All
else is answered by an empty store in memory. It answers as S3 does: listings come in
pages of 1000 and tell no metadata.
"""

import dataclasses
import re
from collections import Counter

from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.storage.types import (
    NO_METADATA,
    Content,
    ListMode,
    Object,
    ObjectKind,
    Page,
    Version,
)

SIZE = 1000
"""Bytes of each object."""
TIME_S = 1_700_000_000
_DIRECTORY = re.compile(r"d(\d{6})/")
_FILE = re.compile(r"d(\d{6})/f(\d{6})")


class SyntheticStore(MemoryStore):
    """`directories` directories with `files` objects each."""

    def __init__(self, directories: int, files: int) -> None:
        super().__init__(
            capabilities=dataclasses.replace(
                MEMORY_CAPABILITIES, list_metadata=False, move=False
            )
        )
        self.directories = directories
        self.files = files
        self.gone: set[str] = set()
        """Objects that were deleted."""
        self.asked: Counter[str] = Counter()
        """How often each call came."""

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Return one page of what is made up."""
        self.asked["list"] += 1
        found = _DIRECTORY.fullmatch(prefix)
        if prefix and (found is None or int(found[1]) >= self.directories):
            return await super().list(prefix, mode=mode, token=token, limit=limit)
        size = min(limit or 1000, 1000)
        first = int(token) if token is not None else 0
        if mode is ListMode.PREFIX:
            base = int(found[1]) * self.files if found is not None else 0
            total = self.files * (1 if found is not None else self.directories)
            numbers = range(base + first, base + min(first + size, total))
            page = [_object(*divmod(number, self.files)) for number in numbers]
        elif found is not None:
            last = min(first + size, self.files)
            page = [_object(int(found[1]), number) for number in range(first, last)]
            total = self.files
        else:
            last = min(first + size, self.directories)
            page = [
                Object(key=f"d{number:06}/", kind=ObjectKind.DIRECTORY)
                for number in range(first, last)
            ]
            total = self.directories
        kept = tuple(each for each in page if each.key not in self.gone)
        end = first + size
        return Page(kept, str(end) if end < total else None)

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Return what is made up under a key."""
        self.asked["stat"] += 1
        if kind is ObjectKind.DIRECTORY:
            found = _DIRECTORY.fullmatch(key)
            if found is not None and int(found[1]) < self.directories:
                return Object(key=key, kind=ObjectKind.DIRECTORY)
        return self._made_up(key) or await super().stat(key, kind=kind)

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Return bytes that are made of the key."""
        self.asked["read"] += 1
        object = self._made_up(key)
        if object is None:
            return await super().read(key, offset, size, version=version)
        whole = (key.encode() * (SIZE // len(key) + 1))[:SIZE]
        end = SIZE if size is None else offset + size
        return Content(object, whole[offset:end])

    async def delete(self, key: str, *, condition: object = None) -> None:
        """Let an object be gone."""
        self.asked["delete"] += 1
        if self._made_up(key) is None:
            await super().delete(key)
            return
        self.gone.add(key)

    def _made_up(self, key: str) -> Object | None:
        found = _FILE.fullmatch(key)
        if found is None or key in self.gone:
            return None
        directory, number = int(found[1]), int(found[2])
        if directory >= self.directories or number >= self.files:
            return None
        return dataclasses.replace(_object(directory, number), metadata=NO_METADATA)


def _object(directory: int, number: int) -> Object:
    seconds = TIME_S + number
    return Object(
        key=f"d{directory:06}/f{number:06}",
        size=SIZE,
        mtime_ns=seconds * 10**9,
        version=Version(f"{directory:06x}{number:026x}", str(seconds)),
    )
