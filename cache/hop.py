"""A hop to a worker thread and back, with little around it.

`trio.to_thread.run_sync` does more for who calls it (contexts, limits, leave to be
cancelled), and takes longer than most of what is done for a small close(2). And trio's
way back from a thread takes three turns of the loop: here the thread rings a bell
(eventfd(2)) that the task itself waits for.
"""

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    import outcome

T = TypeVar("T")

BELLS_MAX = 32
"""So many hops at a time have a bell; more of them take longer."""

_free_bells: list[int] = []
_made: list[int] = []


def _forget_bells() -> None:
    """In a child of this process: its threads must not ring for the parent."""
    _free_bells.clear()
    _made.clear()


os.register_at_fork(after_in_child=_forget_bells)


async def in_thread(call: Callable[[], T]) -> T:
    """Run a call in a worker thread and wait for its end, even if cancelled.

    The thread cannot be stopped, and what follows must know how it ended. Raises
    `OSError` if there are too many threads: the call was not begun.
    """
    bell = _take_bell()
    if bell is None:
        return await _without_bell(call)
    results: list[outcome.Outcome[T]] = []

    def deliver(result: "outcome.Outcome[T]") -> None:
        results.append(result)
        os.eventfd_write(bell, 1)

    try:
        _start(call, deliver)
    except OSError:
        _free_bells.append(bell)
        raise
    try:
        await trio.lowlevel.wait_readable(bell)
    except trio.Cancelled:
        # Who has cancelled us says so again wherever that may be heard.
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(bell)
    os.eventfd_read(bell)
    _free_bells.append(bell)
    return results[0].unwrap()


def _take_bell() -> int | None:
    """Return a bell that nobody uses; they are kept, and never closed."""
    if _free_bells:
        return _free_bells.pop()
    if len(_made) == BELLS_MAX:
        return None
    try:
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except OSError:  # too many files are open: no reason to fail
        return None
    _made.append(bell)
    return bell


def _start(
    call: Callable[[], T], deliver: "Callable[[outcome.Outcome[T]], object]"
) -> None:
    try:
        trio.lowlevel.start_thread_soon(call, deliver)
    except RuntimeError as error:
        # Not EAGAIN, as the system says: programs would take that for "not yet".
        raise OSError(errno.ENOMEM, f"no thread: {error}") from error


async def _without_bell(call: Callable[[], T]) -> T:
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()

    def deliver(result: "outcome.Outcome[T]") -> None:
        with contextlib.suppress(trio.RunFinishedError):  # nobody is left to ask
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    _start(call, deliver)
    found: T = await trio.lowlevel.wait_task_rescheduled(
        lambda _: trio.lowlevel.Abort.FAILED
    )
    return found
