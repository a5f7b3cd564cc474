"""The attribute index over a store: many writers, failures, growth, bounds."""

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.cache import attribute_index, index_shards
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.index_format import (
    Change,
    Drop,
    Learnt,
    Set,
    decode,
    directory_prefix,
    shard_key,
)
from mountfs.cache.records import Record
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    BucketNotFound,
    NotFound,
    PermissionDenied,
    ServiceFailed,
    StoreError,
    Unreachable,
    VersionChanged,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, current_reason
from mountfs.storage.types import Attributes, ObjectKind
from tests.fakes.faulty import Fault, FaultyStore, hang
from tests.fakes.held import HeldStore

DIRECTORY = ObjectKind.DIRECTORY
LOGGERS = (attribute_index.__name__, index_shards.__name__)


def kept(mode: int = 0o700, **more: Any) -> Record:
    """Return the entry of a directory whose attributes are kept nowhere else."""
    return Record(kind=DIRECTORY, attributes=Attributes(mode=mode, **more))


def learnt(at: int = 1, content: str = "etag") -> Record:
    return Record(size=1, time_ns=at * 10**9, content=content, state=str(at))


@pytest.fixture
def there() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def faulty(there: MemoryStore) -> FaultyStore:
    return FaultyStore(there)


@asynccontextmanager
async def opened(store: Storager, **options: Any) -> AsyncIterator[AttributeIndex]:
    options = {"ttl_s": 1.0, "clock": trio.current_time, **options}
    kinds = frozenset({DIRECTORY})
    async with AttributeIndex(store, "al", kinds, **options) as index:
        yield index


async def seen(store: Storager, directory: str = "d/") -> Mapping[str, Record]:
    """Return what a mount that knows nothing finds."""
    async with opened(store) as index:
        return await index.records(directory)


async def put_raw(there: MemoryStore, told: object, number: int = 0) -> bytes:
    data = gzip.compress(json.dumps(told).encode())
    await there.write(shard_key("d/", number), BytesBody(data))
    return data


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of the index, which are announced hereby."""
    found = [each.getMessage() for each in caplog.records if each.name in LOGGERS]
    caplog.clear()
    return found


# --- changes ------------------------------------------------------------------------


async def test_change_is_stored_when_it_returns(there: MemoryStore) -> None:
    """Whoever waits for a change has it in the store, under the key of the page."""
    async with opened(there) as index:
        await index.change("d/", {"sub/": Set(kept())})

        data = (await there.read(shard_key("d/", 0))).data
        assert decode("d/", 0, data).entries == {"sub/": kept()}
        assert await seen(there) == {"sub/": kept()}


async def test_change_costs_one_write(faulty: FaultyStore) -> None:
    """An index that is known is replaced without being read again."""
    async with opened(faulty) as index:
        await index.change("d/", {"one/": Set(kept())})
        faulty.times.clear()
        await index.change("d/", {"two/": Set(kept())})

    assert faulty.calls == ["write"]


async def test_index_that_is_known_for_long_is_replaced_unread(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """A condition tells if it is another by now; only then it is read."""
    async with opened(faulty) as index:
        await index.change("d/", {"one/": Set(kept())})
        await trio.sleep(60)
        faulty.times.clear()
        await index.change("d/", {"two/": Set(kept())})
        assert faulty.calls == ["write"]
        async with opened(faulty) as other:
            await other.change("d/", {"one/": Set(kept(0o711))})
        await trio.sleep(60)
        await index.change("d/", {"three/": Set(kept())})

    assert await seen(faulty) == {
        "one/": kept(0o711),
        "two/": kept(),
        "three/": kept(),
    }


async def test_change_back_is_written_over_what_others_wrote(
    there: MemoryStore, autojump_clock: MockClock
) -> None:
    """That it changes nothing is believed only of an index that was just read."""
    async with opened(there) as index:
        await index.change("d/", {"sub/": Set(kept(0o700))})
        async with opened(there) as other:
            await other.change("d/", {"sub/": Set(kept(0o755))})
        await trio.sleep(60)
        await index.change("d/", {"sub/": Set(kept(0o700))})

    assert await seen(there) == {"sub/": kept(0o700)}


async def test_index_of_a_new_directory_is_written_unread(
    faulty: FaultyStore,
) -> None:
    """And what is there all the same, from an earlier directory, is not lost."""
    async with opened(faulty) as other:
        await other.change("old/", {"sub/": Set(kept())})
    async with opened(faulty) as index:
        faulty.times.clear()
        index.made("d/")
        await index.change("d/", {"sub/": Set(kept())})
        assert faulty.calls == ["write"]
        index.made("old/")
        assert (await index.records("old/")).keys() == {"sub/"}
        index.made("old/")
        await index.change("old/", {"more/": Set(kept())})

    assert (await seen(faulty, "old/")).keys() == {"sub/", "more/"}


async def test_change_that_changes_nothing_costs_nothing(faulty: FaultyStore) -> None:
    """What the index says already is not written again."""
    async with opened(faulty) as index:
        await index.change("d/", {"one/": Set(kept())})
        faulty.times.clear()
        await index.change("d/", {"one/": Set(kept())})
        await index.change("d/", {"two/": Drop()})

    assert faulty.calls == []


async def test_changes_at_the_same_time_share_a_write(faulty: FaultyStore) -> None:
    """While a write is under way the next ones gather."""
    async with opened(faulty) as index, trio.open_nursery() as nursery:
        for number in range(50):
            change: dict[str, Change] = {f"{number}/": Set(kept(number))}
            nursery.start_soon(index.change, "d/", change)

    assert faulty.calls.count("write") <= 2
    assert len(await seen(faulty)) == 50


async def test_notes_are_written_after_a_while(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Many notes of one directory are one write, which says that nobody waits."""
    reasons: list[Reason] = []

    class Telling(FaultyStore):
        async def _pass(self, call: str, request: Any) -> Any:
            reasons.append(current_reason())
            return await super()._pass(call, request)

    store = Telling(faulty)
    async with opened(store) as index:
        for number in range(100):
            index.note("d/", {str(number): Learnt(learnt(number))})
        assert store.calls == []
        await trio.sleep(2.5)
        assert store.calls == ["read", "write"]
        assert len(await index.records("d/")) == 100
    assert set(reasons) == {Reason.INDEX}


async def test_notes_are_known_here_before_they_are_written(
    there: MemoryStore,
) -> None:
    """One's own changes are seen at once, alone and among all."""
    async with opened(there) as index:
        await index.change("d/", {"a": Set(learnt(1)), "b": Set(learnt(1))})
        index.note("d/", {"a": Learnt(learnt(5)), "b": Drop(), "c": Learnt(learnt(1))})

        assert await index.record("d/", "a") == learnt(5)
        assert await index.record("d/", "b") is None
        assert await index.records("d/") == {"a": learnt(5), "c": learnt(1)}
        assert await index.record("d/", "other") is None


async def test_notes_are_written_at_the_end(there: MemoryStore) -> None:
    """Unmounting writes what waits."""
    async with opened(there) as index:
        index.note("d/", {"a": Learnt(learnt())})

    assert await seen(there) == {"a": learnt()}


async def test_note_does_not_undo_a_change_that_somebody_waits_for(
    there: MemoryStore,
) -> None:
    """Only that the object is gone is newer than what was set."""
    store = HeldStore(there)
    hold = store.hold("write")
    async with opened(store) as index, trio.open_nursery() as nursery:
        nursery.start_soon(index.change, "d/", {"first/": Set(kept())})
        await hold.reached.wait()
        sets: dict[str, Change] = {name: Set(kept()) for name in ("a/", "b/", "c/")}
        nursery.start_soon(index.change, "d/", sets)
        await wait_all_tasks_blocked()
        index.note("d/", {"a/": Learnt(learnt()), "b/": Drop(over=kept())})
        index.note("d/", {"c/": Drop()})
        hold.release()

    assert (await seen(there)).keys() == {"first/", "a/", "b/"}
    assert (await seen(there))["a/"] == kept()


async def test_many_writes_in_a_row_take_a_tenth_of_the_time(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """The longer a write takes, the longer is the pause before the next."""
    faulty.script = [Fault("write", delay_s=1.0) for _ in range(99)]
    async with opened(faulty) as index:
        for number in range(600):
            index.note("d/", {str(number % 50): Learnt(learnt(number))})
            await trio.sleep(0.1)
        writes = faulty.calls.count("write")

    assert 4 <= writes <= 8


# --- several writers ----------------------------------------------------------------


async def test_two_mounts_keep_each_others_changes(there: MemoryStore) -> None:
    """Who was overtaken merges, whether somebody waits or not."""
    async with opened(there) as one, opened(there) as other:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                for index, name in ((one, "one"), (other, "other")):
                    change: dict[str, Change] = {f"{name}{number}/": Set(kept())}
                    nursery.start_soon(index.change, "d/", change)
        one.note("d/", {"a": Learnt(learnt())})
        other.note("d/", {"b": Learnt(learnt())})

    found = await seen(there)
    assert len(found) == 42
    assert {"a", "b"} < found.keys()


async def test_latest_change_of_a_directory_wins(there: MemoryStore) -> None:
    """Two mounts that change the attributes of one directory: the last one counts."""
    async with opened(there) as one, opened(there) as other:
        await one.change("d/", {"sub/": Set(kept(0o700))})
        await other.change("d/", {"sub/": Set(kept(0o755))})
        await one.change("d/", {"sub/": Set(kept(0o711))})

    assert await seen(there) == {"sub/": kept(0o711)}


async def test_writer_that_always_loses_says_so(
    there: MemoryStore, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who waits gets an error in the end, and nothing of it stays behind."""
    lost = [Fault("write", VersionChanged()) for _ in range(attribute_index.TRIES_MAX)]
    store = FaultyStore(there, *lost)
    async with opened(store) as index:
        with pytest.raises(VersionChanged):
            await index.change("d/", {"sub/": Set(kept())})
        await index.change("d/", {"other/": Set(kept())})

    assert await seen(there) == {"other/": kept()}
    assert len(warnings_in(caplog)) == 1


async def test_store_without_conditions_is_read_just_before(
    there: MemoryStore,
) -> None:
    """Where nothing guards a write, at least what is there is merged."""
    bare = MemoryStore(
        there.bucket, capabilities=replace(MEMORY_CAPABILITIES, conditions=frozenset())
    )
    async with opened(bare) as one, opened(bare) as other:
        await one.change("d/", {"one/": Set(kept())})
        await other.change("d/", {"other/": Set(kept())})
        await one.change("d/", {"more/": Set(kept())})

    assert (await seen(there)).keys() == {"one/", "other/", "more/"}


# --- failures -----------------------------------------------------------------------


async def test_failed_change_is_told_and_not_tried_again(
    there: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The program knows, so nothing may happen behind its back later."""
    store = FaultyStore(there, Fault("write", ServiceFailed("no")))
    async with opened(store) as index:
        with pytest.raises(ServiceFailed):
            await index.change("d/", {"sub/": Set(kept())})

    assert await seen(there) == {}
    assert len(warnings_in(caplog)) == 1


async def test_lost_reply_leaves_an_index_that_is_right(
    there: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """After an error nobody knows what the store has, so it is read anew."""
    store = FaultyStore(there, Fault("write", Unreachable("cut"), is_after=True))
    async with opened(store) as index:
        with pytest.raises(Unreachable):
            await index.change("d/", {"one/": Set(kept())})
        await index.change("d/", {"two/": Set(kept())})

    assert (await seen(there)).keys() == {"one/", "two/"}
    assert len(warnings_in(caplog)) == 1


async def test_notes_that_cannot_be_written_are_kept_and_tried_again(
    there: MemoryStore, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that is away for a while costs one warning."""
    store = FaultyStore(there, *[Fault("write", Unreachable("away"))] * 5)
    async with opened(store) as index:
        index.note("d/", {"a": Learnt(learnt())})
        await trio.sleep(3)
        index.note("d/", {"b": Learnt(learnt())})
        assert (await index.records("d/")).keys() == {"a", "b"}
        await trio.sleep(120)
        assert (await seen(there)).keys() == {"a", "b"}

    assert len(warnings_in(caplog)) == 1


async def test_waiting_notes_outlive_a_failed_change(
    there: MemoryStore, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody was told about is still to be written."""
    store = FaultyStore(there, Fault("write", Unreachable("away")))
    async with opened(store) as index:
        index.note("d/", {"a": Learnt(learnt())})
        with pytest.raises(Unreachable):
            await index.change("d/", {"sub/": Set(kept())})

    assert (await seen(there)).keys() == {"a"}
    assert len(warnings_in(caplog)) == 1


async def test_bug_does_not_end_the_mount(
    there: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong while an index is written concerns that index only."""

    class Broken(FaultyStore):
        async def _pass(self, call: str, request: Any) -> Any:
            if call == "write" and "bug" not in self.calls:
                self.times.append(("bug", 0))
                raise ZeroDivisionError
            return await super()._pass(call, request)

    async with opened(Broken(there)) as index:
        with pytest.raises(StoreError):
            await index.change("d/", {"one/": Set(kept())})
        await index.change("d/", {"two/": Set(kept())})

    assert (await seen(there)).keys() == {"two/"}
    assert len(warnings_in(caplog)) == 2


async def test_index_that_cannot_be_read_is_an_error(there: MemoryStore) -> None:
    """Unknown is never absent: attributes kept nowhere else are not the defaults."""
    await there.write(shard_key("d/", 0), BytesBody(b"x"))
    store = FaultyStore(there, *[Fault("read", Unreachable("away"))] * 2)
    async with opened(store) as index:
        with pytest.raises(Unreachable):
            await index.records("d/")
        with pytest.raises(Unreachable):
            await index.record("d/", "sub/")


async def test_index_that_may_not_be_read_counts_as_none(
    there: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Credentials that do not reach the index are no reason to refuse the directory."""
    store = FaultyStore(there, Fault("read", PermissionDenied("no")))
    async with opened(store) as index:
        assert await index.records("d/") == {}
        await index.change("d/", {"sub/": Set(kept())})

    assert there.bucket.entries == {}
    assert len(warnings_in(caplog)) == 1


async def test_damaged_index_is_ignored_and_replaced(
    there: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It was of no use to anybody."""
    await there.write(shard_key("d/", 0), BytesBody(b"\x1f\x8bnonsense"))
    async with opened(there) as index:
        assert await index.records("d/") == {}
        assert len(warnings_in(caplog)) == 1
        await index.change("d/", {"sub/": Set(kept())})

    assert await seen(there) == {"sub/": kept()}


async def test_index_of_a_newer_format_is_left_alone(
    there: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as none, and nothing ever replaces it."""
    data = await put_raw(there, {"format": 2, "entries": "in another form"})
    async with opened(there) as index:
        assert await index.records("d/") == {}
        index.note("d/", {"a": Learnt(learnt())})
        await index.change("d/", {"sub/": Set(kept())})

    assert (await there.read(shard_key("d/", 0))).data == data
    assert len(warnings_in(caplog)) == 1


async def test_end_does_not_wait_for_ever(
    there: MemoryStore, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that does not answer costs seconds at unmount, and a warning."""
    began = trio.current_time()
    async with opened(FaultyStore(there, hang("write"))) as index:
        index.note("d/", {"a": Learnt(learnt())})

    assert trio.current_time() - began <= attribute_index.DRAIN_S + 1
    assert len(warnings_in(caplog)) == 1


async def test_store_that_fails_at_the_end_is_not_tried_for_ever(
    there: MemoryStore, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At unmount each index is written once; what fails is behind."""
    store = FaultyStore(there, *[Fault("write", Unreachable("away"))] * 99)
    async with opened(store) as index:
        index.note("d/", {"a": Learnt(learnt())})

    assert store.calls.count("write") == 1
    assert len(warnings_in(caplog)) == 2


async def test_draining_writes_what_waits(there: MemoryStore) -> None:
    """At unmount the indexes are stored before anybody is told that it is done."""
    async with opened(there) as index:
        index.note("d/", {"a": Learnt(learnt())})
        await index.drain()
        assert (await seen(there)).keys() == {"a"}
        await index.change("d/", {"sub/": Set(kept())})
        assert (await seen(there)).keys() == {"a", "sub/"}


async def test_change_after_a_drain_that_failed_is_written(
    there: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What was given up goes with it."""
    store = FaultyStore(there, Fault("write", Unreachable("away")))
    async with opened(store) as index:
        index.note("d/", {"a": Learnt(learnt())})
        await index.drain()
        assert await seen(there) == {}
        await index.change("d/", {"sub/": Set(kept())})

    assert (await seen(there)).keys() == {"a", "sub/"}
    assert len(warnings_in(caplog)) == 1


async def test_nothing_is_taken_in_after_the_end(there: MemoryStore) -> None:
    """Who comes too late is neither refused nor kept waiting."""
    async with opened(there) as index:
        pass
    index.note("d/", {"a": Learnt(learnt())})
    await index.change("d/", {"a": Learnt(learnt())})

    assert there.bucket.entries == {}


# --- what is remembered -------------------------------------------------------------


async def test_index_is_asked_for_once_within_its_time(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """One request for a directory and time to live, present or not."""
    async with opened(faulty) as index:
        for _ in range(3):
            assert await index.records("d/") == {}
            assert await index.record("d/", "sub/") is None
        assert faulty.calls == ["read"]
        await trio.sleep(1)
        await index.records("d/")
        assert faulty.calls == ["read", "read"]


async def test_who_wants_an_index_that_is_being_read_waits(faulty: FaultyStore) -> None:
    """Many at once are one request."""
    async with opened(faulty) as index, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(index.record, "d/", "sub/")

    assert faulty.calls == ["read"]


async def test_large_index_is_read_again_only_if_it_changed(
    there: MemoryStore, autojump_clock: MockClock
) -> None:
    """Whether it changed is asked first, because that is cheaper than its bytes."""
    many = {f"{n:04}": Set(learnt(n, content=f"{n * 7919:032x}")) for n in range(2000)}
    async with opened(there) as index:
        await index.change("d/", many)
    store = FaultyStore(there)
    async with opened(store) as index:
        await index.records("d/")
        await trio.sleep(1)
        assert len(await index.records("d/")) == 2000
        assert store.calls == ["read", "stat"]
        async with opened(there) as other:
            await other.change("d/", {"0000": Drop()})
        await trio.sleep(1)
        assert len(await index.records("d/")) == 1999
        assert store.calls == ["read", "stat", "stat", "read"]
        await there.delete(shard_key("d/", 0))
        await trio.sleep(1)
        assert await index.records("d/") == {}


async def test_change_made_while_it_was_read_counts(there: MemoryStore) -> None:
    """An answer that our own write overtook is not believed."""
    store = HeldStore(there)
    async with opened(store, ttl_s=0.0) as index:
        await index.change("d/", {"one/": Set(kept())})
    async with opened(store, ttl_s=0.0) as index, trio.open_nursery() as nursery:
        writing = store.hold("write")
        nursery.start_soon(index.change, "d/", {"two/": Set(kept())})
        await writing.reached.wait()
        reading = store.hold("read", is_after=True)
        found: list[Mapping[str, Record]] = []

        async def read() -> None:
            found.append(await index.records("d/"))

        nursery.start_soon(read)
        await reading.reached.wait()
        writing.release()
        await wait_all_tasks_blocked()
        reading.release()

    assert found[0].keys() == {"one/", "two/"}


async def test_memory_is_bounded(faulty: FaultyStore) -> None:
    """The least recently used indexes are read again when they are needed."""
    async with opened(faulty, entries_max=10) as index:
        for directory in ("a/", "b/", "c/"):
            await index.change(directory, {str(n): Set(learnt()) for n in range(6)})
        faulty.times.clear()
        await index.records("c/")
        assert faulty.calls == []
        await index.records("a/")
        assert faulty.calls == ["read"]


async def test_what_waits_is_bounded(
    there: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes are dropped when too many wait; changes that somebody waits for are not."""
    monkeypatch.setattr(attribute_index, "WAITING_MAX", 2)
    monkeypatch.setattr(attribute_index, "NOTES_MAX", 4)
    async with opened(there) as index:
        for name in "abc":
            index.note(f"{name}/", {name: Learnt(learnt())})
            index.note("d/", {name: Learnt(learnt())})
        index.note("d/", {"e": Learnt(learnt())})
        index.note("d/", {"a": Learnt(learnt(9))})
        await index.change("e/", {"sub/": Set(kept())})

    assert await seen(there, "d/") == {"a": learnt(9), "b": learnt(), "c": learnt()}
    assert (await seen(there, "a/")).keys() == {"a"}
    assert await seen(there, "b/") == {}
    assert (await seen(there, "e/")).keys() == {"sub/"}


async def test_room_for_notes_comes_back(
    there: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever becomes of notes, they count only while they wait."""
    monkeypatch.setattr(attribute_index, "NOTES_MAX", 2)
    store = FaultyStore(there, Fault("write", Unreachable("away")))
    async with opened(store) as index:
        index.note("d/", {name: Learnt(learnt()) for name in "ab"})
        await trio.sleep(5)  # refused once, then written
        index.note("d/", {name: Learnt(learnt()) for name in "cd"})
        index.forget("d/")
        await trio.sleep(10)
        index.note("d/", {name: Learnt(learnt()) for name in "ef"})

    assert (await seen(there)).keys() == {"e", "f"}
    assert len(warnings_in(caplog)) == 1


async def test_read_only_mount_writes_nothing(there: MemoryStore) -> None:
    """It reads the index like any other."""
    async with opened(there) as index:
        await index.change("d/", {"sub/": Set(kept())})
    before = dict(there.bucket.entries)
    async with opened(there, is_read_only=True) as index:
        index.note("d/", {"a": Learnt(learnt())})
        index.forget("d/")
        await index.change("d/", {"other/": Set(kept())})
        assert (await index.records("d/")).keys() == {"sub/"}

    assert dict(there.bucket.entries) == before


# --- shards -------------------------------------------------------------------------


async def test_large_index_is_divided(there: MemoryStore) -> None:
    """Many entries lie in several objects; a reader finds all, a writer one."""
    async with opened(there, shard_entries_max=10) as index:
        for number in range(100):
            await index.change("d/", {f"{number}/": Set(kept(number))})
        assert len(await index.records("d/")) == 100

    keys = [
        key for key in there.bucket.entries if key.startswith(directory_prefix("d/"))
    ]
    assert len(keys) == 16
    assert await seen(there) == {f"{n}/": kept(n) for n in range(100)}
    store = FaultyStore(there)
    async with opened(store, shard_entries_max=10) as index:
        await index.change("d/", {"77/": Set(kept(0o111))})
        assert store.calls.count("read") <= 2
        assert store.calls.count("write") == 1
        assert await index.record("d/", "78/") == kept(78)
    assert (await seen(there))["77/"] == kept(0o111)


async def test_dividing_loses_no_change_of_another_mount(there: MemoryStore) -> None:
    """Several mounts grow one index at the same time, and each finds everything."""
    async with (
        opened(there, shard_entries_max=4, ttl_s=0.0) as one,
        opened(there, shard_entries_max=4, ttl_s=0.0) as two,
        opened(there, shard_entries_max=8, ttl_s=0.0) as three,
    ):

        async def fill(index: AttributeIndex, name: str) -> None:
            for number in range(40):
                await index.change("d/", {f"{name}{number}/": Set(kept(number))})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill, one, "a")
            nursery.start_soon(fill, two, "b")
            nursery.start_soon(fill, three, "c")

    found = await seen(there)
    assert found == {f"{name}{n}/": kept(n) for name in "abc" for n in range(40)}


@pytest.mark.parametrize("nth", range(1, 12))
async def test_division_that_fails_anywhere_loses_nothing(
    there: MemoryStore, nth: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever write of a division fails, every entry is found, and growth goes on."""
    async with opened(there, shard_entries_max=100) as index:
        await index.change("d/", {f"{n}/": Set(kept(n)) for n in range(40)})
    store = FaultyStore(there, Fault("write", Unreachable("cut"), nth=nth))
    changed: set[str] = set()
    async with opened(store, shard_entries_max=10) as index:
        for number in range(40, 43):
            try:
                await index.change("d/", {f"{number}/": Set(kept(number))})
                changed.add(f"{number}/")
            except Unreachable:
                continue

    found = await seen(there)
    assert {f"{n}/" for n in range(40)} | changed <= found.keys()
    warnings_in(caplog)


async def test_index_does_not_grow_without_end(
    there: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the most shards there can be they become larger instead."""
    monkeypatch.setattr(index_shards, "SHARDS_MAX", 2)
    async with opened(there, shard_entries_max=1) as index:
        for number in range(9):
            await index.change("d/", {f"{number}/": Set(kept())})

    assert len(there.bucket.entries) == 2
    assert len(await seen(there)) == 9


async def test_division_gives_way_to_others(
    there: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A growth that others disturb all the time is left for later."""
    async with opened(there, shard_entries_max=3) as index:
        await index.change("d/", {f"{n}/": Set(kept()) for n in range(3)})
        lost = [Fault("write", VersionChanged(), nth=2)] * 5
        store = FaultyStore(there, *lost)
        async with opened(store, shard_entries_max=3) as other:
            await other.change("d/", {"9/": Set(kept())})

    assert len(await seen(there)) == 4


# --- directories that come and go ---------------------------------------------------


async def test_forgotten_index_is_deleted(there: MemoryStore) -> None:
    """All of its shards go, and what waits for it is not written any more."""
    async with opened(there, shard_entries_max=4) as index:
        await index.change("d/", {f"{n}/": Set(kept()) for n in range(9)})
        index.note("d/", {"a": Learnt(learnt())})
        index.forget("d/")
        assert await index.records("d/") == {}
        assert await index.record("d/", "1/") is None

    assert there.bucket.entries == {}


async def test_directory_without_an_index_is_removed_for_nothing(
    faulty: FaultyStore,
) -> None:
    """Where it is known that there is none, none is deleted."""
    async with opened(faulty) as index:
        assert await index.records("d/") == {}
        index.forget("d/")

    assert faulty.calls == ["read"]


async def test_directory_made_again_begins_with_an_empty_index(
    there: MemoryStore, autojump_clock: MockClock
) -> None:
    """What was set after the old one was removed stays."""
    async with opened(there) as index:
        await index.change("d/", {"old/": Set(kept())})
        index.forget("d/")
        await index.change("d/", {"new/": Set(kept())})
        await trio.sleep(5)

    assert (await seen(there)).keys() == {"new/"}


async def test_removal_that_fails_is_tried_again(
    there: MemoryStore, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An index of a directory that is gone does not stay behind."""
    store = FaultyStore(there, Fault("delete_many", Unreachable("away")))
    async with opened(store) as index:
        await index.change("d/", {"sub/": Set(kept())})
        index.forget("d/")
        await trio.sleep(10)
        assert there.bucket.entries == {}

    assert len(warnings_in(caplog)) == 1


async def test_renamed_directory_keeps_what_is_kept_only_here(
    there: MemoryStore,
) -> None:
    """Entries that a listing can check are learnt anew: their versions change."""
    async with opened(there) as index:
        await index.change("", {"old/": Set(kept(0o711))})
        await index.change("old/", {"sub/": Set(kept(0o722)), "file": Set(learnt())})
        await index.change("old/sub/", {"deep/": Set(kept(0o733))})
        await index.renamed("old/", "a/new/", ["old/sub/", "old/sub/deep/"])

        assert await index.record("a/", "new/") == kept(0o711)
        assert await index.records("a/new/") == {"sub/": kept(0o722)}
        assert await index.records("a/new/sub/") == {"deep/": kept(0o733)}
        assert len(await index.records("old/")) == 2
        await index.renamed("old/", "a/new/", ["old/sub/"])
    assert await seen(there, "a/new/") == {"sub/": kept(0o722)}


async def test_where_nothing_is_kept_here_alone_a_rename_carries_nothing(
    faulty: FaultyStore,
) -> None:
    """What a listing can check is of no use under another key."""
    async with AttributeIndex(faulty, "al", ttl_s=1.0) as index:
        await index.renamed("old/", "new/", ["old/sub/"])

    assert faulty.calls == []


async def test_store_with_few_words_keeps_an_index(there: MemoryStore) -> None:
    """Neither a type of content nor a listing of what is not there is needed."""
    bare = replace(MEMORY_CAPABILITIES, pairs=frozenset())
    store = FaultyStore(
        MemoryStore(there.bucket, capabilities=bare), Fault("list", NotFound())
    )
    async with opened(store) as index:
        await index.change("d/", {"sub/": Set(kept())})
        assert await index.directories("other/") == []

    assert await seen(there) == {"sub/": kept()}


async def test_directories_that_have_an_index_are_found() -> None:
    """Page by page, those below a key, and each is asked for once."""
    there = MemoryStore(capabilities=replace(MEMORY_CAPABILITIES, list_page_max=2))
    for name in ("junk", "other"):
        await there.write(f".mountfs/index/{name}/0", BytesBody(gzip.compress(b"[]")))
    store = FaultyStore(there)
    async with opened(store) as index:
        for directory in ("a/", "a/b/", "a/c/", "ab/"):
            await index.change(directory, {"sub/": Set(kept())})
        assert await index.directories("a/") == ["a/b/", "a/c/"]
        store.times.clear()
        assert await index.directories("ab/") == []
        assert store.calls.count("read") == 2, "what is no index is looked at again"


async def test_index_deleted_while_it_is_looked_for_is_of_nobody(
    there: MemoryStore,
) -> None:
    """Another mount may remove a directory at any time."""
    async with opened(there) as index:
        await index.change("a/b/", {"sub/": Set(kept())})
    store = FaultyStore(there, Fault("read", NotFound()))
    async with opened(store) as index:
        assert await index.directories("a/") == []
    for error in (Fault("read", BucketNotFound()), Fault("list", BucketNotFound())):
        async with opened(FaultyStore(there, error)) as index:
            with pytest.raises(BucketNotFound):
                await index.directories("a/")


async def test_missing_bucket_is_no_empty_index() -> None:
    """Only the absence of the object itself says that there is no index."""
    store = FaultyStore(MemoryStore(), Fault("read", BucketNotFound()))
    async with opened(store) as index:
        with pytest.raises(NotFound):
            await index.records("d/")
