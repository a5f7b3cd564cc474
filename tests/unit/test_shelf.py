"""Room that is about to be free: a writer waits for it, and gets no ENOSPC."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache.ahead import AheadLedger
from mountfs.cache.blockfiles import BlockFiles, BlockName
from mountfs.cache.budget import Budget
from mountfs.cache.shelf import Shelf

NAME = BlockName(b"content", 0)


class HeldFiles(BlockFiles):
    """Files on a disk that takes its time, if it is told to."""

    go_on = threading.Event()

    def store_all(self, blocks: "Mapping[BlockName, bytes | memoryview]") -> None:
        """Store blocks when the disk goes on."""
        self.go_on.wait(10)
        super().store_all(blocks)

    def remove(self, names: Iterable[BlockName]) -> None:
        """Remove blocks when the disk goes on."""
        self.go_on.wait(10)
        super().remove(names)


@pytest.fixture
def budget() -> Budget:
    return Budget(100)


@pytest.fixture
async def shelf(tmp_path: Path, budget: Budget) -> Shelf:
    """A shelf over a disk that goes on at once, until it is told to wait."""
    files = HeldFiles(tmp_path)
    files.go_on.set()
    shelf = Shelf(
        files, budget, AheadLedger(), memory_max=0, is_coming=lambda name: False
    )
    await shelf.open()
    return shelf


@contextmanager
def held_disk() -> Iterator[None]:
    """Let the disk wait in a block."""
    HeldFiles.go_on.clear()
    try:
        yield
    finally:
        HeldFiles.go_on.set()


async def test_a_writer_waits_for_blocks_on_their_way_to_the_disk(
    shelf: Shelf, budget: Budget
) -> None:
    """They count already, and can be evicted only when they are there."""
    async with trio.open_nursery() as nursery:
        with held_disk():
            nursery.start_soon(shelf.keep, {NAME: bytes(80)})
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(budget.reserve_dirty, 50)
            await trio.testing.wait_all_tasks_blocked()
            assert (budget.clean, budget.dirty) == (80, 0)

    assert (budget.clean, budget.dirty) == (0, 50)


async def test_a_writer_waits_for_blocks_that_another_has_evicted(
    shelf: Shelf, budget: Budget
) -> None:
    """The room is free when they have left the disk, and not before."""
    await shelf.keep({NAME: bytes(80)})
    async with trio.open_nursery() as nursery:
        with held_disk():
            nursery.start_soon(budget.reserve_dirty, 50)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(budget.reserve_dirty, 40)
            await trio.testing.wait_all_tasks_blocked()
            assert (budget.clean, budget.dirty) == (80, 0)

    assert (budget.clean, budget.dirty) == (0, 90)
