"""What was learnt, kept on the disk: found again, checked, bounded, thrown away."""

import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from mountfs.cache import learnt as module
from mountfs.cache.learnt import HAS_ATTRIBUTES, Learnt
from mountfs.storage.types import Attributes, Metadata, Object, ObjectKind, Version

GATES = "al"
SOME = Attributes(mode=0o100640, uid=7, xattrs={b"user.\xff": b"\x00"})


def listed(key: str, content: str = "etag") -> Object:
    return Object(key=key, size=3, mtime_ns=5, version=Version(content, "5"))


def known(key: str, content: str = "etag") -> Object:
    return replace(listed(key, content), metadata=Metadata(attributes=SOME))


def spoil_pages(path: Path, first: int) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(first * 4096)
        file.write(b"\xff" * (size - first * 4096))


def size_of(path: Path) -> int:
    return path.stat().st_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learnt.sqlite"


async def test_what_was_noted_is_found_by_the_next_mount(path: Path) -> None:
    """Attributes survive, bytes that are not UTF-8 in keys and names included."""
    key = "d/\udcff"
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known(key))
        learnt.note_sample("e/", 17)
    async with await Learnt.open(path, GATES) as learnt:
        found = await learnt.completed("d/", [listed(key), listed("d/other")])
        until = await learnt.sampled_until("e/"), await learnt.sampled_until("f/")

    assert found.keys() == {key}
    assert found[key].attributes == SOME
    assert until == (17, None)


async def test_what_waits_to_be_written_is_found(path: Path) -> None:
    """Nobody needs to wait for the disk."""
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a"))
        learnt.note_sample("d/", 17)
        assert "d/a" in await learnt.completed("d/", [listed("d/a")])
        assert await learnt.sampled_until("d/") == 17


async def test_newest_note_counts(path: Path) -> None:
    """An older state of an object is forgotten for a newer one."""
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a", "old"))
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a", "new"))
    async with await Learnt.open(path, GATES) as learnt:
        assert await learnt.completed("d/", [listed("d/a", "old")]) == {}
        assert len(await learnt.completed("d/", [listed("d/a", "new")])) == 1


@pytest.mark.parametrize("few", [0, 200], ids=["whole", "one by one"])
async def test_directory_is_asked_by_itself(
    path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of directories below have places of their own, however they are asked."""
    monkeypatch.setattr(module, "FEW", few)
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a"))
        learnt.note(known("d/sub/a", "below"))
    async with await Learnt.open(path, GATES) as learnt:
        assert await learnt.completed("d/", [listed("d/a", "below")]) == {}
        assert len(await learnt.completed("d/", [listed("d/a")])) == 1
        assert len(await learnt.completed("d/sub/", [listed("d/sub/a", "below")])) == 1
        assert await learnt.completed("", [listed("d/a")]) == {}


async def test_of_directories_only_that_they_have_attributes_is_kept(
    path: Path,
) -> None:
    """A listing shows no state of a directory, so nothing else could be checked."""
    marker = replace(known("d/sub/"), kind=ObjectKind.DIRECTORY)
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(marker)
        learnt.note(replace(known("e/sub/"), kind=ObjectKind.DIRECTORY, metadata=None))
    async with await Learnt.open(path, GATES) as learnt:
        assert await learnt.completed("d/", [listed("d/sub/")]) == {}
        assert await learnt.sampled_until("d/") == HAS_ATTRIBUTES
        assert await learnt.sampled_until("e/") is None


async def test_file_that_is_damaged_is_begun_anew(path: Path) -> None:
    """It is cache: nothing is lost with it but requests."""
    async with await Learnt.open(path, GATES):
        pass
    spoil_pages(path, 0)
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a"))
    async with await Learnt.open(path, GATES) as learnt:
        assert len(await learnt.completed("d/", [listed("d/a")])) == 1


@pytest.mark.parametrize(
    "spoil",
    ["PRAGMA user_version = 99", "PRAGMA application_id = 1", "DROP TABLE about"],
)
async def test_file_of_somebody_else_is_begun_anew(
    path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another format or another program: one line in the log, and a new file."""
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a"))
    connection = sqlite3.connect(path)
    connection.execute(spoil)
    connection.close()

    with caplog.at_level(logging.INFO, module.__name__):
        async with await Learnt.open(path, GATES) as learnt:
            assert await learnt.completed("d/", [listed("d/a")]) == {}
    assert len(caplog.records) == 1


async def test_what_other_gates_have_read_does_not_count(path: Path) -> None:
    """A mount with other gates begins anew."""
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a"))
    async with await Learnt.open(path, "alx") as learnt:
        assert await learnt.completed("d/", [listed("d/a")]) == {}


async def test_record_that_is_damaged_counts_for_nothing(path: Path) -> None:
    """The others are still believed."""
    async with await Learnt.open(path, GATES) as learnt:
        learnt.note(known("d/a"))
        learnt.note(known("d/b"))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE records SET record = '{' WHERE name = ?", (b"a",))
    connection.close()

    async with await Learnt.open(path, GATES) as learnt:
        found = await learnt.completed("d/", [listed("d/a"), listed("d/b")])
    assert found.keys() == {"d/b"}


async def test_place_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """Where there can be no file at all, the mount is told."""
    with pytest.raises(OSError, match="unable to open"):
        await Learnt.open(tmp_path / "missing" / "learnt.sqlite", GATES)


async def test_file_is_bounded_and_the_oldest_go_first(path: Path) -> None:
    """However much is learnt, the file stays within its limit."""
    size_max = 256 << 10
    for batch in range(10):
        async with await Learnt.open(path, GATES, size_max=size_max) as learnt:
            for number in range(500):
                learnt.note(known(f"d/{batch}-{number:03}"))
    assert size_of(path) < 2 * size_max

    async with await Learnt.open(path, GATES) as learnt:
        last = [listed(f"d/9-{number:03}") for number in range(500)]
        assert len(await learnt.completed("d/", last)) > 250
        assert await learnt.completed("d/", [listed("d/0-000")]) == {}


async def test_samples_alone_are_bounded_too(path: Path) -> None:
    """A file full of samples is emptied of them."""
    async with await Learnt.open(path, GATES, size_max=64 << 10) as learnt:
        for number in range(5000):
            learnt.note_sample(f"some/directory/{number}/", number)
    assert size_of(path) < 512 << 10
    async with await Learnt.open(path, GATES) as learnt:
        assert await learnt.sampled_until("some/directory/1/") is None


async def test_notes_that_wait_are_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is slower than the store, new notes are dropped."""
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    async with await Learnt.open(path, GATES) as learnt:
        for name in "abc":
            learnt.note(known(f"d/{name}"))
            learnt.note_sample(f"{name}/", 1)
        found = await learnt.completed("d/", [listed(f"d/{name}") for name in "abc"])
    assert found.keys() == {"d/a", "d/b"}


async def test_file_that_fails_is_given_up_and_removed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file found damaged while in use costs one warning and is not used again."""
    async with await Learnt.open(path, GATES) as learnt:
        for number in range(2000):
            learnt.note(known(f"d/{number}"))
    spoil_pages(path, 8)

    entries = [listed(f"d/{number}") for number in range(2000)]
    async with await Learnt.open(path, GATES) as learnt:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(learnt.completed, "d/", entries)
        learnt.note(known("d/a"))
        assert await learnt.completed("d/", entries) == {}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    with pytest.raises(FileNotFoundError):
        size_of(path)


async def test_failure_beside_it_comes_out_as_it_is(path: Path) -> None:
    """What goes wrong in the body is not wrapped, and what was noted is kept."""

    async def fail() -> None:
        async with await Learnt.open(path, GATES) as learnt:
            learnt.note(known("d/a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with await Learnt.open(path, GATES) as learnt:
        assert len(await learnt.completed("d/", [listed("d/a")])) == 1
