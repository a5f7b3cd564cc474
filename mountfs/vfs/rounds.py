"""Which way a program goes through a directory, and how far somebody ahead of it is.

Who runs ahead goes on where it stopped. To begin anew behind each file that the program
opens would mean to look again at all between there and here, each time.

Pure: names in their order, and positions in a sorted listing.
"""

_BALANCE_MAX = 4


class Direction:
    """Which way a program goes through the names of a directory.

    Eight threads open files nearly in order: a single step back tells nothing.
    """

    def __init__(self) -> None:
        self._last: str | None = None
        self._balance = 0

    @property
    def is_backwards(self) -> bool:
        """Whether it goes from the last name to the first."""
        return self._balance > 0

    def note(self, key: str) -> None:
        """Note what a program opens."""
        if self._last is not None:
            step = 1 if key < self._last else -1
            self._balance = max(-_BALANCE_MAX, min(self._balance + step, _BALANCE_MAX))
        self._last = key


class Round:
    """One time through the positions of a listing, from one on to its end.

    A whole one goes on with those on the other side of where it began.
    """

    def __init__(
        self, start: int, count: int, *, is_backwards: bool, is_whole: bool
    ) -> None:
        self.is_backwards = is_backwards
        self.is_in_vain = True
        """Whether nothing was found to be done."""
        self._start = start
        self._step = -1 if is_backwards else 1
        self._count = count
        self._passed = 0
        to_end = start + 1 if is_backwards else count - start
        self._most = count if is_whole else to_end

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left."""
        return self._passed >= self._most

    @property
    def tells_of_all(self) -> bool:
        """Whether it has so many positions that it stands for all."""
        return 2 * self._most >= self._count

    def is_ahead_of(self, position: int) -> bool:
        """Tell whether a position was passed, or is that before the first."""
        behind = (position - self._start) * self._step + 1
        return behind % self._count <= self._passed

    def next(self) -> int:
        """Pass one more position, and return it."""
        position = (self._start + self._passed * self._step) % self._count
        self._passed += 1
        return position
