"""The journal: what was noted is there again, and nothing is ever harmed."""

import errno
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from mountfs.cache import journal as journal_module
from mountfs.cache.journal import (
    AliasRow,
    FailedFile,
    Journal,
    JournaledUpload,
    PendingRow,
    Rename,
)
from mountfs.cache.journalfile import JournalError, JournalFull
from mountfs.fuse.errnos import errno_of

STRANGE = "dir/\udcff\n%ä"


async def test_everything_noted_is_there_after_reopening(tmp_path: Path) -> None:
    """Renames, uploads and failed files survive, keys of any bytes included."""
    path = tmp_path / "deep" / "journal.sqlite"
    failed = FailedFile("x.spool", STRANGE, 5, "{}")
    upload = JournaledUpload(STRANGE, "id", "commit")
    async with await Journal.open(path) as journal:
        first = await journal.begin_rename("a/", STRANGE + "/")
        second = await journal.begin_rename("b/", "c/", "copying")
        await journal.set_phase(first, "deleting")
        await journal.add_failed(failed)
        await journal.add_upload(upload)
        await journal.add_upload(JournaledUpload("a", "id"))

    async with await Journal.open(path) as journal:
        assert await journal.renames() == (
            Rename(first, "a/", STRANGE + "/", "deleting"),
            Rename(second, "b/", "c/", "copying"),
        )
        assert await journal.failed() == (failed,)
        assert set(await journal.uploads()) == {upload, JournaledUpload("a", "id")}

        await journal.end_rename(first)
        await journal.end_failed("x.spool")
        await journal.end_upload(STRANGE, "id")
        assert [rename.id for rename in await journal.renames()] == [second]
        assert await journal.failed() == ()
        assert await journal.uploads() == (JournaledUpload("a", "id"),)


async def test_each_call_is_synced(tmp_path: Path) -> None:
    """The file is written ahead and with full synchronisation."""
    async with await Journal.open(tmp_path / "j") as journal:
        connection = journal._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def make(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await journal.begin_rename("a/", "b/")


async def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    """What a newer version wrote is not ours to change."""
    path = tmp_path / "j"
    await make(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(JournalError, match="newer mountfs"):
        await Journal.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"\x00" * 4096])
async def test_a_damaged_journal_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    """Bytes that are no database are neither overwritten nor deleted."""
    path = tmp_path / "j"
    path.write_bytes(content)

    with pytest.raises(JournalError, match="left as it is"):
        await Journal.open(path)
    assert path.read_bytes() == content


async def test_pages_that_are_damaged_are_found(tmp_path: Path) -> None:
    """Damage in the midst of the file is found at opening."""
    path = tmp_path / "j"
    await make(path)
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\x7f" * 4096
    path.write_bytes(content)

    with pytest.raises(JournalError, match="damaged"):
        await Journal.open(path)


async def test_a_failing_disk_is_no_damage(tmp_path: Path) -> None:
    """Nobody is told to move a journal away that is in order."""
    path = tmp_path / "j"
    await make(path)
    (tmp_path / "j-wal").mkdir()  # SQLite fails there as on a disk without room

    with pytest.raises(JournalError, match="cannot be used") as caught:
        await Journal.open(path)

    assert "away" not in str(caught.value)
    (tmp_path / "j-wal").rmdir()
    async with await Journal.open(path) as journal:
        assert len(await journal.renames()) == 1


async def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    """A database that is not ours is not used."""
    path = tmp_path / "j"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (name)")
        connection.commit()

    with pytest.raises(JournalError, match="no journal of mountfs"):
        await Journal.open(path)


async def test_a_place_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """A directory in its place, or a file in the place of its directory."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "j"):
        with pytest.raises(JournalError):
            await Journal.open(path)


async def test_a_failing_disk_is_an_error_of_the_journal(tmp_path: Path) -> None:
    """What SQLite says arrives as an error that the caller knows."""
    async with await Journal.open(tmp_path / "j") as journal:
        journal._connection.execute("DROP TABLE renames")
        with pytest.raises(JournalError, match="the journal failed"):
            await journal.renames()


async def test_calls_that_come_together_share_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with await Journal.open(path) as journal, trio.open_nursery() as nursery:
        for number in range(100):
            row = PendingRow(number, f"key {number}", "{}", b"bytes")
            nursery.start_soon(journal.change_pending, [row])
    with sqlite3.connect(path) as connection:
        count = connection.execute("SELECT count(*) FROM pending").fetchone()[0]
    assert count == 100


async def test_who_is_cancelled_while_the_journal_writes_still_knows_the_end(
    tmp_path: Path,
) -> None:
    """Whether it leads a transaction or shares one of somebody else."""
    noted: list[int] = []

    async def note(journal: Journal, number: int) -> None:
        await journal.change_pending([PendingRow(number, "key", "{}")])
        noted.append(number)

    async with await Journal.open(tmp_path / "j") as journal:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for number in range(1, 5):
                    nursery.start_soon(note, journal, number)
                scope.cancel()
        assert sorted(noted) == [row.id for row in await journal.pending()]
        assert len(noted) == 4


async def test_nobody_is_told_of_success_if_there_is_no_thread_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither who leads a transaction nor who was to share it; later there is one."""
    refused: list[int] = []
    start = trio.lowlevel.start_thread_soon

    def refuse_the_second(*args: Any) -> None:
        starts.append(0)
        if len(starts) == 2:
            raise RuntimeError("can't start new thread")
        start(*args)

    async def note(journal: Journal, number: int) -> None:
        try:
            await journal.change_pending([PendingRow(number, "key", "{}")])
        except JournalError:
            refused.append(number)

    async with await Journal.open(tmp_path / "j") as journal:
        starts: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(trio.lowlevel, "start_thread_soon", refuse_the_second)
            async with trio.open_nursery() as nursery:
                for number in range(1, 5):
                    nursery.start_soon(note, journal, number)
        await note(journal, 5)
        noted = [row.id for row in await journal.pending()]

    assert len(refused) == 3
    assert sorted(refused + noted) == [1, 2, 3, 4, 5]


async def test_one_bad_change_does_not_fail_those_that_came_with_it(
    tmp_path: Path,
) -> None:
    errors: list[JournalError] = []

    async def change(journal: Journal, row: PendingRow) -> None:
        try:
            await journal.change_pending([row])
        except JournalError as error:
            errors.append(error)

    async with await Journal.open(tmp_path / "journal.sqlite") as journal:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                state = None if number == 5 else "{}"
                row = PendingRow(number, "key", state)  # type: ignore[arg-type]
                nursery.start_soon(change, journal, row)
        kept = [row.id for row in await journal.pending()]
    assert kept == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert len(errors) == 1


async def test_pending_states_change_all_at_once_and_survive(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with await Journal.open(path) as journal:
        await journal.change_pending([PendingRow(1, "a\udcff", "{}", b"\0x")])
        await journal.change_pending(
            [PendingRow(2, "b", "{}")], [1], [AliasRow("~t", "etag", None)]
        )
    async with await Journal.open(path) as journal:
        assert await journal.pending() == (PendingRow(2, "b", "{}"),)
        assert await journal.aliases() == (AliasRow("~t", "etag", None),)
        await journal.forget_aliases()
        assert await journal.aliases() == ()


def test_a_full_disk_is_told_from_a_failing_journal() -> None:
    """A journal that finds no room says so, in the words that programs get."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")

    assert isinstance(journal_module._translated(caught.value), JournalFull)
    assert errno_of(journal_module._translated(caught.value)) == errno.ENOSPC
    assert (
        errno_of(journal_module._translated(sqlite3.ProgrammingError("x"))) == errno.EIO
    )


async def test_who_shares_a_transaction_is_told_of_any_error(tmp_path: Path) -> None:
    outcomes: list[str] = []

    async def put(journal: Journal, id: int) -> None:
        try:
            await journal.change_pending([PendingRow(id, "key", "{}")])
        except OverflowError:
            outcomes.append("refused")
        else:
            outcomes.append("done")

    async with await Journal.open(tmp_path / "journal.sqlite") as journal:
        async with trio.open_nursery() as nursery:
            for id in (1, 2, 1 << 70, 3):
                nursery.start_soon(put, journal, id)
        assert sorted(outcomes) == ["done", "done", "done", "refused"]
        assert [row.id for row in await journal.pending()] == [1, 2, 3]


async def test_what_is_owed_is_tried_together(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However much a disk that is full leaves over: each change tries all of it."""
    caplog.set_level("INFO", logger=journal_module.__name__)
    tries: list[int] = []

    def full(_: sqlite3.Connection, turns: list[journal_module._Turn]) -> None:
        tries.append(len(turns))
        for turn in turns:
            turn.error = sqlite3.OperationalError("database or disk is full")

    async with await Journal.open(tmp_path / "journal.sqlite") as journal:
        ids = [await journal.begin_rename(f"{n}/", "to/") for n in range(20)]
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "_transact", full)
            for id in ids:
                await journal.end_rename(id)
        left = await journal.renames()

    assert max(tries) == 2
    assert left == ()
    assert caplog.text.count("go later") == 1
