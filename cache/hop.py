"""A hop to a worker thread and back, with little around it.

`trio.to_thread.run_sync` does more for who calls it (contexts, limits, leave to be
cancelled), and takes longer than most of what is done for a small close(2).
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    import outcome

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Run a call in a worker thread and wait for its end, even if cancelled.

    The thread cannot be stopped, and what follows must know how it ended.
    """
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()

    def deliver(result: "outcome.Outcome[T]") -> None:
        with contextlib.suppress(trio.RunFinishedError):  # nobody is left to ask
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    trio.lowlevel.start_thread_soon(call, deliver)
    found: T = await trio.lowlevel.wait_task_rescheduled(
        lambda _: trio.lowlevel.Abort.FAILED
    )
    return found
