"""Directories in which programs of this mount change much just now."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice

import trio

CHANGES_MIN = 5
CHANGES_WITHIN_S = 2.0
"""A directory with so many changes in so short a time is busy."""
PLACES_MAX = 256


class Busy:
    """Remembers the last changes of the directories that were changed last.

    A directory is in it if names are made, removed or moved there.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._names = _Changes()
        self._files = _Changes()
        self._changed = trio.Event()

    def note(self, prefix: str) -> None:
        """Note that a name was made, removed or moved in a directory."""
        self._names.note(prefix, self._clock())
        self.note_file(prefix)

    def note_file(self, prefix: str) -> None:
        """Note that a file in a directory was changed."""
        now_s = self._clock()
        self._files.note(prefix, now_s)
        if self._files.are_many(prefix, now_s):
            self._changed.set()

    def __contains__(self, prefix: object) -> bool:
        """Tell whether more changes of names are likely to come at once."""
        return isinstance(prefix, str) and self._names.are_many(prefix, self._clock())

    async def wait_for_change(self) -> None:
        """Return at the next change in a directory of which more are likely."""
        self._changed = trio.Event()
        await self._changed.wait()

    def newest(self, count: int, within_s: float) -> list[str]:
        """Return the directories that were changed last of those with many changes.

        Of names or of files, the last one within so long.
        """
        return self._files.newest(count, self._clock(), within_s)


class _Changes:
    """When the last changes of directories were."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, prefix: str, now_s: float) -> None:
        times = self._times.get(prefix)
        if times is None:
            times = self._times[prefix] = deque(maxlen=CHANGES_MIN)
            if len(self._times) > PLACES_MAX:
                self._times.popitem(last=False)
        self._times.move_to_end(prefix)
        times.append(now_s)

    def are_many(self, prefix: str, now_s: float) -> bool:
        times = self._times.get(prefix)
        if times is None or len(times) < CHANGES_MIN:
            return False
        return now_s - times[0] < CHANGES_WITHIN_S

    def newest(self, count: int, now_s: float, within_s: float) -> list[str]:
        return [
            prefix
            for prefix, times in islice(reversed(self._times.items()), count)
            if now_s - times[-1] <= within_s and self.are_many(prefix, now_s)
        ]
