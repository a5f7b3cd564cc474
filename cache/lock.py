"""A lock for tasks that costs nothing while nobody else wants it.

`trio.Lock` takes a turn of the loop, with a system call and all that is scheduled, even
if it is free; what a program does to one small file takes a dozen locks. This one takes
no turn then, and is no point of cancellation. Who waits is served in turn.
"""

from collections import OrderedDict

import trio


class Lock:
    """Held by one task at a time: `async with`."""

    __slots__ = ("_owner", "_waiting")

    def __init__(self) -> None:
        self._owner: trio.lowlevel.Task | None = None
        self._waiting: OrderedDict[trio.lowlevel.Task, None] | None = None

    def locked(self) -> bool:
        """Tell whether somebody holds it."""
        return self._owner is not None

    @property
    def is_used(self) -> bool:
        """Whether somebody holds it, or waits for it."""
        return self._owner is not None or bool(self._waiting)

    async def acquire(self) -> None:
        """Return when it is ours; until `release`."""
        task = trio.lowlevel.current_task()
        if self._owner is None:
            self._owner = task
            return
        if self._owner is task:
            raise RuntimeError("a task waits for a lock that it holds itself")
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = OrderedDict()
        waiting[task] = None

        def give_up(_: object) -> trio.lowlevel.Abort:
            del waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def release(self) -> None:
        """Give it to who waits, if anybody does."""
        self._owner = None
        if self._waiting:
            # It goes over at once: nobody who comes later is to be first.
            self._owner, _ = self._waiting.popitem(last=False)
            trio.lowlevel.reschedule(self._owner)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()
