"""When requests may leave again after Dropbox has asked to slow down.

The moment is shared by all stores of one account on this host.
"""

import trio

PAUSE_S = 1.0
"""Where Dropbox names no time. Seconds."""
PAUSE_MAX_S = 300.0


class Pace:
    """The moment before which nothing is sent."""

    def __init__(self) -> None:
        self._until = 0.0

    async def wait(self) -> None:
        """Return when a request may leave."""
        await trio.sleep_until(max(self._until, trio.current_time()))

    def slow_down(self, seconds: float | None) -> None:
        """Send nothing for so long."""
        pause_s = min(PAUSE_S if seconds is None else seconds, PAUSE_MAX_S)
        self._until = max(self._until, trio.current_time() + pause_s)
