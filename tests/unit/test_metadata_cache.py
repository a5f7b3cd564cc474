"""What is known of keys: freshness, listings, and our own changes during one."""

import tracemalloc
from typing import Any

import pytest

from mountfs.cache.knowledge import split_key
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.packed import pack
from mountfs.storage.types import ABSENT, Metadata, Object, ObjectKind, Version
from tests.fakes.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> MetadataCache:
    return MetadataCache(ttl_s=1.0, clock=clock)


def file(key: str, content: str = "1", **more: object) -> Object:
    known: dict[str, object] = {"size": 1, "mtime_ns": 0, **more}
    return Object(key=key, version=Version(content, "a"), **known)  # type: ignore[arg-type]  # fields by name


def test_an_answer_is_fresh_for_its_time_to_live(
    cache: MetadataCache, clock: Clock
) -> None:
    """After the TTL the object is a hint, no longer an answer."""
    cache.put(file("a"))

    assert cache.lookup("a") == file("a")
    clock.now_s += 1.0
    assert cache.lookup("a") is None
    assert cache.last_known("a") == file("a")


def test_a_complete_listing_tells_what_is_absent(cache: MetadataCache) -> None:
    """A name that a fresh listing lacks is known to be absent, at no request."""
    cache.put_listing(cache.begin_listing("d/"), [file("d/a")])

    assert cache.lookup("d/b") is ABSENT
    assert cache.lookup("d/b/") is ABSENT
    assert cache.lookup("e/b") is None


def test_our_changes_during_a_listing_win_over_it(cache: MetadataCache) -> None:
    """A listing that began before our change does not undo it."""
    begun = cache.begin_listing("d/")
    cache.put(file("d/new"))
    cache.put_absent("d/gone")

    listed = cache.put_listing(begun, [file("d/gone"), file("d/old")])

    assert [object.key for object in listed] == ["d/new", "d/old"]
    assert cache.lookup("d/gone") is ABSENT


def test_our_changes_after_a_listing_change_it(cache: MetadataCache) -> None:
    """What we create and remove shows in a listing that is still fresh."""
    cache.put_listing(cache.begin_listing("d/"), [file("d/a"), file("d/b")])
    cache.put(file("d/c"))
    cache.put_absent("d/a")

    listing = cache.listing("d/")

    assert listing is not None
    assert [object.key for object in listing] == ["d/b", "d/c"]


def test_metadata_carry_over_to_a_listing_of_the_same_version(
    cache: MetadataCache,
) -> None:
    """What was learnt of a version is not asked for again."""
    metadata = Metadata(user={"k": "v"})
    cache.put(file("d/a", metadata=metadata, kind=ObjectKind.LINK))

    same, other = (
        cache.put_listing(cache.begin_listing("d/"), [file("d/a", content)])[0]
        for content in ("1", "2")
    )

    assert (same.metadata, same.kind) == (metadata, ObjectKind.LINK)
    assert other.metadata is None


def test_a_listing_that_tells_nothing_new_makes_nothing_new(
    cache: MetadataCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry is packed once, to be compared; what was known of it stays."""
    whole = [file(f"d/{n}", metadata=Metadata(commit_id=str(n))) for n in range(9)]
    for each in whole:
        cache.put(each)
    packed: list[str] = []

    def counted(object: Object) -> bytes:
        packed.append(object.key)
        return pack(object)

    monkeypatch.setattr("mountfs.cache.metadata.pack", counted)
    bare = [file(f"d/{n}") for n in range(9)]

    assert cache.put_listing(cache.begin_listing("d/"), bare) == tuple(whole)
    assert packed == [each.key for each in bare]
    assert cache.listing("d/") == tuple(whole)


def test_a_directory_that_goes_takes_its_listing_along(cache: MetadataCache) -> None:
    """A directory made anew is not taken for the old one."""
    cache.put_listing(cache.begin_listing("d/"), [file("d/a")])
    cache.put_absent("d/")

    assert cache.listing("d/") is None


def test_forgetting_a_directory_forgets_all_below_it(cache: MetadataCache) -> None:
    """A moved directory leaves no knowledge under its old name."""
    cache.put_listing(cache.begin_listing("d/"), [file("d/a")])
    cache.put(file("dx"))
    cache.forget_below("d/")

    assert cache.last_known("d/a") is None
    assert cache.listing("d/") is None
    assert cache.lookup("dx") is not None


def test_a_directory_that_was_forgotten_may_be_there_or_not(
    cache: MetadataCache,
) -> None:
    """Its directory is not known as a whole then; what that lacked, it still lacks."""
    directory = Object(key="d/", kind=ObjectKind.DIRECTORY)
    cache.put_listing(cache.begin_listing(""), [directory, file("a")])
    cache.forget_below("d/")

    assert cache.last_known("d/") is None
    assert cache.lookup("d/") is None
    assert cache.listing("") is None
    assert cache.lookup("b") is ABSENT
    assert cache.put_answer("d/", directory, cache.moment("d/")) == directory
    assert cache.listing("") == (file("a"), directory)


def test_a_listing_goes_with_the_first_name_that_is_evicted(clock: Clock) -> None:
    """A bounded cache never shows an incomplete directory as complete."""
    cache = MetadataCache(ttl_s=1.0, entries_max=2, clock=clock)
    cache.put_listing(cache.begin_listing("d/"), [file("d/a"), file("d/b")])
    cache.put(file("e"))

    assert cache.listing("d/") is None
    assert cache.lookup("d/zzz") is None


def test_late_answer_does_not_bring_a_removed_name_back(cache: MetadataCache) -> None:
    """We remove it, and list its directory, while an older answer is on its way."""
    cache.put_listing(cache.begin_listing("d/"), [file("d/a")])
    asked_at = cache.moment("d/a")
    cache.put_absent("d/a")
    cache.put_listing(cache.begin_listing("d/"), [])

    assert cache.put_answer("d/a", file("d/a"), asked_at) == file("d/a")
    assert cache.lookup("d/a") is ABSENT
    assert cache.listing("d/") == ()


def test_confirmed_object_is_as_new_as_the_question(
    cache: MetadataCache, clock: Clock
) -> None:
    """Bytes of the same version take their time, and say that it was still the same."""
    cache.put(file("a"))
    clock.now_s += 0.75
    asked_at = cache.moment("a")
    clock.now_s += 0.75
    cache.confirm(file("a"), asked_at)

    assert cache.lookup("a") == file("a")
    clock.now_s += 0.25
    assert cache.lookup("a") is None


@pytest.mark.parametrize("change", ["another", "gone", "outdated", "newer"])
def test_late_bytes_confirm_nothing_that_has_changed(
    cache: MetadataCache, clock: Clock, change: str
) -> None:
    """Nor do they tell anything that was not known."""
    cache.put(file("a"))
    asked_at = cache.moment("a")
    if change == "another":
        cache.put(file("a", "2"))
    elif change == "gone":
        cache.put_absent("a")
    elif change == "outdated":
        cache.expire("a")
    before = cache.last_known("a")
    clock.now_s += 0.5
    cache.confirm(file("a", "2" if change == "newer" else "1"), asked_at)
    clock.now_s += 0.5

    assert cache.last_known("a") == before
    assert cache.lookup("a") is None
    cache.confirm(file("never heard of"), cache.moment("never heard of"))
    assert cache.last_known("never heard of") is None


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_late_answer_tells_nothing_of_a_directory_that_moved(
    cache: MetadataCache, *, is_made_anew: bool
) -> None:
    """It would tell what another directory had that has the name no more."""
    cache.put_listing(cache.begin_listing("d/"), [file("d/a")])
    asked_at = cache.moment("d/a")
    cache.forget_below("d/")
    if is_made_anew:
        cache.put_listing(cache.begin_listing("d/"), [])

    cache.put_answer("d/a", file("d/a"), asked_at)

    assert cache.last_known("d/a") is None


@pytest.mark.parametrize("others", [1, 200])
def test_move_of_another_directory_costs_no_answer(
    cache: MetadataCache, others: int
) -> None:
    """Unless so many have moved that it is not known which."""
    asked_at = cache.moment("d/a")
    for number in range(others):
        cache.forget_below(f"e/{number}/")

    cache.put_answer("d/a", file("d/a"), asked_at)

    assert (cache.lookup("d/a") == file("d/a")) == (others == 1)


def test_answers_to_several_questions_of_a_new_directory_are_all_kept(
    cache: MetadataCache,
) -> None:
    """That one of them is the first that is known there undoes none of the others."""
    asked_at = {key: cache.moment(key) for key in ("d/a", "d/a/", "d/b")}
    for key, moment in asked_at.items():
        cache.put_answer(key, ABSENT, moment)

    assert [cache.lookup(key) for key in asked_at] == [ABSENT] * 3


@pytest.mark.parametrize("moved", ["d/", "d/e/"])
def test_listing_that_a_move_overtook_is_not_taken_in(
    cache: MetadataCache, moved: str
) -> None:
    """What it lists has another name by now, and the old one may be used anew."""
    begun = cache.begin_listing("d/e/")
    cache.forget_below(moved)
    cache.put_listing(cache.begin_listing("d/e/"), [])

    assert cache.put_listing(begun, [file("d/e/a")]) == (file("d/e/a"),)
    assert cache.listing("d/e/") == ()
    other = cache.begin_listing("d/f/")
    cache.put_listing(other, [file("d/f/a")])
    assert cache.listing("d/f/") == (file("d/f/a"),)


def test_name_that_was_evicted_while_it_was_listed_is_not_absent(clock: Clock) -> None:
    """We made it after the listing had begun, and have no room to remember it."""
    cache = MetadataCache(ttl_s=1.0, entries_max=2, clock=clock)
    begun = cache.begin_listing("d/")
    cache.put(file("d/new"))
    cache.put(file("e/a"))
    cache.put(file("e/b"))
    assert cache.last_known("d/new") is None

    cache.put_listing(begun, [])

    assert cache.lookup("d/new") is None
    assert cache.listing("d/") is None


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("a", ("", "a")),
        ("a/b", ("a/", "b")),
        ("a/b/", ("a/", "b/")),
        ("a/", ("", "a/")),
        ("a//", ("a/", "/")),
        ("a//b", ("a//", "b")),
    ],
)
def test_keys_split_at_their_last_component(key: str, parts: tuple[str, str]) -> None:
    """The component of a directory keeps its slash, and may be empty before it."""
    assert split_key(key) == parts


def test_what_is_known_may_be_believed_whatever_its_age(clock: Clock) -> None:
    """While the store cannot be asked; but not what is known to be wrong."""
    is_offline = True
    cache = MetadataCache(ttl_s=1.0, clock=clock, believes_all=lambda: is_offline)
    cache.put_listing(cache.begin_listing("d/"), [file("d/a"), file("d/b")])
    cache.put_answer("e", ABSENT, cache.moment("e"))
    clock.now_s += 1000

    assert cache.lookup("d/a") == file("d/a")
    assert cache.lookup("d/c") is ABSENT
    assert cache.lookup("e") is ABSENT
    assert cache.lookup("unknown") is None
    assert cache.listing("d/") == (file("d/a"), file("d/b"))
    cache.expire("d/a")
    assert cache.lookup("d/a") is None
    assert cache.listing("d/") is None

    is_offline = False
    assert cache.lookup("d/b") is None
    assert cache.lookup("e") is None


ENTRIES = 20_000


def listed(count: int, prefix: str = "d/") -> list[Object]:
    """Return what an S3 listing tells of so many files."""
    return [
        Object(
            key=f"{prefix}{number:08}",
            size=number,
            mtime_ns=number * 10**9,
            version=Version(f"{number:032x}", str(number)),
        )
        for number in range(count)
    ]


def test_an_entry_of_a_listing_takes_little_memory(cache: MetadataCache) -> None:
    """A million of them take less than half of what all of a mount may."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    cache.put_listing(cache.begin_listing("d/"), listed(ENTRIES))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (after - before) / ENTRIES < 200
    assert len(cache) == ENTRIES


def test_forgetting_a_directory_looks_at_nothing_else(
    cache: MetadataCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known elsewhere is not walked, however much it is."""
    for number in range(1000):
        cache.put(file(f"other/{number}/x"))
    cache.put(file("d/a"))
    cache.put(file("d/e/f/b"))
    dropped: list[str] = []
    drop = cache._directories._drop

    def counted(key: str) -> None:
        dropped.append(key)
        drop(key)

    monkeypatch.setattr(cache._directories, "_drop", counted)
    looked_at = Counting(cache._directories._below)
    monkeypatch.setattr(cache._directories, "_below", looked_at)

    cache.forget_below("d/")

    assert sorted(dropped) == ["d/", "d/e/f/"]
    assert looked_at.asked == 3  # d/, d/e/ and d/e/f/
    assert cache.last_known("d/e/f/b") is None
    assert len(cache) == 1000


class Counting(dict[str, set[str]]):
    """Counts how often it is asked what lies below a directory."""

    asked = 0

    def get(self, key: str, default: object = None) -> Any:
        self.asked += 1
        return super().get(key, default)


def test_what_is_dropped_leaves_no_trace(cache: MetadataCache) -> None:
    """Neither in the count nor in what leads to a directory."""
    cache.put(file("a/b/c/d"))
    cache.put_listing(cache.begin_listing("a/b/"), [file("a/b/x")])
    cache.forget_below("")

    directories = cache._directories
    assert (len(cache), directories._below, len(directories._kept)) == (0, {}, 0)


def test_a_directory_larger_than_the_cache_is_known_in_part(clock: Clock) -> None:
    """The rest is asked for; nothing of it is taken for absent."""
    cache = MetadataCache(ttl_s=1.0, entries_max=10, clock=clock)
    known = cache.put_listing(cache.begin_listing("d/"), listed(100))

    assert len(known) == 100
    assert len(cache) == 10
    assert cache.listing("d/") is None
    assert cache.lookup("d/00000000") is None
    assert cache.lookup("d/00000099") == listed(100)[99]


def test_a_name_that_a_newer_listing_lacks_is_absent(
    cache: MetadataCache, clock: Clock
) -> None:
    """However lately it was asked for by itself."""
    cache.put(file("d/a"))
    clock.now_s += 0.1
    cache.put_listing(cache.begin_listing("d/"), [file("d/b")])

    assert cache.lookup("d/a") is ABSENT
    assert cache.last_known("d/a") is None


def test_what_is_completed_grows_no_newer(cache: MetadataCache, clock: Clock) -> None:
    """Metadata from the disk do not make an answer of the store."""
    cache.put_listing(cache.begin_listing("d/"), [file("d/a")])
    clock.now_s += 0.5
    more = file("d/a", metadata=Metadata(user={"k": "v"}))

    assert cache.complete(more, cache.moment("d/a")) == more
    assert cache.lookup("d/a") == more
    clock.now_s += 0.5
    assert cache.lookup("d/a") is None


def test_what_a_newer_listing_lacks_is_gone(cache: MetadataCache, clock: Clock) -> None:
    """As what was asked for by itself, however long ago; unlike what nobody knows."""
    cache.put(file("d/a"))
    cache.put_absent("d/b")
    packed = pack(file("d/a"))
    assert [cache.newest(f"d/{name}") for name in "abc"] == [packed, ABSENT, None]

    cache.put_listing(cache.begin_listing("d/"), [file("d/b")])
    clock.now_s += 100

    packed = pack(file("d/b"))
    assert [cache.newest(f"d/{name}") for name in "abc"] == [ABSENT, packed, ABSENT]
    cache.expire("d/b")
    assert [cache.newest(f"d/{name}") for name in "abc"] == [None, packed, None]


def test_what_is_stored_during_a_listing_keeps_what_the_store_said(
    cache: MetadataCache,
) -> None:
    """The listing shows what was promised, by which the next one cannot be checked."""
    promised = Object(
        key="d/a", size=1, mtime_ns=5, version=Version("~t"), metadata=Metadata()
    )
    cache.put(promised)
    begun = cache.begin_listing("d/")
    cache.settle(promised, file("d/a", mtime_ns=9 * 10**9))
    cache.put_listing(begun, [promised])

    found = cache.last_known("d/a")
    assert isinstance(found, Object)
    assert (found.version, found.mtime_ns) == (Version("~t", "a"), 9 * 10**9)


def test_what_is_known_freshly_is_told_as_it_is_kept() -> None:
    """Not what is old, nor what is not there."""
    clock = Clock()
    cache = MetadataCache(ttl_s=1.0, clock=clock)
    known = Object(key="d/file", kind=ObjectKind.FILE, size=3)
    cache.put(known)
    cache.put_absent("d/gone")

    assert cache.fresh("d/file") == cache.packed("d/file")
    assert [cache.fresh(key) for key in ("d/gone", "d/other", "e/file")] == [None] * 3
    clock.now_s += 1.5
    assert cache.fresh("d/file") is None
