"""How fast the store is: what a request costs by itself, and what each byte adds.

From these follows how much more may be asked for without making an answer much later.
Pure: it is told sizes and times.
"""

_SMALL = 256 << 10
_LARGE = 2 << 20
_WEIGHT = 0.2
_FIRST_GUESS = 4 << 20


class Pace:
    """What was seen of requests for bytes."""

    def __init__(self) -> None:
        self._latency_s: float | None = None
        self._bytes_per_s: float | None = None

    def note(self, size: int, elapsed_s: float) -> None:
        """Note how long a request for so many bytes took."""
        if size <= _SMALL or self._latency_s is None or elapsed_s < self._latency_s:
            self._latency_s = _mean(self._latency_s, elapsed_s)
        elif size >= _LARGE:
            rate = size / max(elapsed_s - self._latency_s, 1e-4)
            self._bytes_per_s = _mean(self._bytes_per_s, rate)

    @property
    def is_known(self) -> bool:
        """Whether enough was seen to judge by."""
        return self._latency_s is not None and self._bytes_per_s is not None

    def size_within(self, seconds: float) -> int | None:
        """Return how many bytes one connection brings in a time, if that is known."""
        if self._bytes_per_s is None:
            return None
        return int(seconds * self._bytes_per_s)

    def free_size(self) -> int:
        """Return how many bytes come in about the time of two round trips."""
        if self._latency_s is None or self._bytes_per_s is None:
            return _FIRST_GUESS
        return int(2 * self._latency_s * self._bytes_per_s)


def _mean(known: float | None, seen: float) -> float:
    return seen if known is None else known + _WEIGHT * (seen - known)
