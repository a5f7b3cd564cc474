"""With the journal: what changes while it is on its way, and what waits in a ring.

A foreign client, a lost answer, a full disk or the next rename comes in between.
"""

import errno
from pathlib import Path

import pytest
import trio

from mountfs.cache import aliasrows, ledger
from mountfs.cache.entries import Entry
from mountfs.cache.incidents import IncidentKind
from mountfs.cache.journalfile import JournalFull
from mountfs.cache.spool import Spool
from mountfs.storage.errors import NotFound, StoreError, Unreachable
from mountfs.storage.types import Version
from tests.fakes.held import Hold
from tests.fakes.volume import CALLER, Scene, open_scene

CONTENT = b"0123456789" * 4


async def move(scene: Scene, old: str, new: str) -> None:
    """Rename across directories."""
    ends = []
    for path in (old, new):
        folder, _, name = path.rpartition("/")
        parent = await scene.lookup(folder) if folder else scene.root
        ends.append((parent, name.encode()))
    await scene.fs.renames.rename(ends[0], ends[1], 0)


async def edit(scene: Scene, path: str, offset: int, data: bytes) -> None:
    opened = await scene.open(await scene.lookup(path))
    await scene.fs.files.write(opened, offset, data)
    await scene.close(opened)


def begin(scene: Scene) -> None:
    """Let the drain begin, and make everything due."""
    assert scene.fs.volume.journaled is not None
    scene.fs.volume.journaled.drain.begin()
    scene.settling.hurry()


def pending(scene: Scene, key: str) -> Entry:
    entry = scene.ledger.table.newest(key)
    assert entry is not None
    return entry


async def lose_answer(scene: Scene, hold: Hold, key: str) -> None:
    """Let a request be carried out, its answer be lost, and all others fail."""
    begin(scene)
    await hold.reached.wait()
    hold.error = Unreachable("cut")
    scene.store.refused[hold.call] = Unreachable("cut")
    hold.release()
    while pending(scene, key).flight is not None:
        await scene.ledger.news.wait()


# --- what could wait for itself -----------------------------------------------------


async def test_a_file_moves_into_a_directory_of_its_old_name(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"bytes")
        await move(scene, "a", "t")
        await scene.fs.namespace.mkdir(scene.root, b"a", 0o755, CALLER)
        await move(scene, "t", "a/b")
        assert await scene.drain()
        assert await scene.keys() == {"a/", "a/b"}


async def test_a_file_takes_the_name_of_the_directory_it_was_in(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.put("d/f", b"bytes")
        assert await scene.drain()
        await move(scene, "d/f", "t")
        await scene.fs.namespace.rmdir(scene.root, b"d")
        await move(scene, "t", "d")
        assert await scene.drain()
        assert await scene.keys() == {"d"}
        assert await scene.content("d") == b"bytes"


@pytest.mark.parametrize("has_markers", [True, False])
async def test_three_renames_swap_two_directories(
    tmp_path: Path, has_markers: bool
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        for name in ("a", "b"):
            if has_markers:
                await scene.fs.namespace.mkdir(scene.root, name.encode(), 0o755, CALLER)
            await scene.put(f"{name}/x", name.encode())
        assert await scene.drain()
        for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
            await move(scene, old, new)
        assert (await scene.see("a/x"), await scene.see("b/x")) == (b"b", b"a")
        assert await scene.drain()
        assert (await scene.content("a/x"), await scene.content("b/x")) == (b"b", b"a")
        assert await scene.content("t/x") is None


# --- what is on its way -------------------------------------------------------------


async def test_a_name_is_taken_while_its_file_moves_away(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"old")
        hold = scene.store.hold("copy")
        await move(scene, "a", "b")
        begin(scene)
        await hold.reached.wait()
        await scene.fs.namespace.symlink(scene.root, b"a", b"x", CALLER)
        hold.release()
        assert await scene.drain()
        assert await scene.keys() == {"a", "b"}
        assert await scene.content("b") == b"old"
        assert not list(scene.fs.volume.incidents)


async def test_a_file_is_removed_after_its_answer_was_lost(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write", is_after=True)
        await scene.make("file", b"bytes")
        await lose_answer(scene, hold, "file")
        await edit(scene, "file", 0, b"BY")
        await scene.fs.namespace.unlink(scene.root, b"file")
        scene.store.refused.clear()
        assert await scene.drain()
        assert await scene.keys() == set()


async def test_a_lost_answer_frees_where_a_file_came_from(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", CONTENT)
        await move(scene, "a", "b")
        hold = scene.store.hold("complete_multipart", is_after=True)
        await edit(scene, "b", 0, b"mine")
        await lose_answer(scene, hold, "b")
        await edit(scene, "b", 8, b"more")
        scene.store.refused.clear()
        assert await scene.drain()
        assert await scene.keys() == {"b"}
        assert await scene.content("b") == b"mine4567more" + CONTENT[12:]


@pytest.mark.parametrize("is_tree", [False, True])
async def test_a_rename_that_the_journal_refuses_changes_nothing(
    tmp_path: Path, is_tree: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **_options: object) -> None:
        raise JournalFull("the disk is full")

    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.make("d/a", b"bytes")
        names = ("d", "e") if is_tree else ("d/a", "d/b")
        with monkeypatch.context() as patch:
            patch.setattr(scene.ledger.journal, "change_pending", full)
            with pytest.raises(JournalFull):
                await move(scene, *names)
        assert await scene.drain()
        assert await scene.keys() == {"d/", "d/a"}
        assert await scene.see("d/a") == b"bytes"


async def test_a_file_builds_on_what_was_stored_while_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **_options: object) -> None:
        raise JournalFull("the disk is full")

    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", CONTENT)
        await edit(scene, "a", 0, b"mine")
        opened = await scene.open(await scene.lookup("a"))
        await scene.fs.files.write(opened, 8, b"more")
        with monkeypatch.context() as patch:
            patch.setattr(scene.ledger.journal, "change_pending", full)
            with pytest.raises(JournalFull):
                await scene.fs.files.flush(opened)
        assert await scene.drain()
        expected = b"mine4567more" + CONTENT[12:]
        assert await scene.fs.files.read(opened, 0, 100) == expected
        await scene.close(opened)
        assert await scene.drain()
        assert await scene.content("a") == expected
        assert await scene.keys() == {"a"}


# --- bounds -------------------------------------------------------------------------


async def test_tokens_go_although_something_always_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that the store refuses for ever must not make the journal grow."""
    monkeypatch.setattr(aliasrows, "NOTED_MAX", 10)
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        scene.store.refused["make_link"] = StoreError("forbidden")
        await scene.fs.namespace.symlink(scene.root, b"link", b"x", CALLER)
        begin(scene)
        for number in range(50):
            await scene.make(str(number), b"bytes")
            await scene.fs.flush(str(number))
        assert len(await scene.cache.journal.aliases()) <= 20
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.drain()
        assert len(await scene.keys()) == 51


# --- others -------------------------------------------------------------------------


async def test_what_another_stored_before_a_rename_stays(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"first")
        await scene.lookup("a")
        await move(scene, "a", "b")
        await scene.put("a", b"theirs")
        assert await scene.drain()
        assert await scene.keys() == {"a"}
        assert await scene.see("a") == b"theirs"
        assert scene.fs.volume.incidents.count(IncidentKind.CONFLICT) == 1


@pytest.mark.parametrize("has_crashed", [False, True])
async def test_what_builds_on_the_loser_of_a_race_is_whole(
    tmp_path: Path, has_crashed: bool
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        await scene.put("file", b"0123456789")
        holds = [scene.store.hold("write") for _ in range(3)]
        await edit(scene, "file", 0, b"mine")
        begin(scene)
        await holds[0].reached.wait()
        await edit(scene, "file", 8, b"more")
        await scene.put("file", b"theirs")
        holds[0].release()
        holds[1].release()
        await holds[2].reached.wait()
        if not has_crashed:
            holds[2].release()
            assert await scene.drain()
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.drain()
    found = {
        entry.data for entry in [await there.read(k) for k in there.bucket.entries]
    }
    assert found == {b"theirs", b"mine456789", b"mine4567more"}


async def test_who_has_the_loser_of_a_race_open_goes_on(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("file", b"0123456789")
        hold = scene.store.hold("write")
        await edit(scene, "file", 0, b"mine")
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 8, b"more")
        begin(scene)
        await hold.reached.wait()
        await scene.put("file", b"theirs")
        hold.release()
        with trio.fail_after(5):
            while len(scene.ledger.table):
                await scene.ledger.news.wait()
        assert await scene.fs.files.read(opened, 0, 100) == b"mine4567more"
        await scene.close(opened)
        assert await scene.drain()
        contents = {await scene.content(key) for key in await scene.keys()}
        assert contents == {b"theirs", b"mine456789", b"mine4567more"}


async def test_a_file_that_lost_both_its_names_is_in_a_copy(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"first")
        for call in ("copy", "delete", "write"):
            scene.store.refused[call] = Unreachable("no route")
        await move(scene, "a", "b")
        await scene.make("a", b"second")
        assert not await scene.drain()
        for entry in scene.ledger.table:
            entry.since_s -= 10
        await scene.put("b", b"theirs")
        scene.store.refused.clear()
        assert await scene.drain()
        contents = {await scene.content(key) for key in await scene.keys()}
        assert contents == {b"first", b"second", b"theirs"}
        assert scene.fs.volume.incidents.count(IncidentKind.CONFLICT) == 1


async def test_a_move_goes_on_whose_target_is_gone_already(tmp_path: Path) -> None:
    """So it is found after a crash, if the store removes a target before it moves."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"first")
        await scene.put("b", b"second")
        for call in ("copy", "delete"):
            scene.store.refused[call] = Unreachable("no route")
        await scene.lookup("b")
        await move(scene, "a", "b")
        assert not await scene.drain()
        for entry in scene.ledger.table:
            entry.since_s -= 10
        await scene.there.delete("b")
        scene.store.refused.clear()
        assert await scene.drain()
        assert await scene.keys() == {"b"}
        assert await scene.content("b") == b"first"
        assert scene.fs.volume.incidents.count(IncidentKind.CONFLICT) == 0


async def test_an_object_of_the_same_size_is_not_the_one_that_moved(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"first")
        await scene.put("b", b"other")
        await move(scene, "a", "b")
        await scene.there.delete("a")
        assert await scene.drain()
        assert await scene.content("b") == b"other"
        assert scene.fs.volume.incidents.count(IncidentKind.CONFLICT) == 1


async def test_what_others_make_where_a_moved_file_was_stays(tmp_path: Path) -> None:
    """A foreign client removes the source of a rename, and makes it anew."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"first")
        hold = scene.store.hold("copy")
        await move(scene, "a", "b")
        begin(scene)
        await hold.reached.wait()
        await scene.there.delete("a")
        hold.error = NotFound(key="a")
        hold.release()
        while scene.ledger.table.newest("b") is not None:
            await scene.ledger.news.wait()
        await scene.put("a", b"theirs")
        assert await scene.drain()
        assert await scene.content("a") == b"theirs"
        assert await scene.see("a") == b"theirs"
        assert scene.fs.volume.incidents.count(IncidentKind.CONFLICT) == 1


async def test_a_change_is_acknowledged_though_what_it_replaces_stays_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its row is synced it is promised, whatever becomes of the older bytes."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.make("file", b"older")

        def fail(spool: Spool, fd: int) -> None:
            raise OSError(errno.EIO, "the disk fails")

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "_remove", fail)
            await edit(scene, "file", 0, b"newer")
        assert await scene.see("file") == b"newer"
        assert await scene.drain()
        assert await scene.content("file") == b"newer"
        assert not list(scene.fs.volume.incidents)
        assert scene.cache.budget.dirty == 0


async def test_directories_beyond_what_is_remembered_go_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be in the store is removed there, if nobody knows any more."""
    monkeypatch.setattr(ledger, "USED_MAX", 2)
    async with open_scene(tmp_path, journaled=True) as scene:
        marker = scene.store.hold("write")
        marker.error = Unreachable("no route")
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await marker.reached.wait()
        for name in "xyz":
            await scene.put(f"{name}/file", b"x")
            await edit(scene, f"{name}/file", 0, b"y")
            await scene.fs.flush(f"{name}/file")
        marker.release()
        await scene.fs.namespace.rmdir(scene.root, b"d")
        left = pending(scene, "d/")
        assert left.is_removal
        assert await scene.drain()
        assert await scene.keys() == {f"{name}/file" for name in "xyz"}


async def test_a_directory_that_is_looked_at_goes_with_what_is_below(
    tmp_path: Path,
) -> None:
    """What is below is not looked at, since nobody knows what the store has of it; the
    directory must not overtake it.
    """
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.make("d/file", b"x")
        assert await scene.drain()
        directory = await scene.lookup("d")
        hold = scene.store.hold("delete_many")
        await scene.fs.namespace.unlink(directory, b"file")
        await scene.fs.namespace.rmdir(scene.root, b"d")
        pending(scene, "d/file").stored = None  # as after a crash
        for entry in scene.ledger.table:
            entry.since_s -= 10
        assert isinstance(pending(scene, "d/").stored, Version)
        begin(scene)
        await hold.reached.wait()
        assert pending(scene, "d/file").flight is not None
        assert pending(scene, "d/").flight is pending(scene, "d/file").flight
        hold.release()
        assert await scene.drain()
        assert await scene.keys() == set()


async def test_a_directory_whose_child_cannot_go_holds_up_nobody(
    tmp_path: Path,
) -> None:
    """Who waits for all that can be done is told when that is done."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.make("d/file", b"x")
        assert await scene.drain()
        directory = await scene.lookup("d")
        scene.store.refused["delete"] = StoreError("not allowed")
        scene.store.refused["delete_many"] = StoreError("not allowed")
        await scene.fs.namespace.unlink(directory, b"file")
        await scene.fs.namespace.rmdir(scene.root, b"d")
        assert not await scene.drain()
        assert not await scene.drain()
        with pytest.raises(StoreError, match="not allowed"):
            await scene.settling.settle_entries([pending(scene, "d/")])
        scene.store.refused.clear()
        assert await scene.drain()
        assert await scene.keys() == set()
