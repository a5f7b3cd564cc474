"""A few bytes of a file in memory, each at its offset; zeros between and behind them.

Pieces that touch become one. How many bytes of them there may be is not decided here.
Pure: no I/O, no clock.
"""

from bisect import bisect_right
from collections.abc import Iterator


class Pieces:
    """Bytes by their offsets: sorted, disjoint, never touching."""

    __slots__ = ("_pieces", "_starts", "size", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[bytearray] = []
        self.total = 0
        """How many bytes are held."""
        self.size = 0
        """How long the file is that they stand for."""

    def __iter__(self) -> Iterator[tuple[int, bytearray]]:
        return zip(self._starts, self._pieces, strict=True)

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self._starts)

    def growth(self, start: int, end: int) -> int:
        """Return how many bytes more there are once a range has been written."""
        missing = end - start
        for index in range(*self._touching(start, end)):
            first = max(start, self._starts[index])
            missing -= max(0, min(end, self._end(index)) - first)
        return missing

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes where they belong."""
        if not data:
            return
        end = offset + len(data)
        self.total += self.growth(offset, end)
        self.size = max(self.size, end)
        first, last = self._touching(offset, end)
        if first == last:
            self._starts.insert(first, offset)
            self._pieces.insert(first, bytearray(data))
            return
        start, piece = self._starts[first], self._pieces[first]
        behind = self._pieces[last - 1][max(0, end - self._starts[last - 1]) :]
        if start > offset:
            self._starts[first] = offset
            del piece[:]
        elif last - first == 1 and end <= start + len(piece):
            piece[offset - start : end - start] = data
            return
        del piece[max(0, offset - start) :]
        piece += data
        piece += behind
        del self._starts[first + 1 : last], self._pieces[first + 1 : last]

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file; zeros where there are none."""
        end = offset + size
        first, last = self._touching(offset, end)
        if last - first == 1:
            start, piece = self._starts[first], self._pieces[first]
            if start <= offset and end <= start + len(piece):
                return bytes(memoryview(piece)[offset - start : end - start])
        found = bytearray(size)
        for start, part in self._within(offset, end):
            found[start - offset : start - offset + len(part)] = part
        return bytes(found)

    def clear(self, start: int, end: int) -> None:
        """Make a range zeros; it is held as before."""
        for _, part in self._within(start, end):
            part[:] = bytes(len(part))

    def resize(self, size: int) -> None:
        """Give the file another size; what is behind it is gone for good."""
        self.size = size
        while self._starts and self._end(-1) > size:
            start, piece = self._starts[-1], self._pieces[-1]
            kept = max(0, size - start)
            self.total -= len(piece) - kept
            del piece[kept:]
            if not kept:
                del self._starts[-1], self._pieces[-1]

    def _within(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """Yield what is held of a range."""
        for index in range(*self._touching(start, end)):
            begin, piece = self._starts[index], self._pieces[index]
            first, last = max(start, begin), min(end, begin + len(piece))
            if first < last:
                yield first, memoryview(piece)[first - begin : last - begin]

    def _touching(self, start: int, end: int) -> tuple[int, int]:
        """Return which pieces overlap a range, or touch it: from, and before which."""
        first = max(0, bisect_right(self._starts, start) - 1)
        if first < len(self._starts) and self._end(first) < start:
            first += 1
        return first, max(first, bisect_right(self._starts, end))

    def _end(self, index: int) -> int:
        return self._starts[index] + len(self._pieces[index])
