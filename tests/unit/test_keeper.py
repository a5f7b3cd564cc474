"""The way of blocks to the disk: behind requests, and with a bound on what waits."""

from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache import keeper as keeper_module
from mountfs.cache.ahead import AheadLedger
from mountfs.cache.blockfiles import BlockFiles, BlockName
from mountfs.cache.budget import Budget
from mountfs.cache.keeper import Keeper
from mountfs.cache.shelf import Shelf

LARGE = 2 << 20
COUNT = 5


def stored(directory: Path) -> set[int]:
    """Return which blocks are on the disk."""
    return {int(path.suffix[1:].partition("+")[0]) for path in directory.glob("?/*")}


async def test_large_blocks_wait_for_a_pause_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While requests are under way the oldest go to the disk if too much waits.

    The others go when there is a pause, and all go in the end.
    """
    monkeypatch.setattr(keeper_module, "_POLITE_S", 60.0)
    monkeypatch.setattr(keeper_module, "POLITE_MAX", 2 * LARGE + 1)
    files = BlockFiles(tmp_path)
    shelf = Shelf(
        files, Budget(1 << 30), AheadLedger(), memory_max=0, is_coming=lambda _: False
    )
    await shelf.open()
    keeper = Keeper(shelf)
    ended: list[int] = []

    async def keep(index: int) -> None:
        await keeper.keep_behind({BlockName(b"c" * 16, index): bytes(LARGE)})
        ended.append(index)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            keeper.nursery = nursery
            with keeper.giving_way():
                async with trio.open_nursery() as oldest:
                    for index in range(COUNT):
                        (oldest if index < COUNT - 2 else nursery).start_soon(
                            keep, index
                        )
                        await trio.testing.wait_all_tasks_blocked()
                on_disk_before_the_pause = stored(tmp_path)

    assert on_disk_before_the_pause == {0, 1, 2}
    assert stored(tmp_path) == {0, 1, 2, 3, 4}
    assert set(ended[:3]) == {0, 1, 2}
