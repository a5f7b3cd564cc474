"""A queue at a door that opens now and then: programs first, the background behind.

The background is not starved: while both wait it has one turn in `SHARE`.
"""

import math
from collections import deque
from collections.abc import Callable

import trio

SHARE = 8
SOON_S = 1e-6
"""Less is no time: what is rounded must not be waited for again and again."""


class _Ticket:
    def __init__(self) -> None:
        self.woken = trio.Event()


class Turns:
    """Lets one waiter after the other go, each when the door says so.

    `wait_s` tells how long the next one must wait, 0 if not at all. Everything runs on
    the trio thread.
    """

    def __init__(self, wait_s: Callable[[], float]) -> None:
        self._wait_s = wait_s
        self._programs: deque[_Ticket] = deque()
        self._background: deque[_Ticket] = deque()
        self._since_background = 0

    @property
    def is_free(self) -> bool:
        """Whether who comes now may go at once."""
        return not (self._programs or self._background) and self._wait_s() <= SOON_S

    def __len__(self) -> int:
        return len(self._programs) + len(self._background)

    @property
    def programs_wait(self) -> bool:
        """Whether a program waits for somebody here."""
        return bool(self._programs)

    async def take(self, *, is_background: bool, go: Callable[[], object]) -> None:
        """Wait for a turn; `go` is called in it, and makes the next one wait."""
        ticket = _Ticket()
        queue = self._background if is_background else self._programs
        queue.append(ticket)
        try:
            await self._come_first(ticket)
            go()
            is_passed_over = bool(self._background) and not is_background
            self._since_background = (self._since_background + 1) * is_passed_over
        finally:
            queue.remove(ticket)
            self.look_again()

    def look_again(self) -> None:
        """Let the first in the queue ask the door anew: the limit may have changed."""
        first = self._first()
        if first is not None:
            first.woken.set()

    async def _come_first(self, ticket: _Ticket) -> None:
        while True:
            ticket.woken = trio.Event()
            is_first = self._first() is ticket
            left_s = self._wait_s() if is_first else math.inf
            if left_s <= SOON_S:
                return
            with trio.move_on_after(left_s):
                await ticket.woken.wait()

    def _first(self) -> _Ticket | None:
        is_due = not self._programs or self._since_background >= SHARE - 1
        if self._background and is_due:
            return self._background[0]
        return self._programs[0] if self._programs else None
