"""Hard links: one file under several names, each a whole object of its own."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import PermissionDenied, Unreachable
from mountfs.storage.types import Features
from mountfs.vfs import groups
from mountfs.vfs.attributes import Change
from mountfs.vfs.inodes import Node
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

GATES = replace(Features.for_mounts(), virtual_hard_link=True)


@asynccontextmanager
async def scene_at(
    path: Path, there: MemoryStore | None = None, *, ttl_s: float = 0.0
) -> AsyncIterator[Scene]:
    capabilities = tiny_store(move=False, attributes=False)
    async with open_scene(
        path, there=there, capabilities=capabilities, features=GATES, ttl_s=ttl_s
    ) as scene:
        yield scene


async def link(scene: Scene, old: str, new: str) -> Node:
    """Link as the kernel does: the target is looked up afresh."""
    node = await scene.lookup(old)
    folder, _, name = new.rpartition("/")
    parent = await scene.lookup(folder) if folder else scene.root
    linked = await scene.fs.namespace.link(node, parent, name.encode())
    linked.lookups += 1
    return linked


async def records(scene: Scene) -> list[set[str]]:
    """Return the names in each group record of the store."""
    found = []
    for key in await scene.keys():
        if key.startswith(groups.FOLDER):
            content = await scene.content(key)
            assert content is not None
            found.append(set(groups.decode(content, key)))
    return found


async def test_both_names_are_one_file(tmp_path: Path) -> None:
    """A link has the inode of its file, and both count two links."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"bytes")

        linked = await link(scene, "a", "b")

        assert linked is node
        assert node.links == 2
        assert await scene.content("b") == b"bytes"
        assert await records(scene) == [{"a", "b"}]
        assert await scene.lookup("b") is await scene.lookup("a")


async def test_record_is_read_for_who_needs_the_file(tmp_path: Path) -> None:
    """A new one is not there to be read; one that was just written is known, unless
    somebody has the file open, whose bytes must not go with its last name.
    """
    async with scene_at(tmp_path, ttl_s=60.0) as scene:
        await scene.make("a", b"bytes")
        scene.store.asked.clear()
        await link(scene, "a", "b")
        await link(scene, "a", "c")
        await scene.fs.namespace.unlink(scene.root, b"a")
        assert scene.store.asked["read"] == 0

        opened = await scene.open(await scene.lookup("b"))
        await scene.fs.namespace.unlink(scene.root, b"b")
        assert scene.store.asked["read"] == 1
        await scene.close(opened)
        assert await scene.see("c") == b"bytes"
        assert await records(scene) == [{"c"}]


async def test_new_bytes_reach_every_name(tmp_path: Path) -> None:
    """What is written through one name is stored under all of them."""
    async with scene_at(tmp_path) as scene:
        await scene.make("a", b"old")
        await link(scene, "a", "b")
        await link(scene, "a", "c")
        opened = await scene.open(await scene.lookup("b"))

        await scene.fs.files.write(opened, 0, b"new!")
        await scene.close(opened)

        assert [await scene.content(key) for key in "abc"] == [b"new!"] * 3
        assert await scene.see("c") == b"new!"


async def test_mode_reaches_every_name(tmp_path: Path) -> None:
    """chmod changes the metadata of all objects of the file."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"x")
        await link(scene, "a", "b")

        await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)

        for key in "ab":
            stored = (await scene.there.stat(key)).metadata
            assert stored is not None
            assert int(stored.user["mode"]) & 0o777 == 0o600


async def test_first_name_goes_and_the_other_stays(tmp_path: Path) -> None:
    """Removing one name leaves the file under the other, with one link."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"bytes")
        await link(scene, "a", "b")

        await scene.fs.namespace.unlink(scene.root, b"a")

        assert await scene.content("a") is None
        assert node.links == 1
        assert not node.is_nameless
        assert await scene.see("b") == b"bytes"
        assert await records(scene) == [{"b"}]


async def test_ctime_of_a_lost_name_stays_when_the_store_is_asked(
    tmp_path: Path,
) -> None:
    """The store still has the older ctime; what it tells does not undo the newer."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"bytes")
        await link(scene, "a", "b")
        before_ns = node.attributes.ctime_ns or 0
        scene.fs.volume.now_ns = lambda: before_ns + 10**9

        await scene.fs.namespace.unlink(scene.root, b"a")
        await scene.lookup("b")

        assert (node.attributes.ctime_ns or 0) > before_ns


async def test_last_name_takes_the_record_along(tmp_path: Path) -> None:
    """When every name is gone the store has nothing of the group."""
    async with scene_at(tmp_path) as scene:
        await scene.make("a", b"bytes")
        await link(scene, "a", "b")

        await scene.fs.namespace.unlink(scene.root, b"a")
        await scene.fs.namespace.unlink(scene.root, b"b")

        assert await scene.keys() == set()


async def test_time_of_a_lost_name_is_kept(tmp_path: Path) -> None:
    """The ctime that an unlink gives the file is in the record: no object tells it."""
    async with scene_at(tmp_path / "one") as scene:
        node = await scene.make("a", b"x")
        await link(scene, "a", "b")
        before_ns = node.attributes.ctime_ns
        scene.fs.volume.now_ns = lambda: (before_ns or 0) + 10**9
        await scene.fs.namespace.unlink(scene.root, b"a")
        ctime_ns = node.attributes.ctime_ns
        there = scene.there

    async with scene_at(tmp_path / "two", there) as scene:
        assert (await scene.lookup("b")).attributes.ctime_ns == ctime_ns
        assert ctime_ns == (before_ns or 0) + 10**9


async def test_open_file_is_stored_under_the_name_that_is_left(
    tmp_path: Path,
) -> None:
    """A file that loses its first name while it is written is stored under another."""
    async with scene_at(tmp_path) as scene:
        await scene.make("a", b"old")
        await link(scene, "a", "b")
        opened = await scene.open(await scene.lookup("a"))
        await scene.fs.files.write(opened, 0, b"first")

        await scene.fs.namespace.unlink(scene.root, b"a")
        await scene.fs.files.write(opened, 5, b" second")
        await scene.close(opened)

        assert await scene.content("b") == b"first second"
        assert await scene.content("a") is None


async def test_open_file_finds_a_name_that_was_never_looked_up(
    tmp_path: Path,
) -> None:
    """A mount that knows one name only finds the others when that one goes."""
    async with scene_at(tmp_path / "one") as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.make("a", b"old")
        await link(scene, "a", "d/b")
        there = scene.there
    async with scene_at(tmp_path / "two", there) as scene:
        opened = await scene.open(await scene.lookup("a"))
        await scene.fs.namespace.unlink(scene.root, b"a")

        await scene.fs.files.write(opened, 0, b"new")
        await scene.close(opened)

        assert await scene.content("d/b") == b"new"
        assert await scene.lookup("d/b") is opened.node


async def test_another_mount_sees_one_file(tmp_path: Path) -> None:
    """The group is in the store: a mount that has nothing else knows it."""
    async with scene_at(tmp_path / "one") as scene:
        await scene.make("a", b"bytes")
        await link(scene, "a", "b")
        there = scene.there

    async with scene_at(tmp_path / "two", there) as scene:
        node = await scene.lookup("a")

        assert await scene.lookup("b") is node
        assert node.links == 2


async def test_foreign_write_splits_a_name_off(tmp_path: Path) -> None:
    """An object that another program writes over a name is a file of its own."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"ours")
        await link(scene, "a", "b")
        await scene.put("b", b"theirs")

        split = await scene.lookup("b")

        assert split is not node
        assert await scene.see("b") == b"theirs"
        opened = await scene.open(await scene.lookup("a"))
        await scene.fs.files.write(opened, 0, b"new!")
        await scene.close(opened)
        assert await scene.content("b") == b"theirs"
        assert await records(scene) == [{"a"}]


async def test_foreign_copy_is_no_name(tmp_path: Path) -> None:
    """A copy carries the id of the group and is yet a file of its own."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"ours")
        await link(scene, "a", "b")
        await scene.there.copy("b", "c")

        copy = await scene.lookup("c")

        assert copy is not node
        assert copy.links == 1
        opened = await scene.open(await scene.lookup("a"))
        await scene.fs.files.write(opened, 0, b"new!")
        await scene.close(opened)
        assert await scene.content("c") == b"ours"


async def test_foreign_copy_is_asked_for_once(tmp_path: Path) -> None:
    """That its group does not have it is believed as long as anything is."""
    async with scene_at(tmp_path, ttl_s=3600) as scene:
        await scene.make("a", b"ours")
        await link(scene, "a", "b")
        await scene.there.copy("b", "c")
        scene.fs.volume.metadata.expire("c")
        await scene.lookup("c")
        scene.store.asked.clear()

        await scene.lookup("c")

        assert not scene.store.asked


@pytest.mark.parametrize("content", [b"no record", b'{"format":99,"names":{}}'])
async def test_record_that_is_not_understood_hides_nothing(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its names are files of their own, which is said once, and it is left alone."""
    async with scene_at(tmp_path / "one") as scene:
        await scene.make("a", b"ours")
        await link(scene, "a", "b")
        there = scene.there
        (key,) = [key for key in await scene.keys() if key.startswith(groups.FOLDER)]
    await there.write(key, BytesBody(content))

    async with scene_at(tmp_path / "two", there) as scene:
        opened = scene.fs.directories.open(scene.root)
        listed = await scene.fs.directories.entries(opened, anew=True)
        scene.fs.directories.release(opened.handle)
        assert [name for name, _ in listed] == [b"a", b"b"]
        assert await scene.see("a") == b"ours" == await scene.see("b")
        assert (await scene.lookup("a")).links == 1
        assert await scene.content(key) == content
    warned = [each for each in caplog.records if "files apart" in each.message]
    assert len(warned) == 1


async def test_refused_unlink_leaves_nothing_to_recover(tmp_path: Path) -> None:
    """A program that tries again and again does not fill the journal."""
    async with scene_at(tmp_path) as scene:
        await scene.make("a", b"x")
        await link(scene, "a", "b")
        scene.store.refused["delete"] = PermissionDenied("no")

        with pytest.raises(PermissionDenied):
            await scene.fs.namespace.unlink(scene.root, b"a")

        assert await scene.cache.journal.links() == ()
        scene.store.refused.clear()
        assert await scene.see("a") == b"x"


async def test_renamed_name_stays_in_the_group(tmp_path: Path) -> None:
    """A rename of either name is followed by the record, and by later writes."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"old")
        await link(scene, "a", "b")

        await scene.fs.renames.rename((scene.root, b"b"), (scene.root, b"y"), 0)
        await scene.fs.renames.rename((scene.root, b"a"), (scene.root, b"x"), 0)
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"new")
        await scene.close(opened)

        assert await records(scene) == [{"x", "y"}]
        assert await scene.content("x") == b"new" == await scene.content("y")


async def test_renaming_one_name_over_the_other_does_nothing(tmp_path: Path) -> None:
    """rename(2): if both are names of one file it does nothing and succeeds."""
    async with scene_at(tmp_path) as scene:
        await scene.make("a", b"x")
        await link(scene, "a", "b")

        await scene.fs.renames.rename((scene.root, b"a"), (scene.root, b"b"), 0)

        assert {"a", "b"} < await scene.keys()


async def test_overwritten_name_leaves_the_others(tmp_path: Path) -> None:
    """A rename over one name of a file takes that name only."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"linked")
        await link(scene, "a", "b")
        await scene.make("new", b"new")

        await scene.fs.renames.rename((scene.root, b"new"), (scene.root, b"a"), 0)

        assert node.links == 1
        assert await scene.see("a") == b"new"
        assert await scene.see("b") == b"linked"
        assert await records(scene) == [{"b"}]


async def test_groups_follow_a_renamed_directory(tmp_path: Path) -> None:
    """Names below a directory that moves are entered under their new keys."""
    async with scene_at(tmp_path) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.make("a", b"old")
        await link(scene, "a", "d/b")

        await scene.fs.renames.rename((scene.root, b"d"), (scene.root, b"e"), 0)

        assert await records(scene) == [{"a", "e/b"}]
        assert await scene.lookup("e/b") is await scene.lookup("a")


async def test_crash_between_the_copies_is_mended(tmp_path: Path) -> None:
    """A write that reached one name only is brought to the others at the next mount."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"old")
        await link(scene, "a", "b")
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"new")
        scene.store.refused["copy"] = Unreachable("cut off")
        with pytest.raises(Unreachable):
            await scene.close(opened)
        there = scene.there
        assert (await scene.content("a"), await scene.content("b")) == (b"new", b"old")

    async with scene_at(tmp_path, there) as scene:
        assert await scene.content("b") == b"new"
        assert await scene.lookup("a") is await scene.lookup("b")


async def test_link_needs_its_gate(tmp_path: Path) -> None:
    """Without virtual_hard_link a second name is EPERM."""
    async with open_scene(tmp_path) as scene:
        node = await scene.make("a", b"x")

        with pytest.raises(OSError, match="not permitted") as told:
            await scene.fs.namespace.link(node, scene.root, b"b")

        assert told.value.errno == errno.EPERM


async def test_directory_has_one_name(tmp_path: Path) -> None:
    """link(2) of a directory is EPERM."""
    async with scene_at(tmp_path) as scene:
        node = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)

        with pytest.raises(PermissionError):
            await scene.fs.namespace.link(node, scene.root, b"e")


async def test_taken_name_is_eexist(tmp_path: Path) -> None:
    """A link never takes the place of what has the name."""
    async with scene_at(tmp_path) as scene:
        node = await scene.make("a", b"x")
        await scene.there.write("b", BytesBody(b"foreign"))

        with pytest.raises(FileExistsError):
            await scene.fs.namespace.link(node, scene.root, b"b")

        assert await scene.content("b") == b"foreign"


def test_record_is_read_as_it_was_written() -> None:
    """A record keeps keys that are not UTF-8."""
    names = {"a": "1", 'd/\udcff\n"': "2"}

    assert groups.decode(groups.encode(names), "key") == names
