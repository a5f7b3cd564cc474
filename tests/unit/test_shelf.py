"""Room that is about to be free: a writer waits for it, and gets no ENOSPC."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache.ahead import AheadLedger
from mountfs.cache.blockfiles import Block, BlockFiles, BlockName, Run
from mountfs.cache.budget import Budget
from mountfs.cache.shelf import Shelf

NAME = BlockName(b"content", 0)


class HeldFiles(BlockFiles):
    """Files on a disk that takes its time, if it is told to."""

    go_on = threading.Event()
    only_runs_of: int | None = None

    def store_all(self, runs: "Mapping[Run, Sequence[Block]]") -> None:
        """Store blocks when the disk goes on."""
        counts = {run.count for run in runs}
        if self.only_runs_of in {None, *counts}:
            self.go_on.wait(10)
        super().store_all(runs)

    def remove(self, runs: Iterable[Run]) -> None:
        """Remove blocks when the disk goes on."""
        self.go_on.wait(10)
        super().remove(runs)


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


def _files(directory: Path) -> dict[str, Path]:
    """Return the files on the disk, by which blocks they have."""
    return {path.name.partition(".")[2]: path for path in directory.glob("?/*")}


@contextmanager
def held_disk(*, only_runs_of: int | None = None) -> Iterator[None]:
    """Let the disk wait in a block, also only before it stores so many at once."""
    HeldFiles.only_runs_of = only_runs_of
    HeldFiles.go_on.clear()
    try:
        yield
    finally:
        HeldFiles.only_runs_of = None
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


async def test_blocks_that_came_together_are_one_file_and_go_together(
    shelf: Shelf, budget: Budget, tmp_path: Path
) -> None:
    """Who uses one of them keeps them all; damage to one costs the others, too."""
    names = [BlockName(b"c" * 16, index) for index in range(10)]
    await shelf.keep({name: bytes(10) for name in names[:5]})
    await shelf.keep({name: bytes(10) for name in names[5:]})
    assert sorted(_files(tmp_path)) == ["0+5", "5+5"]
    assert shelf.touch(names[3])

    await budget.reserve_dirty(10)

    assert shelf.indexes(b"c" * 16) == {0, 1, 2, 3, 4}
    assert budget.clean == 50
    assert await shelf.look_up(names[4]) == bytes(10)
    _files(tmp_path)["0+5"].write_bytes(b"")
    assert await shelf.look_up(names[4]) is None
    assert shelf.indexes(b"c" * 16) == set()
    assert budget.clean == 0


async def test_a_block_that_two_runs_have_is_found_until_the_later_one_goes(
    shelf: Shelf, budget: Budget
) -> None:
    """Two fetches of overlapping bytes may come to the disk at the same time."""
    names = [BlockName(b"c" * 16, index) for index in range(3)]
    async with trio.open_nursery() as nursery:
        with held_disk():
            nursery.start_soon(shelf.keep, {name: b"x" for name in names[:2]})
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(shelf.keep, {name: b"x" for name in names[1:]})
            await trio.testing.wait_all_tasks_blocked()
    assert budget.clean == 4

    await shelf.reclaim(1)

    assert len(shelf.indexes(b"c" * 16)) == 2
    for index in shelf.indexes(b"c" * 16):
        assert await shelf.look_up(names[index]) == b"x"
    remove = shelf.forget(b"c" * 16)
    assert remove is not None
    await remove()
    assert budget.clean == 0


@pytest.mark.parametrize("is_forgotten", [True, False])
async def test_a_run_that_another_has_replaced_leaves_nothing_behind(
    shelf: Shelf, budget: Budget, tmp_path: Path, *, is_forgotten: bool
) -> None:
    """Who reads a file just written may bring a block while all of it is offered."""
    names = [BlockName(b"c" * 16, index) for index in range(3)]
    async with trio.open_nursery() as nursery:
        with held_disk(only_runs_of=3):
            nursery.start_soon(shelf.keep, {name: b"x" for name in names})
            await trio.testing.wait_all_tasks_blocked()
            await shelf.keep({names[1]: b"x"})
    assert shelf.indexes(b"c" * 16) == {0, 1, 2}
    assert list(_files(tmp_path)) == ["0+3"]
    assert budget.clean == 3

    if is_forgotten:
        remove = shelf.forget(b"c" * 16)
        assert remove is not None
        await remove()
    else:
        _files(tmp_path)["0+3"].write_bytes(b"")
        assert await shelf.look_up(names[0]) is None

    assert not _files(tmp_path)
    assert budget.clean == 0
    await budget.reserve_dirty(100)


async def test_a_run_that_another_has_replaced_is_removed_by_the_next_mount(
    tmp_path: Path, budget: Budget
) -> None:
    """A crash may come between the two."""
    files = BlockFiles(tmp_path)
    files.scan()
    files.store(Run(b"c" * 16, 1, 1), [b"x"])
    files.store(Run(b"c" * 16, 0, 3), [b"x"] * 3)
    shelf = Shelf(
        files, budget, AheadLedger(), memory_max=0, is_coming=lambda name: False
    )

    await shelf.open()

    assert sorted(_files(tmp_path)) == ["0+3"]
    assert budget.clean == 3
