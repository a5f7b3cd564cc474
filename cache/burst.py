"""Whether programs are in the middle of many changes, so that storing them waits.

An upload takes processor time from whoever changes files just then, and a program that
makes one file makes the next one at once. So nothing is sent while changes follow each
other closely, unless somebody waits for it, and for no longer than `LONGEST_S`.
"""

import time
from collections.abc import Callable

import trio

QUIET_S = 0.05
"""A burst is over when nothing has changed for so long."""
LONG_QUIET_S = 0.25
"""Then programs are certainly at something else, even on a busy machine."""
LONGEST_S = 1.0
"""A burst that goes on for longer is no reason to wait any more."""


class Burst:
    """The changes that follow each other closely just now, if any do."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = self._last_s = float("-inf")
        self._cut_short = trio.Event()

    def note(self) -> None:
        """Note that something was changed now."""
        now_s = self._clock()
        if now_s >= self._last_s + QUIET_S:
            self._began_s = now_s
        self._last_s = now_s

    def cut_short(self) -> None:
        """Let nothing wait for the end of this burst: somebody waits for the store."""
        self._began_s = float("-inf")
        self._cut_short.set()
        self._cut_short = trio.Event()

    @property
    def is_cut_short(self) -> bool:
        """Whether somebody waits for the store, and no new burst has begun since."""
        return self._began_s == float("-inf")

    @property
    def long_over_s(self) -> float:
        """When nothing more is to be expected, if nothing comes until then."""
        return self._last_s + LONG_QUIET_S

    async def over(self) -> None:
        """Return when nothing speaks against sending something."""
        while (left_s := self._left_s()) > 0:
            with trio.move_on_after(left_s):
                await self._cut_short.wait()

    async def rest(self) -> None:
        """Wait a moment if changes follow each other just now, and nobody waits.

        There is news with each of them, and one look is enough for many.
        """
        if not self.is_cut_short and self._clock() < self._last_s + QUIET_S:
            with trio.move_on_after(QUIET_S):
                await self._cut_short.wait()

    def _left_s(self) -> float:
        ends_s = min(self._last_s + QUIET_S, self._began_s + LONGEST_S)
        return ends_s - self._clock()
