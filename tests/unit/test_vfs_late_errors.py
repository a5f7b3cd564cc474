"""Errors that no call could carry any more: who hears of them, and how often."""

from pathlib import Path

import pytest

from mountfs.cache.conflicts import Policy
from mountfs.cache.incidents import IncidentKind
from mountfs.storage.errors import PreconditionFailed, QuotaExceeded, Unreachable
from mountfs.storage.types import Features
from mountfs.vfs.facts import PREFIX
from tests.fakes.volume import Scene, open_scene

LATE = Unreachable("the store was out of reach")


async def last_error(scene: Scene, name: str) -> str:
    node = await scene.lookup(name)
    value = await scene.fs.xattrs.get(node, PREFIX + b"last_error")
    return value.decode()


async def test_every_handle_is_told_once(tmp_path: Path) -> None:
    """Those that were open by then; by fsync or close, whichever comes first."""
    async with open_scene(tmp_path) as scene:
        node = await scene.make("file", b"bytes")
        one, two = await scene.open(node), await scene.open(node)
        scene.fs.files.note_late_error("file", LATE)
        scene.fs.files.note_late_error("another", QuotaExceeded("not of this file"))
        three = await scene.open(node)

        with pytest.raises(Unreachable):
            await scene.fs.files.fsync_open(one)
        await scene.fs.files.fsync_open(one)
        await scene.close(one)
        with pytest.raises(Unreachable):
            await scene.close(two)
        await scene.fs.files.fsync_open(three)
        await scene.close(three)


async def test_an_error_that_has_passed_is_not_told(tmp_path: Path) -> None:
    """Who was not told of it yet never is."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.open(await scene.make("file", b"bytes"))
        scene.fs.files.note_late_error("file", LATE)
        scene.fs.files.note_late_error("file", None)

        await scene.fs.files.fsync_open(opened)
        await scene.close(opened)


async def test_a_file_without_a_name_has_no_late_errors(tmp_path: Path) -> None:
    """Nobody will miss what was removed on purpose."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.open(await scene.make("file", b"bytes"))
        scene.fs.files.note_late_error("file", LATE)
        await scene.fs.namespace.unlink(scene.root, b"file")

        await scene.fs.files.fsync_open(opened)
        await scene.close(opened)


async def test_bytes_that_are_stored_meanwhile_are_no_error(tmp_path: Path) -> None:
    """Whoever comes later finds everything in the store."""
    async with open_scene(tmp_path) as scene:
        node = await scene.make("file", b"bytes")
        one, two = await scene.open(node), await scene.open(node)
        await scene.fs.files.write(one, 0, b"other")
        scene.store.refused["write"] = LATE
        with pytest.raises(Unreachable):
            await scene.close(one)
        del scene.store.refused["write"]

        await scene.fs.files.fsync_open(two)
        await scene.close(two)
        assert await scene.content("file") == b"other"
        assert list(scene.fs.volume.incidents) == []


async def test_who_fails_is_told_once(tmp_path: Path) -> None:
    """The error of a commit is that call's; the next one tries again, and no more."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.create(scene.root, "file", b"bytes")
        scene.store.refused["write"] = LATE
        with pytest.raises(Unreachable):
            await scene.fs.files.fsync_open(opened)
        del scene.store.refused["write"]

        await scene.fs.files.fsync_open(opened)
        await scene.close(opened)


async def test_a_reader_hears_of_a_race_that_a_writer_lost(tmp_path: Path) -> None:
    """With `fail` the bytes that it sees are not in the store under this name."""
    async with open_scene(tmp_path, conflict=Policy.FAIL) as scene:
        node = await scene.make("file", b"bytes")
        reader, writer = await scene.open(node, 0), await scene.open(node)
        await scene.fs.files.write(writer, 0, b"other")
        await scene.put("file", b"theirs")
        with pytest.raises(PreconditionFailed):
            await scene.close(writer)

        with pytest.raises(PreconditionFailed):
            await scene.close(reader)


async def test_what_nobody_waits_for_is_kept(tmp_path: Path) -> None:
    """A last release that fails is an incident, until its bytes are stored."""
    async with open_scene(tmp_path, features=Features.all()) as scene:
        opened = await scene.create(scene.root, "file", b"bytes")
        scene.store.refused["write"] = LATE
        await scene.fs.files.release(opened)

        (incident,) = scene.fs.volume.incidents
        assert (incident.kind, incident.key) == (IncidentKind.FAILED, "file")
        assert "out of reach" in await last_error(scene, "file")

        del scene.store.refused["write"]
        await scene.fs.files.fsync(await scene.lookup("file"))
        assert list(scene.fs.volume.incidents) == []


async def test_what_was_given_up_is_kept(tmp_path: Path) -> None:
    """Bytes that were refused are told of for as long as the mount lives."""
    async with open_scene(tmp_path, features=Features.all(), size_max=1000) as scene:
        await scene.make("file", b"old")
        opened = await scene.open(await scene.lookup("file"))
        opened.file.refusal = None
        await scene.fs.files.write(opened, 0, b"new")
        opened.file.refusal = QuotaExceeded("no room")
        await scene.fs.files.release(opened)

        assert await scene.see("file") == b"old"
        assert "no room" in await last_error(scene, "file")
        assert scene.fs.volume.incidents.count(IncidentKind.REFUSED) == 1


async def test_a_lost_race_is_told_under_the_name(tmp_path: Path) -> None:
    """With the key of the copy; the file itself, which is the other's, is clean."""
    async with open_scene(tmp_path, features=Features.all()) as scene:
        opened = await scene.create(scene.root, "file", b"ours")
        await scene.put("file", b"theirs")
        await scene.close(opened)

        assert "(conflict " in await last_error(scene, "file")
        node = await scene.lookup("file")
        assert await scene.fs.xattrs.get(node, PREFIX + b"state") == b"clean"
        assert await scene.fs.xattrs.names(node, 0) == ()
