"""The floor of the disk: clean bytes leave room to others, dirty ones need not."""

import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from mountfs.backends.memory import MemoryStore
from mountfs.cache import floor as floor_module
from mountfs.cache import keeper
from mountfs.cache.blockfiles import Block, BlockFiles, Run
from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.floor import DiskFloor
from mountfs.cache.spool import DISK_THREADS
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import QuotaExceeded
from mountfs.storage.types import Metadata
from tests.fakes.cache_stack import open_stack, tiny_store

SIZE = 1000


class Disk:
    """A disk of some bytes, as statvfs tells of it: others have `used` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.directory = directory
        self.size = 10_000
        self.used = 0
        monkeypatch.setattr(floor_module, "_free_space", self._free)
        monkeypatch.setattr(floor_module, "PAUSE_S", 0.001)
        monkeypatch.setattr(floor_module, "INTERVAL_S", 0.005)

    def _free(self, directory: Path) -> int | None:
        if not directory.exists():
            return None
        blocks = (self.directory / "blocks").rglob("*.*")
        return self.size - self.used - sum(_payload(block) for block in blocks)


class WatchedBudget(Budget):
    """A budget that tells when clean bytes are released."""

    def __init__(self, size_max: int, floor: DiskFloor) -> None:
        super().__init__(size_max, floor)
        self.released = trio.Event()

    def release_clean(self, size: int) -> None:
        super().release_clean(size)
        self.released.set()


class HoldsNothing:
    """A cache without a clean byte."""

    async def reclaim(self, size: int) -> int:
        """Free nothing."""
        await trio.lowlevel.checkpoint()
        return 0


def _payload(block: Path) -> int:
    try:
        return block.stat().st_size - 56
    except FileNotFoundError:
        return 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    (tmp_path / "cache").mkdir()
    return Disk(monkeypatch, tmp_path / "cache")


async def settled() -> None:
    """Wait until nothing goes on, in the disk's threads either."""
    await trio.testing.wait_all_tasks_blocked()
    while DISK_THREADS.borrowed_tokens:
        await trio.testing.wait_all_tasks_blocked(0.001)


def cache_of(store: MemoryStore, budget: Budget, directory: Path) -> BlockCache:
    return BlockCache(
        store, directory, budget, block_size=100, fetch_size_max=100, memory_max=0
    )


async def test_clean_bytes_go_when_others_fill_the_disk(disk: Disk) -> None:
    """Blocks are evicted until the floor is free again, and no more than that."""
    store = MemoryStore()
    known = await store.write("a", BytesBody(bytes(SIZE)))
    budget = WatchedBudget(1 << 20, DiskFloor(disk.directory, 2000))
    async with cache_of(store, budget, disk.directory) as cache:
        await cache.read(known, 0, SIZE)
        await settled()
        assert budget.clean == SIZE

        disk.used = 7500
        with trio.fail_after(5):
            await budget.released.wait()
        await trio.sleep(0.02)  # several more rounds find nothing to do

        assert budget.clean == 500
        assert await cache.read(known, 0, SIZE) == bytes(SIZE)


async def test_no_clean_byte_is_kept_on_a_full_disk(disk: Disk) -> None:
    """Bytes are read and not kept; when there is room again they are."""
    store = MemoryStore()
    known = await store.write("a", BytesBody(bytes(SIZE)))
    disk.used = 8000
    floor = DiskFloor(disk.directory, 2000)
    budget = Budget(1 << 20, floor)
    async with cache_of(store, budget, disk.directory) as cache:
        await floor.measure()
        assert await cache.read(known, 0, SIZE) == bytes(SIZE)
        await settled()
        assert budget.clean == 0

        disk.used = 0
        await floor.measure()
        await cache.read(known, 0, SIZE)
        await settled()
        assert budget.clean == SIZE


async def test_what_is_only_here_may_pass_the_floor(disk: Disk) -> None:
    """Dirty bytes are taken in though the disk is below its floor."""
    disk.used = 9990
    floor = DiskFloor(disk.directory, 2000)
    budget = Budget(1 << 20, floor)
    await floor.measure()

    await budget.reserve_dirty(500)

    assert budget.dirty == 500
    assert not await budget.reserve_clean(1)


async def test_bytes_between_two_measurements_are_counted(disk: Disk) -> None:
    """What is written counts at once, so that the floor is not passed meanwhile."""
    disk.used = 7000
    floor = DiskFloor(disk.directory, 2000)
    budget = Budget(1 << 20, floor)
    await floor.measure()

    assert await budget.reserve_clean(600)
    await budget.reserve_dirty(300)
    assert not await budget.reserve_clean(200)
    assert await budget.reserve_clean(100)
    budget.release_clean(300)
    assert await budget.reserve_clean(300)


async def test_a_disk_with_much_room_is_measured_seldom(
    disk: Disk,
) -> None:
    """An idle mount does not wake the processor each second; a full disk is no wait."""
    disk.size = 100 << 30
    measured, again = 0, trio.Event()

    class Counted(DiskFloor):
        async def measure(self) -> None:
            nonlocal measured
            measured += 1
            await super().measure()
            if measured > 1:
                again.set()

    floor = Counted(disk.directory, 2000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(floor.watch, HoldsNothing())
        await trio.sleep(0.1)  # twenty intervals
        assert measured == 1

        floor.note_written(disk.size)
        with trio.fail_after(5):
            await again.wait()
        nursery.cancel_scope.cancel()


async def test_a_directory_that_is_gone_limits_nobody(tmp_path: Path) -> None:
    """A disk that cannot be measured is not taken for a full one."""
    floor = DiskFloor(tmp_path / "gone", 1 << 60)
    await floor.measure()
    assert floor.missing == 0
    assert floor.allows(1 << 50)

    there = DiskFloor(tmp_path, 1 << 60)
    await there.measure()
    assert there.missing > 0
    assert not there.allows(0)


@pytest.mark.parametrize("has_clean", [True, False])
async def test_clean_bytes_give_way_on_a_disk_that_is_full_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_clean: bool
) -> None:
    """A write that finds the disk full evicts and is tried again; else it is ENOSPC."""
    monkeypatch.setattr("mountfs.cache.spool.IN_MEMORY_MAX", 0)
    store = MemoryStore(capabilities=tiny_store())
    known = await store.write("a", BytesBody(bytes(SIZE)))
    refused: list[int] = []
    write = os.pwrite

    async with open_stack(store, tmp_path) as stack:
        if has_clean:
            await stack.blocks.read(known, 0, SIZE)
            await settled()

        def full_once(fd: int, data: bytes, offset: int) -> int:
            if not refused or not has_clean:
                refused.append(offset)
                raise OSError(28, "No space left on device")
            return write(fd, data, offset)

        monkeypatch.setattr(os, "pwrite", full_once)
        dirty = stack.writeback.begin("b", None)
        if has_clean:
            await stack.writeback.write(dirty, 0, b"abc", metadata=Metadata)
            assert await stack.writeback.read(dirty, 0, 9) == b"abc"
            assert stack.budget.clean == 0
        else:
            with pytest.raises(QuotaExceeded):
                await stack.writeback.write(dirty, 0, b"abc", metadata=Metadata)
            assert stack.budget.dirty == 0
        assert len(refused) == 1
        monkeypatch.undo()
        await stack.writeback.discard(dirty)


async def test_the_directory_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    """Reading goes on, what was cached is fetched again, and is kept anew."""
    store = MemoryStore()
    known = await store.write("a", BytesBody(b"x" * SIZE))
    directory = tmp_path / "cache"
    budget = Budget(1 << 20, DiskFloor(directory, 1))
    async with cache_of(store, budget, directory) as cache:
        await cache.read(known, 0, SIZE)
        await settled()
        shutil.rmtree(directory)

        for _ in range(2):
            assert await cache.read(known, 0, SIZE) == b"x" * SIZE
            await settled()
        assert budget.clean == SIZE
        assert len(list(directory.rglob("*.*"))) == SIZE // 100


@pytest.mark.parametrize("write", ["store", "remove"])
async def test_a_disk_that_became_read_only_costs_no_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    write: str,
) -> None:
    """Bytes are fetched and not kept; the log has one line about it."""
    store = MemoryStore()
    known = await store.write("a", BytesBody(b"x" * SIZE))
    budget = Budget(SIZE // 2)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    async with cache_of(store, budget, tmp_path) as cache:
        if write == "remove":
            await cache.read(known, 0, SIZE // 2)
            await settled()
        monkeypatch.setattr(Path, "unlink", refuse)
        monkeypatch.setattr(Path, "open", refuse)
        for _ in range(2):
            assert await cache.read(known, 0, SIZE) == b"x" * SIZE
            await settled()
        monkeypatch.undo()

    lines = [each for each in caplog.messages if "cannot be removed" in each]
    assert len(lines) == 1


async def test_a_disk_that_hangs_holds_no_reader_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are here are not kept back until the disk has them, or has room; when
    it is well again they are kept as before.
    """
    store = MemoryStore()
    known = [await store.write(name, BytesBody(bytes(100))) for name in "abcdefgh"]
    is_well = threading.Event()
    write = BlockFiles.store

    def hang(files: BlockFiles, run: Run, blocks: Sequence[Block]) -> None:
        is_well.wait(20)
        write(files, run, blocks)

    monkeypatch.setattr(BlockFiles, "store", hang)
    monkeypatch.setattr(keeper, "KEEP_WAIT_S", 0.05)
    budget = Budget(1 << 20)
    cache = BlockCache(
        store, tmp_path, budget, block_size=100, fetches_max=1, memory_max=0
    )
    async with cache:
        try:
            with trio.fail_after(10):
                for each in known:
                    assert await cache.open(each.key) == each
                    assert await cache.read(each, 0, 100) == bytes(100)
        finally:
            is_well.set()
        await settled()
        for each in known:
            await cache.read(each, 0, 100)
            await settled()
        assert all(cache.is_cached(each, 0, 100) for each in known)
        assert budget.clean == 800
