"""Inode numbers that are kept for the next mount."""

import sqlite3
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache.numberfile import NumberFile
from mountfs.cache.sidefile import GATHER_S


async def kept_in(path: Path, kept_max: int = 100) -> dict[int, tuple[int, int]]:
    """Return what the next mount finds."""
    async with await NumberFile.open(path, kept_max=kept_max) as file:
        return dict(file.kept)


async def test_what_was_noted_is_there_again(tmp_path: Path) -> None:
    """Numbers, and that a place has none of its own any more."""
    path = tmp_path / "inodes.sqlite"
    async with await NumberFile.open(path, kept_max=100) as file:
        file.note(1, (2**63 - 1, 0))
        file.note(2, (20, 3))
        file.note(3, (30, 0))
        file.note(2, None)
        file.note(3, (31, 1))

    assert await kept_in(path) == {1: (2**63 - 1, 0), 3: (31, 1)}


async def test_notes_are_written_while_the_mount_lives(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A daemon that is killed has kept all but the last moments."""
    path = tmp_path / "inodes.sqlite"
    async with await NumberFile.open(path, kept_max=100) as file:
        file.note(1, (10, 0))
        rows: list[tuple[int]] = []
        with sqlite3.connect(path) as other:
            # The clock does not wait for threads, so time may pass before it is there.
            while not rows:
                await trio.sleep(GATHER_S)
                rows = other.execute("SELECT place FROM numbers").fetchall()
        other.close()
        file.note(2, (20, 0))

    assert rows == [(1,)]


@pytest.mark.parametrize("damage", ["garbage", "application", "version"])
async def test_file_of_no_use_is_begun_anew(tmp_path: Path, damage: str) -> None:
    """It costs numbers and nothing else."""
    path = tmp_path / "inodes.sqlite"
    async with await NumberFile.open(path, kept_max=100) as file:
        file.note(1, (10, 0))
    if damage == "garbage":
        path.write_bytes(b"garbage" * 1000)
    else:
        with sqlite3.connect(path) as other:
            name = "application_id" if damage == "application" else "user_version"
            other.execute(f"PRAGMA {name} = 77")
        other.close()

    async with await NumberFile.open(path, kept_max=100) as file:
        found = dict(file.kept)
        file.note(2, (20, 0))

    assert found == {}
    assert await kept_in(path) == {2: (20, 0)}


async def test_file_that_cannot_be_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mount works where its numbers cannot be kept, and says so."""
    caplog.set_level("INFO", logger="mountfs")
    path = tmp_path / "inodes.sqlite"
    path.mkdir()

    async with await NumberFile.open(path, kept_max=100) as file:
        file.note(1, (10, 0))

    assert "are not kept" in caplog.text


async def test_failure_to_write_is_logged_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk costs numbers."""
    caplog.set_level("INFO", logger="mountfs")
    path = tmp_path / "inodes.sqlite"
    async with await NumberFile.open(path, kept_max=100) as file:
        with sqlite3.connect(path) as other:
            other.execute("DROP TABLE numbers")
        other.close()
        file.note(1, (10, 0))

    assert "other inode numbers" in caplog.text
