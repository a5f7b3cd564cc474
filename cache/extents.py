"""Sets of byte ranges: sorted, disjoint, never touching, half open.

Pure: no I/O, no clock. All other modules of the cache speak of ranges as
`(start, end)`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class Extents:
    """A set of bytes, kept as few ranges as possible."""

    __slots__ = ("_ends", "_starts", "_total")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._total = 0
        for start, end in ranges:
            self.add(start, end)

    @property
    def total(self) -> int:
        """The number of bytes in the set."""
        return self._total

    def add(self, start: int, end: int) -> int:
        """Put a range into the set; return how many of its bytes are new."""
        _check(start, end)
        if start == end:
            return 0
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        before = 0
        merged_start, merged_end = start, end
        if first < last:
            merged_start = min(start, self._starts[first])
            merged_end = max(end, self._ends[last - 1])
            before = self._sum(first, last)
        self._starts[first:last] = [merged_start]
        self._ends[first:last] = [merged_end]
        new = merged_end - merged_start - before
        self._total += new
        return new

    def remove(self, start: int, end: int) -> int:
        """Take a range out of the set; return how many bytes went."""
        _check(start, end)
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last or start == end:
            return 0
        before = self._sum(first, last)
        rest: list[Range] = []
        if self._starts[first] < start:
            rest.append((self._starts[first], start))
        if self._ends[last - 1] > end:
            rest.append((end, self._ends[last - 1]))
        self._starts[first:last] = [item[0] for item in rest]
        self._ends[first:last] = [item[1] for item in rest]
        gone = before - sum(end - start for start, end in rest)
        self._total -= gone
        return gone

    def cut(self, end: int) -> int:
        """Take out everything at and behind `end`; return how many bytes went."""
        return self.remove(end, max(end, self.end))

    def clear(self) -> None:
        """Make the set empty."""
        self._starts.clear()
        self._ends.clear()
        self._total = 0

    @property
    def end(self) -> int:
        """The end of the last range; 0 of an empty set."""
        return self._ends[-1] if self._ends else 0

    def within(self, start: int, end: int) -> list[Range]:
        """Return the ranges of the set inside a range, in order."""
        if start >= end:
            return []
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        return [
            (max(start, self._starts[i]), min(end, self._ends[i]))
            for i in range(first, last)
        ]

    def gaps(self, start: int, end: int) -> list[Range]:
        """Return the ranges inside a range that are not in the set, in order."""
        found: list[Range] = []
        position = start
        for range_start, range_end in self.within(start, end):
            if range_start > position:
                found.append((position, range_start))
            position = range_end
        if position < end:
            found.append((position, end))
        return found

    def size_within(self, start: int, end: int) -> int:
        """Return how many bytes of a range are in the set."""
        return sum(e - s for s, e in self.within(start, end))

    def covered_until(self, start: int) -> int:
        """Return where the run of bytes that begins at `start` ends."""
        index = bisect_right(self._ends, start)
        if index < len(self._starts) and self._starts[index] <= start:
            return self._ends[index]
        return start

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether any byte of a range is in the set."""
        return bool(self.within(start, end))

    def copy(self) -> "Extents":
        """Return another set with the same bytes."""
        return Extents(self)

    def __iter__(self) -> Iterator[Range]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes; mypy wants a method

    def __repr__(self) -> str:
        return f"Extents({list(self)!r})"

    def _sum(self, first: int, last: int) -> int:
        return sum(self._ends[first:last]) - sum(self._starts[first:last])


def _check(start: int, end: int) -> None:
    if not 0 <= start <= end:
        raise ValueError(f"no range goes from {start} to {end}")
