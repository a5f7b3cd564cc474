"""What a source of events tells, and what of it is news to the file system."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.storage.errors import PermissionDenied, Unreachable
from mountfs.storage.events import Change
from mountfs.storage.types import ABSENT
from mountfs.vfs.elsewhere import Elsewhere
from mountfs.vfs.volume import Hearing, Outdated
from tests.fakes.volume import CALLER, Scene, open_scene


class ScriptedSource:
    """Tells what it was given, then waits for ever."""

    def __init__(self, *script: Sequence[Change] | Exception | None) -> None:
        self.script = list(script)

    async def changes(self) -> Sequence[Change] | None:
        """Give the next answer."""
        await trio.lowlevel.checkpoint()
        if not self.script:
            await trio.sleep_forever()
        told = self.script.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    async def close(self) -> None:
        """Do nothing."""
        await trio.lowlevel.checkpoint()


def told_kernel(scene: Scene) -> list[Outdated]:
    """Return what the kernel is to forget."""
    found = []
    while True:
        try:
            found.append(scene.fs.outdated.receive_nowait())
        except trio.WouldBlock:
            return found


async def test_what_we_did_is_no_news(tmp_path: Path) -> None:
    """Neither what we wrote, nor what we removed."""
    async with open_scene(tmp_path) as scene:
        await scene.make("file", b"ours")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())
        there = await scene.there.stat("file")

        elsewhere.take(Change("file", there))
        await scene.fs.namespace.unlink(scene.root, b"file")
        elsewhere.take(Change("file", is_gone=True))

        assert elsewhere.taken == 0
        assert told_kernel(scene) == []


async def test_new_bytes_are_asked_for_again(tmp_path: Path) -> None:
    """What was known is stale, and the kernel is to forget the name."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.put("dir/file", b"old")
        await scene.nodes("dir")
        await scene.lookup("dir/file")
        folder = await scene.lookup("dir")
        await scene.put("dir/file", b"newer")
        there = await scene.there.stat("dir/file")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())
        assert scene.fs.volume.metadata.lookup("dir/file") is not None

        elsewhere.take(Change("dir/file", there))

        metadata = scene.fs.volume.metadata
        assert metadata.lookup("dir/file") is None
        assert metadata.lookup("dir/absent") is ABSENT, "no name has come or gone"
        assert metadata.listing("dir/") is None
        assert told_kernel(scene) == [Outdated(folder.inode, b"file")]
        assert await scene.see("dir/file") == b"newer"


async def test_a_name_that_is_gone_is_news(tmp_path: Path) -> None:
    """Also of a directory, with all that was known below it."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.put("dir/below/file", b"old")
        await scene.lookup("dir/below/file")
        folder = await scene.lookup("dir")
        await scene.there.delete("dir/below/file")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())

        elsewhere.take(Change("dir/below", is_gone=True))

        assert Outdated(folder.inode, b"below") in told_kernel(scene)
        assert await scene.fs.namespace.lookup(folder, b"below") is None


async def test_a_new_name_ends_its_absence(tmp_path: Path) -> None:
    """Also what the kernel knows not to be there is to be asked for."""
    async with open_scene(tmp_path) as scene:
        await scene.put("dir/file", b"old")
        folder = await scene.lookup("dir")
        assert await scene.fs.namespace.lookup(folder, b"new") is None
        await scene.put("dir/new", b"new")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())

        elsewhere.take(Change("dir/new"))

        assert told_kernel(scene) == [Outdated(folder.inode, b"new")]
        assert await scene.see("dir/new") == b"new"


async def test_directories_come_and_go_with_what_is_in_them(tmp_path: Path) -> None:
    """Nobody tells of them where the store has none."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.make("file", b"")
        assert await scene.fs.namespace.lookup(scene.root, b"dir") is None
        await scene.put("dir/below/new", b"new")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())

        elsewhere.take(Change("dir/below/new"))

        assert told_kernel(scene) == [Outdated(scene.root.inode, b"dir")]
        assert await scene.see("dir/below/new") == b"new"
        folder = await scene.lookup("dir")
        await scene.there.delete("dir/below/new")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())
        elsewhere.take(Change("dir/below/new", is_gone=True))
        assert Outdated(folder.inode, b"below") in told_kernel(scene)
        assert await scene.fs.namespace.lookup(scene.root, b"dir") is None


async def test_a_marker_outlives_what_was_in_its_directory(tmp_path: Path) -> None:
    """So it is not asked for again."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        folder = await scene.fs.namespace.mkdir(scene.root, b"dir", 0o755, CALLER)
        await scene.make("dir/file", b"old")
        await scene.there.delete("dir/file")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())

        elsewhere.take(Change("dir/file", is_gone=True))

        assert told_kernel(scene) == [Outdated(folder.inode, b"file")]
        assert scene.fs.volume.metadata.lookup("dir/") is not None


async def test_the_kernel_is_told_all_of_many_changes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """What it is to forget has little room, and waits for it."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        changes = [Change(f"{number}") for number in range(3000)]
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource(changes))
        told: list[Outdated] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere.run)
            while len(told) < len(changes):
                told.append(await scene.fs.outdated.receive())
            nursery.cancel_scope.cancel()

        assert {message.name for message in told} == {
            b"%d" % number for number in range(3000)
        }


async def test_a_source_with_a_fault_costs_no_mount(
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told once, and the source is asked again."""
    async with open_scene(tmp_path) as scene:
        faults = [TypeError("a fault"), KeyError("another")]
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource(*faults, [Change("a")]))
        with trio.move_on_after(10):
            await elsewhere.run()

        assert elsewhere.taken == 1
        assert scene.fs.volume.hearing == Hearing()
        assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 1
        caplog.clear()


async def test_anything_may_have_changed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Then all that the kernel knows is to be asked for again."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.put("dir/file", b"old")
        folder = await scene.lookup("dir")
        await scene.lookup("dir/file")
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource(None))
        with trio.move_on_after(5):
            await elsewhere.run()

        assert set(told_kernel(scene)) == {
            Outdated(scene.root.inode, b"dir"),
            Outdated(folder.inode, b"file"),
        }
        assert scene.fs.volume.metadata.lookup("dir/file") is None


async def test_a_source_that_fails_is_asked_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """After a pause; and "anything" forgets what is known."""
    async with open_scene(tmp_path) as scene:
        await scene.put("file", b"old")
        await scene.lookup("file")
        source = ScriptedSource(Unreachable("gone"), None)
        elsewhere = Elsewhere(scene.fs.volume, source)

        with trio.move_on_after(5):
            await elsewhere.run()

        assert source.script == []
        assert scene.fs.volume.metadata.last_known("file") is None


async def test_a_source_that_refuses_is_told_once(
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the log, as the end of it is; what passes by itself is not worth a line."""
    caplog.set_level(logging.INFO, "mountfs")
    refused = PermissionDenied("not allowed")
    async with open_scene(tmp_path) as scene:
        source = ScriptedSource(Unreachable("gone"), refused, refused, (), refused)

        with trio.move_on_after(15):
            await Elsewhere(scene.fs.volume, source).run()

    assert source.script == []
    assert [each.getMessage() for each in caplog.records] == [
        "nothing is told of what others change: not allowed",
        "what others change is told again",
        "nothing is told of what others change: not allowed",
    ]


async def test_news_that_a_listing_told_first_is_told_to_the_kernel(
    tmp_path: Path,
) -> None:
    """What is known here already may be unknown to the kernel."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.put("dir/file", b"old")
        folder = await scene.lookup("dir")
        assert await scene.fs.namespace.lookup(folder, b"new") is None
        await scene.put("dir/new", b"new")
        there = await scene.there.stat("dir/new")
        scene.fs.volume.metadata.put(there)
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())

        elsewhere.take(Change("dir/new", there))

        assert elsewhere.taken == 0
        assert told_kernel(scene) == [Outdated(folder.inode, b"new")]


async def test_what_waits_to_be_stored_is_not_forgotten(tmp_path: Path) -> None:
    """Our own change is newer than what an event tells, until it meets the store."""
    async with open_scene(tmp_path, ttl_s=3600, journaled=True) as scene:
        await scene.put("file", b"old")
        there = await scene.there.stat("file")
        hold = scene.store.hold("write")
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 0, b"new")
        await scene.close(opened)
        elsewhere = Elsewhere(scene.fs.volume, ScriptedSource())

        elsewhere.take(Change("file", there))

        assert elsewhere.taken == 0
        assert told_kernel(scene) == []
        hold.release()
        assert await scene.drain()
        assert await scene.content("file") == b"new"
