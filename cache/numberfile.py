"""Inode numbers that are exceptions, in the state directory, for the next mount.

One SQLite file, written behind. Whatever goes wrong here costs a number and nothing
else: a file that cannot be read is begun anew, one that cannot be written stays as it
is.
"""

import logging
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Self

import trio

from mountfs.cache.sidefile import SideFile, Useless, begin, opened, remove

log = logging.getLogger(__name__)


_APPLICATION_ID = 0x6D6E7469  # "mnti"
_FORMAT = 1
_SCHEMA = """
CREATE TABLE numbers (
    -- Files that do not have the number that their place stands for.
    id INTEGER PRIMARY KEY,   -- grows, so the lowest are the oldest
    place INTEGER NOT NULL UNIQUE,
    number INTEGER NOT NULL,
    generation INTEGER NOT NULL
) STRICT;
"""

Kept = tuple[int, int]
"""A number, and its generation."""


class NumberFile(SideFile):
    """The exceptions of earlier mounts. Open it with `NumberFile.open`."""

    def __init__(
        self, connection: sqlite3.Connection | None, kept: Mapping[int, Kept]
    ) -> None:
        super().__init__()
        self.kept = kept
        """By place, the oldest first."""
        self._connection = connection
        self._waiting: dict[int, Kept | None] = {}

    @classmethod
    async def open(cls, path: Path, *, kept_max: int) -> Self:
        """Open the file, or begin a new one in its place if it is of no use."""
        connection, kept = await trio.to_thread.run_sync(_connect, path, kept_max)
        return cls(connection, kept)

    def note(self, place: int, kept: Kept | None) -> None:
        """Keep the number of a place, or None: it has the one that it stands for."""
        # Those that wait are as many as those in memory at most: they are bounded.
        self._waiting[place] = kept
        self._wake.set()

    @property
    def _is_waiting(self) -> bool:
        return bool(self._waiting)

    async def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        await self._run(partial(self._write, waiting))

    async def _close(self) -> None:
        with trio.CancelScope(shield=True):
            if self._connection is not None:
                await self._run(self._connection.close)

    async def _run(self, deed: Callable[[], object]) -> None:
        try:
            await self._in_thread(deed)
        except (sqlite3.Error, OSError) as error:
            log.info("some files will have other inode numbers: %s", error)

    def _write(self, waiting: Mapping[int, Kept | None]) -> None:
        if self._connection is None:
            return
        gone = [(place,) for place, kept in waiting.items() if kept is None]
        rows = [(place, *kept) for place, kept in waiting.items() if kept is not None]
        with self._connection:
            self._connection.executemany("DELETE FROM numbers WHERE place = ?", gone)
            self._connection.executemany(
                "INSERT OR REPLACE INTO numbers (place, number, generation)"
                " VALUES (?, ?, ?)",
                rows,
            )


def _connect(
    path: Path, kept_max: int
) -> tuple[sqlite3.Connection | None, dict[int, Kept]]:
    """Open the file and read it, or a new one in the place of one that is of no use."""
    prepare = partial(_prepare, kept_max=kept_max)
    try:
        return opened(path, prepare)
    except (sqlite3.Error, Useless) as error:
        log.info("%s is begun anew: %s", path, error)
    try:
        remove(path)
        return opened(path, prepare)
    except (sqlite3.Error, OSError) as error:
        log.info("inode numbers of renamed files are not kept: %s", error)
        return None, {}


def _prepare(connection: sqlite3.Connection, kept_max: int) -> dict[int, Kept]:
    begin(connection, application_id=_APPLICATION_ID, format=_FORMAT, schema=_SCHEMA)
    return _read(connection, kept_max)


def _read(connection: sqlite3.Connection, kept_max: int) -> dict[int, Kept]:
    """Read the newest; what is older than those is of no use any more."""
    with connection:
        connection.execute(
            "DELETE FROM numbers WHERE id NOT IN"
            " (SELECT id FROM numbers ORDER BY id DESC LIMIT ?)",
            (kept_max,),
        )
    rows = connection.execute(
        "SELECT place, number, generation FROM numbers ORDER BY id"
    )
    return {place: (number, generation) for place, number, generation in rows}
