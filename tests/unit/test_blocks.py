"""The block cache: right bytes, few requests, bounded, and nothing believed unread."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from mountfs.backends.memory import MemoryStore
from mountfs.cache import ahead
from mountfs.cache.blockfiles import BlockFiles
from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.directory import DirectoryInUse
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.readahead import ReadStream
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    NotFound,
    ServiceFailed,
    StoreError,
    VersionChanged,
)
from mountfs.storage.reason import Reason, current_reason
from mountfs.storage.types import Content, Object, Version
from mountfs.storage.wrapper import StoragerWrapper
from tests.fakes.cache_stack import settled
from tests.fakes.clocks import Clock
from tests.fakes.faulty import Fault, FaultyStore

SIZE = 1000
WHOLE = bytes(i * 7 % 251 for i in range(SIZE))


LARGE = WHOLE * 8


class Scene:
    def __init__(self, directory: Path) -> None:
        self.memory = MemoryStore()
        self.store = FaultyStore(self.memory)
        self.directory = directory

    def cache(self, size_max: int = 1 << 20, *, memory_max: int = 0) -> BlockCache:
        return BlockCache(
            self.store,
            self.directory,
            Budget(size_max),
            block_size=10,
            fetch_size_max=40,
            memory_max=memory_max,
        )

    def large_cache(self) -> BlockCache:
        """Return a cache of larger blocks, without memory."""
        budget = Budget(1 << 20)
        return BlockCache(
            self.store, self.directory, budget, block_size=1000, memory_max=0
        )

    async def put(self, key: str = "a", data: bytes = WHOLE) -> Object:
        return await self.memory.write(key, BytesBody(data))

    def requests(self) -> Counter[str]:
        found = Counter(call for call, _ in self.store.times)
        self.store.times.clear()
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("offset", "size", "reads"),
    [
        (0, 1, 1),
        (5, 10, 1),
        (0, 40, 1),
        (0, 41, 2),
        (995, 100, 1),
        (1000, 5, 0),
        (3, 0, 0),
        (0, 1000, 25),
    ],
)
async def test_bytes_are_fetched_once(
    scene: Scene, offset: int, size: int, reads: int
) -> None:
    """A read costs as few requests as the limit allows, and the next one none."""
    known = await scene.put()
    async with scene.cache() as cache:
        for expected in (reads, 0):
            found = await cache.read(known, offset, size)
            assert found == WHOLE[offset : offset + size]
            await settled()
            assert scene.requests()["read"] == expected
        assert cache.is_cached(known, offset, size)


async def test_everybody_waits_for_the_same_fetch(scene: Scene) -> None:
    """Readers of one block cause one request, and all get its bytes or its error."""
    known = await scene.put()
    results: list[bytes | str] = []

    async def read(cache: BlockCache) -> None:
        try:
            results.append(await cache.read(known, 3, 4))
        except ServiceFailed as error:
            results.append(str(error))

    async with scene.cache() as cache:
        scene.store.script.append(Fault("read", ServiceFailed("down")))
        for expected in ("down", WHOLE[3:7]):
            results.clear()
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(read, cache)
            assert results == [expected] * 5
            assert scene.requests()["read"] == 1


async def test_versions_never_mix(scene: Scene) -> None:
    """A read of what the store no longer has fails, unless the bytes are here."""
    old = await scene.put()
    async with scene.cache() as cache:
        assert await cache.read(old, 0, 10) == WHOLE[:10]
        new = await scene.put(data=b"other" * 10)

        assert await cache.read(old, 0, 10) == WHOLE[:10]
        with pytest.raises(VersionChanged):
            await cache.read(old, 0, 20)
        assert await cache.read(new, 0, 10) == b"otherother"
        await scene.memory.delete("a")
        with pytest.raises(NotFound):
            await cache.read(new, 20, 10)


async def test_an_open_brings_the_first_block(scene: Scene) -> None:
    """One request tells the newest object and keeps its first bytes."""
    await scene.put()
    async with scene.cache() as cache:
        known = await cache.open("a")
        assert known.size == SIZE
        assert await cache.read(known, 0, 10) == WHOLE[:10]
        assert scene.requests() == {"read": 1}

        await scene.put("empty", b"")
        assert (await cache.open("empty")).size == 0


async def test_blocks_survive_a_restart(scene: Scene) -> None:
    """What was on the disk is used by the next mount, and counted."""
    known = await scene.put()
    async with scene.cache() as cache:
        await cache.read(known, 0, 100)
        await settled()
    scene.requests()

    budget = Budget(1 << 20)
    async with BlockCache(scene.store, scene.directory, budget, block_size=10) as cache:
        assert budget.clean == 100
        assert await cache.read(known, 0, 100) == WHOLE[:100]
        assert not scene.requests()


async def test_a_smaller_budget_evicts_what_is_too_much(scene: Scene) -> None:
    """A mount with a smaller cache begins by dropping blocks."""
    known = await scene.put()
    async with scene.cache() as cache:
        await cache.read(known, 0, 100)
        await settled()

    budget = Budget(50)
    async with BlockCache(scene.store, scene.directory, budget, block_size=10):
        assert 0 < budget.clean <= 50  # blocks that came together go together


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "grow", "remove", "swap"])
async def test_a_damaged_block_is_fetched_again(scene: Scene, damage: str) -> None:
    """No wrong byte reaches a reader, whatever happened to the files."""
    known = await scene.put()
    async with scene.cache() as cache:
        await cache.read(known, 0, 10)
        await cache.read(known, 10, 10)
        await settled()
        files = sorted(scene.directory.glob("blocks/*/*"))
        assert len(files) == 2
        first, second = (path.read_bytes() for path in files)
        match damage:
            case "flip":
                files[0].write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
            case "cut":
                files[0].write_bytes(first[:-1])
            case "empty":
                files[0].write_bytes(b"")
            case "grow":
                files[0].write_bytes(first + b"x")
            case "remove":
                files[0].unlink()
            case _:
                files[0].write_bytes(second)

        assert await cache.read(known, 0, 20) == WHOLE[:20]


async def test_foreign_files_are_no_blocks(scene: Scene) -> None:
    """Files that no block can have written are removed; directories are left."""
    shard = scene.directory / "blocks" / "0"
    shard.mkdir(parents=True)
    (shard / "notes.txt").write_text("x")
    (shard / ("z" * 32 + ".1")).write_text("x")
    (shard / ("a" * 32 + ".1")).write_text("short")
    (shard / "directory").mkdir()
    async with scene.cache():
        assert [path.name for path in shard.iterdir()] == ["directory"]


async def test_the_cache_never_passes_its_budget(scene: Scene) -> None:
    """The block used longest ago gives way; reading goes on."""
    known = await scene.put()
    budget = Budget(55)
    async with BlockCache(
        scene.store,
        scene.directory,
        budget,
        block_size=10,
        fetch_size_max=10,
        memory_max=0,
    ) as cache:
        for offset in range(0, SIZE, 10):
            await cache.read(known, offset, 10)
            assert budget.clean <= 55
            await settled()
        assert cache.is_cached(known, SIZE - 10, 10)
        assert not cache.is_cached(known, 0, 10)


async def test_reading_works_without_any_room(scene: Scene) -> None:
    """Where dirty bytes leave no room, bytes are fetched and not kept."""
    known = await scene.put()
    async with scene.cache(0) as cache:
        assert await cache.read(known, 0, 100) == WHOLE[:100]
        await cache.put(known, 0, WHOLE)
        assert not cache.is_cached(known, 0, 10)


async def test_bytes_under_another_name_are_known(scene: Scene) -> None:
    """A rename or a metadata copy keeps the blocks; forgetting drops them."""
    known = await scene.put()
    async with scene.cache() as cache:
        await cache.read(known, 0, 100)
        moved = await scene.memory.move("a", "b")
        cache.rekey(known, moved)
        await settled()
        scene.requests()
        assert await cache.read(moved, 0, 100) == WHOLE[:100]
        assert not scene.requests()

        cache.forget(moved)
        await cache.read(moved, 0, 10)
        assert scene.requests()["read"] == 1


async def test_offered_bytes_are_kept_in_whole_blocks(scene: Scene) -> None:
    """What was just written needs no request; parts of blocks are not kept."""
    known = await scene.put(data=WHOLE[:95])
    async with scene.cache() as cache:
        await cache.put(known, 5, WHOLE[5:33])
        await cache.put(known, 85, WHOLE[85:95])

        assert cache.is_cached(known, 10, 20)
        assert not cache.is_cached(known, 0, 10)
        assert not cache.is_cached(known, 30, 1)
        assert cache.is_cached(known, 90, 5)
        assert await cache.read(known, 90, 10) == WHOLE[90:95]
        assert not scene.requests()


async def test_reading_ahead_takes_large_requests(scene: Scene) -> None:
    """A file read in small pieces from the front costs few requests."""
    known = await scene.put()
    stream = ReadStream(window_min=20, window_max=160, tolerance=5)
    async with scene.cache(memory_max=1000) as cache:
        for offset in range(0, SIZE, 5):
            found = await cache.read(known, offset, 5, stream=stream)
            assert found == WHOLE[offset : offset + 5]
            await trio.testing.wait_all_tasks_blocked()
        assert scene.requests()["read"] < 40


async def test_reading_ahead_says_so(scene: Scene) -> None:
    """A request that no program waits for carries its reason to the wire."""
    reasons: list[Reason] = []

    class Listener(StoragerWrapper):
        async def read(
            self,
            key: str,
            offset: int = 0,
            size: int | None = None,
            *,
            version: Version | None = None,
        ) -> Content:
            reasons.append(current_reason())
            return await super().read(key, offset, size, version=version)

    known = await scene.put()
    stream = ReadStream(window_min=50, window_max=50, tolerance=5)
    async with BlockCache(
        Listener(scene.memory), scene.directory, Budget(1 << 20), block_size=10
    ) as cache:
        for offset in range(0, 30, 5):
            await cache.read(known, offset, 5, stream=stream)
            await settled()

    assert reasons[0] is Reason.FOREGROUND
    assert set(reasons[1:]) == {Reason.PREFETCH}


async def test_a_failure_to_read_ahead_hurts_nobody(scene: Scene) -> None:
    """What was read ahead and failed is asked for again when it is wanted."""
    known = await scene.put()
    stream = ReadStream(window_min=50, window_max=50, tolerance=5)
    async with scene.cache(memory_max=1000) as cache:
        await cache.read(known, 0, 5, stream=stream)
        scene.store.script.append(Fault("read", ServiceFailed("down")))
        for offset in range(5, 100, 5):
            found = await cache.read(known, offset, 5, stream=stream)
            assert found == WHOLE[offset : offset + 5]


async def test_an_object_without_version_is_not_cached(scene: Scene) -> None:
    """Bytes that nobody can name are asked for each time."""
    known = replace(await scene.put(), version=None)
    async with scene.cache() as cache:
        for _ in range(2):
            assert await cache.read(known, 5, 5) == WHOLE[5:10]
        cache.forget(known)
        cache.rekey(known, known)
        await cache.put(known, 0, WHOLE)
        assert not cache.is_cached(known, 0, 10)
        assert scene.requests()["read"] == 2


async def test_too_few_bytes_are_an_error(scene: Scene) -> None:
    """An answer that is shorter than the object says is never padded."""
    known = replace(await scene.put(), size=SIZE + 5)
    async with scene.cache() as cache:
        with pytest.raises(StoreError, match="were asked for"):
            await cache.read(known, SIZE - 5, 10)


async def test_a_reader_that_goes_away_takes_nothing_from_others(
    scene: Scene,
) -> None:
    """A cancelled read leaves its fetch to whoever else waits for it."""
    known = await scene.put()
    async with scene.cache() as cache:
        with trio.CancelScope() as scope:
            scope.cancel()
            await cache.read(known, 0, 10)
        assert await cache.read(known, 0, 10) == WHOLE[:10]


async def test_a_cache_directory_has_one_daemon(scene: Scene) -> None:
    """The second is refused with the number of the first."""
    async with scene.cache():
        with pytest.raises(DirectoryInUse, match=r"process \d+"):
            async with scene.cache():
                pass
    async with scene.cache():
        pass


async def test_an_object_is_stored_while_a_fetch_of_it_begins(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other names for its blocks, given before the request is made, do no harm."""
    known = await scene.put("a")
    other = await scene.put("b")
    run_fetch = BlockCache._run_fetch

    async def run_late(cache: BlockCache, *details: Any) -> None:
        cache.rekey(other, known)
        await run_fetch(cache, *details)

    async with scene.cache() as cache:
        with monkeypatch.context() as patch:
            patch.setattr(BlockCache, "_run_fetch", run_late)
            assert await cache.read(known, 0, 10) == WHOLE[:10]
            await settled()
        assert await cache.read(known, 0, 10) == WHOLE[:10]


async def test_whole_files_are_fetched_while_that_proves_useful(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few jumps in each of many files, as of who reads headers, bring not all."""
    monkeypatch.setattr(ahead, "UNPROVEN_MAX", 2 * SIZE)
    files = [await scene.put(f"{number}") for number in range(20)]
    async with scene.cache() as cache:
        for known in files:
            stream = ReadStream(tolerance=5)
            for offset in (900, 100, 700, 300):
                await cache.read(known, offset, 5, stream=stream)
            await settled()
        seldom = cache.ledger.counts.fetched_bytes
        for known in files[:3]:
            assert await cache.read(known, 0, SIZE) == WHOLE
        stream = ReadStream(tolerance=5)
        for offset in (500, 200, 800, 400):
            await cache.read(files[-1], offset, 5, stream=stream)
        await settled()

        assert seldom <= 4 * SIZE + 20 * 100
        assert cache.is_cached(files[-1], 0, SIZE), "by now it is of use"


async def test_jumping_about_fetches_surroundings_behind(scene: Scene) -> None:
    """Whoever reads here and there finds more and more here already."""
    known = await scene.put()
    stream = ReadStream(tolerance=5, credit=1000)
    async with scene.cache(memory_max=2000) as cache:
        waited = 0
        for index in range(100):
            offset = index * 370 % 990
            waited += not cache.is_cached(known, offset, 4)
            found = await cache.read(known, offset, 4, stream=stream)
            assert found == WHOLE[offset : offset + 4]
            await settled()

        assert waited < 30
        counts = cache.ledger.counts
    assert counts.used_bytes > counts.fetched_bytes // 2


async def test_nothing_comes_along_in_a_file_that_does_not_fit(scene: Scene) -> None:
    """A guess must not push out what was wanted."""
    known = await scene.put()
    stream = ReadStream(tolerance=5, credit=1000)
    async with scene.cache(SIZE, memory_max=2000) as cache:
        for index in range(20):
            await cache.read(known, index * 370 % 990, 4, stream=stream)
            await settled()

        assert cache.ledger.counts.fetched_bytes == 0


class Ranges(StoragerWrapper):
    """Notes which ranges are read, in their order."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.found: list[tuple[int, int]] = []

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        self.found.append((offset, offset + (size or 0)))
        await trio.lowlevel.checkpoint()
        return await super().read(key, offset, size, version=version)


MIB = 1 << 20


async def test_who_begins_large_is_led_through_the_file_at_once(scene: Scene) -> None:
    """All is asked for with the first read, in its order, the first bytes apart."""
    known = await scene.put(data=bytes(24 * MIB))
    store = Ranges(scene.memory)
    async with BlockCache(store, scene.directory, Budget(1 << 30)) as cache:
        await cache.read(known, 0, MIB, stream=ReadStream())
        await settled()
        assert cache.is_cached(known, 0, 24 * MIB)
        sizes = [(end - start) // MIB for start, end in store.found]
        assert sizes == [1, 1, 1, 2, 2, 4, 4, 8, 1]
        assert store.found == sorted(store.found)
        assert cache.ledger.counts.fetched_bytes == 23 * MIB


async def test_a_large_file_is_fetched_once_in_large_requests(scene: Scene) -> None:
    """Only the first ones are small; what is ahead stays in memory until it is read."""
    known = await scene.put(data=bytes(100 * MIB))
    store, stream = Ranges(scene.memory), ReadStream()
    async with BlockCache(store, scene.directory, Budget(200 * MIB)) as cache:
        loaded: list[object] = []
        cache._shelf._files.load = loaded.append  # type: ignore[method-assign,assignment]  # counts
        for offset in range(0, 100 * MIB, MIB):
            await cache.view(known, offset, MIB, stream=stream)
            await trio.testing.wait_all_tasks_blocked()
        await settled()

        assert sum(end - start for start, end in store.found) == 100 * MIB
        assert len(store.found) <= 20
        assert not loaded


async def test_who_begins_large_in_vain_is_not_led_again(scene: Scene) -> None:
    """When most that was fetched ahead was never read, windows grow from nothing."""
    known = await scene.put(data=bytes(24 * MIB))
    async with BlockCache(scene.memory, scene.directory, Budget(1 << 30)) as cache:
        cache.ledger.note_fetched("other", 64 * MIB)
        cache.ledger.note_gone("other")
        fetched = cache.ledger.counts.fetched_bytes
        await cache.read(known, 0, MIB, stream=ReadStream())
        await settled()

        assert cache.ledger.counts.fetched_bytes == fetched


async def test_who_jumps_in_a_small_file_gets_all_of_it(scene: Scene) -> None:
    """From the third jump on; no byte of it comes twice."""
    known = await scene.put(data=bytes(24 * MIB))
    store, stream = Ranges(scene.memory), ReadStream()
    async with BlockCache(store, scene.directory, Budget(1 << 30)) as cache:
        for offset in (20 * MIB, 3 * MIB, 12 * MIB):
            assert len(store.found) <= 2
            await cache.read(known, offset, 4096, stream=stream)
            await settled()

        assert cache.is_cached(known, 0, 24 * MIB)
        assert sum(end - start for start, end in store.found) == 24 * MIB
        assert len(store.found) <= 7
        assert store.found[2] == (12 * MIB, 13 * MIB)


async def test_memory_is_that_of_whole_requests(scene: Scene) -> None:
    """Blocks that came together share a buffer, and so they go together."""
    known = await scene.put()
    async with scene.cache(memory_max=100) as cache:
        for offset in range(0, SIZE, 40):
            await cache.read(known, offset, 40)
        await settled()

        held = {id(block.obj): len(block.obj) for block in _views(cache)}
        assert 0 < sum(held.values()) <= 100


def _views(cache: BlockCache) -> list[Any]:
    return [each for each in cache._shelf.in_memory if isinstance(each, memoryview)]


async def test_bytes_are_brought_before_they_are_wanted(scene: Scene) -> None:
    """Fetching ahead returns the bytes; what fails or is unknown returns nothing."""
    known = await scene.put()
    async with scene.cache(memory_max=2000) as cache:
        found = await cache.fetch_ahead(known, 25)
        assert found is not None
        assert (found.data, found.object) == (WHOLE[:30], known)
        assert await cache.fetch_ahead(known, 25) is None  # nothing is left to ask
        assert await cache.fetch_ahead(known, 10_000) is not None
        assert await cache.fetch_ahead(replace(known, version=None), 25) is None
        assert await cache.fetch_ahead(replace(known, size=0), 25) is None
        scene.requests()
        await cache.read(known, 0, SIZE)
        assert scene.requests() == {}
        assert cache.ledger.counts.used_bytes == SIZE

        other = await scene.put("b")
        scene.store.script.append(Fault("read", ServiceFailed("down")))
        assert await cache.fetch_ahead(other, 10) is None


async def test_small_files_go_to_the_disk_together(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other is put; one hop to a thread keeps them all."""
    hops: list[int] = []
    store_all = BlockFiles.store_all

    def counted(self: BlockFiles, runs: Any) -> None:
        hops.append(len(runs))
        store_all(self, runs)

    monkeypatch.setattr(BlockFiles, "store_all", counted)
    objects = [await scene.put(str(number), WHOLE[:10]) for number in range(20)]
    async with scene.cache() as blocks:
        for each in objects:
            blocks.put_small(each, WHOLE[:10])
        assert hops == []
        assert await blocks.read(objects[7], 0, 10) == WHOLE[:10]
    assert hops == [20]
    async with scene.cache() as later:
        assert all(later.is_cached(each, 0, 10) for each in objects)
        assert await later.read(objects[7], 0, 10) == WHOLE[:10]
    assert scene.requests()["read"] == 0


async def test_a_small_file_that_is_forgotten_does_not_go_to_the_disk(
    scene: Scene,
) -> None:
    object = await scene.put("a", WHOLE[:10])
    async with scene.cache() as blocks:
        blocks.put_small(object, WHOLE[:10])
        blocks.forget(object)
    async with scene.cache() as later:
        assert not later.is_cached(object, 0, 10)


@pytest.mark.parametrize("memory_max", [0, 1 << 20])
async def test_what_is_cached_is_told_in_ranges(scene: Scene, memory_max: int) -> None:
    """In memory or on the disk, of this version and no other, to the file's end."""
    object = await scene.put()
    async with scene.cache(memory_max=memory_max) as cache:
        nothing = cache.cached_ranges(object)
        for offset in (995, 25, 31):
            await cache.read(object, offset, 5)
        await settled()
        found = cache.cached_ranges(object)
        other = cache.cached_ranges(await scene.put(data=WHOLE[:-1]))

    assert list(nothing) == list(other) == []
    assert list(found) == [(20, 40), (990, SIZE)]


async def test_bytes_that_come_say_that_the_object_is_still_the_same(
    scene: Scene,
) -> None:
    """Who opens it again within the time to live after that asks nobody."""
    object, clock = await scene.put(), Clock()
    async with scene.cache() as cache:
        cache.metadata = MetadataCache(ttl_s=1.0, clock=clock)
        cache.metadata.put(object)
        clock.now_s += 2.0
        assert cache.metadata.lookup("a") is None
        await cache.read(object, 0, 10)

        assert cache.metadata.lookup("a") == object


def overwrite_all(directory: Path) -> None:
    """Leave nothing right in any file of blocks."""
    for path in directory.glob("?/*"):
        path.write_bytes(bytes(path.stat().st_size))


async def test_jumps_in_a_file_without_room_in_memory_load_few_bytes(
    tmp_path: Path,
) -> None:
    """Not all of a block; and what is damaged there is fetched again."""
    scene = Scene(tmp_path)
    object = await scene.put(data=LARGE)
    stream = ReadStream()
    async with scene.large_cache() as cache:
        await cache.warm(object, 0, len(LARGE))
        await settled()
        scene.requests()
        for offset in (7000, 100, 5003):
            found = await cache.view(object, offset, 10, stream=stream)
            assert found == LARGE[offset : offset + 10]
        assert not list(cache._shelf.in_memory)
        assert scene.requests() == {}

        overwrite_all(tmp_path / "blocks")
        assert await cache.view(object, 3000, 10, stream=stream) == LARGE[3000:3010]
        assert scene.requests() == {"read": 1}
