"""The file of the journal: its format, and how it is opened.

A file that is damaged, or was written by a newer version, is never changed. What is in
its tables is read and written by `Journal` (mountfs.cache.journal).
"""

import sqlite3
from pathlib import Path

from mountfs.storage.errors import QuotaExceeded, StoreError

FORMAT = 5
_APPLICATION_ID = 0x6D6E7466  # "mntf"

_SCHEMA = """
CREATE TABLE failed (
    -- Files whose last close could not store them. Their bytes are in the spool.
    spool TEXT PRIMARY KEY,   -- name of the spool file
    key BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,  -- size of the whole file
    state TEXT NOT NULL       -- JSON; see mountfs.cache.failed
) STRICT;
CREATE TABLE uploads (
    -- Multipart uploads of ours that may still be open.
    id TEXT NOT NULL,
    key BLOB NOT NULL,
    commit_id TEXT,
    PRIMARY KEY (id, key)
) STRICT;
CREATE TABLE renames (
    -- Renames of directories, and exchanges, begun and not yet finished.
    id INTEGER PRIMARY KEY,
    source BLOB NOT NULL,
    target BLOB NOT NULL,
    phase TEXT NOT NULL
) STRICT;
"""

_LINKS_SCHEMA = """
CREATE TABLE links (
    -- Changes of files with several names, begun and not yet finished.
    id INTEGER PRIMARY KEY,
    "group" TEXT NOT NULL,    -- id of the group of hard links
    key BLOB NOT NULL,        -- the name that was changed first
    phase TEXT NOT NULL       -- see mountfs.vfs.hardlinks
) STRICT;
"""

_PENDING_SCHEMA = """
CREATE TABLE pending (
    -- States that the store is to have, acknowledged already (durability=journal).
    id INTEGER PRIMARY KEY,   -- in the order of the changes
    key BLOB NOT NULL,
    state TEXT NOT NULL,      -- JSON; see mountfs.cache.entry_text
    bytes BLOB                -- those of a small file, so that one sync serves many
) STRICT;
CREATE TABLE aliases (
    -- Which version of an object a token in the states above stands for.
    token TEXT PRIMARY KEY,
    content TEXT NOT NULL,
    attributes TEXT
) STRICT;
"""

_ATTEMPTS_SCHEMA = """
ALTER TABLE uploads ADD COLUMN spool TEXT;  -- the spool file whose bytes it holds, if
                                            -- it can be gone on with
ALTER TABLE uploads ADD COLUMN pieces TEXT; -- JSON; see mountfs.cache.attempts
CREATE TABLE intents (
    -- Multipart uploads that are about to be opened.
    commit_id TEXT PRIMARY KEY,
    key BLOB NOT NULL,
    begun_ns INTEGER NOT NULL     -- by the clock of this host
) STRICT;
"""

_LATER_LINKS_SCHEMA = """
CREATE TABLE later_links (
    -- Second names of files that waited for the store when they were made.
    id INTEGER PRIMARY KEY,
    source BLOB NOT NULL,     -- the key of the first name
    target BLOB NOT NULL      -- the key that is to be the same file
) STRICT;
"""

_STEPS = (
    _SCHEMA,
    _LINKS_SCHEMA,
    _PENDING_SCHEMA,
    _ATTEMPTS_SCHEMA,
    _LATER_LINKS_SCHEMA,
)
"""What leads from one format to the next; the first makes a new journal."""


class JournalError(StoreError):
    """The journal cannot be used as it is; nothing in it was changed."""


class JournalFull(JournalError, QuotaExceeded):
    """The disk of the journal is full; nothing in it was changed."""


def begin_journal(path: Path) -> None:
    """Make an empty journal, and nothing else. Blocks. Raises `JournalError`."""
    open_journal(path).close()


def open_journal(path: Path) -> sqlite3.Connection:
    """Open the file, or make it. Blocks. Raises `JournalError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(path, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(
            f"the journal {path} cannot be opened ({error}): see that it is a file "
            "that you may write"
        ) from error
    try:
        _check(connection, path)
    except sqlite3.OperationalError as error:
        # A full disk or a failing one: the file itself may be in order.
        connection.close()
        raise JournalError(
            f"the journal {path} cannot be used ({error}): see that its disk has room "
            "and can be written"
        ) from error
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(
            f"the journal {path} is damaged ({error}); it was left as it is: "
            f"`mountfs recover {path.parent}` tells what it holds, and saves it"
        ) from error
    except JournalError:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not ours to change, then make the tables if there are none."""
    version = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != _APPLICATION_ID:
        raise JournalError(f"{path} is no journal of mountfs; it was left as it is")
    if version > FORMAT:
        raise JournalError(
            f"the journal {path} was written by a newer mountfs (format {version}, "
            f"this one knows {FORMAT}); it was left as it is: mount with that version, "
            f"or see `mountfs recover {path.parent}`"
        )
    report = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if report != "ok":
        raise sqlite3.DatabaseError(report)
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    missing = _STEPS[version if tables else 0 :]
    if missing:
        connection.executescript(
            f"BEGIN; {''.join(missing)} PRAGMA application_id = {_APPLICATION_ID}; "
            f"PRAGMA user_version = {FORMAT}; COMMIT;"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value = connection.execute(f"PRAGMA {name}").fetchone()[0]
    assert isinstance(value, int)
    return value
