"""What happens in the file system while a request is on its way."""

import os
from pathlib import Path

import trio

from tests.fakes.volume import open_scene


async def test_late_absence_does_not_take_the_name_of_a_new_file(
    tmp_path: Path,
) -> None:
    """A file that was made while its name was asked for keeps name and bytes."""
    async with open_scene(tmp_path) as scene:
        await scene.make("file", b"old")
        await scene.lookup("file")
        await scene.there.delete("file")
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold("stat")
            nursery.start_soon(scene.fs.namespace.lookup, scene.root, b"file")
            await hold.reached.wait()
            scene.fs.volume.inodes.detach(scene.root.children[b"file"])
            scene.fs.volume.metadata.put_absent("file")
            opened = await scene.create(scene.root, "file", b"new")
            hold.release()
        await scene.close(opened)

        assert await scene.content("file") == b"new"


async def test_late_answer_does_not_undo_a_commit(tmp_path: Path) -> None:
    """An answer that is older than our commit neither hides it nor detaches it."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.put("file", b"old")
        opened = await scene.open(await scene.lookup("file"))
        scene.fs.volume.metadata.expire("file")
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold("stat", is_after=True)
            nursery.start_soon(scene.fs.namespace.lookup, scene.root, b"file")
            await hold.reached.wait()
            await scene.fs.files.write(opened, 0, b"new")
            await scene.fs.files.fsync(opened.node)
            hold.release()
        await scene.fs.files.write(opened, 0, b"2nd")
        await scene.close(opened)

        assert await scene.content("file") == b"2nd"
        assert await scene.see("file") == b"2nd"


async def test_file_is_opened_while_somebody_writes_to_it(tmp_path: Path) -> None:
    """A write that comes between the question and the answer is no foreign change."""
    async with open_scene(tmp_path) as scene:
        node = await scene.make("file", b"old")
        writer = await scene.open(node)
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold("stat", is_after=True)
            nursery.start_soon(scene.open, node, os.O_RDONLY)
            await hold.reached.wait()
            await scene.fs.files.write(writer, 0, b"new")
            hold.release()
        await scene.close(writer)

        assert await scene.content("file") == b"new"


async def test_snapshot_of_a_directory_does_not_undo_a_commit(tmp_path: Path) -> None:
    """Listing on after a file was rewritten, or removed, shows what is true now."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        for name in ("kept", "changed", "removed"):
            await scene.make(name, b"old")
        directory = scene.fs.directories.open(scene.root)
        entries = await scene.fs.directories.entries(directory, anew=True)
        opened = await scene.open(await scene.lookup("changed"))
        await scene.fs.files.write(opened, 0, b"longer")
        await scene.fs.files.fsync(opened.node)
        await scene.fs.namespace.unlink(scene.root, b"removed")

        nodes = {
            name: scene.fs.directories.node_of(scene.root, name, what)
            for name, what in entries
        }

        assert nodes[b"changed"] is opened.node
        assert nodes[b"removed"] is None
        assert nodes[b"kept"] is not None


async def test_a_removed_name_is_not_shown_although_it_was_listed_before(
    tmp_path: Path,
) -> None:
    """By a directory that stays open, when a newer listing forgot the removal."""
    async with open_scene(tmp_path, ttl_s=60.0) as scene:
        await scene.make("gone", b"bytes")
        await scene.make("there", b"bytes")
        directories = scene.fs.directories
        opened = directories.open(scene.root)
        await directories.entries(opened, anew=True)

        await scene.fs.namespace.unlink(scene.root, b"gone")
        metadata = scene.fs.volume.metadata
        page = await scene.store.list("")
        metadata.put_listing(metadata.begin_listing(""), page.objects)

        shown = [
            (name, directories.node_of(scene.root, name, what) is not None)
            for name, what in await directories.entries(opened, anew=False)
        ]
        assert shown == [(b"gone", False), (b"there", True)]
        directories.release(opened.handle)
