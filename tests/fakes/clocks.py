"""Clocks for tests: time stands still, or passes with each look."""


class Clock:
    """A clock that stands still until `now_s` is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class TickingClock:
    """A clock on which the same time passes before each look."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._now = 0

    def __call__(self) -> int:
        self._now += self._step
        return self._now
