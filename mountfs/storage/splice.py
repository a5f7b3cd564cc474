"""Bodies made of other bodies: several in a row, and a range of one.

They keep what can be opened again, never the bytes.
"""

import bisect
import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from mountfs.storage.body import Body


@dataclass(frozen=True, slots=True)
class SplicedBody:
    """The bytes `offset` to `offset + size` of some bodies in a row."""

    bodies: tuple[Body, ...]
    offset: int
    size: int

    @classmethod
    def of(cls, bodies: Sequence[Body]) -> "SplicedBody":
        """Return all of the bodies in a row."""
        return cls(tuple(bodies), 0, sum(body.size for body in bodies))

    def cut(self, offset: int, size: int) -> "SplicedBody":
        """Return a range of this body, cut at its end."""
        size = max(0, min(size, self.size - offset))
        return SplicedBody(self.bodies, self.offset + offset, size)

    def open(self) -> BinaryIO:
        """Return a new reader at the first byte."""
        return io.BufferedReader(_SplicedReader(self), 1 << 18)


class _SplicedReader(io.RawIOBase):
    """Reads one body after the other; seekable, because SDKs rewind."""

    def __init__(self, spliced: SplicedBody) -> None:
        self._spliced = spliced
        self._ends = tuple(itertools.accumulate(body.size for body in spliced.bodies))
        self._position = 0
        self._open: tuple[int, BinaryIO, int] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # typeshed's buffer type is private
        wanted = min(len(buffer), self._spliced.size - self._position)
        if wanted <= 0:
            return 0
        index, inside = self._locate(self._spliced.offset + self._position)
        reader = self._reader_at(index, inside)
        left = self._spliced.bodies[index].size - inside
        piece = reader.read(min(wanted, left))
        buffer[: len(piece)] = piece
        self._position += len(piece)
        self._open = (index, reader, inside + len(piece))
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: self._spliced.size,
        }[whence]
        self._position = max(0, start + offset)
        return self._position

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
        super().close()

    def _locate(self, position: int) -> tuple[int, int]:
        """Return which body holds a position, and where in it."""
        index = bisect.bisect_right(self._ends, position)
        body = self._spliced.bodies[index]
        return index, position - (self._ends[index] - body.size)

    def _reader_at(self, index: int, inside: int) -> BinaryIO:
        if self._open is not None and self._open[0] == index:
            reader, position = self._open[1:]
        else:
            if self._open is not None:
                self._open[1].close()
                self._open = None
            reader, position = self._spliced.bodies[index].open(), 0
            self._open = (index, reader, 0)
        if position != inside:
            reader.seek(inside)
        return reader
