"""Pages of a large directory, taken in one by one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache.metadata import MetadataCache
from mountfs.storage.types import ABSENT, Object, ObjectKind, Version
from tests.fakes.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> MetadataCache:
    return MetadataCache(ttl_s=1.0, clock=clock)


def thing(key: str, content: str = "1") -> Object:
    if key.endswith("/"):
        return Object(key=key, kind=ObjectKind.DIRECTORY)
    return Object(key=key, size=1, mtime_ns=0, version=Version(content, "a"))


def take(
    cache: MetadataCache,
    *names: str,
    is_first: bool = False,
    is_last: bool = False,
    is_sure: bool = True,
) -> None:
    """Take in a page of the directory `d/`."""
    keys = [f"d/{name}" for name in names]
    cache.put_stretch(
        cache.begin_listing("d/"),
        map(thing, keys),
        first="" if is_first else keys[0],
        last=None if is_last else keys[-1],
        is_sure=lambda _: is_sure,
    )


def test_page_tells_what_is_and_is_not_between_its_ends(
    cache: MetadataCache, clock: Clock
) -> None:
    """For its time to live, and of nothing before and behind."""
    take(cache, "b", "f")

    assert cache.lookup("d/b") == thing("d/b")
    assert cache.lookup("d/c") is ABSENT
    assert cache.lookup("d/c/") is ABSENT
    assert cache.lookup("d/a") is None
    assert cache.lookup("d/g") is None
    assert cache.listing("d/") is None
    clock.now_s += 1.0
    assert cache.lookup("d/b") is None
    assert cache.lookup("d/c") is None


def test_first_and_last_page_have_no_end_there(cache: MetadataCache) -> None:
    """Nothing comes before the first name of all, or behind the last."""
    take(cache, "b", "f", is_first=True)
    take(cache, "m", "p", is_last=True)

    assert cache.lookup("d/a") is ABSENT
    assert cache.lookup("d/g") is None, "between the pages"
    assert cache.lookup("d/q") is ABSENT


def test_page_tells_of_no_name_that_may_be_kept_in_the_next_one(
    cache: MetadataCache,
) -> None:
    """A foreign tool keeps a directory, or a link, under a key that comes later."""
    take(cache, "b", "d0", is_first=True)

    assert cache.lookup("d/d/") is None, "the next page may have d_$folder$"
    assert cache.lookup("d/d") is ABSENT
    assert cache.lookup("d/cc/") is ABSENT
    take(cache, "p", "q!")
    assert cache.lookup("d/q") is None, "the next page may have q.rclonelink"


def test_page_leaves_open_what_is_not_sure(cache: MetadataCache) -> None:
    """A name that is there is not absent, if nobody knows what it is."""
    take(cache, "b", "c", "f", is_sure=False)

    assert cache.lookup("d/c") is None
    assert cache.lookup("d/d") is ABSENT


def test_what_was_known_and_is_not_in_a_page_is_asked_for(
    cache: MetadataCache, clock: Clock
) -> None:
    """A page that comes late may lack what is there."""
    cache.put(thing("d/c"))
    clock.now_s += 1.0
    take(cache, "b", "f")

    assert cache.lookup("d/c") is None


def test_our_changes_during_a_page_win_over_it(cache: MetadataCache) -> None:
    """A page that was asked for before our change does not undo it."""
    begun = cache.begin_listing("d/")
    cache.put(thing("d/new"))
    cache.put_absent("d/gone")
    keys = ["d/a", "d/gone", "d/z"]
    cache.put_stretch(
        begun, map(thing, keys), first="", last="d/z", is_sure=lambda _: True
    )

    assert cache.lookup("d/new") == thing("d/new")
    assert cache.lookup("d/gone") is ABSENT


@pytest.mark.parametrize("is_whole", [False, True])
def test_what_is_outdated_during_a_listing_is_asked_for(
    cache: MetadataCache, is_whole: bool
) -> None:
    """An event, or a request of which nobody knows the end, may be newer than it."""
    cache.put(thing("d/b"))
    begun = cache.begin_listing("d/")
    for name in "abc":
        cache.expire(f"d/{name}")
    keys = [thing("d/b"), thing("d/c"), thing("d/e")]
    if is_whole:
        assert cache.put_listing(begun, keys) == tuple(keys), "what it tells is shown"
    else:
        cache.put_stretch(begun, keys, first="", last=None, is_sure=lambda _: True)

    assert [cache.lookup(f"d/{name}") for name in "abc"] == [None] * 3
    assert cache.lookup("d/e") == thing("d/e")
    assert cache.listing("d/") is None


def test_our_change_after_that_is_believed(cache: MetadataCache) -> None:
    """We have had the last word; and who is there does not make others unknown."""
    begun = cache.begin_listing("d/")
    cache.expire("d/b", is_there=True)
    cache.expire("d/c")
    cache.put(thing("d/c", "2"))
    cache.put_listing(begun, [thing("d/b"), thing("d/c")])

    assert cache.lookup("d/b") is None
    assert cache.lookup("d/c") == thing("d/c", "2")
    assert cache.lookup("d/d") is ABSENT


def test_page_of_a_directory_that_moved_is_not_taken_in(cache: MetadataCache) -> None:
    """It tells of what has another name now."""
    begun = cache.begin_listing("d/")
    cache.forget_below("d/")
    cache.put_stretch(
        begun, [thing("d/a")], first="", last=None, is_sure=lambda _: True
    )

    assert cache.lookup("d/a") is None
    assert cache.lookup("d/b") is None


@pytest.mark.parametrize(
    "outdate",
    [
        lambda cache: cache.expire("d/c"),
        lambda cache: cache.put_absent("d/"),
        lambda cache: cache.forget_below("d/"),
    ],
)
def test_what_makes_a_listing_old_makes_pages_old(
    cache: MetadataCache, outdate: Callable[[MetadataCache], None]
) -> None:
    """An event, a removal, a move."""
    take(cache, "b", "f")
    outdate(cache)

    assert cache.lookup("d/c") is None
    assert cache.lookup("d/d") is None


def test_whole_listing_takes_the_place_of_pages(cache: MetadataCache) -> None:
    """It tells more, and is newer."""
    take(cache, "b", "f")
    cache.put_listing(cache.begin_listing("d/"), [thing("d/c")])

    assert cache.lookup("d/c") == thing("d/c")
    assert cache.lookup("d/b") is ABSENT


def test_directory_that_lost_names_for_want_of_room_has_no_pages(clock: Clock) -> None:
    """What is not known of any more may be there."""
    cache = MetadataCache(ttl_s=1.0, clock=clock, entries_max=4)
    take(cache, "a", "b", "c", "e", "f", "g")

    found = [cache.lookup(f"d/{name}") for name in "abcefg"]
    assert ABSENT not in found
    assert len(cache) == 4


COMPONENTS = st.text(alphabet="ab-/.0é\U0001f600\udc80", min_size=1, max_size=3).map(
    lambda text: text.replace("/", "") or "a"
)
NAMES = st.builds(lambda name, end: name + end, COMPONENTS, st.sampled_from(["", "/"]))


def by_key(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def by_name(name: str) -> bytes:
    """As SeaweedFS has it: a directory comes where its name does, without a slash."""
    return by_key(name).removesuffix(b"/")


@pytest.mark.parametrize("order", [by_key, by_name])
@given(
    names=st.sets(NAMES, max_size=12),
    asked=st.lists(NAMES, max_size=12),
    size=st.integers(1, 4),
)
def test_nothing_that_is_there_is_absent(
    order: Callable[[str], bytes], names: set[str], asked: list[str], size: int
) -> None:
    """Whatever the pages of whichever store are."""
    cache = MetadataCache(ttl_s=1.0, clock=Clock())
    there = sorted(names, key=order)
    for start in range(0, len(there), size):
        # What is above the stores puts each page in the order of the keys.
        page = sorted(there[start : start + size], key=by_key)
        is_last = start + size >= len(there)
        take(cache, *page, is_first=not start, is_last=is_last, is_sure=False)

    for name in {*names, *asked}:
        is_absent = cache.lookup(f"d/{name}") is ABSENT
        assert not (is_absent and name in names)
        if order is by_key and size >= len(names) and names:
            assert is_absent == (name not in names)
