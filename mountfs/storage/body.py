"""Bodies: byte sources that can be opened again, so that a retry starts clean."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from mountfs.storage.errors import BodyTooShort, InvalidRequest


class Body(Protocol):
    """A source of bytes with a known size.

    `open` may be called any number of times, from any thread; each reader starts at
    the first byte and is closed by whoever opened it.
    """

    @property
    def size(self) -> int:
        """The number of bytes that a reader is to give."""
        ...

    def open(self) -> BinaryIO:
        """Return a new reader at the first byte."""
        ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Return a new reader over the bytes."""
        return io.BytesIO(self.data)


def _believe() -> None:
    """Take the bytes that were read for the right ones."""


@dataclass(frozen=True, slots=True)
class FileBody:
    """A range of a file on the local disk, which must not change while it is sent.

    `check` is called when the last byte was read, and before it is given: what it
    raises keeps a request from being complete.
    """

    path: Path
    offset: int
    size: int
    check: Callable[[], None] = _believe

    def open(self) -> BinaryIO:
        """Open the file and return a reader over the range."""
        return io.BufferedReader(_RangeReader(self), 1 << 18)


class _RangeReader(io.RawIOBase):
    """A readable, seekable view of a part of a file (SDKs rewind to send again)."""

    def __init__(self, body: FileBody) -> None:
        self._fd = os.open(body.path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = body.offset
        self._size = body.size
        self._check = body.check
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # typeshed's buffer type is private
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        view = memoryview(buffer)[:wanted]
        count = os.preadv(self._fd, [view], self._offset + self._position)
        self._position += count
        if self._position == self._size:
            self._check()
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = sought(offset, whence, self._position, self._size)
        return self._position

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def stated_size(body: Body | None, size: int | None) -> int:
    """Return how many bytes a write is to store.

    `size` wins over the body's own; without a body only zero bytes can be stored.
    Raises `InvalidRequest` for a negative size, `BodyTooShort` for bytes without a
    body.
    """
    wanted = size if size is not None else (body.size if body is not None else 0)
    if wanted < 0:
        raise InvalidRequest(f"a size cannot be negative, as {wanted} is")
    if body is None and wanted > 0:
        raise BodyTooShort(f"{wanted} bytes are to be written, and there is no body")
    return wanted


def read_exactly(body: Body | None, size: int | None) -> bytes:
    """Return the bytes that a write is to store: all of `size`, or an error.

    A longer body is cut; a shorter one raises `BodyTooShort`.
    """
    wanted = stated_size(body, size)
    if body is None or wanted == 0:
        return b""
    with body.open() as reader:
        data = reader.read(wanted)
    if len(data) < wanted:
        raise BodyTooShort(f"the body ended after {len(data)} of {wanted} bytes")
    return data


def sought(offset: int, whence: int, position: int, size: int) -> int:
    """Return where a seek in a file of some size ends, which may be behind its end."""
    start = {os.SEEK_SET: 0, os.SEEK_CUR: position, os.SEEK_END: size}[whence]
    return max(0, start + offset)
