"""The attribute index as bytes, as shards, and as the sum of many writers' changes."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache import index_format
from mountfs.cache.index_format import (
    Change,
    Damaged,
    Drop,
    Learnt,
    Set,
    Shard,
    UnknownFormat,
    decode,
    directory_prefix,
    encode,
    entries_of,
    halves,
    merged,
    missing,
    owner,
    place,
    shard_key,
)
from mountfs.cache.records import Record
from mountfs.storage.types import Attributes, ObjectKind

SECOND = 10**9

numbers = st.none() | st.integers(min_value=0, max_value=2**40)
records = st.builds(
    Record,
    kind=st.sampled_from(ObjectKind),
    size=numbers,
    time_ns=numbers,
    content=st.none() | st.text(max_size=3),
    state=st.none() | st.text(max_size=3),
    attributes=st.none() | st.builds(Attributes, mode=numbers, uid=numbers),
)
names = st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
entries = st.dictionaries(names, records, max_size=8)
counts = st.sampled_from([1, 2, 4, 8])


def learnt_at(time_ns: int, **more: Any) -> Record:
    return Record(size=1, time_ns=time_ns, content="etag", **more)


def text_of(data: bytes) -> dict[str, Any]:
    told = json.loads(gzip.decompress(data))
    assert isinstance(told, dict)
    return told


def packed(told: object) -> bytes:
    return gzip.compress(json.dumps(told).encode())


# --- keys ---------------------------------------------------------------------------


def test_key_is_made_of_the_directory_and_the_number() -> None:
    """Any program can compute where the index of a directory lies."""
    assert shard_key("", 0) == ".mountfs/index/e3b0c44298fc1c149afbf4c8996fb924/0"
    assert shard_key("a/b/", 12) == f"{directory_prefix('a/b/')}12"
    assert directory_prefix("\udcff/") != directory_prefix("\udcfe/")


@given(names, st.integers(min_value=0, max_value=9))
def test_a_name_stays_or_moves_to_the_new_half(name: str, doublings: int) -> None:
    """Doubling the shards divides each of them in two, and touches no other."""
    count = 2**doublings
    before, after = place(name, count), place(name, 2 * count)

    assert after in (before, before + count)


# --- shards -------------------------------------------------------------------------


def divided(found: Mapping[str, Record], count: int) -> dict[int, Shard]:
    """Return an index that was grown in whole steps."""
    shards = {0: Shard(0, 1, found)}
    while len(shards) < count:
        for shard in list(shards.values()):
            stays, moved = halves(shard)
            shards |= {stays.number: stays, moved.number: moved}
    return shards


@given(entries, counts)
def test_growing_loses_nothing(found: dict[str, Record], count: int) -> None:
    """However many shards there are, each name is in the one that owns it."""
    shards = divided(found, count)

    assert entries_of(shards) == found
    assert all(name in shards[owner(name, shards)].entries for name in found)
    assert missing(shards, shards) == set()


@given(entries, st.sampled_from([1, 2, 4]), st.data())
def test_growing_may_stop_anywhere(
    found: dict[str, Record], count: int, data: st.DataObject
) -> None:
    """After each write of a growth every name is found once, and written to once."""
    shards = divided(found, count)
    for number in reversed(range(count)):
        stays, moved = halves(shards[number])
        shards[moved.number] = moved
        assert entries_of(shards) == found
        if data.draw(st.booleans(), "stop"):
            break
        shards[number] = stays
        assert entries_of(shards) == found
    assert missing(shards, shards) <= set(range(2 * count))
    read: dict[int, Shard] = {}
    asked: set[int] = set()
    while wanted := missing(read, asked):
        asked |= wanted
        read |= {number: shards[number] for number in wanted if number in shards}
    assert entries_of(read) == found


def test_what_was_left_by_a_growth_that_was_cut_short_does_not_count() -> None:
    """A new shard counts only when the one that it came from says so."""
    name = next(n for n in map(str, range(99)) if place(n, 2) == 1)
    old, new = learnt_at(1), learnt_at(2)
    shards = {0: Shard(0, 1, {name: new}), 1: Shard(1, 2, {name: old})}

    assert entries_of(shards) == {name: new}
    assert owner(name, shards) == 0


def test_shard_that_is_missing_is_empty() -> None:
    """An index whose shards somebody deleted is still an index."""
    assert entries_of({}) == {}
    assert owner("name", {}) == 0
    assert missing({}, ()) == {0}
    assert missing({}, (0,)) == set()
    assert missing({0: Shard(0, 4)}, (0, 2)) == {1, 3}


# --- merging ------------------------------------------------------------------------


@given(entries, st.dictionaries(names, records.map(Set), max_size=8))
def test_merging_again_changes_nothing(
    found: dict[str, Record], changes: dict[str, Change]
) -> None:
    """Who does not know whether a write took effect may repeat it."""
    once = merged(found, changes)

    assert merged(once, changes) == once


@given(entries, entries)
def test_learning_again_changes_nothing(
    found: dict[str, Record], learnt: dict[str, Record]
) -> None:
    """The same holds for what was learnt."""
    changes: dict[str, Change] = {n: Learnt(record) for n, record in learnt.items()}
    once = merged(found, changes)

    assert merged(once, changes) == once


@given(
    entries,
    st.dictionaries(names, st.integers(min_value=0, max_value=9), max_size=8),
    st.dictionaries(names, st.integers(min_value=0, max_value=9), max_size=8),
)
def test_two_writers_may_come_in_any_order(
    found: dict[str, Record], one: dict[str, int], other: dict[str, int]
) -> None:
    """What changed more than a second apart is put in order by the store's own time."""
    first: dict[str, Change] = {
        name: Learnt(learnt_at(4 * at * SECOND, state=str(at)))
        for name, at in one.items()
    }
    second: dict[str, Change] = {
        name: Learnt(learnt_at(4 * at * SECOND, state=str(at)))
        for name, at in other.items()
    }
    old = {name: record for name, record in found.items() if not record.time_ns}

    assert merged(merged(old, first), second) == merged(merged(old, second), first)


@given(entries, entries, entries)
def test_changes_of_different_names_do_not_touch_each_other(
    found: dict[str, Record], one: dict[str, Record], other: dict[str, Record]
) -> None:
    """Two mounts that create files in one directory both find theirs."""
    first: dict[str, Change] = {name: Learnt(record) for name, record in one.items()}
    second: dict[str, Change] = {
        name: Set(record) for name, record in other.items() if name not in one
    }

    assert merged(merged(found, first), second) == merged(found, first | second)


def test_older_knowledge_does_not_replace_newer() -> None:
    """A slow writer does not undo what a fast one has learnt since."""
    newer, older = learnt_at(9 * SECOND), learnt_at(5 * SECOND)

    assert merged({"a": newer}, {"a": Learnt(older)}) == {"a": newer}
    assert merged({"a": older}, {"a": Learnt(newer)}) == {"a": newer}


def test_entry_that_was_found_useless_is_replaced() -> None:
    """Whatever its time says: a listing showed another object."""
    useless, found = learnt_at(9 * SECOND), learnt_at(5 * SECOND)

    assert merged({"a": useless}, {"a": Learnt(found, over=useless)}) == {"a": found}


def test_what_changed_in_the_same_second_is_replaced() -> None:
    """The answer to a write may bear a time one second later than the object."""
    written = learnt_at(6 * SECOND)
    asked = learnt_at(5 * SECOND, state="5")

    assert merged({"a": written}, {"a": Learnt(asked)}) == {"a": asked}


def test_latest_setting_wins() -> None:
    """Between changes of attributes the last one wins, whatever the clocks say."""
    before = Record(
        kind=ObjectKind.DIRECTORY, attributes=Attributes(mode=0o700, ctime_ns=9)
    )
    after = Record(
        kind=ObjectKind.DIRECTORY, attributes=Attributes(mode=0o755, ctime_ns=1)
    )

    assert merged({"d/": before}, {"d/": Set(after)}) == {"d/": after}


def test_setting_leaves_what_it_does_not_know() -> None:
    """A mount without a gate keeps what one with it has stored."""
    before = Record(
        kind=ObjectKind.DIRECTORY,
        attributes=Attributes(mode=0o700, xattrs={b"user.a": b"1"}),
    )
    after = Record(kind=ObjectKind.DIRECTORY, attributes=Attributes(mode=0o755))

    found = merged({"d/": before}, {"d/": Set(after)})["d/"].attributes
    assert found == Attributes(mode=0o755, xattrs={b"user.a": b"1"})
    nothing = Record(kind=ObjectKind.DIRECTORY)
    assert merged({"d/": before}, {"d/": Set(nothing)}) == {"d/": before}


def test_another_kind_inherits_nothing() -> None:
    """A link in the place of a file is no file."""
    file = Record(attributes=Attributes(xattrs={b"user.a": b"1"}))
    link = Record(kind=ObjectKind.LINK, attributes=Attributes(mode=0o777))

    assert merged({"a": file}, {"a": Set(link)}) == {"a": link}


def test_what_is_gone_is_dropped() -> None:
    """Dropping what is not there, or only a certain entry, is fine."""
    one, other = learnt_at(1), learnt_at(2)

    assert merged({"a": one}, {"a": Drop(), "b": Drop()}) == {}
    assert merged({"a": one}, {"a": Drop(over=one)}) == {}
    assert merged({"a": other}, {"a": Drop(over=one)}) == {"a": other}


# --- bytes --------------------------------------------------------------------------


@given(entries, names)
def test_shards_come_back_as_they_were(
    found: dict[str, Record], directory: str
) -> None:
    """Nothing is lost on the way through bytes, whatever the names are."""
    shard = Shard(1, 2, found)

    assert decode(directory, 1, encode(directory, shard)) == shard


def test_bytes_are_as_the_page_says() -> None:
    """docs/reference/format.md describes just this."""
    link = Record(
        kind=ObjectKind.LINK,
        size=6,
        time_ns=1_700_000_000 * SECOND,
        content="0" * 32,
        state="1700000000",
        gates="alx",
        attributes=Attributes(mode=0o120777, uid=7, mtime_ns=5, xattrs={}),
        target="target",
    )
    data = encode("a/", Shard(0, 1, {"name": link}))

    assert text_of(data) == {
        "format": 1,
        "directory": "a/",
        "shard": 0,
        "shards": 1,
        "entries": {
            "name": {
                "kind": "link",
                "size": 6,
                "time_ns": 1_700_000_000_000_000_000,
                "content": "0" * 32,
                "state": "1700000000",
                "gates": "alx",
                "target": "target",
                "attributes": {"mode": 41471, "uid": 7, "mtime_ns": 5, "xattrs": ""},
            }
        },
    }
    assert encode("a/", Shard(0, 1, {"name": link})) == data


def test_newer_format_is_told_from_damage() -> None:
    """What a newer mountfs wrote is to be left alone."""
    with pytest.raises(UnknownFormat):
        decode("a/", 0, packed({"format": 2, "anything": "else"}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\x1f\x8b",
        gzip.compress(b"{"),
        gzip.compress(b"[" * 100_000),
        encode("a/", Shard())[:-1],
        encode("b/", Shard()),
        encode("a/", Shard(1, 2)),
        packed([]),
        packed({"format": "1"}),
        packed({"format": 0}),
        packed({"format": 1, "directory": "a/"}),
        packed(text_of(encode("a/", Shard())) | {"shards": 3}),
        packed(text_of(encode("a/", Shard())) | {"shards": 2048}),
        packed(text_of(encode("a/", Shard())) | {"shards": 0}),
        packed(text_of(encode("a/", Shard())) | {"entries": []}),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_anything_else_is_damage(data: bytes) -> None:
    """Bytes that are no shard of this directory and number are never believed."""
    with pytest.raises(Damaged):
        decode("a/", 0, data)


def test_shard_of_absurd_length_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes that unpack to gigabytes do not take the memory of the mount."""
    monkeypatch.setattr(index_format, "TEXT_SIZE_MAX", 100)
    with pytest.raises(Damaged):
        decode("a/", 0, gzip.compress(bytes(1 << 20)))


def test_damaged_entry_is_left_out() -> None:
    """The others are still believed."""
    told = text_of(encode("a/", Shard(0, 1, {"good": learnt_at(1)})))
    told["entries"]["bad"] = {"size": "huge"}

    assert decode("a/", 0, packed(told)).entries == {"good": learnt_at(1)}
