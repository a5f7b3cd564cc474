"""The lock of tasks: free at no cost, and in turn for who waits."""

import pytest
import trio
import trio.testing

from mountfs.cache.lock import Lock


async def test_a_free_lock_takes_no_turn_of_the_loop() -> None:
    lock, others = Lock(), []

    async def other() -> None:
        others.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async with lock:
            pass
        assert others == []
    assert others == [1]


async def test_who_waits_is_served_in_turn_and_before_who_comes_later() -> None:
    lock, served = Lock(), list[int]()

    async def take(number: int) -> None:
        async with lock:
            served.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        async with lock:
            for number in range(3):
                nursery.start_soon(take, number)
                await trio.testing.wait_all_tasks_blocked()
        assert lock.locked()
        await take(3)
    assert served == [0, 1, 2, 3]
    assert not lock.is_used


async def test_who_gives_up_waiting_does_not_get_the_lock() -> None:
    lock = Lock()
    async with trio.open_nursery() as nursery, lock:
        nursery.start_soon(lock.acquire)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not lock.is_used


async def test_a_task_that_would_wait_for_itself_is_told() -> None:
    lock = Lock()
    async with lock:
        with pytest.raises(RuntimeError):
            await lock.acquire()
    assert not lock.is_used
