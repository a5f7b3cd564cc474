"""Worker threads for calls that block, with a bound of their own for each store."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """At most `count` blocking calls at once; the others wait on the trio side.

    A cancelled call is abandoned: its thread goes on to the end of what it was told,
    holds its place until then, and the result is dropped.
    """

    def __init__(self, count: int) -> None:
        self._limiter = trio.CapacityLimiter(count)

    async def run(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call `function` in a worker thread and return what it returns."""
        return await trio.to_thread.run_sync(
            lambda: function(*args, **kwargs),
            limiter=self._limiter,
            abandon_on_cancel=True,
        )
