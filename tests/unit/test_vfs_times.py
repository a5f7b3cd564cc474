"""Times and attributes on their way into the store."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.storage.body import BytesBody
from mountfs.storage.dialects import parse_seconds
from mountfs.storage.errors import NotFound
from mountfs.storage.types import Attributes, Metadata
from mountfs.vfs.attributes import Change, after_read
from mountfs.vfs.inodes import Node
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

DAY_NS = 24 * 3600 * 10**9
THEIRS = Attributes(mode=0o100640, uid=7, gid=8, mtime_ns=5, ctime_ns=6, atime_ns=7)


@asynccontextmanager
async def listing_without_metadata(directory: Path) -> AsyncIterator[Scene]:
    """Build a file system over a store whose listings tell as little as those of S3."""
    capabilities = tiny_store(move=False, list_metadata=False)
    async with open_scene(directory, capabilities=capabilities, ttl_s=60) as scene:
        yield scene


async def flush(scene: Scene) -> None:
    await scene.fs.volume.touched.flush(scene.fs.attributes.store_times)


async def stored(scene: Scene, key: str) -> Attributes:
    found = await scene.there.stat(key)
    assert found.attributes is not None
    return found.attributes


async def made(scene: Scene, name: str) -> Node:
    """Make a directory in the root, as the kernel has it done."""
    namespace = scene.fs.namespace
    node = await namespace.mkdir(scene.root, name.encode(), 0o755, CALLER)
    node.lookups += 1
    return node


async def listed(scene: Scene, name: str) -> Node:
    """Return the node of an entry that only a listing has told of."""
    directories = scene.fs.directories
    opened = directories.open(scene.root)
    objects = await scene.fs.volume.store.list("")
    begun = scene.fs.volume.metadata.begin_listing("")
    scene.fs.volume.metadata.put_listing(begun, objects.objects)
    entries = dict(await directories.entries(opened, anew=True))
    node = directories.node_of(scene.root, name.encode(), entries[name.encode()])
    assert node is not None
    node.lookups += 1
    directories.release(opened.handle)
    return node


@pytest.mark.parametrize("name", ["file", "directory"])
async def test_attributes_that_a_listing_hid_survive_a_chmod(
    tmp_path: Path, name: str
) -> None:
    """chmod(2) changes the mode alone, although the mount had to assume the rest."""
    async with listing_without_metadata(tmp_path) as scene:
        key = "directory/" if name == "directory" else "file"
        body = BytesBody(b"x") if name == "file" else None
        await scene.there.write(key, body, metadata=Metadata(attributes=THEIRS))
        node = await listed(scene, name)
        assert node.attributes.uid != THEIRS.uid

        await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)

        found = await stored(scene, key)
        assert ((found.mode or 0) & 0o777, found.uid, found.mtime_ns) == (0o600, 7, 5)


async def test_attributes_that_a_listing_hid_survive_a_write(tmp_path: Path) -> None:
    """A file that is opened to be written keeps the owner that others gave it."""
    async with listing_without_metadata(tmp_path) as scene:
        metadata = Metadata(attributes=THEIRS)
        await scene.there.write("file", BytesBody(b"x"), metadata=metadata)
        opened = await scene.open(await listed(scene, "file"))

        await scene.fs.files.write(opened, 0, b"y")
        await scene.close(opened)

        found = await stored(scene, "file")
        assert ((found.mode or 0) & 0o777, found.uid) == (0o640, 7)


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_changing_what_a_listing_showed_and_others_took(
    tmp_path: Path, is_replaced: bool
) -> None:
    """An object that is gone or another by now is ESTALE: the kernel looks again."""
    async with listing_without_metadata(tmp_path) as scene:
        await scene.put("file", b"old")
        node = await listed(scene, "file")
        if is_replaced:
            await scene.put("file", b"another")
        else:
            await scene.there.delete("file")

        with pytest.raises(OSError, match="foreign"):
            await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)


async def test_kernels_report_of_a_ctime_asks_for_nothing(tmp_path: Path) -> None:
    """After a rename the kernel sends a ctime: that is no reason for a request."""
    async with listing_without_metadata(tmp_path) as scene:
        await scene.put("file", b"x")
        node = await listed(scene, "file")
        scene.store.refused["stat"] = NotFound("asked")
        change = Change(mtime_ns=node.attributes.mtime_ns, ctime_ns=99)

        await scene.fs.attributes.apply(node, change, is_echo=False)

        assert node.attributes.ctime_ns == 99


async def test_times_of_a_directory_follow_its_entries(tmp_path: Path) -> None:
    """What changes in a directory is in its marker when the background has run."""
    async with open_scene(tmp_path) as scene:
        node = await made(scene, "d")
        await scene.fs.attributes.apply(node, Change(mtime_ns=5), is_echo=False)
        before = await scene.there.stat("d/")

        await scene.make("d/file", b"x")
        await flush(scene)

        after = await scene.there.stat("d/")
        assert before.metadata is not None
        assert after.metadata is not None
        assert parse_seconds(before.metadata.user["mtime"]) == 5
        assert (parse_seconds(after.metadata.user["mtime"]) or 0) > 5
        assert after.metadata.user["mode"] == before.metadata.user["mode"]


async def test_no_marker_is_made_for_a_time(tmp_path: Path) -> None:
    """A directory that exists by its children alone stays as other tools made it."""
    async with open_scene(tmp_path) as scene:
        await scene.put("d/one", b"x")
        await scene.make("d/two", b"x")

        await flush(scene)

        assert await scene.keys() == {"d/one", "d/two"}


async def test_time_that_is_shown_does_not_go_back(tmp_path: Path) -> None:
    """What is learnt of a directory later is older than what was changed here."""
    async with listing_without_metadata(tmp_path) as scene:
        await scene.put("d/one", b"x")
        node = await listed(scene, "d")
        await scene.make("d/two", b"x")
        shown = node.attributes

        await scene.fs.resolver.learn(node)

        assert node.object is not None
        assert node.object.metadata is not None
        assert node.attributes.mtime_ns == shown.mtime_ns


async def test_rmdir_waits_for_times_on_their_way(tmp_path: Path) -> None:
    """A marker that is being given its times does not outlive its directory."""
    async with open_scene(tmp_path) as scene:
        node = await made(scene, "d")
        scene.fs.volume.touch(node)
        hold = scene.store.hold("set_metadata")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flush, scene)
            await hold.reached.wait()
            nursery.start_soon(scene.fs.namespace.rmdir, scene.root, b"d")
            await trio.testing.wait_all_tasks_blocked()
            hold.release()

        assert await scene.keys() == set()


async def test_chmod_is_not_overtaken_by_older_times(tmp_path: Path) -> None:
    """Of two states of a directory the later one is stored last."""
    async with open_scene(tmp_path) as scene:
        node = await made(scene, "d")
        scene.fs.volume.touch(node)
        hold = scene.store.hold("set_metadata")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flush, scene)
            await hold.reached.wait()
            nursery.start_soon(_chmod, scene, node, 0o700)
            await trio.testing.wait_all_tasks_blocked()
            hold.release()

        found = await scene.there.stat("d/")
        assert found.metadata is not None
        assert int(found.metadata.user["mode"]) & 0o777 == 0o700


async def _chmod(scene: Scene, node: Node, mode: int) -> None:
    await scene.fs.attributes.apply(node, Change(mode=mode), is_echo=False)


async def test_times_of_a_directory_that_is_gone_are_dropped(tmp_path: Path) -> None:
    """A directory that was removed before its turn makes no request, and is let go."""
    async with open_scene(tmp_path) as scene:
        node = await made(scene, "d")
        scene.fs.volume.touch(node)
        await scene.fs.namespace.rmdir(scene.root, b"d")

        await flush(scene)

        assert await scene.keys() == set()
        scene.fs.volume.inodes.forget(node.inode, 1)
        assert node not in list(scene.fs.volume.inodes)


async def test_explicit_times_need_no_second_request(tmp_path: Path) -> None:
    """What utimensat(2) has just stored does not wait to be stored again."""
    async with open_scene(tmp_path) as scene:
        node = await made(scene, "d")
        await flush(scene)
        scene.fs.volume.touch(node)

        await scene.fs.attributes.apply(node, Change(mtime_ns=5), is_echo=False)

        assert len(scene.fs.volume.touched) == 0


async def test_last_times_are_stored_at_unmount(tmp_path: Path) -> None:
    """What waits when the mount ends is sent then."""
    async with open_scene(tmp_path) as scene:
        node = await made(scene, "d")
        await scene.make("d/file", b"x")

        await scene.fs.finish()

        found = await scene.there.stat("d/")
        assert found.metadata is not None
        assert parse_seconds(found.metadata.user["mtime"]) == node.attributes.mtime_ns


@pytest.mark.parametrize(
    ("atime_ns", "now_ns", "is_set"),
    [
        (5, 10, True),
        (7, 10, True),
        (8, 10, False),
        (8, 8 + DAY_NS - 1, False),
        (8, 8 + DAY_NS, True),
    ],
)
def test_atime_follows_the_rule_of_relatime(
    atime_ns: int, now_ns: int, is_set: bool
) -> None:
    """Reading sets an atime that is not after the last change, or a day old."""
    attributes = Attributes(mtime_ns=6, ctime_ns=7, atime_ns=atime_ns)

    after = after_read(attributes, now_ns)

    assert after.atime_ns == (now_ns if is_set else atime_ns)


@pytest.mark.parametrize(
    ("flags", "is_set"),
    [
        (os.O_RDONLY, True),
        (os.O_RDWR, True),
        (os.O_WRONLY, False),
        (os.O_RDONLY | os.O_NOATIME, False),
    ],
)
async def test_open_for_reading_sets_the_atime(
    tmp_path: Path, flags: int, is_set: bool
) -> None:
    """Who opens a file to read it moves its atime, unless told not to; no request."""
    async with open_scene(tmp_path, ttl_s=60) as scene:
        node = await scene.make("file", b"x")
        await scene.fs.attributes.apply(node, Change(atime_ns=5), is_echo=False)
        scene.store.refused["set_metadata"] = NotFound("asked")

        await scene.close(await scene.open(node, flags))

        assert (node.attributes.atime_ns != 5) == is_set


async def test_atime_goes_with_the_next_commit(tmp_path: Path) -> None:
    """What reading has set is stored with the next bytes."""
    async with open_scene(tmp_path, ttl_s=60) as scene:
        node = await scene.make("file", b"x")
        await scene.fs.attributes.apply(node, Change(atime_ns=5), is_echo=False)
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"y")

        await scene.close(opened)

        found = await scene.there.stat("file")
        assert found.metadata is not None
        assert found.metadata.user["atime"] != "0.000000005"


async def test_mount_without_atime_leaves_it(tmp_path: Path) -> None:
    """With --noatime reading sets nothing."""
    async with open_scene(tmp_path, ttl_s=60) as scene:
        scene.fs.volume.notes_reading = False
        node = await scene.make("file", b"x")
        await scene.fs.attributes.apply(node, Change(atime_ns=5), is_echo=False)

        await scene.close(await scene.open(node, os.O_RDONLY))

        assert node.attributes.atime_ns == 5
