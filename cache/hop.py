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
from typing import TYPE_CHECKING, Generic, TypeVar

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
    end = _End(call)
    bell = _take_bell()
    if bell is None:
        await _without_bell(end.reach)
        return end.taken()
    try:
        _start(end.reach, lambda _: os.eventfd_write(bell, 1))
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
    return end.taken()


class _End(Generic[T]):
    """How a call ends, told once.

    trio would tell, too, but its thread holds on to an error that leads back to it. So
    all that the call was given stayed until garbage is looked for: on a full disk a
    megabyte with each write.
    """

    __slots__ = ("_call", "_error", "_result")

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._error: BaseException | None = None

    def reach(self) -> None:
        """Make the call, in its thread."""
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001  # who waits is to have it
            self._error = error

    def taken(self) -> T:
        """Return or raise what the call did."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # or it would lead to itself by its own traceback


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
    call: Callable[[], None], deliver: "Callable[[outcome.Outcome[None]], object]"
) -> None:
    try:
        trio.lowlevel.start_thread_soon(call, deliver)
    except RuntimeError as error:
        # Not EAGAIN, as the system says: programs would take that for "not yet".
        raise OSError(errno.ENOMEM, f"no thread: {error}") from error


async def _without_bell(call: Callable[[], None]) -> None:
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()

    def deliver(result: "outcome.Outcome[None]") -> None:
        with contextlib.suppress(trio.RunFinishedError):  # nobody is left to ask
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    _start(call, deliver)
    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
