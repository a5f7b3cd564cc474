"""SQLite files that may be lost: opened, or begun anew when they are of no use."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Useless(Exception):
    """The file is not what is needed, and is to be begun anew."""


def opened(
    path: Path, prepare: Callable[[sqlite3.Connection], T]
) -> tuple[sqlite3.Connection, T]:
    """Open a file and prepare it; it is closed again if that fails."""
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        return connection, prepare(connection)
    except BaseException:
        connection.close()
        raise


def begin(
    connection: sqlite3.Connection, *, application_id: int, format: int, schema: str
) -> bool:
    """Make the tables if there are none; tell whether they were made.

    Raises `Useless` for the file of another program, or of another format.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and pragma(connection, "application_id") != application_id:
        raise Useless("it is of another program")
    if tables and pragma(connection, "user_version") != format:
        raise Useless("it is of another version of mountfs")
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    # A power cut costs the newest notes, and nothing else.
    connection.execute("PRAGMA synchronous = NORMAL")
    if not tables:
        connection.executescript(
            f"BEGIN; {schema} PRAGMA application_id = {application_id};"
            f" PRAGMA user_version = {format}; COMMIT;"
        )
    return not tables


def remove(path: Path) -> None:
    """Remove a file and what SQLite keeps beside it."""
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a pragma that is a number."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
