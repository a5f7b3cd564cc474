"""A request under way for blocks that follow each other, and which blocks go together.

Everybody who wants a block that is on its way waits for the same request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from mountfs.cache.blockfiles import Block
from mountfs.cache.lanes import Place
from mountfs.storage.reason import Reason
from mountfs.storage.types import Object


@dataclass(slots=True)
class Fetch:
    """One request under way for consecutive blocks."""

    object: Object
    first: int
    count: int
    place: Place
    reason: Reason
    done: trio.Event = field(default_factory=trio.Event)
    blocks: Mapping[int, Block] = field(default_factory=dict)
    answer: Object | None = None
    """The object as the store has just described it."""
    error: Exception | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether it was begun before a program asked."""
        return self.place.is_ahead


def runs_of(
    indexes: list[int], count_max: int, steps: tuple[int, ...] = ()
) -> list[tuple[int, int]]:
    """Group ascending indexes into runs `(first, count)` of limited length."""
    runs: list[tuple[int, int]] = []
    for index in indexes:
        number = max(0, len(runs) - 1)
        most = min(count_max, steps[number]) if number < len(steps) else count_max
        if runs and index == sum(runs[-1]) and runs[-1][1] < most:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs
