"""The rows of the table: what programs do, timed, and checked afterwards.

A row gets a mount that has nothing cached. What it needs beforehand it makes without
the delay of the link; files that are only read are made once for each system.
"""

import contextlib
import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench import contents
from bench.contents import MIB, PAGE, SMALL, small_content, small_names
from bench.running import Run, Wrong

PROGRAM_S = 280
_EDIT = b"edit" * (PAGE // 4)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: how it is called, and what is done."""

    name: str
    title: str
    act: Callable[[Run], None]
    is_small_write: bool = False
    """Is it run without virtual_xattr, too?"""
    writes_files: bool = False
    """Does it matter when a cache sends what was written?"""

    def is_for(self, system: str) -> bool:
        """Tell whether a variant of a system is of interest here."""
        if system.endswith("-noxattr"):
            return self.is_small_write
        return self.writes_files or not system.endswith("-later")


def prepare(run: Run) -> None:
    """Make the files that rows only read, through the file system itself."""
    data = run.root / "data"
    (data / "small").mkdir(parents=True)
    with (data / "big").open("wb", buffering=0) as file:
        for index in range(run.sizes.big // MIB):
            file.write(contents.big_block(index))
    for name in small_names(run.sizes.small):
        (data / "small" / name).write_bytes(small_content(name))


def shell(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a program that must succeed."""
    subprocess.run(command, check=True, capture_output=True, cwd=cwd, timeout=PROGRAM_S)


def _make_small(run: Run, directory: Path) -> list[str]:
    """Make small files without delay, and return when the bucket has them."""
    names = small_names(run.sizes.small)
    with run.untimed():
        for name in names:
            (directory / name).write_bytes(small_content(name))
        wanted = dict.fromkeys(names, SMALL)
        run.await_stored("", 0, run.has_files(directory, wanted))
    run.times.clear()
    return names


# --- large files ------------------------------------------------------------------


def write_big(run: Run) -> None:
    """Write a big file in pieces of 1 MiB."""
    directory = run.fresh("write")
    blocks = [contents.big_block(index) for index in range(run.sizes.big // MIB)]
    start = time.perf_counter()
    with run.timed("close"), (directory / "big").open("wb", buffering=0) as file:
        for block in blocks:
            file.write(block)
    wanted = {"big": run.sizes.big}
    run.await_stored("in the bucket", start, run.has_files(directory, wanted))
    run.check_big(run.content(directory / "big"))


def read_big(run: Run) -> None:
    """Read a big file from its start, twice."""
    into = bytearray(run.sizes.big)
    into[::PAGE] = b"x" * len(into[::PAGE])  # the pages are there beforehand
    for what in ("cold", "again"):
        view = memoryview(into)
        offset = 0
        with (
            run.timed(what),
            (run.root / "data" / "big").open("rb", buffering=0) as file,
        ):
            while count := file.readinto(view[offset : offset + MIB]):
                offset += count
        run.check_big(into)
        into[::PAGE] = b"x" * len(into[::PAGE])


def first_byte(run: Run) -> None:
    """Read one byte of a file that nobody has looked at."""
    with (
        run.timed("first byte"),
        (run.root / "data" / "big").open("rb", buffering=0) as file,
    ):
        found = file.read(1)
    if found != contents.big_block(0)[:1]:
        raise Wrong("the first byte is another")


def random_reads(run: Run) -> None:
    """Read pages here and there of a big file."""
    chooser = random.Random(5)
    pages = run.sizes.big // PAGE
    offsets = [chooser.randrange(pages) * PAGE for _ in range(run.sizes.random)]
    file = os.open(run.root / "data" / "big", os.O_RDONLY)
    try:
        with run.timed("reads"):
            found = [os.pread(file, PAGE, offset) for offset in offsets]
    finally:
        os.close(file)
    for offset, piece in zip(offsets, found, strict=True):
        block = contents.big_block(offset // MIB)
        if piece != block[offset % MIB : offset % MIB + PAGE]:
            raise Wrong(f"other bytes at {offset}")


def scattered_edits(run: Run) -> None:
    """Write pages here and there into a big file that the store has."""
    directory = run.fresh("edits")
    path = directory / "big"
    blocks = run.sizes.big // MIB
    with run.untimed():
        with path.open("wb", buffering=0) as file:
            for index in range(blocks):
                file.write(contents.big_block(index))
        wanted = {"big": run.sizes.big}
        run.await_stored("", 0, run.has_files(directory, wanted))
    run.remount()
    run.times.clear()
    edited = [index * blocks // run.sizes.edits for index in range(run.sizes.edits)]
    start = time.perf_counter()
    with run.timed("close"):
        file_number = os.open(path, os.O_RDWR)
        try:
            for index in edited:
                os.pwrite(file_number, _EDIT, index * MIB + 64 * 1024)
        finally:
            os.close(file_number)
    key, last = run.key(path), edited[-1] * MIB + 64 * 1024
    is_there: Callable[[], bool] = lambda: run.store.get(key, last, PAGE) == _EDIT  # noqa: E731
    run.await_stored("in the bucket", start, is_there)
    found = run.content(path)
    for index in range(blocks):
        block = contents.big_block(index)
        if index in edited:
            block = block[: 64 * 1024] + _EDIT + block[64 * 1024 + PAGE :]
        if found[index * MIB : (index + 1) * MIB] != block:
            raise Wrong(f"other bytes in MiB {index}")


# --- small files ------------------------------------------------------------------


def create_small(run: Run) -> None:
    """Make small files, one after the other."""
    directory = run.fresh("create")
    names = small_names(run.sizes.small)
    made = [(directory / name, small_content(name)) for name in names]
    start = time.perf_counter()
    with run.timed("close"):
        for path, content in made:
            with path.open("wb", buffering=0) as file:
                file.write(content)
    wanted = dict.fromkeys(names, SMALL)
    run.await_stored("in the bucket", start, run.has_files(directory, wanted))
    run.check_small(directory, names)


def list_small(run: Run) -> None:
    """List a directory that nobody has looked at."""
    directory = run.root / "data" / "small"
    with run.timed("ls -l"):
        done = subprocess.run(
            ["ls", "-l", directory],
            check=True,
            capture_output=True,
            timeout=PROGRAM_S,
        )
    lines = done.stdout.decode().splitlines()[1:]
    sizes = {line.split()[4] for line in lines}
    if len(lines) != run.sizes.small or sizes != {str(SMALL)}:
        raise Wrong(f"{len(lines)} entries, with sizes {sizes}")


def _read_all(run: Run, threads: int) -> None:
    directory = run.root / "data" / "small"

    def read(name: str) -> bytes:
        with (directory / name).open("rb", buffering=0) as file:
            return file.read()

    with run.timed("read"):
        names = sorted(os.listdir(directory))
        if threads == 1:
            found = [read(name) for name in names]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(read, names))
    if names != small_names(run.sizes.small):
        raise Wrong(f"{len(names)} names are listed")
    for name, content in zip(names, found, strict=True):
        if content != small_content(name):
            raise Wrong(f"{name} has other bytes")


def read_small(run: Run) -> None:
    """Read all files of a directory, one after the other."""
    _read_all(run, 1)


def read_small_8(run: Run) -> None:
    """Read all files of a directory with eight threads."""
    _read_all(run, 8)


def stat_warm(run: Run) -> None:
    """Look at files that were just listed, again and again."""
    directory = run.root / "data" / "small"
    paths = [str(directory / name) for name in small_names(run.sizes.small)]
    with run.untimed(), os.scandir(directory) as entries:
        for entry in entries:
            entry.stat()
    rounds = run.sizes.stats // len(paths)
    with run.timed("stat"):
        for _ in range(rounds):
            for path in paths:
                os.stat(path)


def rename_directory(run: Run) -> None:
    """Rename a directory of small files that the store has."""
    old = run.fresh("rename")
    names = _make_small(run, old)
    new = old.with_name(f"renamed-{run.number}")
    start = time.perf_counter()
    with run.timed("rename"):
        old.rename(new)
    if len(os.listdir(new)) != len(names) or old.exists():
        raise Wrong("the directory did not move")
    wanted = dict.fromkeys(names, SMALL)
    run.await_stored("in the bucket", start, run.has_files(new, wanted))
    run.await_stored("in the bucket", start, run.has_none(old))
    run.check_small(new, names)


def remove_directory(run: Run) -> None:
    """Remove a directory of small files that the store has."""
    directory = run.fresh("remove")
    _make_small(run, directory)
    start = time.perf_counter()
    with run.timed("rm -r"):
        shell("rm", "-r", directory)
    if directory.exists():
        raise Wrong("the directory is still there")
    run.await_stored("in the bucket", start, run.has_none(directory))


def append(run: Run) -> None:
    """Append to a file, opening and closing it each time."""
    path = run.fresh("append") / "log"
    pieces = [small_content(f"piece {n}", PAGE) for n in range(run.sizes.appends)]
    start = time.perf_counter()
    with run.timed("close"):
        for piece in pieces:
            with path.open("ab", buffering=0) as file:
                file.write(piece)
    wanted = b"".join(pieces)
    is_there = run.has_files(path.parent, {path.name: len(wanted)})
    run.await_stored("in the bucket", start, is_there)
    run.check(path, wanted)


# --- programs ---------------------------------------------------------------------


def untar(run: Run) -> None:
    """Unpack a tree; compare it at once, and again after a new mount."""
    directory = run.fresh("untar")
    tree = run.local / "tree"
    start = time.perf_counter()
    with run.timed("untar"):
        shell("tar", "-xf", run.local / "tree.tar", "-C", directory)
    with run.timed("diff warm"):
        shell("diff", "-r", tree, directory / "tree")
    sizes = {name: len(text) for name, text in contents.tree_files(run.sizes.tree)}
    is_there = run.has_files(directory / "tree", sizes)
    run.await_stored("in the bucket", start, is_there)
    run.remount()
    with run.timed("diff cold"):
        shell("diff", "-r", tree, directory / "tree")


def git(run: Run) -> None:
    """Make a repository of a tree, commit it and look at it."""
    directory = run.fresh("git")
    with run.untimed():
        shell("cp", "-r", run.local / "tree", directory / "work")
    work = directory / "work"
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    commands: tuple[tuple[str, ...], ...] = (
        ("init", "--quiet"),
        ("add", "."),
        (*who, "commit", "--quiet", "-m", "all"),
        ("fsck", "--strict"),
        ("status", "--short"),
    )
    with run.timed("git"):
        for words in commands:
            shell("git", *words, cwd=work)
    with run.untimed():
        tracked = subprocess.run(
            ("git", "ls-files"), cwd=work, check=True, capture_output=True, timeout=60
        ).stdout.splitlines()
    if len(tracked) != run.sizes.tree:
        raise Wrong(f"git tracks {len(tracked)} files")


def sqlite(run: Run) -> None:
    """Commit small transactions to a database."""
    path = run.fresh("sqlite") / "base.db"
    with run.untimed():
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("create table t (n integer primary key, v text)")
    start = time.perf_counter()
    with run.timed("commits"):
        for number in range(run.sizes.transactions):
            connection.execute("begin immediate")
            connection.execute("insert into t values (?, ?)", (number, "x" * 100))
            connection.execute("commit")
    connection.close()
    copy = run.local / f"copy-{run.system.name}.db"

    def is_there() -> bool:
        copy.write_bytes(run.content(path))
        return _rows_of(copy) == run.sizes.transactions

    if not run.system.is_plain and not is_there():
        raise Wrong("the database is not whole")
    run.await_stored("in the bucket", start, is_there)


def _rows_of(database: Path) -> int:
    """Return how many rows a database has, if it is whole."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            (state,) = connection.execute("pragma integrity_check").fetchone()
            (count,) = connection.execute("select count(*) from t").fetchone()
        except sqlite3.DatabaseError:
            return -1
    return int(count) if state == "ok" else -1


ROWS = (
    Row("write", "write {big} MiB", write_big, False, True),
    Row("read", "read {big} MiB", read_big),
    Row("first", "first byte of a cold file", first_byte),
    Row("random", "{random} random 4 KiB reads in {big} MiB, cold", random_reads),
    Row(
        "edits",
        "{edits} scattered 4 KiB edits in {big} MiB",
        scattered_edits,
        False,
        True,
    ),
    Row("create", "create {small} x 8 KiB, one thread", create_small, True, True),
    Row("ls", "ls -l of {small}, cold", list_small),
    Row("small", "read {small} x 8 KiB cold, one thread", read_small),
    Row("small8", "read {small} x 8 KiB cold, 8 threads", read_small_8),
    Row("stat", "stat {stats} times, warm", stat_warm),
    Row("rename", "rename a directory of {small}", rename_directory),
    Row("remove", "rm -r {small}", remove_directory),
    Row("append", "append {appends} x 4 KiB, open and close each", append, True, True),
    Row("untar", "untar {tree} files, diff -r", untar, True, True),
    Row("git", "git init, add, commit, fsck, status of {tree} files", git, False, True),
    Row("sqlite", "sqlite, {transactions} transactions", sqlite, False, True),
)
