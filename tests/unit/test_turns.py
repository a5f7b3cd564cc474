"""Who waits for the kernel's requests: one worker, until it pauses."""

import pyfuse3
import trio
import trio.testing

from mountfs.fuse.turns import Baton, fewer_turns


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
