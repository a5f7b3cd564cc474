"""Names of a directory in which many are made or removed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.vfs.busy import CHANGES_MIN
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

TTL_S = 1.0
TERSE = tiny_store(move=False, attributes=False, list_metadata=False)
COUNT = 40
MANY = tuple(f"many-{number}" for number in range(CHANGES_MIN))


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def clocked(
    path: Path, *, journaled: bool = False
) -> AsyncIterator[tuple[Scene, Clock]]:
    """Mount a store whose listings carry no metadata; time passes on demand."""
    clock, there = Clock(), MemoryStore(capabilities=TERSE)
    async with open_scene(path, there=there, ttl_s=TTL_S, journaled=journaled) as scene:
        scene.fs.volume.metadata._clock = clock
        yield scene, clock


async def busy(scene: Scene, *names: str) -> None:
    """Remove files of `d`, so that it is a directory in which much is changed."""
    directory = await scene.lookup("d")
    for name in names:
        await scene.fs.namespace.unlink(directory, name.encode())


def questions(scene: Scene) -> int:
    return scene.store.asked["stat"] + scene.store.asked["list"]


@pytest.mark.parametrize("journaled", [False, True])
async def test_new_names_do_not_cost_a_question_each(
    tmp_path: Path, journaled: bool
) -> None:
    """However long it takes: a listing a TTL tells of all that are not there."""
    async with clocked(tmp_path, journaled=journaled) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        scene.store.asked.clear()
        for number in range(COUNT):
            opened = await scene.create(directory, f"{number:03}", b"bytes")
            await scene.close(opened)
            clock.now_s += TTL_S / 4

        # Before the first listing each name costs a HEAD and a LIST.
        assert questions(scene) <= 2 * CHANGES_MIN + COUNT / 4 + 1


@pytest.mark.parametrize("journaled", [False, True])
async def test_known_names_do_not_cost_a_question_each(
    tmp_path: Path, journaled: bool
) -> None:
    """As `rm -r` of files that were made a while ago."""
    async with clocked(tmp_path, journaled=journaled) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for number in range(COUNT):
            await scene.close(await scene.create(directory, f"{number:03}", b"bytes"))
        if journaled:
            assert await scene.drain()
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        for number in range(COUNT):
            await scene.fs.namespace.unlink(directory, f"{number:03}".encode())
            clock.now_s += TTL_S / 4

        assert questions(scene) <= 2 * CHANGES_MIN + COUNT / 4 + 1


async def test_what_another_program_changed_is_asked_for(tmp_path: Path) -> None:
    """A listing tells that it is another, not what it is."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for name in (*MANY, "x", "d", "e"):
            await scene.close(await scene.create(directory, name, b"bytes"))
        clock.now_s += 10 * TTL_S
        await scene.there.write("d/d", BytesBody(b"other bytes"))
        await scene.there.write("d/f", BytesBody(b"new"))
        await scene.there.delete("d/e")
        await busy(scene, *MANY)

        assert await scene.see("d/d") == b"other bytes"
        assert await scene.see("d/f") == b"new"
        assert await scene.fs.namespace.lookup(directory, b"e") is None


async def test_listing_after_it_is_complete(tmp_path: Path) -> None:
    """What was listed for the sake of names is not mistaken for what `ls` needs."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.there.write("d/foreign", BytesBody(b"bytes"))
        clock.now_s += 10 * TTL_S
        for name in MANY:
            await scene.fs.namespace.symlink(directory, name.encode(), b"to", CALLER)
        clock.now_s += 10 * TTL_S
        assert await scene.fs.namespace.lookup(directory, b"none") is None

        assert set(await scene.nodes("d")) == {*MANY, "foreign"}
        assert scene.store.asked["stat"] >= 1, "its attributes are learnt"


async def test_directory_of_many_pages_is_left_alone(tmp_path: Path) -> None:
    """To list it would cost more than to ask."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for number in range(1001):
            await scene.there.write(f"d/{number:04}", BytesBody(b"x"))
        for name in MANY:
            await scene.fs.namespace.symlink(directory, name.encode(), b"to", CALLER)
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        for number in range(COUNT):
            absent = f"n{number}".encode()
            assert await scene.fs.namespace.lookup(directory, absent) is None

        assert questions(scene) == 2 * COUNT + 1


async def test_directory_that_is_only_looked_at_is_not_listed(tmp_path: Path) -> None:
    """What others put there is seen as soon as it is asked for."""
    async with clocked(tmp_path) as (scene, clock):
        await scene.there.write("d/file", BytesBody(b"bytes"))
        directory = await scene.lookup("d")
        clock.now_s += 10 * TTL_S
        for number in range(COUNT):
            await scene.there.write(f"d/{number}", BytesBody(b"bytes"))
            name = f"{number}".encode()
            assert await scene.fs.namespace.lookup(directory, name) is not None


async def test_small_directory_that_was_listed_is_listed_again(tmp_path: Path) -> None:
    """As `git` does: it looks for many names that are not there, again and again."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.close(await scene.create(directory, "file", b"bytes"))
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        for number in range(COUNT):
            name = f"{number}".encode()
            assert await scene.fs.namespace.lookup(directory, name) is None

        assert questions(scene) == 1


async def test_known_directory_is_asked_for_by_itself(tmp_path: Path) -> None:
    """A listing of what it is in would tell that it is there, and not what it is."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.fs.namespace.mkdir(directory, b"sub", 0o755, CALLER)
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        assert await scene.fs.namespace.lookup(directory, b"sub") is not None

        assert questions(scene) == 2, "a LIST of its keys, and a HEAD of its marker"
