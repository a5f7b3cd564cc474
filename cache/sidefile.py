"""SQLite files that may be lost: opened, or begun anew when they are of no use.

What is noted in one is collected in memory, and written by a task of its own, many
notes at once, in a worker thread.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, TypeVar

import trio

from mountfs.cache.hop import in_thread

T = TypeVar("T")

GATHER_S = 0.5


class Useless(Exception):
    """The file is not what is needed, and is to be begun anew."""


class SideFile(ABC):
    """A file whose notes are written behind, for as long as it is entered."""

    def __init__(self) -> None:
        self._thread = trio.CapacityLimiter(1)
        self._wake = trio.Event()
        self._closing = trio.Event()
        self._stack = AsyncExitStack()

    @property
    @abstractmethod
    def _is_waiting(self) -> bool:
        """Whether there are notes that are not written."""

    @abstractmethod
    async def _write_waiting(self) -> None:
        """Write the notes that wait. What goes wrong costs those."""

    @abstractmethod
    async def _close(self) -> None:
        """Close the file; nothing waits any more."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(self._write_on)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what waits, and close the file."""
        self._closing.set()
        self._wake.set()
        await self._stack.aclose()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Use the file in a thread, one call at a time.

        Raises `OSError` if there can be no thread: that must not end the mount.
        """
        async with self._thread:
            return await in_thread(call)

    async def _write_on(self) -> None:
        while self._is_waiting or not self._closing.is_set():
            await self._wake.wait()  # set at the end, too
            with trio.move_on_after(GATHER_S):
                await self._closing.wait()
            self._wake = trio.Event()
            await self._write_waiting()


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
