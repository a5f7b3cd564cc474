"""Whole applications with every gate open: builds, packages, repositories, databases.

Each works in the mount as on a disk, and finds its work again in a mount of another
host, which has nothing but the store. Where it says a number, `make proof` takes more.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import Mount, run
from tests.fuse.projects import make_c_project, make_node_modules, make_wheel
from tests.fuse.stores import Store
from tests.fuse.test_programs import git
from tests.fuse.trees import everything_of, make_whole_tree

Remounter = Callable[[Mount], Mount]


@pytest.fixture
def mount(mounter: Mounter, store: Store) -> Mount:
    """A mount of an empty store with every gate open."""
    return mounter(store, "--virtual=all")


# --- building -----------------------------------------------------------------------


def test_configure_and_make(mount: Mount, remounter: Remounter) -> None:
    """`./configure && make` builds a C program, once, also for the next host."""
    project = make_c_project(mount.path / "project")
    told = run("./configure", cwd=project)
    first = run("make", cwd=project)
    second = run("make", cwd=project)
    run("make", "install", f"DESTDIR={mount.path / 'installed'}", cwd=project)

    assert told.strip() == "configured; linking with ln"
    assert first.count("compiled") == 2
    assert "compiled" not in second
    assert "linked" not in second
    again = remounter(mount).path
    run("make", "-q", cwd=again / "project")
    assert run(again / "installed" / "bin" / "other") == "42\n"
    assert (again / "project" / "alias").samefile(again / "project" / "program")


def test_make_again_what_depends_on_a_change(mount: Mount) -> None:
    """make(1) sees from the times what is older than a change, and only that."""
    project = make_c_project(mount.path / "project")
    run("./configure", cwd=project)
    run("make", cwd=project)

    run("sed", "-i", "s/n + 1/n + 2/", project / "part.c")
    third = run("make", cwd=project)
    assert "compiled part.c" in third
    assert "compiled main.c" not in third
    (project / "part.h").touch()
    fourth = run("make", "-j4", cwd=project)

    assert fourth.count("compiled") == 2
    assert run(project / "program") == "43\n"
    run("make", "clean", cwd=project)
    assert not list(project.glob("*.o"))


# --- packages -----------------------------------------------------------------------


def test_virtual_environment(
    mount: Mount, remounter: Remounter, tmp_path: Path
) -> None:
    """`python -m venv`, and pip installs, checks and uninstalls a package in it."""
    environment = mount.path / "environment"
    wheel = make_wheel(tmp_path)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    pip += ["--python", str(environment)]
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    run(*pip, "install", "--quiet", "--no-index", wheel)
    told = run(environment / "bin" / "sample")

    assert told == "7\n"
    again = remounter(mount).path
    # Its scripts begin with the path of the environment, as everywhere.
    python = again / "environment" / "bin" / "python"
    assert run(python, "-c", "import sample; sample.main()") == "7\n"
    pip[-1] = str(again / "environment")
    run(*pip, "check")
    run(*pip, "uninstall", "--quiet", "--yes", "sample")
    assert not list((again / "environment").rglob("sample*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_virtual_environment_with_pip(mount: Mount, tmp_path: Path) -> None:
    """A whole environment, with a pip of its own that runs from the mount."""
    mount.watch(500)
    environment = mount.path / "environment"
    run(sys.executable, "-m", "venv", environment, timeout=400)
    python = environment / "bin" / "python"

    run(python, "-m", "pip", "install", "-q", "--no-index", make_wheel(tmp_path))

    assert run(environment / "bin" / "sample") == "7\n"
    run(python, "-m", "compileall", "-q", environment / "lib", timeout=300)


@pytest.mark.parametrize(
    "files",
    [150, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_node_modules(
    mount: Mount, remounter: Remounter, tmp_path: Path, files: int
) -> None:
    """A tree of many small files and links is copied, walked, run from and removed."""
    links = make_node_modules(tmp_path / "source", files=files)
    source = tmp_path / "source" / "node_modules"
    mount.watch(1500)
    run("cp", "-a", source, mount.path / "node_modules", timeout=900)
    assert everything_of(mount.path / "node_modules") == everything_of(source)

    again = remounter(mount)
    again.watch(1500)

    modules = again.path / "node_modules"
    assert everything_of(modules) == everything_of(source)
    assert run(modules / ".bin" / "package-3") == "// 3 6\n" * 7
    assert len(run("find", modules, "-type", "l").splitlines()) == links
    assert len(run("find", modules, "-type", "f").splitlines()) == files
    run("mv", modules, again.path / "moved", timeout=600)
    run("diff", "-r", "--no-dereference", source, again.path / "moved", timeout=900)
    run("rm", "-r", again.path / "moved", timeout=900)
    assert list(again.path.iterdir()) == []


# --- repositories -------------------------------------------------------------------


def test_git_clone_with_hard_links(
    mount: Mount, remounter: Remounter, tmp_path: Path
) -> None:
    """A local clone shares its objects; both repositories go on by themselves."""
    origin = make_c_project(tmp_path / "origin")
    (origin / "link").symlink_to("main.c")
    git(origin, "init", "-q", "-b", "main", ".")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "one")
    git(mount.path, "clone", "-q", f"file://{origin}", "first")
    git(mount.path, "clone", "-q", "--local", "first", "second")
    packs = list((mount.path / "second" / ".git" / "objects").rglob("*.pack"))
    assert [pack.stat().st_nlink for pack in packs] == [2]

    second = mount.path / "second"
    (second / "part.c").write_text("changed\n")
    git(second, "commit", "-qam", "two")
    git(second, "gc", "-q", "--prune=now")
    git(second, "push", "-q", "origin", "HEAD:refs/heads/side")

    again = remounter(mount).path
    for name in ("first", "second"):
        git(again / name, "fsck", "--strict", "--full")
        assert git(again / name, "status", "--porcelain") == ""
    git(again / "first", "checkout", "-q", "side")
    assert (again / "first" / "part.c").read_text() == "changed\n"
    git(again / "first", "worktree", "add", "-q", "../third", "main")
    assert git(again / "third", "status", "--porcelain") == ""
    git(again / "first", "worktree", "remove", "../third")


# --- copying ------------------------------------------------------------------------


@needs_root
def test_rsync_of_everything_there_and_back(
    mount: Mount, remounter: Remounter, tmp_path: Path
) -> None:
    """`rsync -aHX --delete` brings a tree over and back; a second run does nothing."""
    source = make_whole_tree(tmp_path / "source")
    rsync = ["rsync", "-aHX", "--delete", "--itemize-changes"]
    (mount.path / "copy" / "superfluous" / "sub").mkdir(parents=True)
    run(*rsync, f"{source}/", mount.path / "copy")

    assert everything_of(mount.path / "copy") == everything_of(source)
    assert run(*rsync, f"{source}/", mount.path / "copy") == ""
    again = remounter(mount).path
    assert run(*rsync, "--dry-run", f"{source}/", again / "copy") == ""
    assert run(*rsync, "--dry-run", f"{again}/copy/", source) == ""
    run(*rsync, f"{again}/copy/", tmp_path / "back")
    assert everything_of(tmp_path / "back") == everything_of(source)


@needs_root
def test_rsync_of_changes(mount: Mount, tmp_path: Path) -> None:
    """What changed in any respect is brought over, and nothing else."""
    source = make_whole_tree(tmp_path / "source")
    rsync = ["rsync", "-aHX", "--delete", "--itemize-changes"]
    run(*rsync, f"{source}/", mount.path / "copy")

    (source / "secret").write_bytes(b"changed")
    (source / "script").chmod(0o700)
    (source / "third").unlink()
    os.removexattr(source / "sub", "user.directory")
    shutil.rmtree(source / "sub" / "empty")
    (source / "pipe").rename(source / "sub" / "pipe")
    for number, changed in enumerate([source, source / "sub"]):
        # rsync corrects the times of a directory that differ by a second or more.
        os.utime(changed, (10**9 + number, 10**9 + number))
    run(*rsync, f"{source}/", mount.path / "copy")

    assert everything_of(mount.path / "copy") == everything_of(source)
    assert run(*rsync, f"{source}/", mount.path / "copy") == ""


@needs_root
def test_tar_of_everything_there_and_back(
    mount: Mount, remounter: Remounter, tmp_path: Path
) -> None:
    """tar(1) extracts everything it knows of in the mount, and packs it there."""
    source = make_whole_tree(tmp_path / "source")
    (source / "socket").unlink()  # tar leaves sockets out
    expected = everything_of(source)
    keep = ["--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner"]
    pack = ["tar", "--format=posix", *keep, "-cf"]
    unpack = ["tar", *keep, "-xpf"]
    run(*pack, tmp_path / "archive", "-C", tmp_path, "source")
    run(*unpack, tmp_path / "archive", "-C", mount.path)
    assert everything_of(mount.path / "source") == expected

    again = remounter(mount).path
    run(*pack, again / "archive", "-C", again, "source")
    (tmp_path / "back").mkdir()
    run(*unpack, again / "archive", "-C", tmp_path / "back")

    assert everything_of(tmp_path / "back" / "source") == expected


@needs_root
def test_cp_of_everything(mount: Mount, remounter: Remounter, tmp_path: Path) -> None:
    """`cp -a` brings everything over, within the mount as well."""
    source = make_whole_tree(tmp_path / "source")
    run("cp", "-a", source, mount.path / "first")
    run("cp", "-a", mount.path / "first", mount.path / "second")

    again = remounter(mount).path

    assert everything_of(again / "first") == everything_of(source)
    assert everything_of(again / "second") == everything_of(source)


# --- databases ----------------------------------------------------------------------


def interrupt_sqlite(database: Path, script: str) -> None:
    """Carry out SQL, and kill the program before it can tidy up."""
    with subprocess.Popen(
        ["sqlite3", "-batch", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{script}\nselect 'done';\n")
        process.stdin.flush()
        lines = iter(process.stdout.readline, "")
        assert any(line == "done\n" for line in lines)
        process.send_signal(signal.SIGKILL)


TABLE = """
    create table t (n integer primary key, text);
    insert into t select value, hex(zeroblob(200)) from generate_series(1, 2000);
"""
CHECK = "pragma integrity_check; select count(*), sum(text = 'x') from t;"


def test_sqlite_recovers_its_write_ahead_log(
    mount: Mount, remounter: Remounter
) -> None:
    """What a killed program had committed to the log is there on another host."""
    database = mount.path / "db"
    commit = "update t set text = 'x' where n > 1900;"
    mode = "pragma journal_mode=wal;"
    interrupt_sqlite(database, f"{mode} {TABLE} {commit} begin; delete from t;")
    assert (mount.path / "db-wal").stat().st_size > 0

    again = remounter(mount).path

    assert run("sqlite3", again / "db", CHECK).split() == ["ok", "2000|100"]
    assert [path.name for path in again.iterdir()] == ["db"]


def test_sqlite_readers_beside_a_writer(mount: Mount) -> None:
    """In WAL mode a reader sees what was committed while a transaction is open."""
    database = mount.path / "db"
    run("sqlite3", database, f"pragma journal_mode=wal; {TABLE}")
    writer = subprocess.Popen(
        ["sqlite3", "-batch", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write("begin; update t set text = 'x'; select 'begun';\n")
    writer.stdin.flush()
    assert writer.stdout.readline() == "begun\n"

    during = run("sqlite3", database, CHECK).split()
    writer.communicate("commit;\n", timeout=60)

    assert during == ["ok", "2000|0"]
    assert run("sqlite3", database, CHECK).split() == ["ok", "2000|2000"]


def test_sqlite_rolls_a_hot_journal_back(mount: Mount, remounter: Remounter) -> None:
    """A transaction that was cut off half-way is undone on another host."""
    script = f"{TABLE} pragma cache_size=5; begin; update t set text = 'x';"
    interrupt_sqlite(mount.path / "db", script)
    assert (mount.path / "db-journal").exists()

    again = remounter(mount).path

    assert run("sqlite3", again / "db", CHECK).split() == ["ok", "2000|0"]
