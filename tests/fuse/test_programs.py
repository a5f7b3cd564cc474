"""Programs that know nothing of object stores, each doing its daily work."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import on_shared_stores
from tests.fuse.mounting import Mount, run, run_python
from tests.fuse.stores import OtherSide, Store
from tests.fuse.trees import attributes_of, copy_standard_library

GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def git(where: Path, *arguments: str | Path) -> str:
    """Run git in a directory."""
    return run("git", *arguments, cwd=where, environment=GIT, timeout=90)


def small_tree(path: Path) -> Path:
    """Make a tree with modes, times, an empty directory and links of every sort."""
    (path / "sub" / "empty").mkdir(parents=True)
    (path / "script").write_bytes(b"#!/bin/sh\n")
    (path / "script").chmod(0o755)
    (path / "secret").write_bytes(b"s")
    (path / "secret").chmod(0o600)
    (path / "sub" / "odd").write_bytes(os.urandom(5000))
    (path / "sub" / "odd").chmod(0o4510)
    (path / "sub" / "dangling").symlink_to("no/where")
    (path / "link").symlink_to("sub/odd")
    os.utime(path / "script", ns=(10**18 + 1, 10**18 + 123_456_789))
    os.utime(path / "secret", ns=(5, 7))
    (path / "sub" / "empty").chmod(0o1770)
    os.utime(path / "sub" / "empty", ns=(10**17, 10**17 + 5))
    os.utime(path / "sub", ns=(10**17, 10**17 + 6))
    return path


def check_tree(original: Path, copy: Path, *, link_times: bool = True) -> None:
    """Compare everything that `cp -a` and `tar` keep."""
    expected = attributes_of(original, link_times=link_times)
    assert attributes_of(copy, link_times=link_times) == expected
    run("diff", "-r", "--no-dereference", original, copy)


def test_git_repository(
    mounter: Mounter,
    store: Store,
    remounter: Callable[[Mount], Mount],
    tmp_path: Path,
) -> None:
    """init, add, commit, gc and fsck work; a fresh mount has the same repository."""
    mount = mounter(store)
    repository = mount.path / "repository"
    repository.mkdir()
    copy_standard_library(repository / "lib", files_max=40)
    git(repository, "init", "-q", ".")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    (repository / "lib" / "new").write_bytes(b"new")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "second")
    git(repository, "fsck", "--strict")
    expected = git(repository, "log", "--format=%H %s")

    again = remounter(mount).path / "repository"

    assert git(again, "log", "--format=%H %s") == expected
    assert git(again, "status", "--porcelain") == ""
    git(again, "gc", "-q")
    git(again, "fsck", "--strict")
    git(tmp_path, "clone", "-q", again, "clone")
    run("diff", "-r", again / "lib", tmp_path / "clone" / "lib")


def test_git_branches_and_clone_in_the_mount(directory: Path) -> None:
    """Branching, merging, renaming and cloning inside one mount work."""
    repository = directory / "repository"
    git(directory, "init", "-q", "-b", "main", "repository")
    (repository / "a").write_bytes(b"a\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "one")
    git(repository, "checkout", "-qb", "side")
    git(repository, "mv", "a", "b")
    git(repository, "commit", "-qm", "move")
    git(repository, "checkout", "-q", "main")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge", "side")
    git(directory, "clone", "-q", "repository", "clone")

    assert git(repository, "status", "--porcelain") == ""
    assert (directory / "clone" / "b").read_bytes() == b"a\n"
    git(directory / "clone", "fsck", "--strict")


def keeps_link_times(store: Store) -> bool:
    """Tell whether the store keeps metadata of links; the local one does not."""
    return not store.url.startswith("file://")


@pytest.mark.parametrize("store", ["local", "moto"], indirect=True)
def test_copying_with_all_attributes(
    mounter: Mounter,
    store: Store,
    remounter: Callable[[Mount], Mount],
    tmp_path: Path,
) -> None:
    """`cp -a` keeps modes, owners, times and links, also over a remount."""
    source = small_tree(tmp_path / "source")
    mount = mounter(store)
    run("cp", "-a", source, mount.path / "copy")
    check_tree(source, mount.path / "copy")

    again = remounter(mount)

    check_tree(source, again.path / "copy", link_times=keeps_link_times(store))


@pytest.mark.parametrize("store", ["local", "moto"], indirect=True)
def test_extracting_an_archive(
    mounter: Mounter,
    store: Store,
    remounter: Callable[[Mount], Mount],
    tmp_path: Path,
) -> None:
    """`tar x` keeps modes, times and links, also over a remount."""
    source = small_tree(tmp_path / "source")
    run("tar", "--format=pax", "-cf", tmp_path / "archive", "-C", source, ".")
    mount = mounter(store)
    (mount.path / "copy").mkdir()
    run("tar", "-xpf", tmp_path / "archive", "-C", mount.path / "copy")
    check_tree(source, mount.path / "copy")

    again = remounter(mount)

    check_tree(source, again.path / "copy", link_times=keeps_link_times(store))


def test_archive_of_the_mount(directory: Path, tmp_path: Path) -> None:
    """`tar c` of a mount has everything in it."""
    copy_standard_library(directory / "tree", files_max=60)
    (tmp_path / "out").mkdir()

    run("tar", "-cf", tmp_path / "archive", "-C", directory, "tree")

    run("tar", "-xf", tmp_path / "archive", "-C", tmp_path / "out")
    run("diff", "-r", directory / "tree", tmp_path / "out" / "tree")


def test_rsync_transfers_once(
    mounter: Mounter,
    store: Store,
    remounter: Callable[[Mount], Mount],
    tmp_path: Path,
) -> None:
    """A second `rsync -a` finds nothing to do, also after a remount."""
    source = copy_standard_library(tmp_path / "source", files_max=60)
    (source / "link").symlink_to("abc.py")
    mount = mounter(store)
    # Times of directories and links are kept only where the store keeps their metadata.
    command = ["rsync", "-aOJ", "--itemize-changes", f"{source}/"]
    run(*command, mount.path / "copy")

    second = run(*command, mount.path / "copy")
    again = remounter(mount)
    third = run(*command, again.path / "copy")

    assert (second, third) == ("", "")
    run("diff", "-r", source, again.path / "copy")


def test_rsync_updates_in_place(directory: Path, tmp_path: Path) -> None:
    """`rsync --inplace` edits the files that are there."""
    source = tmp_path / "source"
    source.mkdir()
    content = bytearray(os.urandom(3 << 20))
    (source / "file").write_bytes(content)
    command = ["rsync", "-a", "--inplace", "--no-whole-file"]
    command += ["--ignore-times", f"{source}/"]
    run(*command, directory / "copy")

    content[1_000_000:1_000_010] = b"0123456789"
    (source / "file").write_bytes(content)
    run(*command, directory / "copy")

    assert (directory / "copy" / "file").read_bytes() == content


@on_shared_stores
def test_sed_in_place(directory: Path, there: OtherSide) -> None:
    """`sed -i` replaces the file and keeps its mode."""
    (directory / "file").write_bytes(b"one two three\n")
    (directory / "file").chmod(0o640)

    run("sed", "-i", "s/two/2/", directory / "file")

    assert there.read("file") == b"one 2 three\n"
    assert (directory / "file").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in directory.iterdir()] == ["file"]


@on_shared_stores
def test_save_by_rename(directory: Path, there: OtherSide) -> None:
    """An editor that writes a new file, syncs it and renames it over the old one."""
    (directory / "file").write_bytes(b"old")

    with (directory / "file.tmp").open("wb") as file:
        file.write(b"new content")
        file.flush()
        os.fsync(file.fileno())
    (directory / "file.tmp").rename(directory / "file")

    assert (directory / "file").read_bytes() == b"new content"
    assert there.read("file") == b"new content"
    assert "file.tmp" not in there.listing()


@pytest.mark.parametrize("how", ["backupcopy=yes", "backupcopy=no"])
def test_vim(directory: Path, how: str) -> None:
    """vim saves with its backup and its swap file, and leaves neither."""
    (directory / "file").write_bytes(b"one\ntwo\n")
    script = ["-c", f"set {how}", "-c", "%s/two/2/", "-c", "wq"]

    vim = shutil.which("vim") or "vim.tiny"
    run(vim, "-es", "-u", "NONE", "-c", "set wb", *script, directory / "file")

    assert (directory / "file").read_bytes() == b"one\n2\n"
    assert [path.name for path in directory.iterdir()] == ["file"]


SQLITE_WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60)
for number in range(15):
    with connection:
        connection.execute("insert into t values (?, ?)", (sys.argv[2], number))
connection.close()
"""


def test_sqlite_with_several_writers(directory: Path) -> None:
    """Processes that write to one database in turn lose no row."""
    sqlite3 = pytest.importorskip("sqlite3")
    connection = sqlite3.connect(directory / "db")
    connection.execute("create table t (who, n)")
    connection.commit()
    connection.close()

    command = [sys.executable, "-c", SQLITE_WRITER, str(directory / "db")]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    codes = [writer.wait(90) for writer in writers]

    connection = sqlite3.connect(directory / "db")
    assert codes == [0, 0, 0]
    assert connection.execute("select count(*) from t").fetchone() == (45,)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()


def test_sqlite_rolls_back_and_survives_a_remount(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount]
) -> None:
    """What was committed is there after a remount, what was rolled back is not."""
    mount = mounter(store)
    script = """
        create table t (n integer primary key, text);
        insert into t select value, hex(randomblob(100)) from generate_series(1, 5000);
        begin; delete from t; rollback;
        begin; update t set text = 'x' where n % 10 = 0; commit;
        vacuum;
    """
    run("sqlite3", mount.path / "db", script)

    again = remounter(mount)

    query = "pragma integrity_check; select count(*), sum(text = 'x') from t;"
    assert run("sqlite3", again.path / "db", query).split() == ["ok", "5000|500"]
    assert [path.name for path in again.path.iterdir()] == ["db"]


LOCKER = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    for _ in range(50):
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read())
        file.seek(0)
        file.write(str(number + 1))
        file.flush()
        fcntl.lockf(file, fcntl.LOCK_UN)
"""


def test_counter_under_a_lock(directory: Path) -> None:
    """Locks keep processes of one host apart: no increment is lost."""
    (directory / "counter").write_text("0")

    command = [sys.executable, "-c", LOCKER, str(directory / "counter")]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]

    assert (directory / "counter").read_text() == "150"


def test_python_runs_from_the_mount(directory: Path) -> None:
    """Modules are imported, and compiled ones are written, in the mount."""
    (directory / "module.py").write_text("answer = 42\n")
    program = "import sys; sys.path.insert(0, sys.argv[1]); import module"

    told = run_python(f"{program}; print(module.answer)", directory)

    assert told.strip() == "42"


def test_program_runs_from_the_mount(directory: Path) -> None:
    """An executable file is executed."""
    shutil.copy2("/bin/echo", directory / "echo")

    assert run(directory / "echo", "hello") == "hello\n"


def test_sqlite_with_a_write_ahead_log(directory: Path) -> None:
    """WAL mode, which maps a file that several processes share, works on one host."""
    database = directory / "db"
    run("sqlite3", database, "pragma journal_mode=wal; create table t (who, n);")

    command = [sys.executable, "-c", SQLITE_WRITER, str(database)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    codes = [writer.wait(90) for writer in writers]

    query = "pragma integrity_check; select count(*) from t;"
    assert codes == [0, 0, 0]
    assert run("sqlite3", database, query).split() == ["ok", "45"]


def test_build_with_make(directory: Path) -> None:
    """make(1) compares times: what is up to date is not made again."""
    (directory / "Makefile").write_text("out: in\n\tcat in > out; echo made\n")
    (directory / "in").write_text("x")

    first = run("make", "-s", cwd=directory)
    second = run("make", "-s", cwd=directory)

    assert first.strip() == "made"
    assert "made" not in second


def test_zip_archive(directory: Path) -> None:
    """A zip file is written, appended to in place and read."""
    files = {f"file-{number}": os.urandom(number * 1000) for number in range(20)}
    with zipfile.ZipFile(directory / "zip", "w") as archive:
        for name in files:
            archive.writestr(name, files[name])
    with zipfile.ZipFile(directory / "zip", "a") as archive:
        archive.writestr("last", b"appended")

    with zipfile.ZipFile(directory / "zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in files} == files
        assert archive.read("last") == b"appended"
