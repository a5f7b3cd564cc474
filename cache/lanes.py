"""Places for requests under way: who waits for a program goes before what is ahead.

Work ahead of a program never takes the last places, and its bytes under way have a
bound of their own. If a program comes to wait for something that is ahead and still
has no place, it is `hurried`: it stands among those who go first from then on.

No I/O. Everything runs on the trio thread; whatever does not wait is atomic.
"""

from collections import deque
from dataclasses import dataclass, field

import trio


@dataclass(slots=True, eq=False)
class Place:
    """One request that wants to be under way, or is."""

    size: int
    is_ahead: bool
    granted: trio.Event = field(default_factory=trio.Event)


class Lanes:
    """At most `count` requests under way, `reserve` of them never for work ahead."""

    def __init__(self, count: int, *, reserve: int, ahead_bytes_max: int) -> None:
        self._free = count
        self._ahead_free = max(1, count - reserve)
        self._ahead_bytes_max = ahead_bytes_max
        self._ahead_bytes = 0
        self._first: deque[Place] = deque()
        self._ahead: deque[Place] = deque()
        self._running_ahead: set[Place] = set()

    def queue(self, place: Place) -> None:
        """Stand in line; `wait` or `leave` must follow. Who comes first goes first."""
        (self._ahead if place.is_ahead else self._first).append(place)
        self._grant()

    async def wait(self, place: Place) -> None:
        """Return when the request may begin; `leave` must follow."""
        if place.granted.is_set():
            return  # without a turn of the loop, so that the order stays
        try:
            await place.granted.wait()
        except BaseException:
            self.leave(place)
            raise

    def hurry(self, place: Place) -> None:
        """Let a request that still waits go before everything ahead."""
        if place in self._ahead:
            self._ahead.remove(place)
            self._first.append(place)
            self._grant()

    def leave(self, place: Place) -> None:
        """Give a place back, or stop waiting for one."""
        if not place.granted.is_set():
            for lane in (self._first, self._ahead):
                if place in lane:
                    lane.remove(place)
            return
        self._free += 1
        if place in self._running_ahead:
            self._running_ahead.discard(place)
            self._ahead_free += 1
            self._ahead_bytes -= place.size
        self._grant()

    def _grant(self) -> None:
        while self._first and self._free > 0:
            self._free -= 1
            self._first.popleft().granted.set()
        while self._ahead and self._may_begin(self._ahead[0]):
            place = self._ahead.popleft()
            self._free -= 1
            self._ahead_free -= 1
            self._ahead_bytes += place.size
            self._running_ahead.add(place)
            place.granted.set()

    def _may_begin(self, place: Place) -> bool:
        if self._free <= 0 or self._ahead_free <= 0:
            return False
        fits = self._ahead_bytes + place.size <= self._ahead_bytes_max
        return fits or not self._running_ahead
