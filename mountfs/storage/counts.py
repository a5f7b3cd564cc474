"""Counters that grow while a mount lives: how often, with what end, how long.

The most frequent of them stand on the path of every request of the kernel, so they are
plain numbers in plain containers, added to without a lock by whoever owns them. What
reads them (`mountfs.serving.metrics`) copies them when it is asked.
"""

from bisect import bisect_left
from typing import Generic, NamedTuple, TypeVar

BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""The upper bounds of the buckets; one more takes what lasted longer. Seconds."""

SERIES_MAX = 1000
"""So many outcomes are told apart, however inventive a service is."""

K = TypeVar("K")


class Times(NamedTuple):
    """How long something took, at one moment."""

    buckets: tuple[int, ...]
    """How many fell into each bucket, not added up."""
    seconds: float
    """All together."""

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.buckets)


class Timings:
    """How long something took, in buckets."""

    __slots__ = ("_buckets", "_seconds")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count one that took so long."""
        self._buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._seconds += seconds

    def times(self) -> Times:
        """Return the counts as they are now."""
        return Times(tuple(self._buckets), self._seconds)


class Tally(Generic[K]):
    """How often each of a bounded number of things happened."""

    def __init__(self, other: K) -> None:
        """`other` stands for whatever comes when there are enough of them."""
        self._counts: dict[K, int] = {}
        self._other = other

    def add(self, key: K, count: int = 1) -> None:
        """Count one, or so many."""
        known = self._counts.get(key)
        if known is None and len(self._counts) >= SERIES_MAX:
            key, known = self._other, self._counts.get(self._other)
        self._counts[key] = (known or 0) + count

    def counts(self) -> dict[K, int]:
        """Return the counts as they are now."""
        return dict(self._counts)
