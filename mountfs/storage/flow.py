"""The limits themselves: how many bytes, and how many requests, go in a second.

Both keep no queue of what went, only when all of it is paid for. They are asked from
the trio thread, where a request waits for its turn, and from the threads that carry
requests out.
"""

import threading
from collections import deque
from collections.abc import Callable

from mountfs.storage.turns import SHARE, Turns

PIECE_S = 0.1
"""So long a piece takes at the limit: what is longer is felt as a pause."""
PIECE_MIN, PIECE_MAX = 4 << 10, 256 << 10
AHEAD_S = 0.25
"""So far it may be ahead when another transfer begins: several share the limit."""

Clock = Callable[[], float]


class Flow:
    """At most so many bytes a second in one direction; 0: any number."""

    def __init__(self, clock: Clock) -> None:
        self.turns = Turns(self._wait_s)
        self.rate = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_s = clock()
        """When all that went is paid for."""
        self._background_paid_s = clock()
        """When that of the background is, out of its share."""
        self._programs = 0

    @property
    def piece(self) -> int | None:
        """How many bytes are to go at once at most."""
        if not self.rate:
            return None
        return max(PIECE_MIN, min(PIECE_MAX, int(self.rate * PIECE_S)))

    def limit(self, rate: int) -> None:
        """Set another limit; what went is forgiven."""
        with self._lock:
            self.rate = rate
            self._paid_s = self._background_paid_s = self._clock()
        self.turns.look_again()

    def begin(self, *, is_background: bool) -> None:
        """Count a transfer that is under way from now on."""
        self._programs += not is_background

    def end(self, *, is_background: bool) -> None:
        """Count no more a transfer that has ended."""
        self._programs -= not is_background

    def charge(self, size: int, *, is_background: bool) -> float:
        """Count bytes that go now; return how many seconds it takes to pay for them
        and all before them.
        """
        with self._lock:
            if not self.rate:
                return 0.0
            now_s = self._clock()
            self._paid_s = max(self._paid_s, now_s) + size / self.rate
            paid_s = self._paid_s
            if is_background and (self._programs or self.turns.programs_wait):
                share_s = SHARE * size / self.rate
                self._background_paid_s = max(self._background_paid_s, now_s) + share_s
                paid_s = max(paid_s, self._background_paid_s)
            return paid_s - now_s

    def _wait_s(self) -> float:
        with self._lock:
            if not self.rate:
                return 0.0
            return max(0.0, self._paid_s - self._clock() - AHEAD_S)


class Rate:
    """At most so many requests in any second; 0: any number."""

    def __init__(self, clock: Clock) -> None:
        self.turns = Turns(self._wait_s)
        self.rate = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._sent_s: deque[float] = deque()
        """When the last ones went, as many as may go in a second."""

    def limit(self, rate: int) -> None:
        """Set another limit."""
        with self._lock:
            self.rate = rate
            self._drop_old()
        self.turns.look_again()

    def charge(self) -> None:
        """Count a request that goes now."""
        with self._lock:
            self._sent_s.append(self._clock())
            self._drop_old()

    def _drop_old(self) -> None:
        while len(self._sent_s) > self.rate:
            self._sent_s.popleft()

    def _wait_s(self) -> float:
        with self._lock:
            if not self.rate or len(self._sent_s) < self.rate:
                return 0.0
            return max(0.0, self._sent_s[0] + 1.0 - self._clock())
