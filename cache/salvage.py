"""What earlier mounts left in a state directory, for people; and a damaged journal.

Reads without changing: the journal is copied and the copy is read, so that neither a
damaged journal nor one of a newer version is touched. `rescue` puts a new journal in
the place of a damaged one. Everything here blocks, and expects that the caller holds
the lock of the directory.
"""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mountfs.cache import object_json
from mountfs.cache.extents import Extents
from mountfs.cache.journalfile import FORMAT, begin_journal
from mountfs.storage.types import Object

JOURNAL = "journal.sqlite"
ORPHANS = "orphans"
"""Below the state directory: spool files that no journal could be read about."""
_COPY_SIZE = 1 << 20
_BESIDE = ("", "-wal", "-shm")

Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Something that an earlier mount could not store, or not yet."""

    name: str
    """What it is called here: `failed-SPOOL`, `pending-NUMBER` or `orphan-SPOOL`."""
    key: str
    what: str
    """What is to become of the key, in words."""
    reason: str = ""
    size: int = 0
    spool: Path | None = None
    spool_name: str = ""
    """Of the spool file, though the journal has the bytes as well."""
    content: bytes | None = None
    """The bytes of the extents, one behind the other, if the journal has them."""
    extents: tuple[Range, ...] = ()
    base: Object | None = None
    base_size: int = 0
    elsewhere: tuple[Range, ...] = ()
    """What only an unfinished upload in the store has."""
    is_local_only: bool = False
    """Whether it was to stay here."""

    @property
    def has_bytes(self) -> bool:
        """Whether there is a file to export."""
        return self.spool is not None or self.content is not None

    @property
    def gaps(self) -> list[Range]:
        """The ranges that the base object in the store has, and nothing here."""
        own = Extents()
        for start, end in (*self.extents, *self.elsewhere):
            own.add(start, end)
        return own.gaps(0, min(self.base_size, self.size))

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes that are here, with their offsets."""
        if self.content is not None:
            position = 0
            for start, end in self.extents:
                yield start, self.content[position : position + end - start]
                position += end - start
        elif self.spool is not None:
            with self.spool.open("rb") as file:
                for start, end in self.extents:
                    for offset in range(start, end, _COPY_SIZE):
                        file.seek(offset)
                        yield offset, file.read(min(_COPY_SIZE, end - offset))


@dataclass(frozen=True, slots=True)
class Left:
    """All that is left in one state directory."""

    kept: tuple[Kept, ...]
    damage: str | None = None
    """Why no mount takes the journal, in words."""
    renames: int = 0
    """Renames and changes of hard links that the next mount finishes."""


_FINISHED_LATER = ("renames", "links", "later_links")


def look(state_dir: Path, *, is_in_use: bool = False) -> Left:
    """Return what is left in a state directory. Nothing in it is changed.

    `is_in_use`: by a mount of this process, whose journal is in order.
    """
    spool = state_dir / "spool"
    with tempfile.TemporaryDirectory() as directory:
        # A journal in use must not be copied: a copy is not of one moment.
        in_place = state_dir / JOURNAL if is_in_use else None
        copy = in_place or _copied(state_dir, Path(directory))
        if copy is None:
            rows: dict[str, list[dict[str, Any]]] = {}
            damage = "it is missing" if _spools(spool) else None
        else:
            damage, rows = _damage(copy), _rows(copy)
    kept = [_failed(row, spool) for row in rows.get("failed", [])]
    kept += [_pending(row, spool) for row in rows.get("pending", [])]
    known = {each.spool_name for each in kept}
    kept += [_orphan(path) for path in _spools(state_dir / ORPHANS)]
    if damage is not None:
        # A mount that takes the journal removes the others: nobody was promised them.
        kept += [_orphan(path) for path in _spools(spool) if path.name not in known]
    renames = sum(len(rows.get(each, [])) for each in _FINISHED_LATER)
    return Left(tuple(kept), damage, renames)


def uploads(state_dir: Path) -> set[str]:
    """Return the ids of the uploads that the journal knows."""
    with tempfile.TemporaryDirectory() as directory:
        copy = _copied(state_dir, Path(directory))
        rows = {} if copy is None else _rows(copy)
    return {str(row.get("id")) for row in rows.get("uploads", [])}


def is_lost(state_dir: Path) -> bool:
    """Tell whether there are bytes that only a journal could explain, and none."""
    return not (state_dir / JOURNAL).exists() and bool(_spools(state_dir / "spool"))


def drop(state_dir: Path, kept: Kept) -> None:
    """Give up what was kept, for good: the row first, then its bytes."""
    kind, _, rest = kept.name.partition("-")
    if kind != "orphan":
        column = "spool" if kind == "failed" else "id"
        with closing(sqlite3.connect(state_dir / JOURNAL)) as journal, journal:
            journal.execute("PRAGMA synchronous = FULL")
            journal.execute(f"DELETE FROM {kind} WHERE {column} = ?", (rest,))  # noqa: S608 - our own words
    if kept.spool is not None:
        kept.spool.unlink(missing_ok=True)


def rescue(state_dir: Path, suffix: str) -> Path:
    """Put a new journal with all that can be read in the place of a damaged one.

    The old one stays as `journal.sqlite.damaged-SUFFIX`; its path is returned. Spool
    files that the new one does not name are set apart first, since a mount would remove
    them. Crash at any time: the old journal is still in its place, and refused as
    before, or the new one is.
    """
    place = state_dir / JOURNAL
    new = state_dir / f"{JOURNAL}.new"
    new.unlink(missing_ok=True)
    begin_journal(new)
    with tempfile.TemporaryDirectory(dir=state_dir) as directory:
        copy = _copied(state_dir, Path(directory))
        rows = {} if copy is None else _rows(copy)
    _insert(new, rows)
    _set_apart(state_dir, new)
    old = state_dir / f"{JOURNAL}.damaged-{suffix}"
    for each in _BESIDE[:2]:
        if Path(f"{place}{each}").exists():
            os.link(f"{place}{each}", f"{old}{each}")
    _sync(state_dir)
    # The log of the old journal must never meet the new one.
    for each in _BESIDE[1:]:
        Path(f"{place}{each}").unlink(missing_ok=True)
    new.replace(place)
    _sync(state_dir)
    return old


def _set_apart(state_dir: Path, journal: Path) -> None:
    rows = _rows(journal)
    spool = state_dir / "spool"
    found = [_failed(row, spool) for row in rows.get("failed", [])]
    found += [_pending(row, spool) for row in rows.get("pending", [])]
    known = {each.spool_name for each in found}
    known |= {str(row["spool"]) for row in rows.get("uploads", []) if row.get("spool")}
    apart = state_dir / ORPHANS
    for path in _spools(spool):
        if path.name not in known:
            apart.mkdir(mode=0o700, exist_ok=True)
            path.rename(apart / path.name)
    if apart.exists():
        _sync(apart)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading ------------------------------------------------------------------------


def _copied(state_dir: Path, target: Path) -> Path | None:
    """Copy the journal, with its log, to be read without a change of the old one."""
    if not (state_dir / JOURNAL).exists():
        return None
    for each in _BESIDE[:2]:
        path = state_dir / f"{JOURNAL}{each}"
        if path.exists():
            shutil.copyfile(path, target / path.name)
    return target / JOURNAL


def _damage(journal: Path) -> str | None:
    try:
        with closing(sqlite3.connect(journal)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            report = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        return f"it is damaged ({error})"
    if report != "ok":
        return f"it is damaged ({report})"
    if version > FORMAT:
        return (
            f"a newer mountfs wrote it (format {version}, this one knows {FORMAT}):"
            " better mount with that version"
        )
    return None


def _rows(journal: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every table, as many as can be read."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        with closing(sqlite3.connect(journal)) as connection:
            connection.row_factory = sqlite3.Row
            listed = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
            for (name,) in listed:
                found[name] = _rows_of(connection, name)
    except sqlite3.Error:
        return found
    return found


def _rows_of(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """Read a table from the front and, if a page is damaged, from its end as well."""
    found: dict[int, dict[str, Any]] = {}
    for order in ("ASC", "DESC"):
        try:
            rows = connection.execute(
                f'SELECT rowid AS rowid_, * FROM "{table}" ORDER BY rowid {order}'  # noqa: S608 - a name of the schema
            )
            for row in rows:
                fields = dict(row)
                found[fields.pop("rowid_")] = fields
        except sqlite3.Error:
            continue
        break
    return [found[number] for number in sorted(found)]


def _insert(journal: Path, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Put rows into a new journal, as far as it has the tables and the columns."""
    with closing(sqlite3.connect(journal)) as connection, connection:
        for table, found in rows.items():
            listed = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
            columns = {column[1] for column in listed}
            for row in found:
                names = [name for name in row if name in columns]
                if names:
                    _insert_row(connection, table, {name: row[name] for name in names})


def _insert_row(
    connection: sqlite3.Connection, table: str, row: Mapping[str, Any]
) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join("?" for _ in row)
    try:
        connection.execute(
            f'INSERT OR REPLACE INTO "{table}" ({names}) VALUES ({marks})',  # noqa: S608 - names of our schema
            tuple(row.values()),
        )
    except sqlite3.Error:
        return  # no row of this table: damaged, and kept in the old journal


def _spools(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


# --- rows ---------------------------------------------------------------------------


def _key(row: Mapping[str, Any]) -> str:
    key = row.get("key")
    return os.fsdecode(key) if isinstance(key, bytes) else "?"


def _failed(row: Mapping[str, Any], spool: Path) -> Kept:
    name = str(row.get("spool"))
    kept = Kept(
        name=f"failed-{name}",
        key=_key(row),
        what="bytes that could not be stored",
        reason="what the journal says of it is damaged",
        spool=spool / Path(name).name,
        spool_name=Path(name).name,
    )
    try:
        return _with_file(kept, json.loads(row["state"]))
    except (ValueError, KeyError, TypeError, AssertionError):
        return _whole(kept)


def _pending(row: Mapping[str, Any], spool: Path) -> Kept:
    kept = Kept(
        name=f"pending-{row.get('id')}",
        key=_key(row),
        what="a change that is not in the store yet",
        reason="what the journal says of it is damaged",
    )
    try:
        state = json.loads(row["state"])
        change = state["change"]
        reason = str(state.get("error") or "")
        is_local_only = state.get("is_local_only") is True
        kept = replace(kept, is_local_only=is_local_only)
        if change["what"] != "bytes":
            what = _WORDS["local-only" if is_local_only else change["what"]]
            return replace(kept, what=what, reason=reason)
        content = row.get("bytes")
        path = spool / Path(change["spool"]).name
        kept = replace(
            kept,
            what=_WORDS["local-only" if is_local_only else "bytes"],
            spool=path if content is None else None,
            spool_name=path.name,
            content=content,
        )
        kept = _with_file(kept, json.loads(change["file"]))
        return replace(kept, reason=reason)
    except (ValueError, KeyError, TypeError, AssertionError):
        return kept


_WORDS = {
    "bytes": "bytes to be stored",
    "local-only": "a local-only file, which was not to be stored",
    "make": "a directory, link, special or empty file to be made",
    "copy": "a copy or a new name of another object",
    "describe": "new attributes",
    "remove": "a removal",
}


def _with_file(kept: Kept, state: Mapping[str, Any]) -> Kept:
    stream = state.get("stream")
    slots = stream["slots"] if stream else []
    return replace(
        kept,
        reason=str(state["error"]),
        size=int(state["size"]),
        extents=tuple((int(start), int(end)) for start, end in state["extents"]),
        base=object_json.to_object(state["base"]),
        base_size=int(state["base_size"]),
        elsewhere=tuple(
            (slot["offset"], slot["offset"] + slot["size"])
            for slot in slots
            if slot["is_punched"]
        ),
    )


def _orphan(path: Path) -> Kept:
    return _whole(
        Kept(
            name=f"orphan-{path.name}",
            key=path.stem,
            what="bytes of a file whose name is not known",
            reason="no row of the journal could be read about it",
            spool=path,
        )
    )


def _whole(kept: Kept) -> Kept:
    """Take a spool file as it is: nobody knows which of its bytes count."""
    assert kept.spool is not None
    try:
        size = kept.spool.stat().st_size
    except OSError:
        return replace(kept, spool=None)
    return replace(kept, size=size, extents=((0, size),) if size else ())
