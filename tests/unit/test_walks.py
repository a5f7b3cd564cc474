"""Programs that walk: what is fetched ahead of them, how much, and when not."""

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache import keeper
from mountfs.cache.blockfiles import Block, BlockFiles, Run
from mountfs.cache.blocks import BlockCache
from mountfs.cache.spool import DISK_THREADS
from mountfs.storage.types import Absent, Object, ObjectKind
from mountfs.vfs import lister, walks
from mountfs.vfs.lister import Lister
from mountfs.vfs.walks import FILES_FIRST
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

TTL_S = 3600.0
TERSE = tiny_store(move=False, attributes=False, list_metadata=False)


async def settled() -> None:
    """Wait until nothing goes on, in the disk's threads either."""
    await trio.testing.wait_all_tasks_blocked()
    while DISK_THREADS.borrowed_tokens:
        await trio.testing.wait_all_tasks_blocked(0.001)


@asynccontextmanager
async def walked(directory: Path, *, ttl_s: float = TTL_S) -> AsyncIterator[Scene]:
    """Build a file system that runs ahead of programs."""
    async with (
        open_scene(directory, ttl_s=ttl_s) as scene,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(scene.fs.walks.run)
        await trio.testing.wait_all_tasks_blocked()
        yield scene
        nursery.cancel_scope.cancel()


async def put_files(scene: Scene, directory: str, count: int, size: int = 9) -> None:
    for number in range(count):
        await scene.put(f"{directory}/{number:03}", b"%03d" % number * (size // 3))


async def read(scene: Scene, path: str) -> bytes:
    found = await scene.see(path)
    await settled()
    return found


async def test_second_file_of_a_directory_brings_the_next_ones(tmp_path: Path) -> None:
    """One file alone brings nothing; after two the next ones are here already."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 40)
        await scene.nodes("d")
        scene.store.asked.clear()

        await read(scene, "d/000")
        assert scene.store.asked["read"] == 1
        await read(scene, "d/001")
        assert scene.store.asked["read"] == 2 + FILES_FIRST
        for number in range(2, 40):
            assert await read(scene, f"d/{number:03}") == b"%03d" % number * 3

        counts = scene.fs.walks.counts
        assert scene.store.asked["read"] == 40
        assert (counts.files, counts.used_bytes) == (38, 38 * 9)
        assert counts.wasted_bytes == 0


async def test_nobody_sees_what_a_listing_alone_tells(tmp_path: Path) -> None:
    """A link that is looked up while its directory is being learnt is a link."""
    async with open_scene(tmp_path, capabilities=TERSE) as scene:
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for name in (b"a", b"b"):
            await scene.fs.namespace.symlink(directory, name, b"to", CALLER)
        there = scene.there
    async with open_scene(tmp_path / "next", there=there, ttl_s=TTL_S) as scene:
        directory = await scene.lookup("d")
        hold = scene.store.hold("stat")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.nodes, "d")
            with trio.fail_after(10):
                await hold.reached.wait()
            for name in (b"a", b"b"):
                found = await scene.fs.namespace.lookup(directory, name)
                assert found is not None
                assert found.kind is ObjectKind.LINK
            hold.release()


async def test_order_does_not_matter(tmp_path: Path) -> None:
    """Whoever reads a directory in another order finds its files here as well."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 40)
        await scene.nodes("d")
        for number in range(39, -1, -1):
            await read(scene, f"d/{number:03}")

        assert scene.store.asked["read"] == 40
        assert scene.fs.walks.counts.files == 38


async def test_directory_that_is_all_here_is_looked_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at each of its files: that would cost the square of their number."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 40)
        await scene.nodes("d")
        for number in range(40):
            await read(scene, f"d/{number:03}")
        blocks, looks = scene.fs.volume.blocks, 0
        is_cached = blocks.is_cached

        def counted(object: Object, start: int, end: int) -> bool:
            nonlocal looks
            looks += 1
            return is_cached(object, start, end)

        monkeypatch.setattr(blocks, "is_cached", counted)
        for number in range(40):
            await scene.see(f"d/{number:03}")

        assert looks <= 2 * 40


def counted_looks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often is looked up from now on what is known of each key."""
    metadata, looks = scene.fs.volume.metadata, Counter[str]()
    last_known = metadata.last_known

    def counted(key: str) -> Object | Absent | None:
        looks[key] += 1
        return last_known(key)

    monkeypatch.setattr(metadata, "last_known", counted)
    return looks


async def test_directory_that_is_all_here_is_not_looked_through_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk that goes on for long in what is here has one look each time to live."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 40)
        await scene.nodes("d")
        for number in range(40):
            await read(scene, f"d/{number:03}")
        now_s = time.monotonic()
        monkeypatch.setattr(scene.fs.walks, "_clock", lambda: now_s)
        looks = counted_looks(scene, monkeypatch)
        for _ in range(5):
            for number in range(40):
                await scene.see(f"d/{number:03}")
            now_s += walks.QUIET_S / 6

        assert looks.total() <= 40


async def test_walk_looks_at_each_entry_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who runs ahead of it goes on where it stopped, wherever the program is."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 150)
        await scene.nodes("d")
        looks = counted_looks(scene, monkeypatch)
        for number in range(150):
            await scene.see(f"d/{number:03}")
            await settled()

        assert scene.store.asked["read"] == 150
        assert looks.total() <= 3 * 150


async def test_files_of_a_walk_go_to_the_disk_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hop to a thread for each would take as long as fetching it."""
    stored: list[int] = []
    store_all = BlockFiles.store_all

    def counted(files: BlockFiles, runs: Mapping[Run, Sequence[Block]]) -> None:
        stored.append(len(runs))
        store_all(files, runs)

    monkeypatch.setattr(BlockFiles, "store_all", counted)
    monkeypatch.setattr(keeper, "GATHER_S", 0.5)  # however slow this machine is
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 40)
        await scene.nodes("d")
        for number in range(40):
            await scene.see(f"d/{number:03}")
        blocks = scene.fs.volume.blocks
        for number in range(40):
            found = (await scene.lookup(f"d/{number:03}")).object
            assert found is not None
            # What was not fetched ahead is here once its own fetch has kept it.
            with trio.fail_after(10):
                while not blocks.cached_ranges(found):  # noqa: ASYNC110
                    await trio.sleep(0.01)

    assert sum(stored) == 40
    assert len(stored) <= 10


async def test_what_waits_for_the_disk_can_be_forgotten(tmp_path: Path) -> None:
    """It is there as long as nobody says that it is of no use."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 10)
        await scene.nodes("d")
        for number in range(10):
            await read(scene, f"d/{number:03}")
        blocks = scene.fs.volume.blocks
        nodes = [await scene.lookup(f"d/{number:03}") for number in range(10)]
        for node in nodes:
            assert node.object is not None
            assert blocks.cached_ranges(node.object)
            blocks.forget(node.object)
            assert not blocks.cached_ranges(node.object)


@pytest.mark.parametrize("first", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
async def test_threads_that_begin_out_of_order_have_the_next_files_fetched(
    tmp_path: Path, first: tuple[int, ...]
) -> None:
    """Not those of the other end of the directory, for which nobody comes soon."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 150)
        await scene.nodes("d")
        for number in first:
            await read(scene, f"d/{number:03}")
        for number in range(3, 12):
            await scene.see(f"d/{number:03}")
            await settled()

        assert scene.fs.walks.counts.used_bytes >= 7 * 9
        last = (await scene.lookup("d/149")).object
        assert last is not None
        assert not scene.fs.volume.blocks.is_cached(last, 0, 9)


async def test_files_of_a_directory_that_nobody_listed(tmp_path: Path) -> None:
    """Names that a program knows by heart have the directory listed, and fetched."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 40)
        for number in range(40):
            await read(scene, f"d/{number:03}")

        assert scene.store.asked["read"] == 40
        assert scene.store.asked["stat"] < 10
        assert scene.fs.walks.counts.listings >= 1


async def test_answers_ahead_keep_names_fresh(tmp_path: Path) -> None:
    """A walk that is longer than the time to live asks for no name of its own."""
    async with walked(tmp_path, ttl_s=0.2) as scene:
        await put_files(scene, "d", 100)
        await scene.nodes("d")
        scene.store.asked.clear()
        for number in range(100):
            await read(scene, f"d/{number:03}")
            await trio.sleep(0.005)

        asked = scene.store.asked
        assert asked["read"] == 100
        assert asked["stat"] < 50, asked


async def test_foreign_change_is_seen_by_who_walks(tmp_path: Path) -> None:
    """What was fetched ahead and replaced since is fetched again within the TTL."""
    async with walked(tmp_path, ttl_s=0.05) as scene:
        await put_files(scene, "d", 10)
        await scene.nodes("d")
        for number in range(3):
            await read(scene, f"d/{number:03}")
        await scene.put("d/005", b"another")
        await trio.sleep(0.1)

        assert await read(scene, "d/005") == b"another"


async def test_next_directories_are_listed_ahead(tmp_path: Path) -> None:
    """`find` waits for the first of the directories, and not for the others."""
    async with walked(tmp_path) as scene:
        for number in range(20):
            await put_files(scene, f"t/{number:02}", 1)
        await scene.nodes("t")
        for number in range(20):
            await scene.nodes(f"t/{number:02}")
            await settled()

        counts = scene.fs.walks.counts
        assert (counts.listings, counts.listings_used) == (19, 19)


async def test_files_of_the_next_directories_come_too(tmp_path: Path) -> None:
    """`diff -r` over small directories does not begin anew in each of them."""
    async with walked(tmp_path) as scene:
        for number in range(10):
            await put_files(scene, f"t/{number:02}", 5)
        await scene.nodes("t")
        for number in range(10):
            await scene.nodes(f"t/{number:02}")
            await settled()
            for file in range(5):
                await read(scene, f"t/{number:02}/{file:03}")

        counts = scene.fs.walks.counts
        assert counts.files >= 44
        assert counts.used_bytes == counts.files * 9


async def test_what_fails_ahead_hurts_nobody(tmp_path: Path) -> None:
    """A store that fails meanwhile costs the program nothing but its own request."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 10)
        await scene.nodes("d")
        await read(scene, "d/000")
        await scene.there.delete("d/004")
        await read(scene, "d/001")
        for number in (2, 3, 5, 6):
            assert await read(scene, f"d/{number:03}") == b"%03d" % number * 3


async def test_files_that_are_changed_here_are_left_alone(tmp_path: Path) -> None:
    """Bytes that are only here are not asked for, and never replaced."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 10)
        await scene.nodes("d")
        writer = await scene.open(await scene.lookup("d/004"))
        await scene.fs.files.write(writer, 0, b"new")
        for number in (0, 1, 2):
            await read(scene, f"d/{number:03}")
        found = await scene.fs.files.read(writer, 0, 100)
        await scene.close(writer)

        assert found == b"new004004"
        assert await scene.content("d/004") == b"new004004"


async def test_what_comes_late_tells_nothing_of_a_name_that_is_used_anew(
    tmp_path: Path,
) -> None:
    """A directory moves, and another is made, while files of it are on their way."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 4)
        await scene.nodes("d")
        await read(scene, "d/000")
        opened = await scene.open(await scene.lookup("d/001"), os.O_RDONLY)
        hold = scene.store.hold("read", is_after=True)
        with trio.fail_after(10):
            await hold.reached.wait()
        root = scene.root
        await scene.fs.renames.rename((root, b"d"), (root, b"e"), 0)
        await scene.fs.namespace.mkdir(root, b"d", 0o755, CALLER)
        hold.release()
        await settled()

        assert await scene.nodes("d") == {}
        assert len(await scene.nodes("e")) == 4
        await scene.close(opened)


async def test_listing_that_a_move_overtook_is_not_shown(tmp_path: Path) -> None:
    """Its names are under another directory by now."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 4)
        directory, root = await scene.lookup("d"), scene.root
        hold = scene.store.hold("list", is_after=True)
        async with trio.open_nursery() as nursery:
            opened = scene.fs.directories.open(directory)
            nursery.start_soon(partial(scene.fs.directories.entries, opened, anew=True))
            await hold.reached.wait()
            await scene.fs.renames.rename((root, b"d"), (root, b"e"), 0)
            await scene.fs.namespace.mkdir(root, b"d", 0o755, CALLER)
            hold.release()
        scene.fs.directories.release(opened.handle)

        assert await scene.nodes("d") == {}
        assert len(await scene.nodes("e")) == 4


@pytest.mark.parametrize("what", ["list_ahead", "fetch_ahead"])
async def test_bug_in_what_runs_ahead_costs_nobody_the_mount(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    """A backend may raise what is no error of a store."""

    async def broken(*_: object) -> None:
        raise KeyError(what)

    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 10)
        monkeypatch.setattr(Lister, "list_ahead", broken)
        monkeypatch.setattr(BlockCache, "fetch_ahead", broken)
        if what == "fetch_ahead":
            await scene.nodes("d")
        for number in range(10):
            assert await read(scene, f"d/{number:03}") == b"%03d" % number * 3

    assert "a bug in mountfs" in caplog.text
    assert what in caplog.text


async def test_what_fails_ahead_is_not_tried_for_every_program(tmp_path: Path) -> None:
    """Files that cannot be read (archived, forbidden, gone) are asked for once."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 60)
        await scene.nodes("d")
        for number in range(20, 60):
            await scene.there.delete(f"d/{number:03}")
        for number in range(20):
            await read(scene, f"d/{number:03}")

        assert scene.store.asked["read"] <= 60


async def test_directory_that_is_not_listed_ahead_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is too large, say: each try costs requests."""
    monkeypatch.setattr(lister, "PAGES_AHEAD_MAX", 0)
    async with walked(tmp_path) as scene:
        for number in range(20):
            await put_files(scene, f"t/{number:02}", 1)
        await scene.nodes("t")
        for number in range(20):
            await scene.nodes(f"t/{number:02}")
            await settled()

        assert scene.fs.walks.counts.listings == 19


async def test_directory_is_listed_once_for_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looked whether the tree is to be listed looks again who lists it."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 10)
        found = scene.fs.directories._lister
        renew = found._subtrees.renew

        async def slow(prefix: str) -> bool:
            await trio.testing.wait_all_tasks_blocked()
            return await renew(prefix)

        monkeypatch.setattr(found._subtrees, "renew", slow)
        scene.store.asked.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(found.entries, "d/")

        assert scene.store.asked["list"] == 1
        assert len(await found.entries("d/")) == 10


async def test_nothing_is_listed_for_names_that_are_never_believed(
    tmp_path: Path,
) -> None:
    """Without a time to live a listing behind a program tells it nothing."""
    async with walked(tmp_path, ttl_s=0.0) as scene:
        await put_files(scene, "d", 10)
        await scene.nodes("d")
        for number in range(10):
            await read(scene, f"d/{number:03}")
        scene.store.asked.clear()
        for number in range(10):
            await read(scene, f"d/{number:03}")

        assert scene.fs.walks.counts.listings <= 1


async def test_files_that_are_opened_to_be_changed_wait_for_nobody(
    tmp_path: Path,
) -> None:
    """A program that reads one file and rewrites the next still has them fetched."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 3 * FILES_FIRST)
        await scene.nodes("d")
        for number in range(0, 3 * FILES_FIRST, 2):
            await read(scene, f"d/{number:03}")
            opened = await scene.open(await scene.lookup(f"d/{number + 1:03}"))
            await scene.close(opened)

        assert scene.fs.walks.counts.files >= 3 * FILES_FIRST - 3


async def test_new_version_of_what_could_not_be_had_is_tried(tmp_path: Path) -> None:
    """It was replaced while it was fetched, say, and a program lists its directory."""
    async with walked(tmp_path) as scene:
        await put_files(scene, "d", 10)
        await scene.nodes("d")
        await scene.put("d/005", b"another")
        for number in range(3):
            await read(scene, f"d/{number:03}")
        before = scene.fs.walks.counts.files
        metadata = scene.fs.volume.metadata
        page = await scene.there.list("d/")
        metadata.put_listing(metadata.begin_listing("d/"), page.objects)
        await scene.nodes("d")
        await read(scene, "d/003")

        assert scene.fs.walks.counts.files == before + 1
        assert await read(scene, "d/005") == b"another"


async def test_what_is_remembered_of_directories_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many names those have that a program goes through."""
    monkeypatch.setattr(walks, "KEYS_MAX", 20)
    async with walked(tmp_path) as scene:
        for directory in "abcde":
            await put_files(scene, directory, 9)
        for directory in "abcde":
            await scene.nodes(directory)
            await read(scene, f"{directory}/000")
            await read(scene, f"{directory}/001")

        remembered = [len(each.keys) for each in scene.fs.walks._places.values()]
        assert max(remembered) == 9
        assert sum(remembered) <= 20
