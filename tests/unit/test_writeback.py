"""The dirty side of the cache, scenario by scenario."""

import errno
import os
import sqlite3
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MemoryStore
from mountfs.cache import spool as spool_module
from mountfs.cache.directory import DirectoryInUse
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.journal import FailedFile, JournaledUpload, _Turn
from mountfs.cache.journalfile import JournalError
from mountfs.cache.spool import HELD, Spool
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    NotFound,
    ObjectTooLarge,
    PermissionDenied,
    QuotaExceeded,
    ServiceFailed,
    StoreError,
    VersionChanged,
)
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Attributes,
    Condition,
    Metadata,
    Object,
)
from tests.fakes.cache_stack import Stack, open_stack, tiny_store
from tests.fakes.faulty import Fault, FaultyStore
from tests.fakes.held import HeldStore


class Scene:
    """A store whose requests are counted, and the directory of its cache."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.memory = MemoryStore(capabilities=tiny_store(**changes))
        self.store = FaultyStore(self.memory)
        self.directory = directory

    def stored(self, key: str) -> bytes:
        return self.memory.bucket.entries[key].data

    def requests(self) -> Counter[str]:
        found = Counter(call for call, _ in self.store.times)
        self.store.times.clear()
        return found

    async def put(self, key: str, data: bytes) -> Object:
        stored = await self.memory.write(key, BytesBody(data))
        return replace(stored, size=len(data))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def pattern(start: int, size: int) -> bytes:
    """Return bytes that depend on their offset alone."""
    return bytes(i * 7 % 255 + 1 for i in range(start, start + size))


def same(metadata: Metadata) -> Metadata:
    return metadata


def plain() -> Metadata:
    return NO_METADATA


def full(_: sqlite3.Connection, turns: "list[_Turn]") -> None:
    """Fail what the journal is to do, as on a disk that is full."""
    for turn in turns:
        turn.error = sqlite3.OperationalError("database or disk is full")


async def write(
    stack: Stack, dirty: DirtyFile, size: int, *, step: int = 20, start: int = 0
) -> None:
    for offset in range(start, start + size, step):
        count = min(step, start + size - offset)
        await stack.writeback.write(
            dirty, offset, pattern(offset, count), metadata=plain
        )


async def commit(
    stack: Stack, dirty: DirtyFile, condition: Condition = None, **options: Metadata
) -> Object:
    return await stack.writeback.commit(
        dirty,
        metadata=options.get("metadata", NO_METADATA),
        inherit=None,
        condition=condition,
    )


async def punched(stack: Stack, dirty: DirtyFile) -> None:
    """Have the store hold the parts so far, and the spool give them up."""
    assert dirty.stream is not None
    await dirty.stream.settle()
    assert await stack.writeback.reclaim(1 << 20)
    assert dirty.stream.punched


async def test_a_small_new_file_is_one_put(scene: Scene) -> None:
    """Create, write and commit are one request; reading it back is none."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        assert dirty.is_changed
        await write(stack, dirty, 25)
        stored = await commit(stack, dirty, ABSENT)
        assert scene.requests() == {"write": 1}

        assert await stack.blocks.read(stored, 0, 100) == pattern(0, 25)
        assert not scene.requests()
        assert scene.stored("a") == pattern(0, 25)
        assert stack.writeback.pending() == ()


async def test_a_large_commit_does_not_wait_for_the_cache(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes get there behind it, and the file can be written again meanwhile."""
    monkeypatch.setattr("mountfs.cache.commits._OFFER_LATER", 100)
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 160)
        stored = await commit(stack, dirty, ABSENT)
        assert not stack.blocks.is_cached(stored, 0, 160)
        assert stack.budget.dirty == 160

        await stack.writeback.write(dirty, 70, b"again", metadata=plain)
        whole = pattern(0, 70) + b"again" + pattern(75, 85)
        assert await stack.writeback.read(dirty, 0, 1000) == whole
        while stack.budget.dirty > 5:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert stack.blocks.is_cached(stored, 0, 160)
        await commit(stack, dirty, stored.version)
        assert scene.stored("a") == whole
        await stack.writeback.discard(dirty)

    assert not list((scene.directory / "state" / "spool").glob("*.spool"))


async def test_an_append_to_a_file_that_is_here_needs_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put together in memory, sent, and known: the next one asks for nothing."""
    scene, size = Scene(tmp_path, multipart=None), 200_000
    base = await scene.put("a", pattern(0, size))
    monkeypatch.setattr(Spool, "_open", None)
    async with open_stack(
        scene.store, scene.directory, put_size_max=1 << 20, block_size=1 << 18
    ) as stack:
        held = HELD.total
        for number in range(3):
            dirty = stack.writeback.begin("a", base)
            await write(stack, dirty, 4, start=size + 4 * number)
            base = await commit(stack, dirty, base.version)
            await stack.writeback.discard(dirty)
            assert scene.stored("a") == pattern(0, size + 4 * (number + 1))

        assert scene.requests() == {"read": 1, "write": 3}
        assert stack.budget.dirty == 0
        assert HELD.total == held


async def test_an_edit_in_memory_has_holes_and_survives_an_error(
    tmp_path: Path,
) -> None:
    """What failed is sent again, whole; zeros lie where nobody wrote."""
    scene = Scene(tmp_path, multipart=None)
    base = await scene.put("a", pattern(0, 30))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.truncate(dirty, 20)
        await stack.writeback.write(dirty, 35, b"tail", metadata=plain)
        await stack.writeback.write(dirty, 5, b"in", metadata=plain)
        scene.store.script.append(Fault("write", ServiceFailed("once")))
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty, base.version)
        stored = await commit(stack, dirty, base.version)

        whole = pattern(0, 5) + b"in" + pattern(7, 13) + bytes(15) + b"tail"
        assert scene.stored("a") == whole
        assert await stack.blocks.read(stored, 0, 100) == whole
        await stack.writeback.discard(dirty)


@pytest.mark.parametrize("is_full", [False, True])
async def test_edits_in_memory_share_its_bound_with_the_spools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    """Many programs may close at once; what has no room is put together on the disk."""
    scene = Scene(tmp_path, multipart=None)
    base = await scene.put("a", pattern(0, 30))
    store = HeldStore(scene.memory)
    async with open_stack(store, scene.directory) as stack:
        before = HELD.total
        monkeypatch.setattr(spool_module, "HELD_MAX", before + (10 if is_full else 40))
        dirty = stack.writeback.begin("a", base)
        await write(stack, dirty, 4, start=2)
        hold = store.hold("write")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, stack, dirty, base.version)
            await hold.reached.wait()
            held, is_on_disk = HELD.total - before, dirty.spool.is_on_disk
            hold.release()

        assert (held, is_on_disk) == ((0, True) if is_full else (34, False))
        assert HELD.total == before
        assert scene.stored("a") == pattern(0, 30)
        await stack.writeback.discard(dirty)


async def test_a_spool_that_cannot_be_removed_costs_its_room_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for that any more: it is told, and the mount goes on."""
    monkeypatch.setattr("mountfs.cache.commits._OFFER_LATER", 100)

    def refuse(self: Spool, fd: int) -> None:
        os.close(fd)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 160)
        await dirty.spool.sync()
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "_remove", refuse)
            await commit(stack, dirty, ABSENT)
            while stack.budget.dirty:
                await trio.testing.wait_all_tasks_blocked(0.001)

        assert scene.stored("a") == pattern(0, 160)
        await stack.writeback.discard(dirty)

    assert "cannot be removed (Read-only file system)" in caplog.text


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_an_upload_that_the_journal_cannot_forget_ends_no_mount(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, is_given_up: bool
) -> None:
    """It is aborted in the background, where an error would reach nobody but the mount;
    its row goes with the next change.
    """

    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 120)
        if is_given_up:  # what a commit has begun, and not what was sent before it
            fault = Fault("complete_multipart", PermissionDenied("no"))
            scene.store.script.append(fault)
            with pytest.raises(PermissionDenied):
                await commit(stack, dirty, ABSENT)
        with monkeypatch.context() as patch:
            patch.setattr("mountfs.cache.journal._transact", full)
            await stack.writeback.discard(dirty)
            await trio.testing.wait_all_tasks_blocked(0.01)

        assert not scene.memory.bucket.uploads("")
        assert await stack.journal.uploads() == ()


async def test_a_file_that_the_store_has_is_stored_though_the_journal_is_full(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of its upload stays for a while, and no later commit meets its own
    object and takes it for another client's.
    """
    base = await scene.put("a", pattern(0, 120))
    complete = scene.memory.complete_multipart

    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.write(dirty, 50, b"first", metadata=plain)
        with monkeypatch.context() as patch:

            async def complete_and_fill(*args: Any, **options: Any) -> Object:
                patch.setattr("mountfs.cache.journal._transact", full)
                return await complete(*args, **options)

            patch.setattr(scene.memory, "complete_multipart", complete_and_fill)
            first = await commit(stack, dirty, base.version)
        await stack.writeback.write(dirty, 50, b"other", metadata=plain)
        await commit(stack, dirty, first.version)
        await stack.writeback.discard(dirty)

        assert scene.stored("a") == pattern(0, 50) + b"other" + pattern(55, 65)
        assert await stack.journal.uploads() == ()


async def test_a_promised_file_that_is_stored_needs_no_upload(scene: Scene) -> None:
    """Its stream was completed, the answer lost, and what was there made the file: the
    next mount finds that, and a row which speaks of an upload that is gone.
    """
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 120)
        await punched(stack, dirty)
        assert dirty.stream is not None
        dirty.is_promised, dirty.commit_id = True, "ours"
        dirty.commit_ids["ours"] = dirty.revision
        dirty.condition = ABSENT
        await scene.memory.abort_multipart(dirty.stream.upload)
        whole = BytesBody(pattern(0, 120))
        await scene.memory.write("a", whole, metadata=Metadata(commit_id="ours"))

        stored = await stack.writeback.promised.store(dirty, NO_METADATA)

        assert (stored.key, stored.size) == ("a", 120)
        await stack.writeback.promised.forget(dirty)


async def test_a_failed_file_that_is_stored_is_ours_though_the_journal_is_full(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row cannot be taken out, so the commit fails; the next one meets the object
    that this one has made, and nobody else's.
    """
    base = await scene.put("a", pattern(0, 20))

    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.write(dirty, 5, b"edit", metadata=plain)
        await stack.writeback.keep_failed(dirty, ServiceFailed("down"), NO_METADATA)
        with monkeypatch.context() as patch:
            patch.setattr("mountfs.cache.journal._transact", full)
            with pytest.raises(JournalError):
                await commit(stack, dirty, base.version)
        await commit(stack, dirty, base.version)

        assert scene.stored("a") == pattern(0, 5) + b"edit" + pattern(9, 11)
        assert await stack.journal.failed() == ()


async def test_a_spool_file_that_a_row_names_stays_until_the_row_is_gone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left to the cache, which removes it."""
    monkeypatch.setattr("mountfs.cache.commits._OFFER_LATER", 100)
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 160)
        error = ServiceFailed("down")
        await stack.writeback.keep_failed(dirty, error, NO_METADATA)
        spool = dirty.spool
        stored = await commit(stack, dirty, ABSENT)

        assert dirty.spool is spool
        assert stack.blocks.is_cached(stored, 0, 160)


async def test_what_lies_around_an_edit_is_one_request(scene: Scene) -> None:
    """It is asked for before the upload is opened, which takes as long."""
    base = await scene.put("a", pattern(0, 600))
    asked: list[str] = []

    async with open_stack(scene.store, scene.directory, block_size=8) as stack:
        dirty = stack.writeback.begin("a", base)
        for offset in (4, 304):
            await stack.writeback.write(dirty, offset, b"edit", metadata=plain)
        await commit(stack, dirty, base.version)
        asked.extend(call for call, _ in scene.store.times)

    assert asked.count("read") == asked.count("write_part") == 2
    assert asked.index("complete_multipart") == len(asked) - 1
    whole = bytearray(pattern(0, 600))
    whole[4:8] = whole[304:308] = b"edit"
    assert scene.stored("a") == bytes(whole)


async def test_an_empty_file_is_a_change(scene: Scene) -> None:
    """A new file without bytes is stored by its commit."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await commit(stack, dirty, ABSENT)

        assert scene.stored("a") == b""
        assert not dirty.is_changed


async def test_a_small_edit_of_a_large_object_copies_the_rest(scene: Scene) -> None:
    """Only the part around the edit is sent; the store copies what lies beside it."""
    base = await scene.put("a", pattern(0, 600))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        assert not dirty.is_changed
        await stack.writeback.write(dirty, 300, b"edit", metadata=plain)
        await commit(stack, dirty, base.version)

    found = scene.requests()
    assert found["write_part"] == 1
    assert found["copy_part"] <= 4
    assert found["complete_multipart"] == 1
    assert scene.stored("a") == pattern(0, 300) + b"edit" + pattern(304, 296)


async def test_a_size_that_the_disk_has_no_file_of_is_refused(scene: Scene) -> None:
    """When it is asked for: later the file could be neither stored nor kept."""
    base = await scene.put("a", pattern(0, 200))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.write(dirty, 50, b"edit", metadata=plain)
        with pytest.raises(ObjectTooLarge):
            await stack.writeback.truncate(dirty, 1 << 62)

        await commit(stack, dirty, base.version)
        assert scene.stored("a") == pattern(0, 50) + b"edit" + pattern(54, 146)


async def test_nothing_of_the_base_is_fetched_before_it_is_read(scene: Scene) -> None:
    """Begin, write and truncate ask the store for nothing."""
    base = await scene.put("a", pattern(0, 200))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.write(dirty, 50, b"edit", metadata=plain)
        await stack.writeback.truncate(dirty, 100)
        assert not scene.requests()

        whole = pattern(0, 50) + b"edit" + pattern(54, 46)
        assert await stack.writeback.read(dirty, 0, 1000) == whole


async def test_bytes_that_were_cut_off_do_not_come_back(scene: Scene) -> None:
    """Shrinking and extending a file gives zeros, in reads and in the store."""
    base = await scene.put("a", pattern(0, 100))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.write(dirty, 60, b"x" * 20, metadata=plain)
        await stack.writeback.truncate(dirty, 40)
        await stack.writeback.truncate(dirty, 90)
        expected = pattern(0, 40) + bytes(50)
        assert await stack.writeback.read(dirty, 0, 100) == expected

        await commit(stack, dirty, base.version)
        assert scene.stored("a") == expected


async def test_a_large_file_streams_through_a_small_budget(scene: Scene) -> None:
    """A file many times the budget is stored, and the budget never passed."""
    size_max = 200
    async with open_stack(scene.store, scene.directory, size_max=size_max) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        for offset in range(0, 2000, 20):
            await write(stack, dirty, 20, start=offset)
            assert stack.budget.clean + stack.budget.dirty <= size_max
        await commit(stack, dirty, ABSENT)
        assert scene.stored("a") == pattern(0, 2000)

        assert scene.requests()["complete_multipart"] == 1
        await stack.writeback.discard(dirty)
        assert stack.budget.dirty == 0


@pytest.mark.parametrize("offset", [0, 30, 70])
async def test_a_write_into_what_was_punched_folds_the_stream(
    scene: Scene, offset: int
) -> None:
    """The upload is completed and the file goes on as an edit of its object."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 100)
        await punched(stack, dirty)
        await stack.writeback.write(dirty, offset, b"again", metadata=plain)
        await write(stack, dirty, 50, start=100)
        await commit(stack, dirty, ABSENT)

    expected = bytearray(pattern(0, 150))
    expected[offset : offset + 5] = b"again"
    assert scene.stored("a") == bytes(expected)


async def test_a_read_of_what_was_punched_folds_the_stream(scene: Scene) -> None:
    """What lies only in the upload can be read, before the file is closed."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 100)
        await punched(stack, dirty)

        assert await stack.writeback.read(dirty, 0, 200) == pattern(0, 100)
        assert dirty.base is not None
        assert dirty.is_changed
        await commit(stack, dirty, ABSENT)
        assert scene.stored("a") == pattern(0, 100)


async def test_a_cut_through_what_was_punched_keeps_the_bytes(scene: Scene) -> None:
    """Truncating in the midst of a punched part folds first."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 100)
        await punched(stack, dirty)
        await stack.writeback.truncate(dirty, 40)
        await stack.writeback.truncate(dirty, 60)
        await commit(stack, dirty, ABSENT)

    assert scene.stored("a") == pattern(0, 40) + bytes(20)


async def test_a_part_that_was_overwritten_is_sent_again(scene: Scene) -> None:
    """A finished part whose bytes change while they are here replaces the old one."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 100)
        assert dirty.stream is not None
        await dirty.stream.settle()
        await stack.writeback.write(dirty, 3, b"again", metadata=plain)
        await commit(stack, dirty, ABSENT)

    assert scene.stored("a") == pattern(0, 3) + b"again" + pattern(8, 92)
    assert scene.requests()["complete_multipart"] == 1


async def test_a_part_that_fails_for_good_is_told_to_the_next_write(
    scene: Scene,
) -> None:
    """An error that no repetition mends is raised once; the commit tries again."""
    scene.store.script.append(Fault("write_part", PermissionDenied("no")))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 40)
        assert dirty.stream is not None
        await dirty.stream.settle()
        with pytest.raises(PermissionDenied):
            await write(stack, dirty, 40, start=40)

        await write(stack, dirty, 40, start=40)
        await commit(stack, dirty, ABSENT)
        assert scene.stored("a") == pattern(0, 80)


async def test_a_commit_with_a_missing_part_fails_and_completes_nothing(
    scene: Scene,
) -> None:
    """The error is the commit's; the next one sends what is missing."""
    scene.store.script.extend(
        Fault("write_part", ServiceFailed("no")) for _ in range(20)
    )
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 100)
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty, ABSENT)
        assert "complete_multipart" not in scene.requests()
        assert dirty.is_changed

        scene.store.script.clear()
        await commit(stack, dirty, ABSENT)
        assert scene.stored("a") == pattern(0, 100)


async def test_an_edit_whose_part_fails_is_gone_on_with(scene: Scene) -> None:
    """The next commit sends what is missing, in the same upload."""
    base = await scene.put("a", pattern(0, 600))
    scene.store.script.append(Fault("copy_part", ServiceFailed("no"), nth=4))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.write(dirty, 300, b"edit", metadata=plain)
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty, base.version)
        assert len(await stack.journal.uploads()) == 1

        await commit(stack, dirty, base.version)
        assert scene.stored("a")[300:304] == b"edit"
        assert scene.requests()["create_multipart"] == 1
        assert await stack.journal.uploads() == ()
        assert await scene.memory.list_uploads() == ()


async def test_metadata_known_only_at_the_end_are_set_after_a_stream(
    scene: Scene,
) -> None:
    """A mode changed while it streamed, or an explicit time, costs one request more."""
    begun = Metadata(attributes=Attributes(mode=0o600, mtime_ns=5))
    ended = Metadata(attributes=Attributes(mode=0o644, mtime_ns=7))
    async with open_stack(scene.store, scene.directory) as stack:
        for final, expected in ((begun, 1), (ended, 1), (Metadata(), 0)):
            dirty = stack.writeback.begin("a", None)
            first = Metadata() if final == Metadata() else begun
            for offset in range(0, 100, 20):
                await stack.writeback.write(
                    dirty, offset, pattern(offset, 20), metadata=partial(same, first)
                )
            stored = await commit(stack, dirty, metadata=final)
            assert scene.requests()["set_metadata"] == expected
            assert stored.size == 100
            if expected:
                found = await scene.memory.stat("a")
                assert found.attributes == final.attributes


async def test_a_lost_race_keeps_the_bytes(scene: Scene) -> None:
    """A commit that finds somebody else's object fails, and can be stored elsewhere."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 25)
        await scene.put("a", b"theirs")
        with pytest.raises(AlreadyExists):
            await commit(stack, dirty, ABSENT)
        assert [file.key for file in stack.writeback.pending()] == ["a"]

        await stack.writeback.retarget(dirty, "b")
        await commit(stack, dirty, ABSENT)
        assert scene.stored("a") == b"theirs"
        assert scene.stored("b") == pattern(0, 25)


async def test_a_store_without_conditions_is_looked_at_first(tmp_path: Path) -> None:
    """Where no request can be conditional, a look comes before it."""
    scene = Scene(tmp_path, conditions=frozenset())
    base = await scene.put("a", b"first")
    async with open_stack(scene.store, tmp_path) as stack:
        for key, start, condition, error in (
            ("new", None, ABSENT, None),
            ("a", None, ABSENT, AlreadyExists),
            ("a", base, base.version, None),
            ("a", base, base.version, VersionChanged),
            ("gone", base, base.version, VersionChanged),
        ):
            dirty = stack.writeback.begin(key, start)
            await write(stack, dirty, 10)
            if error is None:
                await commit(stack, dirty, condition)
                assert scene.stored(key) == pattern(0, 10)
            else:
                with pytest.raises(error):
                    await commit(stack, dirty, condition)


async def test_a_lost_reply_is_no_conflict_with_oneself(scene: Scene) -> None:
    """The next commit knows the object of the one whose reply was lost."""
    lost = ServiceFailed("no reply", is_ambiguous=True)
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 25)
        scene.store.script.append(Fault("write", lost, is_after=True))
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty, ABSENT)
        scene.requests()

        await commit(stack, dirty, ABSENT)
        assert scene.requests() == {"write": 1, "stat": 1}

        await stack.writeback.write(dirty, 2, b"x", metadata=plain)
        scene.store.script.append(Fault("write", lost, is_after=True))
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty, dirty.condition)
        await stack.writeback.write(dirty, 4, b"y", metadata=plain)
        await commit(stack, dirty, dirty.condition)
        assert scene.stored("a") == pattern(0, 2) + b"x" + pattern(3, 1) + b"y" + (
            pattern(5, 20)
        )


async def test_a_rename_of_a_stream_restarts_it_while_its_bytes_are_here(
    scene: Scene,
) -> None:
    """Nothing appears under the old name."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 100)
        await stack.writeback.retarget(dirty, "b")
        await commit(stack, dirty, ABSENT)

    assert set(scene.memory.bucket.entries) == {"b"}
    assert scene.stored("b") == pattern(0, 100)
    assert await scene.memory.list_uploads() == ()


async def test_a_rename_of_a_punched_stream_moves_what_was_sent(scene: Scene) -> None:
    """What lies only in the upload becomes an object and is moved by the store."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 100)
        await punched(stack, dirty)
        await stack.writeback.retarget(dirty, "b")
        await write(stack, dirty, 30, start=100)
        await commit(stack, dirty, ABSENT)

    assert set(scene.memory.bucket.entries) == {"b"}
    assert scene.stored("b") == pattern(0, 130)


async def test_a_file_is_spilled_before_writes_fail_for_want_of_room(
    scene: Scene,
) -> None:
    """Edits of more bytes than fit are stored in between; the file is right."""
    base = await scene.put("a", bytes(1000))
    async with open_stack(scene.store, scene.directory, size_max=150) as stack:
        dirty = stack.writeback.begin("a", base, condition=base.version)
        for offset in range(980, -1, -20):
            await write(stack, dirty, 20, start=offset)
        await commit(stack, dirty, base.version)

    assert scene.stored("a") == pattern(0, 1000)


async def test_files_are_sent_sooner_when_room_is_short(scene: Scene) -> None:
    """Else others, each too small to be sent, leave no room for one that begins."""
    part = 40
    async with open_stack(
        scene.store, scene.directory, size_max=4 * part, part_size=part
    ) as stack:
        files = [stack.writeback.begin(name, None) for name in "abcd"]
        for dirty in files[:3]:
            await write(stack, dirty, part + 10)
        await write(stack, files[3], part // 2)
        for dirty in files:
            await commit(stack, dirty, ABSENT)

    assert [scene.stored(name) for name in "abc"] == 3 * [pattern(0, part + 10)]
    assert scene.stored("d") == pattern(0, part // 2)


async def test_who_finds_no_room_waits_for_an_upload_that_is_being_begun(
    scene: Scene,
) -> None:
    """Its parts will make some; nothing of it is on the wire yet."""
    part = 40
    store = HeldStore(scene.memory)
    async with open_stack(
        store, scene.directory, size_max=2 * part, part_size=part
    ) as stack:
        large, small, nameless = (
            stack.writeback.begin(name, None) for name in ("a", "b", "")
        )
        await write(stack, nameless, 20)
        await write(stack, small, 10)
        hold = store.hold("create_multipart")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, stack, large, part)
            await hold.reached.wait()  # there is room for 10 bytes
            nursery.start_soon(partial(write, stack, small, 20, start=10))
            await trio.testing.wait_all_tasks_blocked()
            hold.release()
        await commit(stack, large, ABSENT)
        await commit(stack, small, ABSENT)
        await stack.writeback.discard(nameless)

    assert scene.stored("a") == pattern(0, part)
    assert scene.stored("b") == pattern(0, 30)


async def test_no_room_is_an_error_when_nothing_can_make_any(scene: Scene) -> None:
    """Dirty bytes of files that cannot be stored yet fill the cache: no space."""
    async with open_stack(scene.store, scene.directory, size_max=60) as stack:
        first = stack.writeback.begin("", None)
        second = stack.writeback.begin("", None)
        await write(stack, first, 50)
        with pytest.raises(QuotaExceeded):
            await write(stack, second, 20)

        await stack.writeback.discard(first)
        await write(stack, second, 20)
        assert await stack.writeback.read(second, 0, 20) == pattern(0, 20)


async def test_a_failed_file_is_stored_by_the_next_mount(scene: Scene) -> None:
    """After a failed last close the bytes wait in the state directory."""
    name = "wörd\udcff"
    metadata = Metadata(
        user={"color": "blue"}, attributes=Attributes(mode=0o640, mtime_ns=5)
    )
    base = await scene.put("old", pattern(0, 100))
    async with open_stack(scene.store, scene.directory) as stack:
        new = stack.writeback.begin(name, None)
        await write(stack, new, 25)
        edit = stack.writeback.begin("old", base)
        await stack.writeback.write(edit, 50, b"edit", metadata=plain)
        for dirty in (new, edit):
            await stack.writeback.keep_failed(dirty, ServiceFailed("down"), metadata)
        kept = stack.writeback.pending()
        assert {(file.key, file.error) for file in kept} == {
            (name, "down"),
            ("old", "down"),
        }

    async with open_stack(scene.store, scene.directory) as stack:
        recovered = await stack.writeback.recover()

        assert {(item.key, item.error) for item in recovered} == {
            (name, None),
            ("old", None),
        }
        assert scene.stored(name) == pattern(0, 25)
        assert scene.stored("old") == pattern(0, 50) + b"edit" + pattern(54, 46)
        found = await scene.memory.stat(name)
        assert found.metadata is not None
        assert found.metadata.user == {"color": "blue"}
        assert found.attributes == metadata.attributes
        assert stack.writeback.pending() == ()
        assert stack.budget.dirty == 0
        assert await stack.journal.failed() == ()
        assert await stack.writeback.recover() == ()


async def test_a_failed_file_that_somebody_overtook_stays(scene: Scene) -> None:
    """Recovery overwrites nobody; a newer write of ours supersedes what failed."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 25)
        await stack.writeback.keep_failed(dirty, ServiceFailed("down"), NO_METADATA)
    await scene.put("a", b"theirs")

    async with open_stack(scene.store, scene.directory) as stack:
        (recovered,) = await stack.writeback.recover()
        assert recovered.error is not None
        assert scene.stored("a") == b"theirs"
        assert len(stack.writeback.pending()) == 1

        newer = stack.writeback.begin("a", None)
        await write(stack, newer, 10)
        await commit(stack, newer)
        assert stack.writeback.pending() == ()
        assert stack.budget.dirty == 0


async def test_a_failed_file_can_be_used_and_stored(scene: Scene) -> None:
    """Its file may be opened again, read, cut, written and committed."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 25)
        await stack.writeback.keep_failed(dirty, ServiceFailed("down"), NO_METADATA)
        await stack.writeback.truncate(dirty, 10)
        assert await stack.writeback.read(dirty, 0, 50) == pattern(0, 10)
        assert len(stack.writeback.pending()) == 1
        await commit(stack, dirty, ABSENT)

        assert scene.stored("a") == pattern(0, 10)
        assert stack.writeback.pending() == ()
        assert await stack.journal.failed() == ()


async def test_no_rename_names_a_spool_that_changes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write of another descriptor is under way, and has put by what failed."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 25)
        await stack.writeback.keep_failed(dirty, ServiceFailed("down"), NO_METADATA)
        add_failed = stack.journal.add_failed

        async def and_rename(row: FailedFile, instead_of: str | None = None) -> None:
            monkeypatch.undo()
            await add_failed(row, instead_of)
            nursery.start_soon(stack.writeback.follow, dirty, "a")
            await trio.testing.wait_all_tasks_blocked(0.01)

        monkeypatch.setattr(stack.journal, "add_failed", and_rename)
        async with trio.open_nursery() as nursery:
            await stack.writeback.write(dirty, 0, b"later", metadata=plain)

        (row,) = await stack.journal.failed()
        assert row.spool != dirty.spool.name
        await commit(stack, dirty, ABSENT)


async def test_what_failed_lies_on_its_base_whatever_is_renamed(scene: Scene) -> None:
    """A file that was begun anew under the name has no base to lend."""
    base = await scene.put("a", pattern(0, 100))
    async with open_stack(scene.store, scene.directory) as stack:
        edit = stack.writeback.begin("a", base)
        await stack.writeback.write(edit, 50, b"edit", metadata=plain)
        await stack.writeback.keep_failed(edit, ServiceFailed("down"), NO_METADATA)
        anew = stack.writeback.begin("a", None)
        await scene.store.move("a", "b")
        await stack.writeback.retarget(anew, "b")
        await stack.writeback.follow(anew, "a")
        await stack.writeback.discard(anew)

    async with open_stack(scene.store, scene.directory) as stack:
        (recovered,) = await stack.writeback.recover()
        assert (recovered.key, recovered.error) == ("b", None)
        assert scene.stored("b") == pattern(0, 50) + b"edit" + pattern(54, 46)


@pytest.mark.parametrize("is_completed", [False, True])
async def test_a_failed_punched_stream_keeps_every_byte(
    scene: Scene, is_completed: bool
) -> None:
    """What lies only in the upload stays there, and the next mount completes it.

    Also if the upload was completed and nobody was told.
    """
    scene.store.script.append(
        Fault(
            "complete_multipart",
            ServiceFailed("down", is_ambiguous=True),
            is_after=is_completed,
        )
    )
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None, condition=ABSENT)
        await write(stack, dirty, 110)
        await punched(stack, dirty)
        with pytest.raises(ServiceFailed):
            await commit(stack, dirty, ABSENT)
        await stack.writeback.keep_failed(dirty, ServiceFailed("down"), NO_METADATA)
        assert await stack.journal.uploads()

    async with open_stack(scene.store, scene.directory) as stack:
        (recovered,) = await stack.writeback.recover()
        assert recovered.error is None
        assert scene.stored("a") == pattern(0, 110)
        assert stack.budget.dirty == 0
        assert await stack.journal.uploads() == ()
    assert await scene.memory.list_uploads() == ()


async def test_recovery_says_what_is_lost(scene: Scene) -> None:
    """A spool file that is gone is reported, never stored as zeros."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 25)
        await stack.writeback.keep_failed(dirty, ServiceFailed("down"), NO_METADATA)
        dirty.spool.path.unlink()

    async with open_stack(scene.store, scene.directory) as stack:
        (recovered,) = await stack.writeback.recover()
        assert recovered.error is not None
        assert "missing" in recovered.error
        with pytest.raises(NotFound):
            await scene.memory.stat("a")


async def test_a_crash_leaves_no_upload_and_no_unknown_spool(scene: Scene) -> None:
    """Uploads of ours that were journaled are aborted; unknown spools are removed."""
    upload = await scene.memory.create_multipart("a")
    foreign = await scene.memory.create_multipart("a")
    async with open_stack(scene.store, scene.directory) as stack:
        await stack.journal.add_upload(JournaledUpload("a", upload.id))
        stray = scene.directory / "state" / "spool" / "stray.spool"
        stray.write_bytes(b"x")
        await stack.writeback.recover()

        assert [u.id for u in await scene.memory.list_uploads()] == [foreign.id]
        assert await stack.journal.uploads() == ()
        assert not stray.exists()


async def test_two_daemons_do_not_share_a_directory(scene: Scene) -> None:
    """The second is refused, and told who is first."""
    async with open_stack(scene.store, scene.directory):
        with pytest.RaisesGroup(
            DirectoryInUse, allow_unwrapped=True, flatten_subgroups=True
        ):
            async with open_stack(scene.store, scene.directory):
                pass


async def test_reads_are_right_while_everything_else_goes_on(tmp_path: Path) -> None:
    """Readers beside writes, punches, folds, commits and discards see right bytes."""
    scene = Scene(tmp_path)
    size = 400
    async with open_stack(scene.store, tmp_path, size_max=300) as stack:
        dirty = stack.writeback.begin("a", None)
        reads = 0

        async def keep_reading() -> None:
            nonlocal reads
            for turn in range(10_000):
                offset = turn * 37 % size
                found = await stack.writeback.read(dirty, offset, 50)
                assert found == pattern(offset, len(found))
                reads += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_reading)
            nursery.start_soon(keep_reading)
            for _ in range(3):
                await write(stack, dirty, size, step=13)
                await commit(stack, dirty)
            await stack.writeback.discard(dirty)
            nursery.cancel_scope.cancel()
        assert reads > 10


async def test_a_discard_waits_for_nobody_but_readers(scene: Scene) -> None:
    """A file that streams is forgotten at once; its upload is aborted behind it."""
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 100)
        await stack.writeback.discard(dirty)
        await stack.writeback.discard(dirty)
        assert stack.budget.dirty == 0

    assert await scene.memory.list_uploads() == ()
    assert not scene.memory.bucket.entries


async def test_a_read_of_a_base_that_is_gone_fails(scene: Scene) -> None:
    """Bytes of another version are never given for those of the base."""
    base = await scene.put("a", pattern(0, 100))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", base)
        await stack.writeback.write(dirty, 0, b"x", metadata=plain)
        await scene.put("a", b"theirs")
        with pytest.raises(VersionChanged):
            await stack.writeback.read(dirty, 0, 100)


async def test_a_stream_that_cannot_begin_does_not_stop_the_writer(
    scene: Scene,
) -> None:
    """The commit stores the file by itself."""
    scene.store.script.append(Fault("create_multipart", ServiceFailed("no")))
    async with open_stack(scene.store, scene.directory) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 100)
        assert dirty.stream is None
        await commit(stack, dirty)

    assert scene.stored("a") == pattern(0, 100)


async def test_a_true_append_sends_the_tail(tmp_path: Path) -> None:
    """A store that appends is given what is new, and refuses a base that changed."""
    scene = Scene(tmp_path, append=True, multipart=None, multipart_copy=False)
    base = await scene.put("a", pattern(0, 100))
    async with open_stack(scene.store, tmp_path) as stack:
        late = stack.writeback.begin("a", base)
        await write(stack, late, 20, start=100)
        with pytest.raises(AlreadyExists):
            await commit(stack, late, ABSENT)
        scene.requests()
        dirty = stack.writeback.begin("a", base)
        await write(stack, dirty, 20, start=100)
        await commit(stack, dirty, base.version)

    assert scene.stored("a") == pattern(0, 120)
    assert scene.requests()["write"] == 0


async def test_equal_parts_are_honoured(tmp_path: Path) -> None:
    """Where the store demands parts of one size, streams and edits send such."""
    limits = replace(tiny_store().multipart or pytest.fail("none"), equal_parts=True)
    scene = Scene(tmp_path, multipart=limits)
    async with open_stack(scene.store, tmp_path) as stack:
        dirty = stack.writeback.begin("a", None)
        await write(stack, dirty, 900)
        await commit(stack, dirty)
        assert scene.stored("a") == pattern(0, 900)
        await stack.writeback.write(dirty, 500, b"edit", metadata=plain)
        await commit(stack, dirty)
        assert scene.stored("a")[498:506] == (
            pattern(498, 2) + b"edit" + pattern(504, 2)
        )


async def test_an_upload_that_the_store_dropped_starts_again(scene: Scene) -> None:
    """An upload that is gone is sent anew while all bytes are here, else an error."""
    async with open_stack(scene.store, scene.directory) as stack:
        for is_punched in (False, True):
            dirty = stack.writeback.begin("a", None)
            await write(stack, dirty, 100)
            if is_punched:
                await punched(stack, dirty)
            for upload in await scene.memory.list_uploads():
                await scene.memory.abort_multipart(upload)
            if is_punched:
                with pytest.raises(StoreError):
                    await commit(stack, dirty)
                await stack.writeback.discard(dirty)
            else:
                await commit(stack, dirty)
                assert scene.stored("a") == pattern(0, 100)
