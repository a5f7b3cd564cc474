"""Directories in which programs of this mount change many names just now."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

CHANGES_MIN = 5
CHANGES_WITHIN_S = 2.0
"""A directory with so many changes in so short a time is busy."""
PLACES_MAX = 256


class Busy:
    """Remembers the last changes of the directories that were changed last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changes: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, prefix: str) -> None:
        """Note that a name was made, removed or moved in a directory."""
        changes = self._changes.get(prefix)
        if changes is None:
            changes = self._changes[prefix] = deque(maxlen=CHANGES_MIN)
            if len(self._changes) > PLACES_MAX:
                self._changes.popitem(last=False)
        self._changes.move_to_end(prefix)
        changes.append(self._clock())

    def __contains__(self, prefix: object) -> bool:
        """Tell whether more changes are likely to come at once."""
        changes = self._changes.get(prefix) if isinstance(prefix, str) else None
        if changes is None or len(changes) < CHANGES_MIN:
            return False
        return self._clock() - changes[0] < CHANGES_WITHIN_S
