"""Who waits for the kernel's requests: one worker, until it pauses."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing

from mountfs.fuse.turns import AT_ONCE_MAX, MOMENT_S, Baton, fewer_turns


async def test_who_comes_back_without_a_pause_goes_on() -> None:
    with fewer_turns():
        baton: Baton = pyfuse3.trio.Lock()  # type: ignore[attr-defined]  # not in its stubs
        turns: list[str] = []

        async def other() -> None:
            async with baton:
                turns.append("other")

        async with trio.open_nursery() as nursery:
            async with baton:
                nursery.start_soon(other)
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                async with baton:
                    turns.append("same")
                    await trio.lowlevel.checkpoint()
            assert turns == ["same"] * 3
            await trio.lowlevel.checkpoint()  # a handler that waits for something
            async with baton:
                turns.append("same")
        assert turns == ["same", "same", "same", "other", "same"]
    assert pyfuse3.trio is trio  # type: ignore[attr-defined]  # not in its stubs


async def test_another_goes_on_when_the_last_one_ends() -> None:
    with fewer_turns():
        baton: Baton = pyfuse3.trio.Lock()  # type: ignore[attr-defined]  # not in its stubs
        served: list[int] = []

        async def serve(number: int) -> None:
            async with baton:
                await trio.lowlevel.checkpoint()
                served.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(serve, number)
        assert sorted(served) == [0, 1, 2, 3]


async def test_who_gives_up_is_passed_over() -> None:
    with fewer_turns():
        baton: Baton = pyfuse3.trio.Lock()  # type: ignore[attr-defined]  # not in its stubs
        with trio.move_on_after(5) as scope:
            async with trio.open_nursery() as nursery, baton:
                nursery.start_soon(baton.__aenter__)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            async with baton:
                pass
        assert not scope.cancelled_caught


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long a request was waited for on the spot, each time."""
    waited: list[float] = []
    look = select.select

    def counted(read: list[int], *rest: Any) -> Any:
        waited.append(rest[-1])
        return look(read, *rest)

    monkeypatch.setattr(select, "select", counted)
    return waited


async def test_the_next_request_is_waited_for_on_the_spot(waits: list[float]) -> None:
    """But not for ever: everybody else has a turn after so many."""
    turns = Turns()
    reading, writing = os.pipe()
    baton = Baton()
    with closing(reading), closing(writing):
        os.write(writing, b"a request that nobody reads")
        await serve_one(baton, reading)
        trio.lowlevel.add_instrument(turns)
        try:
            for _ in range(AT_ONCE_MAX):
                await serve_one(baton, reading)
            assert turns.count == 0
            await serve_one(baton, reading)
            assert turns.count == 1
        finally:
            trio.lowlevel.remove_instrument(turns)

    assert waits == [MOMENT_S] * AT_ONCE_MAX


class Turns(trio.abc.Instrument):
    """Counts how often the loop goes round."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_who_has_paused_does_not_hold_up_the_others(waits: list[float]) -> None:
    """A handler that waits for something leaves that to the loop."""
    reading, writing = os.pipe()
    baton = Baton()
    with closing(reading), closing(writing):
        os.write(writing, b"x")
        trio.lowlevel.add_instrument(baton)
        try:
            await serve_one(baton, reading)
            await trio.lowlevel.checkpoint()
            await serve_one(baton, reading)
        finally:
            trio.lowlevel.remove_instrument(baton)

    assert waits == []


async def test_who_comes_after_one_that_has_paused_does_not_either(
    waits: list[float],
) -> None:
    """Even if that one has answered without a pause before."""
    reading, writing = os.pipe()
    baton = Baton()
    with closing(reading), closing(writing):
        os.write(writing, b"x")
        trio.lowlevel.add_instrument(baton)
        try:
            async with trio.open_nursery() as nursery:
                async with baton:
                    nursery.start_soon(serve_one, baton, reading)
                    await trio.testing.wait_all_tasks_blocked()
                await serve_one(baton, reading)
                assert len(waits) == 1
                # And then a handler that waits for something, while another is served.
        finally:
            trio.lowlevel.remove_instrument(baton)

    assert len(waits) == 1


async def test_a_request_that_comes_later_is_left_to_the_loop(
    waits: list[float],
) -> None:
    reading, writing = os.pipe()
    baton = Baton()
    with closing(reading), closing(writing):
        os.write(writing, b"x")
        await serve_one(baton, reading)
        os.read(reading, 1)
        with trio.move_on_after(0.01) as scope:
            await serve_one(baton, reading)

    assert scope.cancelled_caught
    assert waits == [MOMENT_S]


async def serve_one(baton: Baton, fd: int) -> None:
    """Wait for a request as pyfuse3 does, and answer it without a pause."""
    async with baton:
        await baton.wait_readable(fd)


@contextmanager
def closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)
