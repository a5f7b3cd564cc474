"""Request bodies: exactly the bytes that are to be stored, or an error."""

import contextlib
import io
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import BinaryIO

import trio

from mountfs.storage.body import Body, read_exactly, sought
from mountfs.storage.errors import BodyTooShort, StoreError

IN_MEMORY_MAX = 8 << 20


@contextlib.asynccontextmanager
async def payload_of(
    body: Body | None, size: int
) -> AsyncIterator["Callable[[], bytes] | ExactReader"]:
    """Give the body of a request: larger ones as a reader, small ones to be read.

    They are read in the thread that sends them. Raises `BodyTooShort` before or, for a
    larger one, while it is sent; a store keeps nothing of a request that breaks off.
    """
    if body is None or size <= IN_MEMORY_MAX:
        yield partial(read_exactly, body, size)
        return
    reader = ExactReader(await trio.to_thread.run_sync(body.open), size)
    try:
        yield reader
    finally:
        reader.close_when_sent()


class ExactReader:
    """A reader that gives `size` bytes of another one, seekable within them."""

    def __init__(self, inner: BinaryIO, size: int) -> None:
        self._inner = inner
        self._size = size
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, count: int | None = -1) -> bytes:
        """Read at most `count` bytes. Raises `BodyTooShort` at an early end."""
        left = self._size - self._position
        wanted = left if count is None or count < 0 else min(count, left)
        if wanted == 0:
            return b""
        try:
            found = self._inner.read(wanted)
        except OSError as error:
            raise StoreError(f"the bytes to send cannot be read: {error}") from error
        if not found:
            raise BodyTooShort(
                f"the body ended after {self._position} of {self._size} bytes"
            )
        self._position += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, counted from the first byte that is to be sent."""
        place = sought(offset, whence, self._position, self._size)
        self._position = min(place, self._size)
        self._inner.seek(self._position)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seekable(self) -> bool:
        """Tell an SDK that it may go back, as it does after a checksum."""
        return True

    def close_when_sent(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            self._inner.close()
