"""What must survive this process: failed files, open uploads, operations under way.

SQLite in WAL mode, `synchronous=FULL`: a call that returned has been synced. One
connection, in one worker thread at a time. Calls that come while it is busy share the
next transaction, and so one sync (group commit). Keys are stored as the bytes that they
stand for, because a key may hold bytes that are not UTF-8.

What its tables are is read in `mountfs.cache.journalfile`.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import trio

from mountfs.cache.hop import in_thread
from mountfs.cache.journalfile import JournalError, JournalFull, open_journal
from mountfs.cache.phases import reached

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], object]
"""What is to be done within a transaction."""
Row = tuple[bytes | str | int | None, ...]


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file whose bytes wait in the spool; `state` is a JSON text."""

    spool: str
    key: str
    size: int
    state: str


@dataclass(frozen=True, slots=True)
class JournaledUpload:
    """A multipart upload that may still be open in the store."""

    key: str
    id: str
    commit_id: str | None = None
    spool: str | None = None
    """The spool file whose bytes it holds, if it can be gone on with."""
    pieces: str | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """A multipart upload that was about to be opened: perhaps it is open."""

    commit_id: str
    key: str
    begun_ns: int


@dataclass(frozen=True, slots=True)
class Rename:
    """A rename that was begun. What the phases are is up to who renames."""

    id: int
    source: str
    target: str
    phase: str


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A change of a file with several names that was begun."""

    id: int
    group: str
    key: str
    phase: str


@dataclass(frozen=True, slots=True)
class LaterLinkRow:
    """A second name of a file that the store is to have."""

    id: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A state that a key is to have in the store; `state` is a JSON text."""

    id: int
    key: str
    state: str
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class AliasRow:
    """What a token for the version of a pending object turned out to be."""

    token: str
    content: str
    attributes: str | None


@dataclass(slots=True, eq=False)
class _Turn:
    """Work that waits for its transaction."""

    work: Work
    begins: trio.Event | None = None
    """Set when somebody else has done it, or when it is its turn to lead."""
    is_leader: bool = False
    result: object = None
    error: Exception | None = None


class Journal:
    """The journal of one store. Open it with `Journal.open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = trio.CapacityLimiter(1)
        self._turns: list[_Turn] = []
        self._owed: list[Work] = []
        """What could not be taken out, and nobody waits for."""
        self._is_busy = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the journal at `path`, or begin one.

        Raises `JournalError` if it is damaged or of a newer version, or if the file
        cannot be used.
        """
        return cls(await trio.to_thread.run_sync(open_journal, path))

    async def close(self) -> None:
        """Close the file. No other call may follow."""
        if self._owed:
            with contextlib.suppress(JournalError):
                await self.answers()  # and with it go the rows that are owed
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._connection.close, limiter=self._thread)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def answers(self) -> bool:
        """Return True when it has been asked something, in its turn, and answered."""
        return bool(await self._execute("SELECT 1"))

    async def begin_rename(self, source: str, target: str, phase: str = "begun") -> int:
        """Note a rename before its first effect; return its number."""
        rows = await self._execute(
            "INSERT INTO renames (source, target, phase) VALUES (?, ?, ?) RETURNING id",
            (_encode(source), _encode(target), phase),
        )
        return _number(rows[0][0])

    async def set_phase(self, id: int, phase: str) -> None:
        """Note how far a rename has come."""
        await self._execute("UPDATE renames SET phase = ? WHERE id = ?", (phase, id))

    async def end_rename(self, id: int) -> None:
        """Forget a rename that is finished."""
        await self._end("DELETE FROM renames WHERE id = ?", (id,))

    async def renames(self) -> tuple[Rename, ...]:
        """Return the renames that were begun and not finished, oldest first."""
        rows = await self._execute(
            "SELECT id, source, target, phase FROM renames ORDER BY id"
        )
        return tuple(
            Rename(_number(id), _decode(source), _decode(target), str(phase))
            for id, source, target, phase in rows
        )

    async def begin_link(self, group: str, key: str, phase: str) -> int:
        """Note a change of a group of hard links before its first effect."""
        rows = await self._execute(
            'INSERT INTO links ("group", key, phase) VALUES (?, ?, ?) RETURNING id',
            (group, _encode(key), phase),
        )
        return _number(rows[0][0])

    async def end_link(self, id: int) -> None:
        """Forget a change of a group that is finished."""
        await self._end("DELETE FROM links WHERE id = ?", (id,))

    async def links(self) -> tuple[LinkChange, ...]:
        """Return the changes of groups that were begun and not finished."""
        rows = await self._execute(
            'SELECT id, "group", key, phase FROM links ORDER BY id'
        )
        return tuple(
            LinkChange(_number(id), str(group), _decode(key), str(phase))
            for id, group, key, phase in rows
        )

    async def begin_later_link(self, source: str, target: str) -> int:
        """Note that a key is to be the same file as another."""
        rows = await self._execute(
            "INSERT INTO later_links (source, target) VALUES (?, ?) RETURNING id",
            (_encode(source), _encode(target)),
        )
        return _number(rows[0][0])

    async def end_later_link(self, id: int) -> None:
        """Forget a second name that the store has, or that is not wanted any more."""
        await self._end("DELETE FROM later_links WHERE id = ?", (id,))

    async def later_links(self) -> tuple[LaterLinkRow, ...]:
        """Return the second names that the store is to have."""
        rows = await self._execute(
            "SELECT id, source, target FROM later_links ORDER BY id"
        )
        return tuple(
            LaterLinkRow(_number(id), _decode(source), _decode(target))
            for id, source, target in rows
        )

    async def begin_upload(self, intent: Intent) -> None:
        """Note a multipart upload before it is opened."""
        await self._execute(
            "INSERT OR REPLACE INTO intents (commit_id, key, begun_ns) "
            "VALUES (?, ?, ?)",
            (intent.commit_id, _encode(intent.key), intent.begun_ns),
        )

    async def end_intent(self, commit_id: str) -> None:
        """Forget an upload that is known not to be open."""
        await self._end("DELETE FROM intents WHERE commit_id = ?", (commit_id,))

    async def intents(self) -> tuple[Intent, ...]:
        """Return the uploads of which nobody knows whether they were opened."""
        rows = await self._execute("SELECT commit_id, key, begun_ns FROM intents")
        return tuple(
            Intent(str(commit_id), _decode(key), _number(begun_ns))
            for commit_id, key, begun_ns in rows
        )

    async def add_upload(
        self, upload: JournaledUpload, intent: str | None = None
    ) -> None:
        """Note a multipart upload that was opened; its intent has come true."""
        row = (
            upload.id,
            _encode(upload.key),
            upload.commit_id,
            upload.spool,
            upload.pieces,
        )

        def add(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM intents WHERE commit_id = ?", (intent,))
            connection.execute(
                "INSERT OR REPLACE INTO uploads (id, key, commit_id, spool, pieces) "
                "VALUES (?, ?, ?, ?, ?)",
                row,
            )

        await self._work(add)

    async def note_parts(self, key: str, id: str, pieces: str) -> None:
        """Note which parts of an upload have arrived, if it is to be gone on with."""
        await self._execute(
            "UPDATE uploads SET pieces = ? "
            "WHERE id = ? AND key = ? AND pieces IS NOT NULL",
            (pieces, id, _encode(key)),
        )

    async def give_up_upload(self, key: str, id: str) -> None:
        """Note that an upload is not to be gone on with: its bytes will change."""
        await self._execute(
            "UPDATE uploads SET spool = NULL, pieces = NULL WHERE id = ? AND key = ?",
            (id, _encode(key)),
        )

    async def end_upload(self, key: str, id: str) -> None:
        """Forget an upload that is complete or gone."""
        await self._end(
            "DELETE FROM uploads WHERE id = ? AND key = ?", (id, _encode(key))
        )

    async def uploads(self) -> tuple[JournaledUpload, ...]:
        """Return the uploads that may still be open."""
        rows = await self._execute(
            "SELECT key, id, commit_id, spool, pieces FROM uploads"
        )
        return tuple(
            JournaledUpload(
                _decode(key),
                str(id),
                _text_or_none(commit_id),
                _text_or_none(spool),
                _text_or_none(pieces),
            )
            for key, id, commit_id, spool, pieces in rows
        )

    async def add_failed(
        self, failed: FailedFile, instead_of: str | None = None
    ) -> None:
        """Note a file whose bytes wait in the spool, already synced.

        `instead_of` is another spool file, of which nothing is noted any more.
        """
        row = (failed.spool, _encode(failed.key), failed.size, failed.state)

        def add(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM failed WHERE spool = ?", (instead_of,))
            connection.execute(
                "INSERT OR REPLACE INTO failed (spool, key, size_bytes, state) "
                "VALUES (?, ?, ?, ?)",
                row,
            )

        await self._work(add)

    async def end_failed(self, spool: str) -> None:
        """Forget a file that is stored or given up."""
        await self._execute("DELETE FROM failed WHERE spool = ?", (spool,))

    async def failed(self) -> tuple[FailedFile, ...]:
        """Return the files whose bytes wait in the spool."""
        rows = await self._execute("SELECT spool, key, size_bytes, state FROM failed")
        return tuple(
            FailedFile(str(spool), _decode(key), _number(size), str(state))
            for spool, key, size, state in rows
        )

    async def change_pending(
        self,
        put: Iterable[PendingRow] = (),
        drop: Iterable[int] = (),
        aliases: Iterable[AliasRow] = (),
        *,
        ended_link: int | None = None,
    ) -> None:
        """Take in new pending states and give up others, all or none of it.

        With them ends a later link, if its second name becomes its only one.
        """
        dropped = [(id,) for id in drop]
        rows = [(row.id, _encode(row.key), row.state, row.content) for row in put]
        learnt = [(each.token, each.content, each.attributes) for each in aliases]
        ended = [] if ended_link is None else [(ended_link,)]

        statements = (
            ("DELETE FROM pending WHERE id = ?", dropped),
            (
                "INSERT OR REPLACE INTO pending (id, key, state, bytes) "
                "VALUES (?, ?, ?, ?)",
                rows,
            ),
            (
                "INSERT OR REPLACE INTO aliases (token, content, attributes) "
                "VALUES (?, ?, ?)",
                learnt,
            ),
            ("DELETE FROM later_links WHERE id = ?", ended),
        )

        def change(connection: sqlite3.Connection) -> None:
            for statement, values in statements:
                if values:
                    connection.executemany(statement, values)

        if any(values for _, values in statements):
            await self._work(change)

    async def pending(self) -> tuple[PendingRow, ...]:
        """Return the pending states, oldest first."""
        rows = await self._execute(
            "SELECT id, key, state, bytes FROM pending ORDER BY id"
        )
        return tuple(
            PendingRow(_number(id), _decode(key), str(state), _bytes_or_none(content))
            for id, key, state, content in rows
        )

    async def aliases(self) -> tuple[AliasRow, ...]:
        """Return what is known of the tokens in pending states."""
        rows = await self._execute("SELECT token, content, attributes FROM aliases")
        return tuple(
            AliasRow(str(token), str(content), None if own is None else str(own))
            for token, content, own in rows
        )

    async def forget_aliases(self, tokens: Iterable[str] | None = None) -> None:
        """Forget tokens that nothing pending names; all, if none are given."""
        if tokens is None:
            await self._execute("DELETE FROM aliases")
            return
        rows = [(token,) for token in tokens]

        def forget(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM aliases WHERE token = ?", rows)

        await self._work(forget)

    async def _end(self, statement: str, values: Row) -> None:
        """Take out the row of what is over, now or before the next change.

        What is over must not fail for a disk that is full: who was told so would do it
        again, and meet its own effect. A crash before the row is gone is that of a
        crash before this call.
        """

        def end(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        try:
            await self._work(end)
        except JournalError as error:
            if not self._owed:  # once, not for each: a disk stays full for long
                log.info("rows of the journal go later: %s", error)
            self._owed.append(end)

    async def _execute(self, statement: str, values: Row = ()) -> list[Row]:
        def execute(connection: sqlite3.Connection) -> list[Row]:
            return connection.execute(statement, values).fetchall()

        return await self._work(execute)

    async def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work in a transaction, which it may share; return when it is synced.

        Who waits for that is not cancelled meanwhile.
        Who finds the connection idle leads: it does the work of all who came by then,
        and hands over to one of those who came since.
        """
        turn = _Turn(work)
        self._turns.append(turn)
        if self._is_busy:
            turn.begins = trio.Event()
            with trio.CancelScope(shield=True):
                await turn.begins.wait()
        else:
            turn.is_leader = self._is_busy = True
        if turn.is_leader:  # nothing cancels a hop, so it needs no shield
            await self._lead()
        if isinstance(turn.error, sqlite3.Error):
            raise _translated(turn.error) from turn.error
        if turn.error is not None:
            raise turn.error
        return turn.result  # type: ignore[return-value]  # of this work, so a T

    async def _lead(self) -> None:
        turns, self._turns = self._turns, []
        owed, self._owed = self._owed, []
        # One turn, however many they are: on a full disk all are tried each time.
        debts = [_Turn(partial(_do_all, owed))] if owed else []
        try:
            await in_thread(partial(_transact, self._connection, [*debts, *turns]))
        except OSError as error:  # it was not begun
            for turn in (*debts, *turns):  # nobody must believe that it is done
                turn.error = JournalError(f"the journal failed: {error}")
        finally:
            if debts and debts[0].error is not None:
                self._owed = [*owed, *self._owed]
            self._is_busy = bool(self._turns)
            if self._turns:
                self._turns[0].is_leader = True
            for turn in (*self._turns[:1], *turns):
                if turn.begins is not None:
                    turn.begins.set()


def _transact(connection: sqlite3.Connection, turns: list[_Turn]) -> None:
    """Do the work of all turns in one transaction.

    Crash before the commit: nothing of it happened, and nobody was told that it had.
    If something of it fails, each is done by itself, and whose it is gets the error.
    """
    try:
        with connection:
            for turn in turns:
                turn.result = turn.work(connection)
            reached("journal.before-commit")
        reached("journal.committed")
    except Exception as error:  # noqa: BLE001 - told to each whose work it was
        # Of whatever sort: nobody who shared it must believe that it is done.
        if len(turns) == 1:
            turns[0].error = error
            return
        for turn in turns:
            _transact(connection, [turn])


def _do_all(works: Sequence[Work], connection: sqlite3.Connection) -> None:
    for work in works:
        work(connection)


def _translated(error: sqlite3.Error) -> JournalError:
    # Errors of the Python module itself have no code.
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return JournalFull("the disk of the state directory is full")
    return JournalError(f"the journal failed: {error}")


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _bytes_or_none(value: object) -> bytes | None:
    assert value is None or isinstance(value, bytes)
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _encode(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _decode(key: object) -> str:
    assert isinstance(key, bytes)
    return key.decode("utf-8", "surrogateescape")
