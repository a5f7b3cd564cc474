"""The way into a worker thread and back: how it ends, and what it costs the loop."""

import contextlib
import errno
import gc
import os
import threading
import time
import weakref
from functools import partial

import pytest
import trio

from mountfs.cache import hop
from mountfs.cache.hop import BELLS_MAX, in_thread


class StepsOfOthers(trio.abc.Instrument):
    """Counts the steps of all tasks but one."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is not self._task


async def test_a_thread_wakes_who_waits_for_it_and_no_task_else() -> None:
    steps = StepsOfOthers(trio.lowlevel.current_task())
    trio.lowlevel.add_instrument(steps)
    try:
        for _ in range(10):
            await in_thread(lambda: time.sleep(0.001))
    finally:
        trio.lowlevel.remove_instrument(steps)

    assert steps.count == 0


async def test_a_hop_returns_or_raises_what_its_call_does() -> None:
    def fail() -> None:
        raise KeyError("x")

    assert await in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(KeyError):
        await in_thread(fail)


@pytest.mark.parametrize("has_bells", [True, False])
async def test_what_a_call_that_failed_was_given_goes_with_its_error(
    monkeypatch: pytest.MonkeyPatch, has_bells: bool
) -> None:
    """Not when garbage is looked for: it may be a megabyte that found no room."""
    if not has_bells:
        monkeypatch.setattr(hop, "_take_bell", lambda: None)
    gc.disable()
    try:
        given = Given()
        is_gone = weakref.ref(given)
        with contextlib.suppress(KeyError):
            await in_thread(partial(fail_with, given))
        del given
        assert is_gone() is None
    finally:
        gc.enable()


class Given:
    """Something that a call is given."""


def fail_with(_: Given) -> None:
    raise KeyError("x")


async def test_a_hop_ends_with_its_call_even_if_cancelled() -> None:
    """What follows must know how it ended; that it was cancelled is heard later."""
    go = threading.Event()
    ended: list[bool] = []

    async def let_go() -> None:
        await trio.lowlevel.checkpoint()
        go.set()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            nursery.start_soon(let_go)
            ended.append(await in_thread(go.wait))
            await trio.lowlevel.checkpoint()
            ended.append(False)

    assert ended == [True]
    assert scope.cancelled_caught


@pytest.mark.parametrize("has_bells", [True, False])
async def test_many_hops_at_once_all_come_back(
    monkeypatch: pytest.MonkeyPatch, has_bells: bool
) -> None:
    """Also if the process may open no file any more."""
    if not has_bells:
        monkeypatch.setattr(hop, "_free_bells", [])
        monkeypatch.setattr(hop, "_made", [])
        monkeypatch.setattr(os, "eventfd", refuse)
    found: list[int] = []

    async def go(number: int) -> None:
        found.append(await in_thread(lambda: number))

    count = 2 * BELLS_MAX
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(go, number)

    assert sorted(found) == list(range(count))
    assert len(hop._made) == (BELLS_MAX if has_bells else 0)


@pytest.mark.parametrize("has_bells", [True, False])
async def test_too_many_threads_are_an_error_of_the_system(
    monkeypatch: pytest.MonkeyPatch, has_bells: bool
) -> None:
    """And not a bug of ours; what was taken for the hop is there for the next."""
    await in_thread(threading.get_ident)
    if not has_bells:
        monkeypatch.setattr(hop, "_take_bell", lambda: None)
    bells = list(hop._free_bells)
    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        with pytest.raises(OSError, match="thread") as caught:
            await in_thread(threading.get_ident)

    assert caught.value.errno == errno.ENOMEM
    assert hop._free_bells == bells


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


async def test_a_child_process_has_bells_of_its_own() -> None:
    await in_thread(threading.get_ident)

    assert bells_of_a_child() == b"0"
    assert hop._made


def bells_of_a_child() -> bytes:
    """Return how many bells a child has when it begins."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing may go on from here: it is the test runner, copied
        try:
            os.write(writing, b"%d" % len(hop._made))
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    count = os.read(reading, 10)
    os.close(reading)
    return count


def refuse(*_: object) -> int:
    raise OSError("too many files are open")
