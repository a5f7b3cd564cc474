"""What was fetched ahead of programs, and what became of it.

Bytes that nobody asked for yet are remembered until they are used, or given up: when
they are evicted unused, or when too many newer ones wait. Who fetches ahead asks
`is_wasteful` first, and stops for a while if most of what was fetched was in vain.

No I/O. Everything runs on the trio thread; each method is atomic.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mountfs.cache.activity import Activity

_WAITING_MAX = 20_000
_FORGIVEN = 32 << 20
"""So many bytes may be in vain before anything is concluded from it."""
_HALF_LIFE_S = 30.0
"""After this time what was before counts half."""
UNPROVEN_MAX = 512 << 20
"""So many bytes may wait, besides as many as were ever used, before more is a bet."""


@dataclass(slots=True, kw_only=True)
class AheadCounts:
    """What was fetched ahead since the mount began. Bytes, and numbers of things."""

    fetched_bytes: int = 0
    """Asked for although no program had asked yet."""
    used_bytes: int = 0
    """Of these: wanted by a program later."""
    wasted_bytes: int = 0
    """Of these: gone before anybody wanted them."""
    files: int = 0
    """Files that were fetched, whole or their beginning, because a walk was seen."""
    listings: int = 0
    """Directories that were listed because a walk was seen."""
    listings_used: int = 0


class AheadLedger:
    """Counts what is fetched ahead, and says whether it is worth it."""

    def __init__(
        self,
        activity: Activity | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._activity = activity if activity is not None else Activity()
        self._clock = clock
        self._aged_at_s = clock()
        self.counts = AheadCounts()
        self._waiting: OrderedDict[Hashable, int] = OrderedDict()
        self._waiting_bytes = 0
        self._used = 0.0
        self._wasted = 0.0

    @property
    def is_wasteful(self) -> bool:
        """Whether most of what was fetched lately was in vain."""
        self._age()
        return self._wasted > _FORGIVEN + self._used

    @property
    def is_unproven(self) -> bool:
        """Whether so much waits that nobody knows whether it will ever be of use."""
        return self._waiting_bytes > UNPROVEN_MAX + self.counts.used_bytes

    def note_fetched(self, name: Hashable, size: int) -> None:
        """Note bytes that came before anybody wanted them."""
        self.counts.fetched_bytes += size
        self._activity.ahead_bytes += size
        self._waiting_bytes += size - self._waiting.get(name, 0)
        self._waiting[name] = size
        while len(self._waiting) > _WAITING_MAX:
            self.note_gone(next(iter(self._waiting)))

    def note_used(self, name: Hashable) -> None:
        """Note that a program wants something, whether it was fetched ahead or not."""
        size = self._taken(name)
        if size is not None:
            self.counts.used_bytes += size
            self._activity.ahead_used_bytes += size
            self._age()
            self._used += size

    def note_failed(self, name: Hashable) -> None:
        """Note that bytes did not come."""
        size = self._taken(name) or 0
        self.counts.fetched_bytes -= size
        self._activity.ahead_bytes -= size

    def note_gone(self, name: Hashable) -> None:
        """Note that something is not here any more; wasted, if nobody wanted it."""
        size = self._taken(name)
        if size is not None:
            self.counts.wasted_bytes += size
            self._activity.ahead_unused_bytes += size
            self._age()
            self._wasted += size

    def _taken(self, name: Hashable) -> int | None:
        """Return how much of something waits, and let it wait no more."""
        size = self._waiting.pop(name, None)
        self._waiting_bytes -= size or 0
        return size

    def _age(self) -> None:
        now_s = self._clock()
        share = 0.5 ** ((now_s - self._aged_at_s) / _HALF_LIFE_S)
        self._aged_at_s = now_s
        self._used *= share
        self._wasted *= share
