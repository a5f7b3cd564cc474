"""What is known of keys: freshness, listings, and our own changes during one."""

import pytest

from mountfs.cache.metadata import MetadataCache, split_key
from mountfs.storage.types import ABSENT, Metadata, Object, ObjectKind, Version


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


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


def test_a_listing_goes_with_the_first_name_that_is_evicted(clock: Clock) -> None:
    """A bounded cache never shows an incomplete directory as complete."""
    cache = MetadataCache(ttl_s=1.0, entries_max=2, clock=clock)
    cache.put_listing(cache.begin_listing("d/"), [file("d/a"), file("d/b")])
    cache.put(file("e"))

    assert cache.listing("d/") is None
    assert cache.lookup("d/zzz") is None


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
