"""Names that are given back when there are too many."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.vfs import room
from mountfs.vfs.inodes import Node
from mountfs.vfs.room import KEPT_PART, Room
from mountfs.vfs.volume import Outdated
from tests.fakes.synthetic import SyntheticStore
from tests.fakes.volume import Scene, open_scene

NAMES_MAX = 100
FILES = 2 * NAMES_MAX


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A file system over a directory of many files."""
    async with open_scene(tmp_path, there=SyntheticStore(2, FILES), ttl_s=60) as scene:
        yield scene


async def known(scene: Scene) -> list[Node]:
    """Let the kernel know all files of a directory, as a listing does."""
    directory = await scene.lookup("d000000")
    directory.lookups += 1
    opened = scene.fs.directories.open(directory)
    found: list[Node] = []
    for name, what in await scene.fs.directories.entries(opened, anew=True):
        node = scene.fs.directories.node_of(directory, name, what)
        assert node is not None
        node.hand_out()
        found.append(node)
    scene.fs.directories.release(opened.handle)
    return found


async def make_room(scene: Scene, *, forgets: bool = True) -> list[Outdated]:
    """Make room, and answer as the kernel does; return what it was asked to forget."""
    volume, asked = scene.fs.volume, list[Outdated]()

    async def be_the_kernel() -> None:
        async for message in scene.fs.outdated:
            asked.append(message)
            node = volume.inodes.get(message.parent).children[message.name]
            if forgets:
                volume.inodes.forget(node.inode, node.lookups)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_the_kernel)
        count = await Room(volume, NAMES_MAX).make()
        await trio.testing.wait_all_tasks_blocked()
        assert len(asked) == count
        nursery.cancel_scope.cancel()
    return asked


async def test_what_was_told_first_is_forgotten_first(scene: Scene) -> None:
    """As many as leave a part of the most; they are found again."""
    files = await known(scene)

    asked = await make_room(scene)

    assert len(scene.fs.volume.inodes) == int(NAMES_MAX * KEPT_PART)
    assert [each.name for each in asked] == [
        b"f%06d" % number for number in range(len(asked))
    ]
    assert files[0].is_nameless or files[0].parent is not None
    assert (await scene.lookup("d000000/f000000")).inode == files[0].inode
    assert await make_room(scene) == []


async def test_what_is_in_use_stays(scene: Scene) -> None:
    """Open files, files with bytes that the store lacks, and directories."""
    files = await known(scene)
    opened = await scene.open(files[0], os.O_RDONLY)
    changed = await scene.create(scene.root, "new", b"1")
    assert changed.node.holds_changes

    asked = await make_room(scene)

    inodes = scene.fs.volume.inodes
    assert inodes.get(files[0].inode) is files[0]
    assert inodes.get(changed.node.inode) is changed.node
    assert {each.name for each in asked}.isdisjoint({b"f000000", b"new", b"d000000"})
    await scene.close(opened)
    await scene.close(changed)


async def test_nobody_is_asked_every_second_in_vain(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories alone may be too many, or a program holds all that it has seen."""
    monkeypatch.setattr(room, "LOOK_S", 0.01)
    await known(scene)
    asked = 0

    async def note() -> None:
        nonlocal asked
        async for _ in scene.fs.outdated:
            asked += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note)
        nursery.start_soon(Room(scene.fs.volume, NAMES_MAX).run)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()

    passes = asked / int(FILES - NAMES_MAX * KEPT_PART)
    assert 1 <= passes <= 9  # after 10, 20, 40 ms ... and not each 20 ms


async def test_names_are_not_counted_while_there_cannot_be_too_many(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle mount does not wake the processor each second; a new limit counts now."""
    monkeypatch.setattr(room, "LOOK_S", 0.001)
    counted = trio.Event()

    class Counted(Room):
        async def make(self) -> int:
            counted.set()
            return await super().make()

    async with trio.open_nursery() as nursery:
        counting = Counted(scene.fs.volume, 1_000_000)
        nursery.start_soon(counting.run)
        await trio.sleep(0.05)
        assert not counted.is_set()

        counting.keep_at_most(900_000)
        with trio.fail_after(5):
            await counted.wait()
        nursery.cancel_scope.cancel()


async def test_who_does_not_go_is_not_asked_over_and_over(scene: Scene) -> None:
    """The kernel may need an inode after all: then others are asked for next."""
    await known(scene)

    first = await make_room(scene, forgets=False)
    second = await make_room(scene, forgets=False)

    assert len({*first, *second}) == FILES
