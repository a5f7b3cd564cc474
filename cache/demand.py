"""Whether programs ask the mount for anything just now."""

import time
from collections.abc import Callable

from mountfs.cache.activity import Activity

QUIET_S = 0.05
"""Who has asked nothing for so long is at something else."""


class Demand:
    """Looks at what the kernel has asked, from time to time."""

    def __init__(
        self, activity: Activity, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._activity = activity
        self._clock = clock
        self._seen = activity.requests
        self._asked_s = float("-inf")

    def is_there(self) -> bool:
        """Whether something was asked since the look before, or shortly before that."""
        now_s = self._clock()
        if self._activity.requests != self._seen:
            self._seen, self._asked_s = self._activity.requests, now_s
        return now_s < self._asked_s + QUIET_S
