"""Holes of large files: the store copies them from an object of zeros.

`truncate -s 100G` costs a program nothing, and the store knows no holes. What is sent
for it is one object of zeros, as large as a part at least; each part that is all hole
the store copies from that. The object lives as long as an upload needs it. After a
crash it stays; the next upload with holes replaces it and takes it away.

Its version is pinned, so that what others put there never gets into a file.
"""

import io
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import trio

from mountfs.storage.body import sought
from mountfs.storage.errors import (
    NotFound,
    StoreError,
    UploadNotFound,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Object, Part, Upload

log = logging.getLogger(__name__)

KEY = ".mountfs/zeros"
HOLES_MIN = 3
"""With fewer parts that are all hole, sending them is as good."""
_DELETE_S = 30.0


@dataclass(frozen=True, slots=True)
class ZeroBody:
    """So many zeros, which take no room."""

    size: int

    def open(self) -> BinaryIO:
        """Return a new reader at the first byte."""
        return cast("BinaryIO", io.BufferedReader(_Zeros(self.size)))


class _Zeros(io.RawIOBase):
    """A readable, seekable file of zeros (SDKs rewind to send again)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # typeshed's buffer type is private
        count = max(0, min(len(buffer), self._size - self._position))
        memoryview(buffer)[:count] = bytes(count)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = sought(offset, whence, self._position, self._size)
        return self._position


class Zeros:
    """The object of zeros in one store."""

    def __init__(self, store: Storager) -> None:
        self._store = store
        self._made: Object | None = None
        self._users = 0
        self._making = trio.Lock()

    @property
    def are_copied(self) -> bool:
        """Whether the store can copy them."""
        return self._store.capabilities.multipart_copy

    @asynccontextmanager
    async def needed(self) -> AsyncIterator[None]:
        """Keep the object, once it is made, until the last who needs it has ended."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and self._made is not None:
                await self._take_away()

    async def copied(self, upload: Upload, index: int, size: int) -> Part | None:
        """Let the store make a part of zeros; None if they must be sent."""
        try:
            source = await self._source(size)
            return await self._store.copy_part(upload, index, source, 0, size)
        except UploadNotFound:
            raise
        except (NotFound, VersionChanged) as error:
            log.info("zeros are sent: %s", error)  # somebody took them away
            self._made = None
            return None

    async def _source(self, size: int) -> Object:
        async with self._making:
            known = self._made
            if known is None or known.size is None or known.size < size:
                # Parts of one file differ by some bytes.
                wanted = 1 << (size - 1).bit_length()
                most = self._store.capabilities.write_size_max or wanted
                self._made = await self._store.write(
                    KEY, ZeroBody(max(size, min(wanted, most)))
                )
                # Crash after this: it stays until an upload with holes replaces it.
            assert self._made is not None
            return self._made

    async def _take_away(self) -> None:
        self._made = None
        with trio.move_on_after(_DELETE_S, shield=True):
            try:
                await self._store.delete(KEY)
            except StoreError as error:
                log.info("%s stays in the store: %s", KEY, error)
