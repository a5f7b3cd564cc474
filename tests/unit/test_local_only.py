"""Files whose names say that they stay here, with durability=journal.

The store is in memory behind `HeldStore`, which counts the requests. Whoever leaves a
scene without draining it dies: the next one finds the journal.
"""

import io
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mountfs.actions import recover
from mountfs.backends.local import open_local
from mountfs.backends.memory import MemoryStore
from mountfs.cache import carrier, ledger, moves, promised, writeback
from mountfs.cache.conflicts import Policy
from mountfs.cache.salvage import look
from mountfs.storage.errors import QuotaExceeded, Unreachable
from mountfs.storage.types import Features
from mountfs.vfs import unlinked
from mountfs.vfs.attributes import Change
from mountfs.vfs.localonly import LocalOnlyNames
from mountfs.vfs.names import Names
from mountfs.vfs.rename import EXCHANGE
from tests.fakes.volume import CALLER, Scene, open_scene
from tests.unit.test_vfs_journaled import rename, sent, unlink

PATTERNS = ("*.tmp", ".~lock.*")
LINKING = replace(Features.for_mounts(), virtual_hard_link=True)


@asynccontextmanager
async def mounted(
    path: Path,
    there: MemoryStore | None = None,
    *,
    patterns: Sequence[str] = PATTERNS,
    **options: Any,
) -> AsyncIterator[Scene]:
    async with open_scene(
        path, there=there, journaled=True, local_only=patterns, **options
    ) as scene:
        yield scene


def staying(scene: Scene) -> list[str]:
    """Return the keys of what is local-only."""
    return [entry.key for entry in scene.ledger.table if entry.is_local_only]


def dies_at(phase: str, path: Path, died: Path) -> Callable[[str], None]:
    """Return what copies all that is kept at a phase, as if the process ended there.

    The journal is between two transactions then.
    """

    def reached(name: str) -> None:
        if name == phase and not died.exists():
            for kept in {"state", "bucket"} & set(os.listdir(path)):
                shutil.copytree(path / kept, died / kept)

    return reached


def die_at_the_move(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    died: Path,
    *,
    is_moved: bool,
) -> None:
    """Let the process end before the store moves a directory, or after it has."""
    phase = "local-only.moved"
    die = dies_at(phase, path, died)
    if is_moved:
        monkeypatch.setattr(moves, "reached", die)
        return
    move = scene.store.move

    async def dying(*details: Any, **options: Any) -> Any:
        die(phase)
        return await move(*details, **options)

    monkeypatch.setattr(scene.store, "move", dying)


async def mkdir(scene: Scene, name: str) -> None:
    await scene.fs.namespace.mkdir(scene.root, name.encode(), 0o755, CALLER)


# --- what stays ---------------------------------------------------------------------


async def test_a_new_file_that_matches_is_not_sent(tmp_path: Path) -> None:
    """It is shown like any other, and nobody who waits for the store waits for it."""
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        await scene.make("b", b"real")
        assert await scene.drain()
        await scene.fs.flush("")

        assert await scene.keys() == {"b"}
        assert sent(scene.store) == {"write": 1}
        assert set(await scene.nodes("")) == {"a.tmp", "b"}
        assert await scene.see("a.tmp") == b"bytes"
        assert staying(scene) == ["a.tmp"]


async def test_it_is_there_after_a_crash(tmp_path: Path) -> None:
    """And the next mount sends nothing of it, whatever becomes of it."""
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        await scene.make("b.tmp", b"more")
    async with mounted(tmp_path, scene.there) as later:
        assert await later.see("a.tmp") == b"bytes"
        await unlink(later, "a.tmp")
        await rename(later, "b.tmp", "c.tmp")
        assert await later.drain()

        assert staying(later) == ["c.tmp"]
        assert sent(later.store) == {}
    async with mounted(tmp_path, scene.there) as last:
        assert await last.see("c.tmp") == b"more"
        assert sent(last.store) == {}


@pytest.mark.parametrize("is_journaled", [True, False])
async def test_a_mount_without_the_patterns_stores_it(
    tmp_path: Path, is_journaled: bool
) -> None:
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
    async with open_scene(tmp_path, there=scene.there, journaled=is_journaled) as later:
        assert await later.drain()
        assert await later.content("a.tmp") == b"bytes"


async def test_what_another_mount_may_have_sent_is_not_local_only_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died in between: the row must not say that nothing was ever sent."""
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
    died = tmp_path / "died"
    monkeypatch.setattr(carrier, "reached", dies_at("drain.stored", tmp_path, died))
    async with mounted(tmp_path, scene.there, patterns=()) as other:
        assert await other.drain()
    async with mounted(died, scene.there) as later:
        assert staying(later) == []
        await unlink(later, "a.tmp")
        assert await later.drain()
        assert await later.keys() == set()


async def test_all_that_is_made_whole_stays_but_directories(tmp_path: Path) -> None:
    """An empty file, a link, as Emacs makes, and what mknod(2) makes."""
    async with mounted(tmp_path) as scene:
        namespace, root = scene.fs.namespace, scene.root
        await scene.make("empty.tmp", b"")
        await namespace.symlink(root, b"link.tmp", b"target", CALLER)
        await namespace.mknod(root, b"node.tmp", 0o100644, 0, CALLER)
        await mkdir(scene, "directory.tmp")
        assert await scene.drain()

        assert await scene.keys() == {"directory.tmp/"}
        assert staying(scene) == ["empty.tmp", "link.tmp", "node.tmp"]
        assert await namespace.readlink(await scene.lookup("link.tmp")) == b"target"


async def test_what_the_store_has_is_changed_there(tmp_path: Path) -> None:
    """An object whose name matches is a file like any other."""
    async with mounted(tmp_path) as scene:
        await scene.put("a.tmp", b"old")
        opened = await scene.open(await scene.lookup("a.tmp"))
        await scene.fs.files.write(opened, 0, b"new")
        await scene.close(opened)
        assert await scene.drain()
        assert await scene.content("a.tmp") == b"new"


async def test_what_was_stored_and_gets_such_a_name_is_renamed_there(
    tmp_path: Path,
) -> None:
    """As editors make their backups."""
    async with mounted(tmp_path) as scene:
        await scene.put("file", b"old")
        await rename(scene, "file", "file.tmp")
        await scene.make("file", b"new")
        assert await scene.drain()
        assert await scene.content("file.tmp") == b"old"
        assert await scene.content("file") == b"new"


async def test_an_edit_that_stands_on_the_store_is_sent_under_such_a_name(
    tmp_path: Path,
) -> None:
    """Half of its bytes lie there, under a key that must go."""
    content = bytes(range(40))
    async with mounted(tmp_path) as scene:
        await scene.put("file", content)
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 0, b"new")
        await scene.close(opened)
        await rename(scene, "file", "file.tmp")
        assert await scene.drain()
        assert await scene.content("file.tmp") == b"new" + content[3:]
        assert await scene.content("file") is None


async def test_a_pending_file_that_gets_such_a_name_stays(tmp_path: Path) -> None:
    async with mounted(tmp_path) as scene:
        await scene.make("file", b"bytes")
        await rename(scene, "file", "file.tmp")
        assert await scene.drain()
        assert sent(scene.store) == {}
        assert await scene.see("file.tmp") == b"bytes"


async def test_it_may_be_changed_in_every_way(tmp_path: Path) -> None:
    """Written again, appended to, cut, and given a mode: one state, and none is sent.

    A larger one as well: of two states the first would have to be stored.
    """
    async with mounted(tmp_path) as scene:
        node = await scene.make("a.tmp", b"bytes")
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 5, b" more")
        await scene.fs.files.fsync_open(opened)
        await scene.fs.files.write(opened, 0, b"B")
        await scene.close(opened)
        await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
        await scene.fs.files.truncate(node, 7)
        assert await scene.drain()
        assert sent(scene.store) == {}
        assert await scene.see("a.tmp") == b"Bytes m"
        assert len(scene.ledger.table) == 1
    async with mounted(tmp_path, scene.there) as later:
        assert await later.see("a.tmp") == b"Bytes m"
        await rename(later, "a.tmp", "a")
        assert await later.drain()
        assert sent(later.store) == {"write": 1}


async def test_two_states_of_a_file_are_stored_under_such_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second builds on the first, which must not be in its way for ever."""
    monkeypatch.setattr(promised, "MERGE_SIZE_MAX", 4)
    async with mounted(tmp_path) as scene:
        opened = await scene.open(await scene.make("a", b"bytes"))
        await scene.fs.files.write(opened, 0, b"B")
        await scene.close(opened)
        await rename(scene, "a", "a.tmp")
        assert await scene.drain()
        assert await scene.content("a.tmp") == b"Bytes"


async def test_a_large_one_that_is_changed_is_one_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two the first would have to be stored: its bytes are copied, whatever size."""
    monkeypatch.setattr(promised, "MERGE_SIZE_MAX", 4)
    content = bytes(range(100))
    async with mounted(tmp_path) as scene:
        node = await scene.make("a.tmp", content)
        for number in range(3):
            opened = await scene.open(node)
            await scene.fs.files.write(opened, 30 * number, b"new")
            await scene.close(opened)
        expected = bytearray(content)
        for number in range(3):
            expected[30 * number : 30 * number + 3] = b"new"
        assert len(scene.ledger.table) == 1
        assert await scene.see("a.tmp") == expected
        await scene.fs.files.truncate(node, 50)
        assert await scene.see("a.tmp") == expected[:50]
        assert sent(scene.store) == {}
        assert scene.cache.budget.dirty <= 100


async def test_no_part_of_it_is_sent_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writeback, "_STREAM_AFTER_S", -1.0)
    content = bytes(range(100))
    async with mounted(tmp_path) as scene:
        opened = await scene.create(scene.root, "a.tmp")
        for offset in range(0, 100, 10):
            await scene.fs.files.write(opened, offset, content[offset : offset + 10])
        await scene.close(opened)
        await trio.testing.wait_all_tasks_blocked()
        assert sent(scene.store) == {}
        assert not scene.store.asked["write_part"]

        await rename(scene, "a.tmp", "a")
        assert await scene.drain()
        assert await scene.content("a") == content


async def test_it_does_not_count_as_late_while_it_is_open(tmp_path: Path) -> None:
    """A swap file is open, and changed, for as long as somebody edits."""
    async with mounted(tmp_path) as scene:
        opened = await scene.create(scene.root, "a.tmp", b"bytes")
        assert scene.cache.writeback.oldest_s() is None
        other = await scene.create(scene.root, "a", b"bytes")
        assert scene.cache.writeback.oldest_s() is not None
        await scene.close(other)
        await scene.close(opened)


async def test_it_stays_also_where_the_later_one_wins(tmp_path: Path) -> None:
    """With conflict=overwrite no commit has a condition."""
    async with mounted(tmp_path, conflict=Policy.OVERWRITE) as scene:
        await scene.make("a.tmp", b"bytes")
        await scene.make("b.tmp", b"bytes")
        await unlink(scene, "b.tmp")
        assert await scene.drain()
        assert staying(scene) == ["a.tmp"]
        assert sent(scene.store) == {}
        await rename(scene, "a.tmp", "a")
        assert await scene.drain()
        assert sent(scene.store) == {"write": 1}


def test_the_name_is_that_which_programs_see() -> None:
    """The last one of the path, case and all, however it is written in the key."""
    names = Names(utf8_keys=True)
    matches = LocalOnlyNames(["*.tmp", "[ab]?", "caf\udce9*"], names)
    odd = names.entry(b"caf\xe9.x")
    assert odd.component != "caf\udce9.x"  # type: ignore[union-attr]  # no short name

    assert matches("d/a.tmp")
    assert matches(".mountfs/exchange/0123/real")
    assert matches("a1")
    assert matches(f"d/{odd.component}")  # type: ignore[union-attr]
    assert not matches("a.TMP")
    assert not matches("a.tmp/b")
    assert not matches("d.tmp/")
    assert not matches("")
    assert not matches(".mountfs/unlinked/a.tmp")
    assert not LocalOnlyNames([], names)("a.tmp")
    assert not LocalOnlyNames(["*"], names)("")


# --- what is sent after all ---------------------------------------------------------


async def test_under_another_name_it_is_one_write(tmp_path: Path) -> None:
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        await rename(scene, "a.tmp", "b.tmp")
        await rename(scene, "b.tmp", "a")
        hold = scene.store.hold("write")
        await hold.reached.wait()  # nobody waits: it goes by itself
        hold.release()
        assert await scene.drain()
        assert await scene.content("a") == b"bytes"
        assert sent(scene.store) == {"write": 1}
        assert await scene.keys() == {"a"}


async def test_a_save_over_a_file_of_the_store_is_one_write(tmp_path: Path) -> None:
    async with mounted(tmp_path, ttl_s=60.0) as scene:
        await scene.put("file", b"old")
        await scene.lookup("file")
        opened = await scene.create(scene.root, "file.tmp", b"new")
        await scene.fs.files.fsync_open(opened)
        await scene.close(opened)
        await rename(scene, "file.tmp", "file")
        assert await scene.drain()
        assert await scene.content("file") == b"new"
        assert sent(scene.store) == {"write": 1}


async def test_a_save_over_what_somebody_else_has_changed_is_a_conflict(
    tmp_path: Path,
) -> None:
    """It is as conditional as any other write."""
    async with mounted(tmp_path, ttl_s=60.0) as scene:
        await scene.put("file", b"old")
        await scene.lookup("file")
        await scene.make("file.tmp", b"ours")
        await scene.put("file", b"theirs")
        await rename(scene, "file.tmp", "file")
        await scene.drain()
        assert await scene.content("file") == b"theirs"
        (beside,) = await scene.keys() - {"file"}
        assert await scene.content(beside) == b"ours"


async def test_a_second_name_has_it_stored(tmp_path: Path) -> None:
    """Under both names, even if both match: the store has to know of the two."""
    async with mounted(tmp_path, features=LINKING) as scene:
        node = await scene.make("a.tmp", b"bytes")
        await scene.fs.namespace.link(node, scene.root, b"b.tmp")
        await scene.fs.finish()
        assert await scene.content("a.tmp") == b"bytes"
        assert await scene.content("b.tmp") == b"bytes"
        assert staying(scene) == []


async def test_a_second_name_in_place_of_the_first_is_one_write(
    tmp_path: Path,
) -> None:
    """As programs do that want a name to appear whole."""
    async with mounted(tmp_path, features=LINKING) as scene:
        node = await scene.make("a.tmp", b"bytes")
        await scene.fs.namespace.link(node, scene.root, b"a")
        await unlink(scene, "a.tmp")
        await scene.fs.finish()
        assert await scene.keys() == {"a"}
        assert sent(scene.store) == {"write": 1}


async def test_who_needs_it_in_the_store_does_not_wait_for_ever(
    tmp_path: Path,
) -> None:
    """Not even if it is changed meanwhile, and would be local-only anew."""
    async with mounted(tmp_path) as scene:
        node = await scene.make("a.tmp", b"bytes")
        hold = scene.store.hold("write")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.settling.settle_name, "a.tmp")
            await hold.reached.wait()
            await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
            hold.release()
        assert await scene.content("a.tmp") == b"bytes"


async def test_a_copy_in_the_store_has_it_stored(tmp_path: Path) -> None:
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        await scene.fs.volume.store.copy("a.tmp", "b")
        assert await scene.content("a.tmp") == await scene.content("b") == b"bytes"


async def test_the_oldest_are_stored_when_the_cache_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No program fails for want of room, and it is said once."""
    async with mounted(tmp_path, size_max=100) as scene:
        for number in range(12):
            await scene.make(f"{number}.tmp", bytes(20))
        assert scene.cache.budget.dirty <= 100
        assert await scene.content("0.tmp") == bytes(20)
        assert "11.tmp" in staying(scene)
        for number in range(12):
            assert await scene.see(f"{number}.tmp") == bytes(20)
    told = [each for each in caplog.records if "no room" in each.getMessage()]
    assert len(told) == 1


async def test_others_are_stored_before_them(tmp_path: Path) -> None:
    async with mounted(tmp_path, size_max=100) as scene:
        await scene.make("a.tmp", bytes(40))
        await scene.make("b", bytes(40))
        await scene.make("c.tmp", bytes(40))
        assert staying(scene) == ["a.tmp", "c.tmp"]
        assert await scene.keys() == {"b"}


async def test_they_are_stored_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others fill it faster than the budget knows."""
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        opened = await scene.create(scene.root, "b", b"x")
        dirty = opened.file.state.file  # type: ignore[union-attr]  # it was written to
        write, refusals = dirty.spool.write, [QuotaExceeded("the disk is full")]

        async def full(offset: int, piece: bytes) -> None:
            if refusals:
                raise refusals.pop()
            await write(offset, piece)

        monkeypatch.setattr(dirty.spool, "write", full)
        await scene.fs.files.write(opened, 1, b"y")
        assert await scene.content("a.tmp") == b"bytes"
        await scene.close(opened)
        assert await scene.drain()
        assert await scene.content("b") == b"xy"


async def test_one_that_is_too_large_for_the_cache_is_stored(tmp_path: Path) -> None:
    content = bytes(range(250))
    async with mounted(tmp_path, size_max=100) as scene:
        opened = await scene.create(scene.root, "a.tmp")
        for offset in range(0, 250, 10):
            await scene.fs.files.write(opened, offset, content[offset : offset + 10])
        await scene.close(opened)
        assert await scene.drain()
        assert await scene.see("a.tmp") == content
        assert await scene.content("a.tmp") == content


async def test_one_that_cannot_be_copied_for_want_of_room_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two states of it have no room beside each other: the first goes, then both."""
    monkeypatch.setattr(promised, "MERGE_SIZE_MAX", 4)
    async with mounted(tmp_path, size_max=100) as scene:
        node = await scene.make("a.tmp", bytes(80))
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 10, b"new")
        await scene.close(opened)
        assert await scene.drain()
        expected = bytes(10) + b"new" + bytes(67)
        assert await scene.content("a.tmp") == expected
        assert await scene.see("a.tmp") == expected


async def test_want_of_room_without_a_store_is_told(tmp_path: Path) -> None:
    """What stays here is as it was."""
    async with mounted(tmp_path, size_max=100) as scene:
        await scene.make("a.tmp", bytes(80))
        away = Unreachable("away")
        scene.store.refused = {"write": away, "create_multipart": away}
        opened = await scene.create(scene.root, "b")
        with pytest.raises(QuotaExceeded):
            await scene.fs.files.write(opened, 0, bytes(40))
        scene.store.refused = {}
        assert await scene.see("a.tmp") == bytes(80)
        assert staying(scene) == []


async def test_one_that_changes_places_with_a_file_of_the_store_is_stored(
    tmp_path: Path,
) -> None:
    """The other one, which has such a name then, lies there under it."""
    async with mounted(tmp_path) as scene:
        await scene.put("a", b"old")
        await scene.make("a.tmp", b"new")
        await rename(scene, "a", "a.tmp", EXCHANGE)
        assert await scene.see("a") == b"new"
        assert await scene.see("a.tmp") == b"old"
        assert await scene.drain()
        assert await scene.content("a") == b"new"
        assert await scene.content("a.tmp") == b"old"


# --- removal ------------------------------------------------------------------------


async def test_what_is_removed_is_never_sent(tmp_path: Path) -> None:
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        await unlink(scene, "a.tmp")
        await scene.make("b.tmp", b"one")
        await rename(scene, "b.tmp", "c.tmp")
        await unlink(scene, "c.tmp")
        assert await scene.drain()
        assert sent(scene.store) == {}
        assert not len(scene.ledger.table)
        assert scene.cache.budget.dirty == 0


@pytest.mark.parametrize("is_changed", [False, True])
async def test_what_is_removed_while_it_is_open_is_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    """However large it is, and whatever is written to it then."""
    monkeypatch.setattr(unlinked, "SPOOLED_SIZE_MAX", 4)
    monkeypatch.setattr(writeback, "_STREAM_AFTER_S", -1.0)
    content = bytes(range(100))
    async with mounted(tmp_path) as scene:
        node = await scene.make("a.tmp", content)
        opened = await scene.open(node)
        expected = bytearray(content)
        if is_changed:
            await scene.fs.files.write(opened, 10, b"before")
            expected[10:16] = b"before"
        await unlink(scene, "a.tmp")
        await scene.fs.files.write(opened, 50, b"after")
        expected[50:55] = b"after"
        assert bytes(await scene.fs.files.read(opened, 0, 200)) == expected
        await scene.close(opened)
        assert await scene.drain()

        assert sent(scene.store) == {}
        assert not scene.store.asked["write_part"]
        assert scene.cache.budget.dirty == 0


@pytest.mark.parametrize("is_changed", [False, True])
async def test_one_that_has_no_room_twice_is_removed_while_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    """It had to be stored for that, and is gone there as well."""
    monkeypatch.setattr(unlinked, "SPOOLED_SIZE_MAX", 4)
    content = bytes(range(70))
    async with mounted(tmp_path, size_max=100) as scene:
        opened = await scene.open(await scene.make("a.tmp", content))
        if is_changed:
            await scene.fs.files.write(opened, 0, b"new")
        await unlink(scene, "a.tmp")
        expected = b"new" + content[3:] if is_changed else content
        assert await scene.fs.files.read(opened, 0, 200) == expected
        await scene.close(opened)
        assert await scene.drain()
        assert await scene.keys() == set()


async def test_a_removal_that_fails_leaves_an_open_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mounted(tmp_path) as scene:
        opened = await scene.open(await scene.make("a.tmp", b"bytes"))
        await scene.fs.files.write(opened, 0, b"B")
        journal = scene.cache.journal
        with monkeypatch.context() as patch:

            async def fail(*_: object, **__: object) -> None:
                raise OSError("the journal does not take it")

            patch.setattr(journal, "change_pending", fail)
            with pytest.raises(OSError, match="does not take"):
                await unlink(scene, "a.tmp")
        await scene.fs.files.write(opened, 1, b"Y")
        await scene.close(opened)
        assert await scene.see("a.tmp") == b"BYtes"
        assert sent(scene.store) == {}


async def test_a_directory_with_one_is_not_empty(tmp_path: Path) -> None:
    async with mounted(tmp_path) as scene:
        await mkdir(scene, "d")
        await scene.make("d/a.tmp", b"bytes")
        assert await scene.drain()
        with pytest.raises(OSError, match="not empty"):
            await scene.fs.namespace.rmdir(scene.root, b"d")
        await scene.fs.namespace.unlink(await scene.lookup("d"), b"a.tmp")
        await scene.fs.namespace.rmdir(scene.root, b"d")
        assert await scene.drain()
        assert await scene.keys() == set()


async def test_a_directory_made_anew_waits_for_nothing_that_stays(
    tmp_path: Path,
) -> None:
    async with mounted(tmp_path) as scene:
        for number in range(3):
            await mkdir(scene, "d")
            await scene.make("d/a.tmp", b"%d" % number)
            await scene.make("d/b", b"%d" % number)
            if number < 2:
                directory = await scene.lookup("d")
                await scene.fs.namespace.unlink(directory, b"a.tmp")
                await scene.fs.namespace.unlink(directory, b"b")
                await scene.fs.namespace.rmdir(scene.root, b"d")
        assert await scene.drain()
        assert await scene.keys() == {"d/", "d/b"}
        assert await scene.see("d/a.tmp") == b"2"


# --- directories --------------------------------------------------------------------


async def test_it_follows_its_directory(tmp_path: Path) -> None:
    async with mounted(tmp_path) as scene:
        await mkdir(scene, "d")
        await scene.make("d/a.tmp", b"bytes")
        await scene.make("d/b", b"real")
        assert await scene.drain()
        await rename(scene, "d", "e")
        assert await scene.drain()
        assert await scene.keys() == {"e/", "e/b"}
        assert await scene.see("e/a.tmp") == b"bytes"
        assert staying(scene) == ["e/a.tmp"]
    async with mounted(tmp_path, scene.there) as later:
        assert await later.see("e/a.tmp") == b"bytes"


@asynccontextmanager
async def on_disk(path: Path, *patterns: str) -> AsyncIterator[Scene]:
    """Mount a store that moves directories by itself."""
    (path / "bucket").mkdir(exist_ok=True)
    store = open_local(f"file://{path / 'bucket'}", {})
    async with open_scene(
        path, store=store, journaled=True, local_only=patterns or PATTERNS
    ) as scene:
        yield scene


async def test_it_follows_a_directory_that_the_store_moves(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    async with on_disk(tmp_path) as scene:
        await mkdir(scene, "d")
        await mkdir(scene, "d/inner")
        await scene.make("d/inner/a.tmp", b"bytes")
        await scene.make("d/b", b"real")
        await rename(scene, "d", "e")
        assert await scene.drain()
        assert sorted(each.name for each in bucket.rglob("*")) == ["b", "e", "inner"]
        assert await scene.see("e/inner/a.tmp") == b"bytes"
        assert set(await scene.nodes("e/inner")) == {"a.tmp"}
        assert set(await scene.nodes("")) == {"e"}
        await mkdir(scene, "f")
        await scene.make("f/c.tmp", b"other")
        await rename(scene, "e", "f", EXCHANGE)
    async with on_disk(tmp_path) as later:
        assert set(await later.nodes("")) == {"e", "f"}
        assert await later.see("f/inner/a.tmp") == b"bytes"
        assert await later.see("e/c.tmp") == b"other"
        assert not await later.cache.journal.renames()


@pytest.mark.parametrize("is_moved", [False, True])
async def test_a_crash_while_the_store_moves_a_directory_is_finished_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_moved: bool
) -> None:
    """Before the store has moved it, and after."""
    died = tmp_path / "died"

    async with on_disk(tmp_path) as scene:
        await mkdir(scene, "d")
        await scene.make("d/a.tmp", b"bytes")
        await scene.make("d/b", b"real")
        assert await scene.drain()
        die_at_the_move(scene, monkeypatch, tmp_path, died, is_moved=is_moved)
        await rename(scene, "d", "e")
    async with on_disk(died) as later:
        assert set(await later.nodes("")) == {"e"}
        assert await later.see("e/a.tmp") == b"bytes"
        assert await later.see("e/b") == b"real"
        assert staying(later) == ["e/a.tmp"]
        assert not await later.cache.journal.renames()


# --- crashes ------------------------------------------------------------------------


async def test_a_crash_after_it_was_released_has_it_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the row may not believe that nothing was sent."""
    died = tmp_path / "died"
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        phase = "local-only.released"
        monkeypatch.setattr(ledger, "reached", dies_at(phase, tmp_path, died))
        await scene.settling.settle_name("a.tmp")
    async with mounted(died, scene.there) as later:
        assert staying(later) == []
        await unlink(later, "a.tmp")
        assert await later.drain()
        assert await later.keys() == set()


async def test_what_the_journal_does_not_release_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"bytes")
        with monkeypatch.context() as patch:

            async def fail(*_: object, **__: object) -> None:
                raise OSError("the journal does not take it")

            patch.setattr(scene.cache.journal, "change_pending", fail)
            with pytest.raises(OSError, match="does not take"):
                await scene.settling.settle_name("a.tmp")
        assert await scene.drain()
        assert staying(scene) == ["a.tmp"]
        assert sent(scene.store) == {}


def test_what_is_left_is_told(tmp_path: Path) -> None:
    async def leave() -> None:
        async with mounted(tmp_path) as scene:
            await scene.make("a.tmp", b"bytes")
            await scene.make("empty.tmp", b"")

    trio.run(leave)
    kept = look(tmp_path / "state").kept
    assert {(each.key, each.what, each.reason) for each in kept} == {
        ("a.tmp", "a local-only file, which was not to be stored", ""),
        ("empty.tmp", "a local-only file, which was not to be stored", ""),
    }
    said = io.StringIO()
    wanted = recover.Wanted()
    assert recover.recover([tmp_path / "state"], wanted, None, said) == 1
    assert "What is local-only stays" in said.getvalue()
    assert "sends what it can" not in said.getvalue()
