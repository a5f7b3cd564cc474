"""Keeps a log readable: what is said again and again becomes one line and a count.

Two rules, both for a minute from the first time on. The same text is written once. Of
texts that differ in a name alone, which one trouble has for a thousand files, the first
few are written. When the minute is over a line says how often each was held back.

Nothing is written here, and no time passes: see `mountfs.logs`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

WINDOW_S = 60.0
DIFFERENT_MAX = 20
SORTS_MAX = 500
"""So many sorts of messages are watched at once; the oldest are told before time."""

Sort = tuple[str, int, str]
"""Logger, level, and the message without its arguments."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What was not written: how often, and what."""

    sort: Sort
    text: str
    count: int
    seconds: float
    is_same: bool
    """It is that text, which was written once, or only the last of several."""

    def __str__(self) -> str:
        span = f"in {self.seconds:.0f} s"
        if self.is_same:
            return f"{self.text} (repeated {self.count} times {span})"
        return f"{self.text} (and {self.count - 1} more like this {span})"


@dataclass(slots=True)
class _Watched:
    begun_s: float
    written: dict[str, int] = field(default_factory=dict)
    """Texts, and how often each was held back since it was written."""
    others: int = 0
    last: str = ""


class Repeats:
    """Decides which messages are written."""

    def __init__(self) -> None:
        self._watched: dict[Sort, _Watched] = {}

    def may_write(self, sort: Sort, text: str, now_s: float) -> bool:
        """Tell whether a message is to be written; `due` was asked before."""
        watched = self._watched.get(sort)
        if watched is None:
            watched = self._watched[sort] = _Watched(now_s)
        if text in watched.written:
            watched.written[text] += 1
            return False
        if len(watched.written) >= DIFFERENT_MAX:
            watched.others += 1
            watched.last = text
            return False
        watched.written[text] = 0
        return True

    def due(self, now_s: float) -> Iterator[HeldBack]:
        """Yield what is to be told now: its minute is over, or there is too much."""
        for sort, watched in list(self._watched.items()):
            is_over = now_s - watched.begun_s >= WINDOW_S
            if is_over or len(self._watched) > SORTS_MAX:
                del self._watched[sort]
                yield from _held_back(sort, watched, now_s)

    @property
    def is_holding(self) -> bool:
        """Whether something was held back and not told yet."""
        return any(
            each.others or any(each.written.values()) for each in self._watched.values()
        )


def _held_back(sort: Sort, watched: _Watched, now_s: float) -> Iterator[HeldBack]:
    seconds = now_s - watched.begun_s
    for text, count in watched.written.items():
        if count:
            yield HeldBack(sort, text, count, seconds, is_same=True)
    if watched.others:
        yield HeldBack(sort, watched.last, watched.others, seconds, is_same=False)
