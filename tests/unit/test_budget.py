"""The budget: one limit, clean gives way to dirty, writers wait for uploads."""

import pytest
import trio

from mountfs.cache.budget import Budget
from mountfs.storage.errors import QuotaExceeded


class Holder:
    """Gives back what it holds, clean or dirty."""

    def __init__(self, budget: Budget, size: int, *, is_clean: bool) -> None:
        self.size = size
        self._budget = budget
        self._is_clean = is_clean
        if is_clean:
            budget.force_clean(size)
            budget.register_clean(self)
        else:
            budget.force_dirty(size)
            budget.register_dirty(self)

    async def reclaim(self, size: int) -> int:
        await trio.lowlevel.checkpoint()
        freed = min(size, self.size)
        self.size -= freed
        if self._is_clean:
            self._budget.release_clean(freed)
        else:
            self._budget.release_dirty(freed)
        return freed


async def test_clean_bytes_give_way_to_dirty_ones() -> None:
    """Room is made by evicting, before parts are punched, and no more than needed."""
    budget = Budget(100)
    dirty = Holder(budget, 40, is_clean=False)
    clean = Holder(budget, 60, is_clean=True)
    await budget.reserve_dirty(50)
    assert (clean.size, dirty.size) == (10, 40)

    await budget.reserve_dirty(20)
    assert (clean.size, dirty.size) == (0, 30)
    assert (budget.clean, budget.dirty, budget.free) == (0, 100, 0)


async def test_dirty_bytes_alone_are_an_error() -> None:
    """Nothing to evict and nothing under way: no space."""
    budget = Budget(100)
    await budget.reserve_dirty(90)
    with pytest.raises(QuotaExceeded):
        await budget.reserve_dirty(11)
    await budget.reserve_dirty(10)


async def test_more_than_the_limit_is_refused_although_uploads_run() -> None:
    """What can never fit does not wait."""
    budget = Budget(100)
    with budget.freeing(), pytest.raises(QuotaExceeded):
        await budget.reserve_dirty(101)


@pytest.mark.parametrize("is_freed", [True, False])
async def test_a_writer_waits_for_uploads(is_freed: bool) -> None:
    """While an upload may free room a writer waits; if it does not, there is none."""
    budget = Budget(100)
    await budget.reserve_dirty(100)
    outcome: list[str] = []

    async def write() -> None:
        try:
            await budget.reserve_dirty(50)
            outcome.append("written")
        except QuotaExceeded:
            outcome.append("full")

    async with trio.open_nursery() as nursery:
        with budget.freeing():
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            assert not outcome
            if is_freed:
                budget.release_dirty(60)
                await trio.testing.wait_all_tasks_blocked()

    assert outcome == ["written" if is_freed else "full"]


async def test_clean_bytes_never_wait() -> None:
    """Bytes that can be fetched again get room by eviction or not at all."""
    budget = Budget(100)
    clean = Holder(budget, 30, is_clean=True)
    await budget.reserve_dirty(60)

    assert await budget.reserve_clean(10, may_evict=False)
    assert not await budget.reserve_clean(10, may_evict=False)
    assert await budget.reserve_clean(20)
    assert clean.size == 10
    assert not await budget.reserve_clean(50)
    assert budget.dirty == 60
