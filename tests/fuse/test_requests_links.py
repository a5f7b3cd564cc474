"""What hard links and exchanges cost on the wire."""

from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.counting import Counted, CountingShim
from tests.fuse.stores import Store
from tests.fuse.test_directories import RENAME_EXCHANGE, rename_with_flags

GATES = "--virtual=dir,link,move,append,object-metadata,hard-link"


@pytest.fixture
def linked(
    mounter: Mounter, counted_store: Store, counting_shim: CountingShim
) -> Counted:
    """A mount with hard links, counted."""
    mount = mounter(counted_store, GATES, "--ttl=3600")
    return Counted(mount, counted_store, counting_shim)


def test_first_link(linked: Counted) -> None:
    """A file that becomes two is marked and copied; its record is made and filled."""
    one = linked.path / "one"
    one.write_bytes(b"bytes")
    (linked.path / "two").exists()

    with linked.requests() as asked:
        (linked.path / "two").hardlink_to(one)

    assert asked == {"PutObject": 2, "CopyObject": 2}


def test_link_of_a_file_that_has_some(linked: Counted) -> None:
    """One more name is a copy and an entry in the record."""
    names = link_three(linked.path)
    (linked.path / "four").exists()

    with linked.requests() as asked:
        (linked.path / "four").hardlink_to(names[0])

    assert asked == {"PutObject": 1, "CopyObject": 1}


def test_writing_a_file_of_three_names(linked: Counted) -> None:
    """Bytes go up once; the store copies them to the other names."""
    names = link_three(linked.path)

    with linked.requests() as asked:
        names[1].write_bytes(b"other bytes")

    assert asked == {"PutObject": 2, "CopyObject": 2}
    assert asked.sent("PutObject") < 1000


def test_mode_of_a_file_of_three_names(linked: Counted) -> None:
    """A change of attributes is a copy of each object onto itself, and a look."""
    names = link_three(linked.path)

    with linked.requests() as asked:
        names[1].chmod(0o600)

    assert asked == {"CopyObject": 3, "GetObject": 1}


def test_unlinking_one_of_three_names(linked: Counted) -> None:
    """The object is deleted, the record changed."""
    names = link_three(linked.path)

    with linked.requests() as asked:
        names[0].unlink()

    assert asked == {"DeleteObject": 1, "PutObject": 1}


def test_reading_and_listing_linked_files_is_free(linked: Counted) -> None:
    """Once known, a file of several names costs what any file costs."""
    names = link_three(linked.path)

    with linked.requests() as asked:
        assert {name.read_bytes() for name in names} == {b"bytes"}
        assert {name.stat().st_nlink for name in names} == {3}

    assert asked == {}


def test_exchange_of_two_files(linked: Counted) -> None:
    """Three moves, over a key aside."""
    one, two = linked.path / "one", linked.path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")

    with linked.requests() as asked:
        rename_with_flags(one, two, RENAME_EXCHANGE)

    assert asked == {"CopyObject": 3, "DeleteObject": 3, "ListObjectsV2": 1}


def link_three(directory: Path) -> list[Path]:
    """Make one file of three names."""
    names = [directory / name for name in ("one", "two", "three")]
    names[0].write_bytes(b"bytes")
    for name in names[1:]:
        name.hardlink_to(names[0])
    return names
