"""How long a run may take, so that it ends in time whatever a system does.

A whole run gets so many minutes, a stage a part of them, and each measurement what is
left of its stage at most. What there was no time for is told as such.
"""

import time
from collections.abc import Callable
from typing import Self

LEAST_S = 5.0
"""With less than this left nothing is begun."""
NO_TIME = "not tried: no time was left"


class Allowance:
    """The time that is left, by a clock that only goes forward."""

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._began_s = clock()

    @property
    def left_s(self) -> float:
        """Return how much is left; nothing, if it is over."""
        return max(0.0, self._seconds - (self._clock() - self._began_s))

    @property
    def is_over(self) -> bool:
        """Whether too little is left to begin anything."""
        return self.left_s < LEAST_S

    def is_ahead(self, done: int, of: int) -> bool:
        """Tell whether so much of the work has taken no more than its part of it."""
        return self._seconds - self.left_s <= self._seconds * done / of

    def limit(self, seconds: float) -> float:
        """Return how long a measurement may take that has a limit of its own."""
        return min(seconds, self.left_s)

    def until(self, part: float) -> Self:
        """Return what is left until a part of all is gone: the time of a stage."""
        left_s = self.left_s - self._seconds * (1 - part)
        return type(self)(max(0.0, left_s), self._clock)
