"""Trees of small directories that programs go through again and again."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.storage.types import Features
from mountfs.vfs.attributes import Change
from tests.fakes.cache_stack import tiny_store
from tests.fakes.clocks import Clock
from tests.fakes.volume import CALLER, Scene, open_scene

TTL_S = 1.0
TERSE = tiny_store(move=False, attributes=False, list_metadata=False)
FORGETFUL = dataclasses.replace(TERSE, dir_metadata=False)
INDEXED = dataclasses.replace(Features.for_mounts(), virtual_index=True)
DIRECTORIES = tuple(f"d{number:02}" for number in range(20))
FILES = tuple(f"top/{directory}/file" for directory in DIRECTORIES)


@asynccontextmanager
async def tree(
    path: Path,
    *,
    journaled: bool = False,
    there: MemoryStore | None = None,
    features: Features | None = None,
) -> AsyncIterator[tuple[Scene, Clock]]:
    """Make a tree; all that is known of it is too old by now."""
    clock, there = Clock(), there or MemoryStore(capabilities=TERSE)
    async with open_scene(
        path, there=there, ttl_s=TTL_S, journaled=journaled, features=features
    ) as scene:
        scene.fs.volume.metadata._clock = clock
        if (index := scene.fs.volume.index) is not None:
            index._shards._clock = clock
        top = await scene.fs.namespace.mkdir(scene.root, b"top", 0o755, CALLER)
        for name in DIRECTORIES:
            await scene.fs.namespace.mkdir(top, name.encode(), 0o755, CALLER)
        for path_of_file in FILES:
            await scene.make(path_of_file, b"bytes")
        if journaled:
            assert await scene.drain()
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        yield scene, clock


def questions(scene: Scene) -> int:
    asked = scene.store.asked
    return asked["stat"] + asked["list"] + asked["read"]


async def is_there(scene: Scene, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    parent = await scene.lookup(folder) if folder else scene.root
    return await scene.fs.namespace.lookup(parent, name.encode()) is not None


@pytest.mark.parametrize("journaled", [False, True])
async def test_tree_costs_no_question_for_each_directory(
    tmp_path: Path, journaled: bool
) -> None:
    """As `git status`: each file is looked at, and names that are not there."""
    async with tree(tmp_path, journaled=journaled) as (scene, clock):
        for path in FILES:
            await scene.lookup(path)
            assert not await is_there(scene, f"{path}-not")
            clock.now_s += TTL_S / 10

        # Until a second directory is asked for nobody knows that it is a tree; then
        # some for each time to live.
        assert questions(scene) <= 14


async def test_tree_is_listed_once_for_all_its_directories(tmp_path: Path) -> None:
    """As `find`, or `git fsck`: each directory is opened and read."""
    async with tree(tmp_path) as (scene, _):
        for name in DIRECTORIES:
            assert set(await scene.nodes(f"top/{name}")) == {"file"}
            assert questions(scene) <= 1
        assert set(await scene.nodes("top")) == set(DIRECTORIES)
        assert questions(scene) <= 1


async def test_what_a_tree_leaves_open_is_not_sought_in_a_part_of_it(
    tmp_path: Path,
) -> None:
    """Its listing has told all that one of a smaller tree could tell."""
    async with tree(tmp_path) as (scene, clock):
        within = await scene.lookup("top/d00")
        paths = [f"top/d00/{name}/file" for name in "abcdef"]
        for name, path in zip("abcdef", paths, strict=True):
            await scene.fs.namespace.mkdir(within, name.encode(), 0o755, CALLER)
            await scene.make(path, b"bytes")
        clock.now_s += 10 * TTL_S
        for path in paths:
            await scene.there.write(path, BytesBody(b"another"))
        scene.store.asked.clear()
        await scene.lookup(FILES[1])
        for path in paths:
            await scene.lookup(path)

        assert scene.store.asked["list"] <= 3, "what two directories are, and the tree"
        assert scene.store.asked["stat"] <= 2 + len(paths)


async def test_what_others_changed_in_a_tree_is_seen(tmp_path: Path) -> None:
    """The listing tells that it is another, and then it is asked for."""
    async with tree(tmp_path) as (scene, _):
        await scene.there.write("top/d03/file", BytesBody(b"other bytes"))
        await scene.there.write("top/d04/new", BytesBody(b"new"))
        await scene.there.write("top/new/file", BytesBody(b"in a new directory"))
        await scene.there.delete("top/d05/file")
        for key in ("top/d06/file", "top/d06/"):
            await scene.there.delete(key)
        await scene.see(FILES[0])
        await scene.see(FILES[1])

        assert await scene.see("top/d03/file") == b"other bytes"
        assert await scene.see("top/d04/new") == b"new"
        assert await scene.see("top/new/file") == b"in a new directory"
        assert not await is_there(scene, "top/d05/file")
        assert await is_there(scene, "top/d05")
        assert not await is_there(scene, "top/d06")


async def test_directory_without_marker_is_there_by_its_keys(tmp_path: Path) -> None:
    """And gone without them, also if the listing before knew it."""
    async with tree(tmp_path) as (scene, clock):
        for name in ("d01/", "d02/", "d02/file"):
            await scene.there.delete(f"top/{name}")
        await scene.lookup(FILES[0])
        await scene.lookup(FILES[5])

        assert await is_there(scene, "top/d01/file")
        assert not await is_there(scene, "top/d02")
        clock.now_s += 10 * TTL_S
        await scene.there.delete("top/d01/file")
        await scene.lookup(FILES[0])
        await scene.lookup(FILES[5])
        assert not await is_there(scene, "top/d01")


async def test_change_while_a_tree_is_listed_is_not_lost(tmp_path: Path) -> None:
    """What was made since is there, what was removed is not."""
    async with tree(tmp_path) as (scene, clock), trio.open_nursery() as nursery:
        await scene.lookup(FILES[0])
        await scene.lookup(FILES[1])
        parents = [await scene.lookup(f"top/{name}") for name in ("d02", "d03")]
        clock.now_s += 10 * TTL_S
        hold = scene.store.hold("list", is_after=True)
        nursery.start_soon(scene.nodes, "top/d00")
        await hold.reached.wait()
        await scene.close(await scene.create(parents[0], "made", b"bytes"))
        await scene.fs.namespace.unlink(parents[1], b"file")
        hold.release()
        await trio.testing.wait_all_tasks_blocked()

        assert await is_there(scene, "top/d02/made")
        assert not await is_there(scene, "top/d03/file")
        assert set(await scene.nodes("top/d02")) == {"file", "made"}
        assert set(await scene.nodes("top/d03")) == set()


async def test_tree_of_many_pages_is_not_listed_again_and_again(
    tmp_path: Path,
) -> None:
    """One page tells that it does not fit; then each directory is asked for."""
    async with tree(tmp_path) as (scene, _):
        for number in range(1001):
            await scene.there.write(f"top/big/{number:04}", BytesBody(b"x"))
        for path in FILES:
            await scene.lookup(path)

        # A HEAD and a LIST for what a directory is, a LIST of its names.
        assert questions(scene) <= 3 * len(FILES) + 4


@pytest.mark.parametrize("journaled", [False, True])
async def test_attributes_that_the_index_keeps_are_asked_for(
    tmp_path: Path, journaled: bool
) -> None:
    """Of directories the store may keep none: another mount's chmod(2) is seen."""
    there = MemoryStore(capabilities=FORGETFUL)
    async with tree(
        tmp_path / "one", there=there, features=INDEXED, journaled=journaled
    ) as (scene, _):
        async with open_scene(tmp_path / "two", there=there, features=INDEXED) as other:
            node = await other.lookup("top/d07")
            change = Change(mode=0o700)
            await other.fs.attributes.apply(node, change, is_echo=False)
        scene.store.asked.clear()
        for path in FILES:
            await scene.lookup(path)

        assert (await scene.lookup("top/d07")).attributes.mode == 0o40700
        assert (await scene.lookup("top/d08")).attributes.mode == 0o40755
        assert questions(scene) <= 10
