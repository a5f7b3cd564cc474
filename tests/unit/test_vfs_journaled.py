"""With the journal: what is acknowledged is safe, shows at once, goes out as states.

The store is in memory behind `HeldStore`, which counts the requests.
"""

import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.backends.local import open_local
from mountfs.backends.memory import MemoryStore
from mountfs.cache import entry_text, ledger
from mountfs.cache.activity import Activity
from mountfs.cache.burst import Burst
from mountfs.cache.conflicts import Policy
from mountfs.cache.demand import Demand
from mountfs.cache.drain import FLIGHTS_BESIDE, FLIGHTS_MAX, PASSING_TRIES
from mountfs.cache.entries import StoreBytes
from mountfs.cache.incidents import IncidentKind
from mountfs.cache.journal import _Turn
from mountfs.cache.moves import Moves
from mountfs.cache.setbacks import RETRY_MIN_S
from mountfs.cache.tokens import TOKEN_MARK
from mountfs.cache.uploader import DEFAULT_SENDING
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    NotFound,
    PermissionDenied,
    StoreError,
    TimedOut,
    Unreachable,
)
from mountfs.storage.types import Condition, Features, Object
from mountfs.vfs.attributes import Change
from mountfs.vfs.rename import EXCHANGE
from tests.fakes.cache_stack import settled, tiny_store
from tests.fakes.clocks import Clock
from tests.fakes.held import HeldStore, Hold
from tests.fakes.volume import CALLER, Scene, open_scene

WRITES: tuple[str, ...] = ("write", "delete", "delete_many", "copy", "make_dir")
WRITES += ("make_link", "set_metadata", "create_multipart", "move")


def sent(store: HeldStore) -> dict[str, int]:
    """Return the requests that change something, by name."""
    return {name: store.asked[name] for name in WRITES if store.asked[name]}


async def rename(scene: Scene, old: str, new: str, flags: int = 0) -> None:
    root = scene.root
    await scene.fs.renames.rename((root, old.encode()), (root, new.encode()), flags)


async def unlink(scene: Scene, name: str) -> None:
    await scene.fs.namespace.unlink(scene.root, name.encode())


# --- what is acknowledged shows, and nothing is sent before it is due ---------------


async def test_a_closed_file_shows_before_the_store_has_it(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write")
        await scene.make("file", b"bytes")
        assert await scene.see("file") == b"bytes"
        assert set(await scene.nodes("")) == {"file"}
        assert await scene.content("file") is None
        await hold.reached.wait()
        hold.release()
        assert await scene.drain()
        assert await scene.content("file") == b"bytes"
        assert await scene.see("file") == b"bytes"


async def test_a_file_made_and_removed_is_never_sent(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.make("file", b"bytes")
        await unlink(scene, "file")
        assert await scene.drain()
        assert sent(scene.store) == {}
        assert await scene.keys() == set()


async def test_a_new_file_given_a_mode_and_its_name_is_one_write(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        node = await scene.make("file.tmp", b"bytes")
        await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
        await rename(scene, "file.tmp", "file")
        assert await scene.drain()
        assert sent(scene.store) == {"write": 1}
        assert await scene.keys() == {"file"}
    async with open_scene(tmp_path, there=scene.there) as later:
        node = await later.lookup("file")
        await later.fs.resolver.learn(node)
        assert stat.S_IMODE(node.attributes.mode or 0) == 0o600


async def test_many_changes_of_attributes_are_one_request(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("file", b"bytes")
        node = await scene.lookup("file")
        for mode in (0o600, 0o640, 0o400):
            await scene.fs.attributes.apply(node, Change(mode=mode), is_echo=False)
        await scene.fs.attributes.apply(node, Change(uid=7), is_echo=False)
        assert await scene.drain()
        assert sum(sent(scene.store).values()) == 1


async def test_a_tree_is_removed_in_batches(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for number in range(50):
            await scene.put(f"d/{number}", b"x")
        directory = await scene.lookup("d")
        scene.store.asked.clear()
        for number in range(50):
            await scene.fs.namespace.unlink(directory, str(number).encode())
        await scene.fs.namespace.rmdir(scene.root, b"d")
        assert await scene.drain()
        assert await scene.keys() == set()
        assert sent(scene.store).get("delete_many", 0) <= 2
        assert sent(scene.store).get("delete", 0) <= 1


async def test_small_appends_are_few_writes(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.make("log", b"")
        for number in range(100):
            opened = await scene.open(await scene.lookup("log"), os.O_WRONLY)
            await scene.fs.files.write(opened, number * 3, b"%02d\n" % number)
            await scene.close(opened)
        assert await scene.drain()
        expected = b"".join(b"%02d\n" % number for number in range(100))
        assert await scene.content("log") == expected
        assert sum(sent(scene.store).values()) < 60


async def test_small_files_are_sent_side_by_side(tmp_path: Path) -> None:
    """As many as may be under way at all: what takes time is the way there and back."""
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which nothing is sent
        holds = [scene.store.hold("write") for _ in range(FLIGHTS_MAX)]
        for number in range(FLIGHTS_MAX + 10):
            await scene.make(f"file{number}", b"bytes")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.drain)
            await holds[-1].reached.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert scene.store.asked["write"] == FLIGHTS_MAX
            for hold in holds:
                hold.release()
        assert len(await scene.keys()) == FLIGHTS_MAX + 10


async def test_what_later_parts_lack_is_fetched_while_others_are_sent(
    tmp_path: Path,
) -> None:
    """Of scattered edits, each in a part that needs its neighbours."""
    count = 2 * DEFAULT_SENDING.uploads_max + 2
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"b" * 64 * count)
        opened = await scene.open(await scene.lookup("a"))
        for number in range(count):
            await scene.fs.files.write(opened, 64 * number + 7, b"e")
        scene.store.asked.clear()
        sent = DEFAULT_SENDING.uploads_max
        holds = [scene.store.hold("write_part") for _ in range(sent)]
        await scene.close(opened)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.drain)
            for hold in holds:
                await hold.reached.wait()
            await settled()
            assert scene.store.asked["write_part"] == sent
            assert scene.store.asked["read"] == 2 * sent
            for hold in holds:
                hold.release()
        assert scene.store.asked["read"] == count
        expected = (b"b" * 7 + b"e" + b"b" * 56) * count
        assert await scene.content("a") == expected


async def test_fewer_are_sent_while_programs_ask_for_anything(tmp_path: Path) -> None:
    """And more as soon as they do not: the first that lands tells."""
    asked, now, changed = Activity(), Clock(), Clock()
    async with open_scene(tmp_path, journaled=True) as scene:
        drain = scene.journaled.drain
        drain.demand = Demand(asked, now)
        scene.ledger.burst = Burst(clock=changed)
        holds = [scene.store.hold("write") for _ in range(FLIGHTS_MAX + 1)]
        for number in range(FLIGHTS_MAX + 10):
            await scene.make(f"file{number}", b"bytes")
        asked.requests += 1
        changed.now_s += 1  # the burst is over
        drain.begin()
        await holds[FLIGHTS_BESIDE - 1].reached.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.store.asked["write"] == FLIGHTS_BESIDE

        now.now_s += 1
        holds[0].release()
        await holds[-1].reached.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.store.asked["write"] == FLIGHTS_MAX + 1
        for hold in holds[1:]:
            hold.release()
        assert await scene.drain()
        assert len(await scene.keys()) == FLIGHTS_MAX + 10


async def test_a_large_file_that_is_written_at_once_is_sent_afterwards(
    tmp_path: Path,
) -> None:
    """Its close waits for the disk, and nothing else takes the program's time."""
    content = bytes(range(50))
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.make("a", content)
        assert not scene.store.asked["write_part"]
        assert await scene.drain()
        assert await scene.content("a") == content
        assert scene.store.asked["write_part"] > 1


async def test_a_large_file_is_closed_while_its_parts_are_on_their_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mountfs.cache.writeback._STREAM_AFTER_S", -1.0)
    content = bytes(range(50))
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write_part")
        with trio.fail_after(10):
            await scene.make("a", content)
            await hold.reached.wait()
        assert await scene.content("a") is None
        hold.release()
        assert await scene.drain()
        assert await scene.content("a") == content


@pytest.mark.parametrize("before", [None, b"b" * 50], ids=["new", "older"])
async def test_a_file_is_sent_once_whose_time_is_set_after_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    """As `cp -p` does; nor are bytes that were cached of an older file taken for it."""
    monkeypatch.setattr("mountfs.cache.writeback._STREAM_AFTER_S", -1.0)
    content = bytes(range(50))
    async with open_scene(tmp_path, journaled=True) as scene:
        if before is not None:
            await scene.put("a", before)
            assert await scene.see("a") == before
            opened = await scene.open(await scene.lookup("a"))
            cut = Change(size=0)
            await scene.fs.attributes.apply(opened.node, cut, is_echo=False)
            await scene.fs.files.write(opened, 0, content)
        else:
            opened = await scene.create(scene.root, "a", content)
        scene.store.asked.clear()
        change = Change(mtime_ns=5)
        await scene.fs.attributes.apply(opened.node, change, is_echo=False)
        await scene.close(opened)
        assert await scene.drain()

        assert scene.store.asked["complete_multipart"] == 1
        assert scene.store.asked["set_metadata"] == 1
        assert await scene.content("a") == content
        assert await scene.see("a") == content


async def test_a_crash_finds_the_parts_that_were_on_their_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mountfs.cache.writeback._STREAM_AFTER_S", -1.0)
    content = bytes(range(50))
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        hold = scene.store.hold("write_part", is_after=True)
        await scene.make("a", content)
        await hold.reached.wait()
        hold.error = Unreachable("the process is gone")
        scene.store.refused["write_part"] = Unreachable("the process is gone")
        hold.release()

    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.drain()
        assert await scene.content("a") == content


@pytest.mark.parametrize("is_local", [False, True])
async def test_a_part_that_is_written_twice_does_not_keep_a_file_here(
    tmp_path: Path, is_local: bool
) -> None:
    """A thread of a flight that was cancelled may end after the next one has begun."""
    content = bytes(range(50))
    (tmp_path / "bucket").mkdir()
    store = open_local(f"file://{tmp_path / 'bucket'}", {}) if is_local else None
    async with open_scene(tmp_path, store=store, journaled=True) as scene:
        hold = scene.store.hold("complete_multipart")
        await scene.make("a", content)
        await hold.reached.wait()
        (upload,) = await scene.store.list_uploads()
        first = (await scene.store.list_parts(upload))[0]
        await scene.store.write_part(upload, 0, BytesBody(content[: first.size]))
        hold.release()
        assert await scene.drain()
        assert await scene.see("a") == content
        assert (await scene.store.read("a")).data == content


async def test_an_edit_of_what_waits_keeps_the_rest_of_it(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("file", b"0123456789" * 4)
        for offset, data in ((3, b"abc"), (20, b"xyz"), (4, b"-"), (38, b"end")):
            opened = await scene.open(await scene.lookup("file"), os.O_RDWR)
            await scene.fs.files.write(opened, offset, data)
            await scene.close(opened)
        expected = b"012a-c6789" + b"0123456789" + b"xyz3456789" + b"01234567end"
        assert await scene.see("file") == expected
        assert await scene.drain()
        assert await scene.content("file") == expected


# --- names --------------------------------------------------------------------------


async def test_a_stored_file_moves_by_one_copy(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"bytes")
        await rename(scene, "a", "b")
        await rename(scene, "b", "c")
        assert set(await scene.nodes("")) == {"c"}
        assert await scene.see("c") == b"bytes"
        assert await scene.drain()
        assert await scene.keys() == {"c"}
        assert sent(scene.store) == {"copy": 1, "delete": 1}


async def test_a_file_that_comes_back_to_its_name_is_not_copied(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"bytes")
        await rename(scene, "a", "b")
        await rename(scene, "b", "a")
        assert await scene.see("a") == b"bytes"
        assert await scene.drain()
        assert sent(scene.store) == {}
        assert await scene.keys() == {"a"}
        assert await scene.see("a") == b"bytes"


async def test_a_name_left_behind_can_be_taken_at_once(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"old")
        await rename(scene, "a", "b")
        await scene.make("a", b"new")
        assert (await scene.see("a"), await scene.see("b")) == (b"new", b"old")
        assert await scene.drain()
        assert await scene.content("a") == b"new"
        assert await scene.content("b") == b"old"


@pytest.mark.parametrize("is_stored", [True, False])
async def test_three_renames_swap_two_files(tmp_path: Path, is_stored: bool) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        for name in ("a", "b"):
            if is_stored:
                await scene.put(name, name.encode())
            else:
                await scene.make(name, name.encode())
        for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
            await rename(scene, old, new)
        assert (await scene.see("a"), await scene.see("b")) == (b"b", b"a")
        assert await scene.drain()
        assert (await scene.content("a"), await scene.content("b")) == (b"b", b"a")
        assert await scene.keys() == {"a", "b"}


async def test_an_exchange_is_carried_out(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"a")
        await scene.make("b", b"b")
        await rename(scene, "a", "b", EXCHANGE)
        assert (await scene.see("a"), await scene.see("b")) == (b"b", b"a")
        assert await scene.drain()
        assert (await scene.content("a"), await scene.content("b")) == (b"b", b"a")


async def test_a_tree_moves_with_what_waits_in_it(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.put("d/stored", b"stored")
        await scene.put("d/deep/er", b"deeper")
        await scene.make("d/new", b"new")
        hold = scene.store.hold("copy")
        await rename(scene, "d", "e")
        assert set(await scene.nodes("")) == {"e"}
        assert set(await scene.nodes("e")) == {"stored", "deep", "new"}
        assert await scene.see("e/deep/er") == b"deeper"
        hold.release()
        assert await scene.drain()
        keys = {key for key in await scene.keys() if not key.endswith("/")}
        assert keys == {"e/stored", "e/deep/er", "e/new"}


async def test_a_directory_that_the_store_made_by_itself_goes(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        marker = scene.store.hold("write")
        marker.error = Unreachable("no route")
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await marker.reached.wait()
        await scene.make("d/file", b"x")
        await scene.fs.flush("d/file")
        assert await scene.keys() == {"d/file"}
        marker.release()
        await rename(scene, "d", "e")
        left = scene.ledger.table.newest("d/")
        assert left is not None
        assert left.is_removal
        assert await scene.drain()
        assert await scene.keys() == {"e/", "e/file"}


async def test_a_tree_built_under_another_name_is_written_once(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        for name in WRITES:
            scene.store.refused[name] = Unreachable("not yet")
        await scene.fs.namespace.mkdir(scene.root, b"build", 0o755, CALLER)
        for number in range(10):
            await scene.make(f"build/{number}", b"x")
        await rename(scene, "build", "done")
        await scene.drain()
        scene.store.refused.clear()
        scene.store.asked.clear()
        assert await scene.drain()
        assert sent(scene.store)["write"] == 11  # the marker, too
        assert sent(scene.store).get("copy", 0) == 0
        keys = {f"done/{number}" for number in range(10)}
        assert await scene.keys() == {"done/", *keys}


async def test_a_file_takes_the_name_of_a_removed_directory(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"x", 0o755, CALLER)
        assert await scene.drain()
        await scene.fs.namespace.rmdir(scene.root, b"x")
        await scene.make("x", b"file")
        assert await scene.drain()
        assert await scene.keys() == {"x"}


async def test_hard_links_have_versions_of_the_store(tmp_path: Path) -> None:
    features = Features.all()
    async with open_scene(tmp_path, journaled=True, features=features) as scene:
        node = await scene.make("a", b"bytes")
        await scene.fs.namespace.link(node, scene.root, b"b")
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"BYTES")
        await scene.close(opened)
        await rename(scene, "b", "c")
        await unlink(scene, "a")
        assert await scene.drain()
        assert await scene.content("c") == b"BYTES"
        assert await scene.content("a") is None


# --- crashes ------------------------------------------------------------------------


@pytest.mark.parametrize("is_edited", [False, True])
async def test_a_rename_after_a_lost_reply_loses_nothing(
    tmp_path: Path, is_edited: bool
) -> None:
    """The store has moved, or written, and nobody was told; then the name moves on."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", b"0123456789")
        call = "write" if is_edited else "delete"
        hold = scene.store.hold(call, is_after=True)
        hold.error = Unreachable("the reply was lost")
        if is_edited:
            opened = await scene.open(await scene.lookup("a"), os.O_RDWR)
            await scene.fs.files.write(opened, 2, b"--")
            await scene.close(opened)
        else:
            await rename(scene, "a", "b")
        await hold.reached.wait()
        hold.release()
        await rename(scene, "a" if is_edited else "b", "c")
        expected = b"01--456789" if is_edited else b"0123456789"
        assert await scene.see("c") == expected
        assert await scene.drain()
        assert await scene.content("c") == expected
        assert await scene.keys() == {"c"}
        assert not list(scene.fs.volume.incidents)


async def test_what_waits_survives_the_end_of_a_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_text, "INLINE_SIZE_MAX", 1000)
    monkeypatch.setattr(ledger, "INLINE_SIZE_MAX", 1000)
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        await scene.put("moved", b"moved")
        await scene.put("gone", b"gone")
        for name in WRITES:
            scene.store.refused[name] = Unreachable("no route")
        await scene.make("small", b"small")
        await scene.make("large", bytes(20_000))
        await rename(scene, "moved", "there")
        await unlink(scene, "gone")
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o700, CALLER)
        await scene.fs.namespace.symlink(scene.root, b"l", b"there", CALLER)
        assert not await scene.drain()
    assert set(there.bucket.entries) == {"moved", "gone"}
    for spool in (tmp_path / "state" / "spool").glob("*.spool"):
        if spool.stat().st_size < 1000:
            spool.unlink()  # a power cut may take what the row holds anyway
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert set(await scene.nodes("")) == {"small", "large", "there", "d", "l"}
        assert await scene.see("small") == b"small"
        assert await scene.see("there") == b"moved"
        assert await scene.drain()
    assert set(there.bucket.entries) == {"small", "large", "there", "d/", "l"}
    assert (await there.read("large")).data == bytes(20_000)


async def test_what_the_store_answers_late_once_is_tried_again_before_the_end(
    tmp_path: Path,
) -> None:
    """It would be pending after the unmount, with 75, although the store is there."""
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write")
        hold.error = TimedOut("write: no answer within 60 s", is_ambiguous=True)
        hold.release()
        await scene.make("file", b"bytes")
        for entry in scene.ledger.table:
            entry.attempts = 10  # the pauses would be long by now

        with trio.fail_after(20):
            assert await scene.drain()
        assert await scene.content("file") == b"bytes"


async def test_what_is_refused_is_not_tried_again_before_the_end(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.store.refused["write"] = PermissionDenied("no")
        await scene.make("file", b"bytes")
        assert not await scene.drain()
        assert scene.store.asked["write"] == 1


@pytest.mark.parametrize("error", [PermissionDenied("no"), TimedOut("no answer")])
async def test_what_has_failed_waits_while_others_are_sent_before_the_end(
    tmp_path: Path, error: StoreError
) -> None:
    """It would take the flights of what was never tried, and plague a busy store."""
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write")
        await scene.make("large", b"bytes")
        await hold.reached.wait()
        scene.store.refused["write"] = error
        await scene.make("small", b"bytes")
        small = scene.ledger.table.newest("small")
        assert small is not None
        small.attempts = 10
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.drain)
            tries = PASSING_TRIES if error.is_retryable else 1
            with trio.fail_after(20):
                while small.attempts < 10 + tries:
                    await scene.ledger.news.look().wait_for_news()
            await trio.testing.wait_all_tasks_blocked()

            assert small.due_s > scene.ledger.now_s() + RETRY_MIN_S

            hold.release()


async def test_a_mount_without_journal_stores_what_waits(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        scene.store.refused["write"] = Unreachable("no route")
        await scene.make("file", b"bytes")
        assert not await scene.drain()
    async with open_scene(tmp_path, there=there) as scene:
        assert await scene.see("file") == b"bytes"
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 0, b"BY")
        await scene.close(opened)
        assert await scene.content("file") == b"BYtes"


async def script(scene: Scene) -> None:
    """Do a little of everything."""
    await scene.make("new", b"new")
    await rename(scene, "old", "moved")
    await unlink(scene, "gone")
    await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
    await scene.make("d/file", b"first")
    opened = await scene.open(await scene.lookup("edited"))
    await scene.fs.files.write(opened, 2, b"--")
    await scene.close(opened)
    node = await scene.lookup("described")
    await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
    await rename(scene, "d", "e")


EXPECTED = {
    "new": b"new",
    "moved": b"old",
    "e/file": b"first",
    "edited": b"ed--ed",
    "described": b"described",
}


@pytest.mark.parametrize("is_carried_out", [False, True])
@pytest.mark.parametrize("calls", range(1, 16))
async def test_a_crash_at_any_request_loses_nothing(
    tmp_path: Path, calls: int, is_carried_out: bool
) -> None:
    there = MemoryStore(capabilities=tiny_store(move=False, attributes=False))
    for name in ("old", "gone", "edited", "described"):
        await there.write(name, BytesBody(name.encode()))
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        # Hold everything back until all of it is acknowledged.
        for name in WRITES:
            scene.store.refused[name] = Unreachable("not yet")
        await script(scene)
        scene.store.refused.clear()
        scene.store.dies_at = (calls, is_carried_out)
        with trio.move_on_after(2):
            await scene.drain()
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.drain()
        assert not list(scene.fs.volume.incidents)
    found = {
        key: (await there.read(key)).data
        for key in there.bucket.entries
        if not key.endswith("/")
    }
    assert found == EXPECTED


async def test_older_bytes_that_arrived_are_not_taken_for_newer_ones(
    tmp_path: Path,
) -> None:
    """By the next mount, which finds the object of an attempt before the last."""
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        hold = scene.store.hold("write", is_after=True)
        hold.error = Unreachable("the answer is lost")
        await scene.make("file", b"first")
        await hold.reached.wait()
        scene.store.refused["write"] = Unreachable("no route")
        hold.release()
        await trio.testing.wait_all_tasks_blocked()
        opened = await scene.open(await scene.lookup("file"), os.O_WRONLY | os.O_TRUNC)
        await scene.fs.files.write(opened, 0, b"newer")
        await scene.close(opened)
        assert len(scene.ledger.table) == 1
    assert (await there.read("file")).data == b"first"
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.drain()
        assert not list(scene.fs.volume.incidents)
    assert (await there.read("file")).data == b"newer"


@pytest.mark.parametrize("is_taken", [False, True])
async def test_what_was_appended_after_a_rename_has_the_new_name(
    tmp_path: Path, is_taken: bool
) -> None:
    """On a store that appends: nothing is there to be continued."""
    able = tiny_store(append=True, multipart_copy=False, multipart=None)
    async with open_scene(tmp_path, journaled=True, capabilities=able) as scene:
        await scene.put("old", b"begin")
        if is_taken:
            await scene.put("new", b"replaced")
            await scene.see("new")
        await rename(scene, "old", "new")
        opened = await scene.open(await scene.lookup("new"), os.O_WRONLY)
        await scene.fs.files.write(opened, 5, b" end")
        await scene.close(opened)
        assert await scene.drain()
        assert not list(scene.fs.volume.incidents)
        assert await scene.keys() == {"new"}
        assert await scene.content("new") == b"begin end"


# --- others ------------------------------------------------------------------------


async def test_the_loser_of_a_race_becomes_a_copy(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("file", b"first")
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 0, b"mine")
        hold = scene.store.hold("write")
        await scene.close(opened)
        await hold.reached.wait()
        await scene.put("file", b"theirs")
        hold.release()
        assert await scene.drain()
        keys = await scene.keys()
        assert await scene.content("file") == b"theirs"
        (copy,) = keys - {"file"}
        assert await scene.content(copy) == b"minet"
        assert await scene.see("file") == b"theirs"
        assert scene.fs.volume.incidents.count(IncidentKind.CONFLICT) == 1
        assert copy in await scene.nodes("")


async def test_the_loser_of_a_race_is_kept_if_it_must_be(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True, conflict=Policy.FAIL) as scene:
        await scene.put("file", b"first")
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 0, b"mine")
        hold = scene.store.hold("write")
        await scene.close(opened)
        await hold.reached.wait()
        await scene.put("file", b"theirs")
        hold.release()
        assert await scene.drain()
        assert await scene.content("file") == b"theirs"
        assert await scene.see("file") == b"theirs"
        assert [each.key for each in scene.cache.writeback.pending()] == ["file"]


async def test_a_removal_that_waited_long_spares_newer_bytes(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("file", b"first")
        await scene.lookup("file")
        scene.store.refused["delete"] = Unreachable("no route")
        await unlink(scene, "file")
        assert not await scene.drain()
        for entry in scene.ledger.table:
            entry.since_s -= 10
        await scene.put("file", b"theirs")
        scene.store.refused.clear()
        assert await scene.drain()
        assert await scene.content("file") == b"theirs"
        assert await scene.see("file") == b"theirs"
        assert scene.fs.volume.incidents.count(IncidentKind.CONFLICT) == 1


async def test_an_error_reaches_who_waits_and_the_list(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.store.refused["write"] = StoreError("no room")
        await scene.make("file", b"bytes")
        with pytest.raises(StoreError, match="no room"):
            await scene.fs.flush("file")
        last = scene.fs.volume.incidents.last("file")
        assert last is not None
        assert "no room" in last.text
        scene.store.refused.clear()
        assert await scene.drain()
        assert scene.fs.volume.incidents.last("file") is None


async def test_the_last_to_be_stored_has_no_late_error_at_the_end(
    tmp_path: Path,
) -> None:
    """Its entry is gone before its spool file is: the end waits for both."""
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.store.refused["write"] = StoreError("no room")
        await scene.make("file", b"bytes")
        assert not await scene.drain()
        incidents = scene.fs.volume.incidents
        assert [each.key for each in incidents.unseen()] == ["file"]
        entry = scene.ledger.table.newest("file")
        assert entry is not None
        assert isinstance(entry.change, StoreBytes)
        readers = entry.change.dirty.readers
        scene.store.refused.clear()
        async with trio.open_nursery() as nursery:
            with readers.reading():
                ended = await nursery.start(_drain, scene)
                while len(scene.ledger.table):
                    await trio.testing.wait_all_tasks_blocked(0.001)
                scene.ledger.news.tell()  # as any other flight does when it lands
                await trio.testing.wait_all_tasks_blocked()
                assert not ended.is_set()
        assert incidents.unseen() == ()


async def _drain(
    scene: Scene, task_status: trio.TaskStatus[trio.Event] = trio.TASK_STATUS_IGNORED
) -> None:
    ended = trio.Event()
    task_status.started(ended)
    assert await scene.drain()
    ended.set()


async def test_what_failed_and_was_removed_has_no_late_error(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.store.refused["write"] = StoreError("no room")
        for name in ("first", "second"):
            await scene.make(name, b"bytes")
        assert not await scene.drain()
        assert len(scene.fs.volume.incidents.unseen()) == 2
        await unlink(scene, "first")
        await rename(scene, "second", "third")
        assert scene.fs.volume.incidents.unseen() == ()
        scene.store.refused.clear()
        assert await scene.drain()
        assert await scene.keys() == {"third"}


async def test_what_does_not_exist_is_not_found(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("file", b"bytes")
        await unlink(scene, "file")
        with pytest.raises(NotFound):
            await scene.fs.volume.store.stat("file")
        with pytest.raises(NotFound):
            await scene.fs.volume.store.read("file")


async def test_a_file_is_written_anew_after_its_directory_was_renamed(
    tmp_path: Path,
) -> None:
    """It starts from what waits to be copied, and loses no race against that."""
    async with open_scene(tmp_path, journaled=True, ttl_s=3600) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"old", 0o755, CALLER)
        node = await scene.make("old/file", b"one")
        assert await scene.drain()
        await rename(scene, "old", "new")

        opened = await scene.open(node, os.O_WRONLY)
        await scene.fs.files.write(opened, 0, b"two")
        await scene.close(opened)

        assert await scene.drain()
        assert await scene.content("new/file") == b"two"
        assert await scene.content("old/file") is None
        assert scene.fs.volume.incidents.unseen() == ()


async def test_a_tree_moves_with_what_is_stored_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes while the directory is listed is in no listing, and pending no more."""
    async with open_scene(tmp_path, journaled=True) as scene:
        list_below, listings = Moves._stored_below, 0

        async def list_late(moves: Moves, prefix: str) -> dict[str, Object]:
            nonlocal listings
            listings += 1
            found = await list_below(moves, prefix)
            assert await scene.drain()
            return found

        monkeypatch.setattr(Moves, "_stored_below", list_late)
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        assert await scene.drain()
        await scene.make("d/file", b"bytes")
        await rename(scene, "d", "e")
        assert await scene.see("e/file") == b"bytes"
        assert await scene.drain()
        assert await scene.keys() == {"e/", "e/file"}
        assert listings == 2


async def test_who_waits_for_a_tree_waits_for_all_of_it(tmp_path: Path) -> None:
    """A rename of a directory gives each name below it another entry."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        for name in WRITES:
            scene.store.refused[name] = Unreachable("not yet")
        for number in range(5):
            await scene.make(f"d/{number}", b"x")

        waiting = list(scene.ledger.table)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rename, scene, "d", "e")
            with pytest.raises(Unreachable):
                await scene.settling.settle_entries(waiting)
        scene.store.refused.clear()
        await scene.settling.settle_entries(waiting)
        assert {f"e/{number}" for number in range(5)} <= await scene.keys()


async def test_attributes_follow_bytes_that_wait_to_another_name(
    tmp_path: Path,
) -> None:
    """A change of mode behind a file on its way goes with it, and the old name is
    taken at once.
    """
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write")
        hold.error = StoreError("no room")
        await scene.put("a", b"old")
        node = await scene.lookup("a")
        opened = await scene.open(node, os.O_WRONLY | os.O_TRUNC)
        await scene.fs.files.write(opened, 0, b"bytes")
        await scene.close(opened)
        await hold.reached.wait()
        await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
        hold.release()
        await rename(scene, "a", "b")
        await scene.make("a", b"other")
        assert await scene.drain()
        assert await scene.content("a") == b"other"
        assert await scene.content("b") == b"bytes"
        conflicts = scene.fs.volume.incidents.count(IncidentKind.CONFLICT)
        assert conflicts == 0
    async with open_scene(tmp_path, there=scene.there) as later:
        node = await later.lookup("b")
        await later.fs.resolver.learn(node)
        assert stat.S_IMODE(node.attributes.mode or 0) == 0o600


async def test_a_rename_cancels_the_upload_that_it_meets(tmp_path: Path) -> None:
    """Parts under the old name are of no use, and nobody waits for them."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("a", bytes(200))
        part = scene.store.hold("write_part")
        opened = await scene.open(await scene.lookup("a"), os.O_RDWR)
        await scene.fs.files.write(opened, 100, b"edited")
        await scene.close(opened)
        await part.reached.wait()
        await rename(scene, "a", "b")  # the part is never answered
        assert await scene.drain()
        assert await scene.content("b") == bytes(100) + b"edited" + bytes(94)
        assert await scene.keys() == {"b"}
        assert not await scene.there.list_uploads()


async def test_files_that_wait_make_room_for_those_that_come(tmp_path: Path) -> None:
    """The limit holds over what waits; a writer is slowed down, and gets no ENOSPC."""
    async with open_scene(tmp_path, journaled=True, size_max=2000) as scene:
        for number in range(20):
            await scene.make(f"file{number}", bytes(900))
            assert scene.cache.budget.dirty <= 2000
        assert await scene.drain()
        assert len(await scene.keys()) == 20


async def test_marker_comes_before_what_is_below_it(tmp_path: Path) -> None:
    """Where the store makes directories by itself, and would take it for one of those.

    One that has failed holds up nothing.
    """
    there = MemoryStore(capabilities=tiny_store(attributes=False, dir_metadata=False))
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        marker = scene.store.hold("write")
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.close(await scene.create(directory, "file", b"bytes"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.drain)
            await marker.reached.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert scene.store.asked["write"] == 1
            marker.error = Unreachable("away")
            marker.release()
        assert await scene.content("d/file") == b"bytes"
        assert await scene.drain()
        assert await scene.keys() == {"d/", "d/file"}


async def test_directory_goes_by_copies_and_one_removal(tmp_path: Path) -> None:
    """Each object is copied, and all are removed at once when that is done."""
    there = MemoryStore(capabilities=tiny_store(move=False, attributes=False))
    for number in range(100):
        await there.write(f"old/{number}", BytesBody(b"bytes"))
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        await rename(scene, "old", "new")
        assert await scene.drain()

        assert sent(scene.store) == {"copy": 100, "delete_many": 1}
        assert await scene.keys() == {f"new/{number}" for number in range(100)}


class _KeepsDirectories(MemoryStore):
    """Lets a directory stay whose marker goes before what is below it (SeaweedFS)."""

    def __init__(self) -> None:
        super().__init__(capabilities=tiny_store(move=False, attributes=False))
        self.kept: list[str] = []

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        below = [each for each in self.bucket.entries if each.startswith(key)]
        if key.endswith("/") and below != [key]:
            self.kept.append(key)
        await super().delete(key, condition=condition)


async def test_a_directory_goes_last_though_each_is_looked_at(tmp_path: Path) -> None:
    """After a crash, when the store is asked before each removal."""
    there = _KeepsDirectories()
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"old", 0o755, CALLER)
        for number in range(3):
            await scene.make(f"old/{number}", b"bytes")
        assert await scene.drain()
        for call in WRITES:
            scene.store.refused[call] = Unreachable("no route")
        await rename(scene, "old", "new")
        new = await scene.lookup("new")
        for number in range(3):
            await scene.fs.namespace.unlink(new, str(number).encode())
        await scene.fs.namespace.rmdir(scene.root, b"new")
        # On a slow machine the new directory was tried by then, and is removed, too.
        keys = [e.key for e in scene.ledger.table if not e.key.startswith("new/")]
        assert keys == ["old/", "old/0", "old/1", "old/2"]
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.drain()
        assert await scene.keys() == set()
    assert there.kept == []


async def test_attributes_of_directories_move_without_a_question(
    tmp_path: Path,
) -> None:
    """What the index keeps of them goes to the store with their markers."""
    features = replace(Features.for_mounts(), virtual_index=True)
    forgetful = tiny_store(move=False, attributes=False, dir_metadata=False)
    there = MemoryStore(capabilities=forgetful)
    async with open_scene(
        tmp_path / "one", there=there, features=features, journaled=True
    ) as scene:
        old = await scene.fs.namespace.mkdir(scene.root, b"old", 0o711, CALLER)
        sub = await scene.fs.namespace.mkdir(old, b"sub", 0o722, CALLER)
        await scene.close(await scene.create(sub, "file", b"bytes"))
        assert await scene.drain()
        scene.store.asked.clear()
        await rename(scene, "old", "new")
        assert sent(scene.store) == {}
        await scene.fs.finish()
    async with open_scene(tmp_path / "two", there=there, features=features) as scene:
        assert (await scene.lookup("new")).attributes.mode == 0o40711
        assert (await scene.lookup("new/sub")).attributes.mode == 0o40722
        assert await scene.see("new/sub/file") == b"bytes"


# --- a disk that is full when the store has answered ---------------------------------


def full(_: sqlite3.Connection, turns: "list[_Turn]") -> None:
    """Fail what the journal is to do, as on a disk that is full."""
    for turn in turns:
        turn.error = sqlite3.OperationalError("database or disk is full")


async def carried_out_in_vain(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, hold: Hold
) -> None:
    """Let the store carry out what is on its way, and the journal not note that."""
    await hold.reached.wait()
    with monkeypatch.context() as patch:
        patch.setattr("mountfs.cache.journal._transact", full)
        hold.release()
        await settled()
    assert len(scene.ledger.table) > 0


async def test_what_the_store_has_goes_though_the_journal_did_not_note_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is removed then is not there again after all."""
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write")
        await scene.make("file", b"bytes")
        await carried_out_in_vain(scene, monkeypatch, hold)
        await unlink(scene, "file")
        assert await scene.drain()
        assert await scene.keys() == set()


async def test_what_the_store_has_moves_though_the_journal_did_not_note_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is renamed then has one name."""
    async with open_scene(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write")
        await scene.make("file", b"bytes")
        await carried_out_in_vain(scene, monkeypatch, hold)
        await rename(scene, "file", "second")
        assert await scene.drain()
        assert await scene.keys() == {"second"}


async def test_a_name_made_anew_is_stored_though_its_removal_was_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has removed what was there but the mount itself."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await scene.put("name", b"bytes")
        await scene.lookup("name")
        hold = scene.store.hold("delete")
        await unlink(scene, "name")
        await carried_out_in_vain(scene, monkeypatch, hold)
        await scene.fs.namespace.symlink(scene.root, b"name", b"target", CALLER)
        assert await scene.drain()
        assert await scene.keys() == {"name"}
        assert not list(scene.cache.writeback.incidents)


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_file_that_was_moved_in_part_goes_with_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    """The copy was made; what came after that has failed."""
    async with open_scene(
        tmp_path, journaled=True, capabilities=tiny_store(move=False, attributes=True)
    ) as scene:
        await scene.put("file", b"bytes")
        node = await scene.lookup("file")
        await rename(scene, "file", "new")
        if is_full:
            hold = scene.store.hold("delete")
            await carried_out_in_vain(scene, monkeypatch, hold)
        else:
            await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
            scene.store.refused["set_metadata"] = PermissionDenied("no")
            assert not await scene.drain()
            assert "new" in await scene.keys()
        await unlink(scene, "new")
        scene.store.refused.clear()
        assert await scene.drain()
        assert await scene.keys() == set()


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_file_that_could_not_be_promised_stands_on_what_the_store_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_stored: bool
) -> None:
    """The next mount stores it, and knows nothing of the tokens of this one."""
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        await scene.make("file", b"0123456789")
        if is_stored:
            assert await scene.drain()
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 3, b"new")
        with monkeypatch.context() as patch:
            patch.setattr("mountfs.cache.journal._transact", full)
            with pytest.raises(StoreError):
                await scene.fs.files.flush(opened)
        await scene.fs.files.release(opened)

    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.drain()
        assert await scene.content("file") == b"012new6789"
        assert await scene.keys() == {"file"}
        assert await scene.cache.journal.failed() == ()


async def test_what_is_kept_of_a_lost_race_names_no_token(tmp_path: Path) -> None:
    """No later mount would know what it stands on."""
    async with open_scene(tmp_path, journaled=True, conflict=Policy.FAIL) as scene:
        first = scene.store.hold("write")
        await scene.make("file", b"0123456789")
        await first.reached.wait()
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 3, b"new")
        await scene.close(opened)
        second = scene.store.hold("write")
        first.release()
        await second.reached.wait()
        await scene.put("file", b"theirs")
        second.release()
        await scene.drain()

        (row,) = await scene.cache.journal.failed()
        assert TOKEN_MARK not in row.state
