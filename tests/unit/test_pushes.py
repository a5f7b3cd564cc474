"""The gate of pushes: bytes for the kernel, and programs that change the file."""

import os
from pathlib import Path

import trio
import trio.testing

from mountfs.vfs.pushes import SIZE_MAX, WAITING_MAX, Push, Pushes
from tests.fakes.volume import Scene, open_scene

OLD = b"old bytes"


async def push_of(scene: Scene) -> Push:
    await scene.put("file", OLD)
    node = await scene.lookup("file")
    assert node.object is not None
    return Push(scene.fs.volume.inodes, node, node.object, OLD)


async def test_whoever_opens_for_writing_waits_for_a_push(tmp_path: Path) -> None:
    """And a reader does not; after it nothing is pushed until the last writer left."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        push = await push_of(scene)
        assert push.begin()
        await scene.close(await scene.open(push.node, os.O_RDONLY))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.open, push.node)
            await trio.testing.wait_all_tasks_blocked()
            assert not list(scene.fs.files)
            assert not push.begin()  # one is under way, and a writer waits

            push.end()
        assert not push.begin()
        for opened in scene.fs.files:
            await scene.close(opened)

        assert push.begin()
        push.end()


async def test_truncation_waits_for_a_push(tmp_path: Path) -> None:
    """A change of size is answered when the old bytes are where they go."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        push = await push_of(scene)
        assert push.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.fs.files.truncate, push.node, 3)
            await trio.testing.wait_all_tasks_blocked()
            assert push.node.object == push.object
            push.end()

        assert not push.begin()  # they are the bytes of a version that is no more
        assert await scene.content("file") == b"old"


async def test_node_lives_while_its_number_is_used(tmp_path: Path) -> None:
    """What the kernel forgets meanwhile gives its number to nobody before the end."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        push = await push_of(scene)
        assert push.begin()
        inodes = scene.fs.volume.inodes
        inodes.forget(push.node.inode, 1)
        assert push.node in list(inodes)

        push.end()
        assert push.node not in list(inodes)
        assert not push.begin()  # the kernel does not know it


async def test_only_small_files_are_pushed_and_few_wait(tmp_path: Path) -> None:
    """Whole files or nothing, and nobody waits for a place."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        push = await push_of(scene)
        pushes = Pushes(scene.fs.volume.inodes)
        for data in (b"", b"old", bytes(SIZE_MAX + 1)):
            pushes.offer(push.node, push.object, data)
        assert pushes.receiving.statistics().current_buffer_used == 0

        for _ in range(WAITING_MAX + 1):
            pushes.offer(push.node, push.object, OLD)
        assert pushes.receiving.statistics().current_buffer_used == WAITING_MAX
        pushes.receiving.close()
        pushes.offer(push.node, push.object, OLD)
