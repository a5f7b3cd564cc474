"""Counts what the kernel asks: how often, with what errno, how long it took."""

from mountfs.storage.counts import Tally, Times, Timings

OTHER_ERRNO = -1


class OperationMeter:
    """The counters of one mount; on the trio thread alone.

    A handler has a tenth of a millisecond: of that, `note` takes a two-hundredth.
    """

    def __init__(self) -> None:
        self._times: dict[str, Timings] = {}
        self._errors: Tally[tuple[str, int]] = Tally(("other", OTHER_ERRNO))

    def note(self, name: str, errno: int, seconds: float) -> None:
        """Count an operation; errno 0 says that it succeeded."""
        try:
            self._times[name].note(seconds)
        except KeyError:
            self._times[name] = times = Timings()
            times.note(seconds)
        if errno:  # successes are all the others
            self._errors.add((name, errno))

    def times(self) -> dict[str, Times]:
        """Return how long the operations took, by name."""
        return {name: each.times() for name, each in self._times.items()}

    def outcomes(self) -> dict[tuple[str, int], int]:
        """Return how many there were by name and errno."""
        errors = self._errors.counts()
        found = {(name, 0): each.total for name, each in self.times().items()}
        for (name, _), count in errors.items():
            if (name, 0) in found:
                found[name, 0] -= count
        return {key: count for key, count in found.items() if count} | errors
