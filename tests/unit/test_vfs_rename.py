"""Directories on their way from one name to another, and what comes between."""

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MemoryStore
from mountfs.storage.errors import PermissionDenied, Unreachable
from mountfs.storage.types import Object, Version
from mountfs.storage.wrapper import StoragerWrapper
from mountfs.vfs.rename import EXCHANGE
from mountfs.vfs.volume import RESERVED
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene


async def rename(scene: Scene, old: str, new: str) -> None:
    ends = [(scene.root, name.encode()) for name in (old, new)]
    await scene.fs.renames.rename(ends[0], ends[1], 0)


@pytest.mark.parametrize("refused", ["copy", "delete_many"])
async def test_failed_rename_of_a_directory_is_over(
    tmp_path: Path, refused: str
) -> None:
    """It leaves nothing under the new name, and no later mount carries it out."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        for name in ("1", "2", "sub/3"):
            await scene.put(f"old/{name}", b"bytes")
        await scene.lookup("old")
        scene.store.refused[refused] = PermissionDenied("no")
        with pytest.raises(PermissionDenied):
            await rename(scene, "old", "new")
        assert await scene.see("old/sub/3") == b"bytes"
        scene.store.refused.clear()

    await there.delete_many([key for key in there.bucket.entries if key[:3] == "new"])
    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"old/1", "old/2", "old/sub/3"}


async def test_copies_of_a_failed_rename_are_deleted(tmp_path: Path) -> None:
    """When a key cannot be copied, those that could are not left behind."""
    async with open_scene(tmp_path) as scene:
        for name in ("1", "2", "3"):
            await scene.put(f"old/{name}", b"bytes")
        await scene.lookup("old")
        hold = scene.store.hold("copy")
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                with pytest.raises(PermissionDenied):
                    await rename(scene, "old", "new")

            nursery.start_soon(fail)
            await hold.reached.wait()
            while not {"new/2", "new/3"} & await scene.keys():
                await trio.lowlevel.checkpoint()
            hold.error = PermissionDenied("no")
            hold.release()

        assert await scene.keys() == {"old/1", "old/2", "old/3"}


async def test_copy_that_arrives_after_another_has_failed_is_deleted_too(
    tmp_path: Path,
) -> None:
    """It was on its way when the rename was given up."""
    async with open_scene(tmp_path) as scene:
        await scene.put("old/1", b"first")
        await scene.put("old/2", b"second")
        await scene.lookup("old")
        slow = scene.store.hold("copy", is_after=True)
        refused = scene.store.hold("copy")
        refused.error = PermissionDenied("no")
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                with pytest.raises(PermissionDenied):
                    await rename(scene, "old", "new")

            nursery.start_soon(work)
            await slow.reached.wait()
            await refused.reached.wait()
            refused.release()
            await trio.testing.wait_all_tasks_blocked()
            slow.release()

        assert await scene.keys() == {"old/1", "old/2"}


async def test_no_copy_begins_after_another_has_failed(tmp_path: Path) -> None:
    """All of a large directory would be copied, only to be deleted again."""
    async with open_scene(tmp_path) as scene:
        at_once = scene.fs.volume.requests_max
        keys = {f"old/{number}" for number in range(3 * at_once)}
        for key in keys:
            await scene.put(key, b"bytes")
        await scene.lookup("old")
        refused = scene.store.hold("copy")
        refused.error = PermissionDenied("no")
        refused.release()

        with pytest.raises(PermissionDenied):
            await rename(scene, "old", "new")

        assert scene.store.asked["copy"] <= 2 * at_once
        assert await scene.keys() == keys


async def test_rename_whose_deletes_were_not_answered_is_done(tmp_path: Path) -> None:
    """Once a source is gone only the new name is whole: it is the directory."""
    async with open_scene(tmp_path) as scene:
        for name in ("1", "2"):
            await scene.put(f"old/{name}", b"bytes")
        await scene.lookup("old")
        hold = scene.store.hold("delete_many")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rename, scene, "old", "new")
            await hold.reached.wait()
            await scene.there.delete("old/1")
            hold.error = Unreachable("away")
            hold.release()

        assert await scene.see("new/1") == b"bytes"
        assert await scene.keys() == {"new/1", "new/2", "old/2"}
        assert await scene.cache.journal.renames() == ()


async def test_recovery_keeps_what_was_written_since(tmp_path: Path) -> None:
    """A target with other bytes than its source is newer: both stay."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("old/1", b"first")
        await scene.put("old/2", b"second")
        await scene.put("new/2", b"newer than the second")
        await scene.cache.journal.begin_rename("old/", "new/")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.content("new/1") == b"first"
        assert await scene.content("new/2") == b"newer than the second"
        assert await scene.keys() == {"new/1", "new/2", "old/2"}
        assert await scene.cache.journal.renames() == ()


@pytest.mark.parametrize("is_ours", [False, True])
@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("call", ["copy", "delete"])
async def test_crash_during_a_rename_leaves_one_name(
    tmp_path: Path, call: str, is_after: bool, is_ours: bool
) -> None:
    """Whichever request a crash comes before or after, it has happened or not; also
    to an object of another program.
    """
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await (scene.make if is_ours else scene.put)("one", b"bytes")
        await scene.make("two", b"other")
        await scene.lookup("one")
        hold = scene.store.hold(call, is_after=is_after)
        hold.error = Crash()
        hold.release()
        with pytest.raises(Crash):
            await rename(scene, "one", "two")

    async with open_scene(tmp_path, there=there) as scene:
        found = {key: await scene.content(key) for key in await scene.keys()}
        if (call, is_after) == ("copy", False):
            assert found == {"one": b"bytes", "two": b"other"}
        else:
            assert found == {"two": b"bytes"}
        assert await scene.cache.journal.renames() == ()


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("call", ["delete", "copy", "delete_many"])
async def test_crash_while_an_empty_directory_is_replaced_leaves_no_name_without_one(
    tmp_path: Path, call: str, is_after: bool
) -> None:
    """The next mount finishes what had begun when the empty one went."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        for name in (b"old", b"new"):
            await scene.fs.namespace.mkdir(scene.root, name, 0o755, CALLER)
        await scene.make("old/file", b"bytes")
        hold = scene.store.hold(call, is_after=is_after)
        hold.error = Crash()
        hold.release()
        with pytest.raises((Crash, ExceptionGroup)):
            await rename(scene, "old", "new")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"new/", "new/file"}
        assert await scene.content("new/file") == b"bytes"
        assert await scene.cache.journal.renames() == ()


async def test_failed_replacement_of_an_empty_directory_is_over(tmp_path: Path) -> None:
    """Nothing of it happens behind the back of who was told."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        for name in (b"old", b"new"):
            await scene.fs.namespace.mkdir(scene.root, name, 0o755, CALLER)
        scene.store.refused["delete"] = PermissionDenied("no")
        with pytest.raises(PermissionDenied):
            await rename(scene, "old", "new")
        assert await scene.cache.journal.renames() == ()

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"old/", "new/"}


@pytest.mark.parametrize("journaled", [False, True])
async def test_refused_replacement_leaves_the_empty_directory(
    tmp_path: Path, journaled: bool
) -> None:
    """What can be known before, as a name that would be too long, is known before."""
    capabilities = tiny_store(move=False, attributes=False, key_size_max=30)
    async with open_scene(
        tmp_path, capabilities=capabilities, journaled=journaled
    ) as scene:
        for name in (b"old", b"longer"):
            await scene.fs.namespace.mkdir(scene.root, name, 0o755, CALLER)
        await scene.make("old/" + "f" * 25, b"bytes")
        empty = await scene.lookup("longer")
        with pytest.raises(OSError, match="too long"):
            await rename(scene, "old", "longer")

        assert await scene.lookup("longer") is empty


@pytest.mark.parametrize("ttl_s", [0.0, 3600.0])
async def test_failed_replacement_leaves_an_empty_directory(
    tmp_path: Path, ttl_s: float
) -> None:
    """With its mode; programs that are in it stay in it."""
    async with open_scene(tmp_path, ttl_s=ttl_s) as scene:
        for name in (b"old", b"new"):
            await scene.fs.namespace.mkdir(scene.root, name, 0o750, CALLER)
        await scene.make("old/file", b"bytes")
        empty, links = await scene.lookup("new"), scene.root.links
        scene.store.refused["copy"] = PermissionDenied("no")
        with pytest.raises(PermissionDenied):
            await rename(scene, "old", "new")

        assert await scene.keys() == {"old/", "old/file", "new/"}
        assert await scene.lookup("new") is empty
        assert (empty.attributes.mode or 0) & 0o777 == 0o750
        assert scene.root.links == links
        await scene.make("new/file", b"other")
        assert await scene.see("old/file") == b"bytes"
        del scene.store.refused["copy"]
        await scene.fs.namespace.unlink(empty, b"file")
        await rename(scene, "old", "new")
        assert await scene.keys() == {"new/", "new/file"}


async def test_empty_directory_that_cannot_be_made_again_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The program is told why the rename failed."""
    async with open_scene(tmp_path) as scene:
        for name in (b"old", b"new"):
            await scene.fs.namespace.mkdir(scene.root, name, 0o755, CALLER)
        scene.store.refused["copy"] = PermissionDenied("no")
        scene.store.refused["make_dir"] = PermissionDenied("neither")
        scene.store.refused["write"] = PermissionDenied("neither")
        with pytest.raises(PermissionDenied, match="no"):
            await rename(scene, "old", "new")

        assert await scene.fs.namespace.lookup(scene.root, b"new") is None
        assert "the empty directory 'new/' is gone" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("journaled", [False, True])
@pytest.mark.parametrize("call", ["delete", "copy", "delete_many"])
async def test_empty_directory_is_found_until_another_has_its_place(
    tmp_path: Path, call: str, journaled: bool
) -> None:
    """Who looks meanwhile finds one of the two."""
    async with open_scene(tmp_path, journaled=journaled) as scene:
        for name in (b"old", b"new"):
            await scene.fs.namespace.mkdir(scene.root, name, 0o755, CALLER)
        await scene.make("old/file", b"bytes")
        if journaled:
            await scene.drain()
        empty, node = await scene.lookup("new"), await scene.lookup("old")
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold(call, is_after=True)
            nursery.start_soon(rename, scene, "old", "new")
            if not journaled:
                await hold.reached.wait()
                assert await scene.lookup("new") is empty
            hold.release()

        assert await scene.lookup("new") is node
        assert empty.is_nameless
        assert not empty.is_lost
        assert await scene.fs.namespace.lookup(scene.root, b"old") is None
        assert await scene.see("new/file") == b"bytes"


class Clears(StoragerWrapper):
    """Removes what is at the target of a move first; the process may die then."""

    has_died = False

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Remove, and die, the first time."""
        if not self.has_died:
            self.has_died = True
            await self._inner.delete(target)
            raise Crash
        return await super().move(source, target, source_version=source_version)


async def test_crash_in_a_move_that_has_removed_its_target_loses_no_name(
    tmp_path: Path,
) -> None:
    """The next mount moves the file to the name that is free by then."""
    able = tiny_store(move=True, move_dir=True, move_clears=True)
    there = MemoryStore(capabilities=able)
    store = Clears(there)
    async with open_scene(tmp_path, store=store) as scene:
        await scene.make("one", b"bytes")
        await scene.make("two", b"other")
        with pytest.raises(Crash):
            await rename(scene, "one", "two")

    async with open_scene(tmp_path, store=store) as scene:
        assert list(there.bucket.entries) == ["two"]
        assert (await there.read("two")).data == b"bytes"
        assert await scene.cache.journal.renames() == ()


async def test_recovery_of_a_move_leaves_what_is_at_its_target(tmp_path: Path) -> None:
    """It had not begun, or a foreign client was there since."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("one", b"bytes")
        await scene.put("two", b"other")
        await scene.cache.journal.begin_rename("one", "two", "onto another")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.content("one") == b"bytes"
        assert await scene.content("two") == b"other"
        assert await scene.cache.journal.renames() == ()


async def test_recovery_of_a_rename_keeps_what_was_written_since(
    tmp_path: Path,
) -> None:
    """If the names have different bytes, somebody has written: both stay."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("one", b"first")
        await scene.put("two", b"newer")
        await scene.cache.journal.begin_rename("one", "two")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"one", "two"}
        assert await scene.cache.journal.renames() == ()


async def test_file_found_while_its_directory_moves(tmp_path: Path) -> None:
    """A file that was looked up during the rename follows it, too."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.put("old/file", b"bytes")
        await scene.lookup("old")
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold("copy")
            nursery.start_soon(rename, scene, "old", "new")
            await hold.reached.wait()
            node = await scene.lookup("old/file")
            hold.release()

        assert node.key() == "new/file"
        opened = await scene.open(node, os.O_RDONLY)
        assert await scene.fs.files.read(opened, 0, 100) == b"bytes"
        await scene.close(opened)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("path", ["old", "new"])
async def test_names_are_asked_for_while_a_file_replaces_another(
    tmp_path: Path, path: str, is_after: bool
) -> None:
    """Who looks meanwhile finds a file, and the rename succeeds."""
    async with open_scene(tmp_path) as scene:
        await scene.make("old", b"moved")
        await scene.make("new", b"replaced")
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold("delete", is_after=is_after)
            nursery.start_soon(rename, scene, "old", "new")
            await hold.reached.wait()
            found = await scene.lookup(path)
            entries = await scene.fs.directories.entries(
                scene.fs.directories.open(scene.root), anew=True
            )
            for name, what in entries:
                scene.fs.directories.node_of(scene.root, name, what)
            hold.release()

        assert found.is_nameless is (path == "new")
        assert await scene.see("new") == b"moved"
        assert await scene.keys() == {"new"}


async def test_directory_is_asked_for_while_it_moves(tmp_path: Path) -> None:
    """A directory whose keys are all gone from its old name is still found there."""
    async with open_scene(tmp_path) as scene:
        await scene.put("old/file", b"bytes")
        node = await scene.lookup("old")
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold("delete_many", is_after=True)
            nursery.start_soon(rename, scene, "old", "new")
            await hold.reached.wait()
            assert await scene.lookup("old") is node
            hold.release()

        assert await scene.see("new/file") == b"bytes"


async def test_unlinked_file_that_is_written_to_is_not_waited_for(
    tmp_path: Path,
) -> None:
    """What has no name is nothing that a mount must store before it ends."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.create(scene.root, "file", b"bytes")
        await scene.fs.namespace.unlink(scene.root, b"file")
        await scene.fs.files.write(opened, 0, b"more")

        assert list(scene.fs.uncommitted()) == []


async def test_large_file_is_stored_early_over_what_it_was_renamed_to(
    tmp_path: Path,
) -> None:
    """A file that grows after its rename over another is no conflict with that one."""
    async with open_scene(tmp_path, size_max=400) as scene:
        await scene.put("target", b"old")
        opened = await scene.create(scene.root, "source", bytes(20))
        await scene.fs.renames.rename(
            (scene.root, b"source"), (scene.root, b"target"), 0
        )

        for offset in range(20, 1200, 20):
            await scene.fs.files.write(opened, offset, bytes(20))
        await scene.close(opened)

        assert await scene.content("target") == bytes(1200)


class Crash(Exception):
    """The process is gone: whatever it would have done next is not done."""


async def exchange(scene: Scene) -> None:
    ends = [(scene.root, name) for name in (b"one", b"two")]
    await scene.fs.renames.rename(ends[0], ends[1], EXCHANGE)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("kind", ["file", "directory"])
async def test_exchange_is_finished_by_the_next_mount(
    tmp_path: Path, kind: str, step: int, is_after: bool
) -> None:
    """Whichever request a crash comes before or after: both have changed places."""
    tail = "/file" if kind == "directory" else ""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        for name in ("one", "two"):
            await scene.put(f"{name}{tail}", name.encode())
            await scene.lookup(name)
        with pytest.raises(Crash):
            await cut_short(scene, step, is_after=is_after)

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.content(f"one{tail}") == b"two"
        assert await scene.content(f"two{tail}") == b"one"
        kept = {key for key in await scene.keys() if not key.endswith("/")}
        assert kept == {f"one{tail}", f"two{tail}"}


async def cut_short(scene: Scene, step: int, *, is_after: bool) -> None:
    """Exchange, and crash at the n-th copy."""
    for _ in range(step - 1):
        await let_pass(scene)
    hold = scene.store.hold("copy", is_after=is_after)
    hold.error = Crash()
    hold.release()
    await exchange(scene)


async def let_pass(scene: Scene) -> None:
    scene.store.hold("copy").release()


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_failed_exchange_leaves_all_as_it_was(tmp_path: Path, step: int) -> None:
    """An error is no crash: what was moved already goes back."""
    async with open_scene(tmp_path) as scene:
        for name in ("one", "two"):
            await scene.put(name, name.encode())
            await scene.lookup(name)
        for _ in range(step - 1):
            await let_pass(scene)
        hold = scene.store.hold("copy")
        hold.error = PermissionDenied("no")
        hold.release()

        with pytest.raises(PermissionDenied):
            await exchange(scene)

        assert await scene.see("one") == b"one"
        assert await scene.see("two") == b"two"
        assert await scene.keys() == {"one", "two"}
        assert await scene.cache.journal.renames() == ()


async def kept(scene: Scene, path: str, content: bytes) -> None:
    """Write a file whose close cannot store it."""
    scene.store.refused["write"] = PermissionDenied("no")
    with pytest.raises(PermissionDenied):
        await scene.make(path, content)
    scene.store.refused.clear()


async def test_a_file_that_could_not_be_stored_keeps_its_new_name_in_a_crash(
    tmp_path: Path,
) -> None:
    """The next mount stores it under the name that it was given since."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await kept(scene, "old", b"bytes")
        await rename(scene, "old", "new")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"new"}
        assert await scene.content("new") == b"bytes"


async def test_a_failed_file_that_replaces_another_replaces_it_after_a_crash(
    tmp_path: Path,
) -> None:
    """As editors save: what the name had is neither an obstacle nor another's."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("file", b"as it was")
        await kept(scene, "file.tmp", b"as it is")
        await rename(scene, "file.tmp", "file")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"file"}
        assert await scene.content("file") == b"as it is"


async def test_a_failed_file_follows_its_directory_in_a_crash(tmp_path: Path) -> None:
    """No directory of the old name comes back with it."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("old/stored", b"stored")
        await kept(scene, "old/file", b"bytes")
        await rename(scene, "old", "new")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"new/file", "new/stored"}


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_failed_file_that_loses_its_name_while_open_does_not_come_back(
    tmp_path: Path, *, is_replaced: bool
) -> None:
    """Who removed it, or renamed over it, gave its bytes up, whoever reads them yet."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await kept(scene, "file", b"given up")
        opened = await scene.open(await scene.lookup("file"))
        await scene.put("other", b"other")
        if is_replaced:
            await rename(scene, "other", "file")
        else:
            await scene.fs.namespace.unlink(scene.root, b"file")
        assert await scene.fs.files.read(opened, 0, 10) == b"given up"

    async with open_scene(tmp_path, there=there) as scene:
        expected = {"file"} if is_replaced else {"other"}
        assert await scene.keys() == expected


async def test_what_was_set_aside_of_a_failed_file_follows_its_name(
    tmp_path: Path,
) -> None:
    """A change of it that a crash cuts short leaves it whole, where it is by now."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await kept(scene, "old", b"bytes")
        opened = await scene.open(await scene.lookup("old"))
        await scene.fs.files.write(opened, 0, b"more bytes")
        await rename(scene, "old", "new")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.keys() == {"new"}
        assert await scene.content("new") == b"bytes"


async def test_no_exchange_that_failed_replaces_what_was_made_since(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The store went away in the midst of it, so that it could not be taken back."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("one", b"first")
        await scene.put("two", b"second")
        await fail_in_the_midst(scene)
        assert "one" not in await scene.keys()
        await scene.put("one", b"anew")

    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.content("one") == b"anew"
        contents = [await scene.content(key) for key in sorted(await scene.keys())]
        assert sorted(filter(None, contents)) == [b"anew", b"first", b"second"]
        assert not any(key.startswith(RESERVED) for key in await scene.keys())
    assert "was made anew" in caplog.text


async def test_no_exchange_that_failed_replaces_a_file_of_the_same_size(
    tmp_path: Path,
) -> None:
    """Of what no mount has written, size alone says nothing."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("one", b"first")
        await scene.put("two", b"other")
        await fail_in_the_midst(scene)
        await scene.put("one", b"again")

    async with open_scene(tmp_path, there=there) as scene:
        contents = [await scene.content(key) for key in sorted(await scene.keys())]
        assert sorted(filter(None, contents)) == [b"again", b"first", b"other"]


async def fail_in_the_midst(scene: Scene, call: str = "delete") -> None:
    """Exchange, while the store goes away before it could be taken back."""
    hold = scene.store.hold(call, is_after=True)  # of what has gone aside
    async with trio.open_nursery() as nursery:

        async def fail() -> None:
            with pytest.raises(Unreachable):
                await exchange(scene)

        nursery.start_soon(fail)
        await hold.reached.wait()
        scene.store.refused["copy"] = Unreachable("away")
        hold.release()
    scene.store.refused.clear()


async def test_no_exchange_of_directories_that_failed_replaces_what_was_made_since(
    tmp_path: Path,
) -> None:
    """As of files: no name in it means what lay aside."""
    async with open_scene(tmp_path) as scene:
        there = scene.there
        await scene.put("one/file", b"first")
        await scene.put("two/file", b"second")
        await fail_in_the_midst(scene, "delete_many")
        await scene.put("one/file", b"anew")

    async with open_scene(tmp_path, there=there) as scene:
        contents = {key: await scene.content(key) for key in await scene.keys()}
        assert contents.pop("one/file") == b"anew"
        assert sorted(filter(None, contents.values())) == [b"first", b"second"]
        assert not any(key.startswith(RESERVED) for key in contents)
