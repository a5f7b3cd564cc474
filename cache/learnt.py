"""What was learnt of objects, on the local disk: the next mount need not ask again.

One SQLite file in the cache directory: for each object the newest record (see
`mountfs.cache.records`), and for each directory whether anything in it has attributes.
Whatever it says is checked against a listing before it is believed, so it may be old,
incomplete or gone at any time. A file of no use is thrown away.

Notes are written behind (`mountfs.cache.sidefile`); while too many wait, new ones are
dropped. The file is bounded: when it is full, the records that were made first go.
"""

import errno
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self, TypeVar

import trio
from cachetools import LRUCache

from mountfs.cache.knowledge import split_key
from mountfs.cache.records import Record
from mountfs.cache.sidefile import SideFile, Useless, begin, opened, pragma, remove
from mountfs.storage.types import Object, ObjectKind

log = logging.getLogger(__name__)

SIZE_MAX = 256 << 20
"""How large the file may become, if the cache is large enough. Bytes."""
WAITING_MAX = 50_000
HAS_ATTRIBUTES = -1
"""What stands for the moment of a sample where something has attributes."""
DIRECTORIES_MAX = 10_000
FEW = 200
"""Entries that are looked up one by one; of more the whole directory is read."""

_APPLICATION_ID = 0x6D6E746C  # "mntl"
_FORMAT = 1
_SCHEMA = """
CREATE TABLE about (gates TEXT NOT NULL) STRICT;
CREATE TABLE records (
    id INTEGER PRIMARY KEY,   -- grows, so the lowest are the oldest
    directory BLOB NOT NULL,
    name BLOB NOT NULL,       -- the rest of the key
    record TEXT NOT NULL,     -- JSON
    UNIQUE (directory, name)
) STRICT;
CREATE TABLE samples (
    directory BLOB PRIMARY KEY,
    until_ns INTEGER NOT NULL -- what changed later was not looked at; -1: see below
) STRICT;
"""

T = TypeVar("T")


class Learnt(SideFile):
    """What is known of objects from earlier on. Open it with `Learnt.open`."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        gates: str,
        *,
        size_max: int = SIZE_MAX,
    ) -> None:
        super().__init__()
        self._path = path
        self._connection = connection
        self._gates = gates
        self._size_max = size_max
        self._records: dict[str, Record] = {}
        self._samples: dict[str, int] = {}
        self._with_attributes: LRUCache[str, bool] = LRUCache(DIRECTORIES_MAX)
        self._failure: sqlite3.Error | None = None

    @classmethod
    async def open(cls, path: Path, gates: str, *, size_max: int = SIZE_MAX) -> Self:
        """Open the file, or begin a new one in its place if it is of no use.

        `gates` are those of the mount: records that were made under others do not
        count. Raises `OSError` if there can be no file.
        """
        connection = await trio.to_thread.run_sync(_connect, path, gates)
        return cls(path, connection, gates, size_max=size_max)

    # --- learning ---------------------------------------------------------------

    def note(self, object: Object) -> None:
        """Remember what is known of an object."""
        directory = split_key(object.key)[0]
        if object.attributes is not None and directory not in self._with_attributes:
            self._with_attributes[directory] = True
            self.note_sample(directory, HAS_ATTRIBUTES)
        if object.kind is ObjectKind.DIRECTORY:
            return  # a listing tells nothing by which it could be checked
        record = Record.of(object, self._gates)
        if record is not None and len(self._records) < WAITING_MAX:
            self._records[object.key] = record
            self._wake.set()

    def note_sample(self, directory: str, until_ns: int) -> None:
        """Remember that entries which changed no later show no attributes.

        `HAS_ATTRIBUTES` says that some do.
        """
        if len(self._samples) < WAITING_MAX:
            self._samples[directory] = until_ns
            self._wake.set()

    # --- asking -----------------------------------------------------------------

    async def completed(
        self, directory: str, listed: Sequence[Object]
    ) -> dict[str, Object]:
        """Return those of a directory's entries of which more is known, by key."""
        waiting = {
            object.key: self._records[object.key]
            for object in listed
            if object.key in self._records
        }
        return await self._ask(
            lambda: self._find(directory, listed, waiting), otherwise={}
        )

    async def sampled_until(self, directory: str) -> int | None:
        """Return up to which time of change a directory was sampled in vain.

        `HAS_ATTRIBUTES` if something in it has attributes, None if nothing is known.
        """
        if directory in self._samples:
            return self._samples[directory]
        return await self._ask(lambda: self._sample(directory), otherwise=None)

    # --- inside: on the trio thread -----------------------------------------------

    async def _ask(self, question: Callable[[], T], *, otherwise: T) -> T:
        if self._failure is not None:
            return otherwise
        try:
            return await self._in_thread(question)
        except sqlite3.Error as error:
            self._give_up(error)
        except OSError as error:  # the file is as good as before
            log.warning("what was learnt of objects cannot be read or kept: %s", error)
        return otherwise

    def _give_up(self, error: sqlite3.Error) -> None:
        if self._failure is None:
            log.warning(
                "what is learnt of objects cannot be kept in the cache directory (%s):"
                " it will be asked for again",
                error,
            )
        self._failure = error

    @property
    def _is_waiting(self) -> bool:
        return bool(self._records or self._samples)

    async def _write_waiting(self) -> None:
        records, self._records = self._records, {}
        samples, self._samples = self._samples, {}
        await self._ask(lambda: self._write(records, samples), otherwise=None)

    async def _close(self) -> None:
        # Without a thread it is closed with the process.
        with trio.CancelScope(shield=True), suppress(OSError):
            await self._in_thread(self._end)

    # --- inside: in the worker thread -----------------------------------------------

    def _end(self) -> None:
        self._connection.close()
        is_damaged = isinstance(self._failure, sqlite3.DatabaseError)
        if is_damaged and not isinstance(self._failure, sqlite3.OperationalError):
            remove(self._path)

    def _find(
        self,
        directory: str,
        listed: Sequence[Object],
        waiting: Mapping[str, Record],
    ) -> dict[str, Object]:
        kept = self._kept(directory, [object.key for object in listed])
        found: dict[str, Object] = {}
        for object in listed:
            record = waiting.get(object.key) or _to_record(kept.get(object.key))
            more = record.completed(object, self._gates) if record is not None else None
            if more is not None:
                found[object.key] = more
        return found

    def _kept(self, directory: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the records of some keys, and perhaps of others in the directory."""
        query = "SELECT name, record FROM records WHERE directory = ?"
        rows: Iterable[tuple[bytes, str]]
        if len(keys) > FEW:
            rows = self._connection.execute(query, (_encode(directory),))
        else:
            halves = [_halves(key) for key in keys]
            rows = chain.from_iterable(
                self._connection.execute(f"{query} AND name = ?", each)
                for each in halves
            )
        return {directory + _decode(name): record for name, record in rows}

    def _sample(self, directory: str) -> int | None:
        row = self._connection.execute(
            "SELECT until_ns FROM samples WHERE directory = ?", (_encode(directory),)
        ).fetchone()
        return None if row is None else int(row[0])

    def _write(self, records: Mapping[str, Record], samples: Mapping[str, int]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO records (directory, name, record)"
                " VALUES (?, ?, ?)",
                [_row(key, record) for key, record in records.items()],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO samples (directory, until_ns) VALUES (?, ?)",
                [(_encode(directory), until) for directory, until in samples.items()],
            )
            self._make_room()

    def _make_room(self) -> None:
        """Drop the oldest tenth, and again, while the file holds more than it may."""
        while _size(self._connection) > self._size_max:
            lowest, highest = self._connection.execute(
                "SELECT (SELECT min(id) FROM records), (SELECT max(id) FROM records)"
            ).fetchone()
            if lowest is None:
                self._connection.execute("DELETE FROM samples")
                return
            last = lowest + (highest - lowest) // 10
            self._connection.execute("DELETE FROM records WHERE id <= ?", (last,))


def _connect(path: Path, gates: str) -> sqlite3.Connection:
    """Open the file, or a new one in the place of one that is of no use."""
    try:
        return opened(path, partial(_prepare, gates=gates))[0]
    except (sqlite3.Error, Useless) as error:
        log.info("%s is begun anew: %s", path, error)
    remove(path)
    try:
        return opened(path, partial(_prepare, gates=gates))[0]
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def _prepare(connection: sqlite3.Connection, gates: str) -> None:
    is_new = begin(
        connection, application_id=_APPLICATION_ID, format=_FORMAT, schema=_SCHEMA
    )
    if is_new:
        with connection:
            connection.execute("INSERT INTO about (gates) VALUES (?)", (gates,))
    elif connection.execute("SELECT gates FROM about").fetchall() != [(gates,)]:
        raise Useless("other gates are open now")


def _size(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


def _row(key: str, record: Record) -> tuple[bytes, bytes, str]:
    text = json.dumps(record.to_json(), separators=(",", ":"))
    return (*_halves(key), text)


def _halves(key: str) -> tuple[bytes, bytes]:
    directory, name = split_key(key)
    return _encode(directory), _encode(name)


def _to_record(text: str | None) -> Record | None:
    """Return a record that was kept, or None if it is damaged."""
    if text is None:
        return None
    try:
        return Record.from_json(json.loads(text))
    except ValueError:
        return None


def _encode(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _decode(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
