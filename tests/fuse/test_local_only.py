"""`--local-only`: files whose names say that they stay here, through the kernel."""

import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from mountfs import cli
from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import Mounter
from tests.fuse.counting import Counted, CountingShim, Tally, store_behind
from tests.fuse.mounting import TEST_S, Mount, run, run_command
from tests.fuse.stores import Store

EDITORS = ("*.tmp", "*.swp", "*~", "4913", ".~lock.*")
OPTIONS = ("--durability=journal", *(f"--local-only={each}" for each in EDITORS))
MIB = 1 << 20
shared_stores = pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
one_store = pytest.mark.parametrize("store", ["local"], indirect=True)


@pytest.fixture(scope="module")
def editing(
    moto_server: S3Server,
    counting_shim: CountingShim,
    counting_bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Counted]:
    """A mount whose requests are counted, for all tests of this module."""
    store = store_behind(counting_shim, moto_server, counting_bucket)
    gates = "--virtual=dir,link,move,append,object-metadata,hard-link"
    options = (*store.options, "--cache-size=1G", "--ttl=3600", gates)
    base = tmp_path_factory.mktemp("editing")
    with Mount(store.url, base, (*options, *OPTIONS), life_s=TEST_S) as mount:
        yield Counted(mount, store, counting_shim)
        mount.watch(3600)


@pytest.fixture
def directory(editing: Counted, request: pytest.FixtureRequest) -> Path:
    """A new directory in that mount, which the store has, with a file in it."""
    editing.mount.watch()
    path = editing.path / str(request.node.name)
    path.mkdir()
    (path / "file").write_bytes(b"one\ntwo\n")
    editing.mount.flush()
    return path


def sent(tally: Tally) -> list[str]:
    """Return what was asked for, but for the times of directories."""
    return [
        f"{each.operation} {each.key.rpartition('/')[2]}"
        for each in tally.log
        if not (each.operation == "CopyObject" and each.key.endswith("/"))
    ]


def save(path: Path, content: bytes) -> None:
    """Save as careful editors do: another name, fsync, rename."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)


def status_of(mount: Mount) -> dict[str, Any]:
    told = json.loads(run_command("status", "--json", str(mount.path)).stdout)
    assert isinstance(told[0], dict)
    return told[0]


# --- what is asked of the store -----------------------------------------------------


def test_a_save_is_one_put_of_the_real_name(editing: Counted, directory: Path) -> None:
    """Nothing at all is asked about the other names."""
    with editing.requests() as tally:
        swap = directory / ".file.swp"
        for number in range(5):
            with swap.open("ab") as file:
                file.write(b"%d" % number)
                file.flush()
                os.fsync(file.fileno())
        save(directory / "file", b"new")
        swap.unlink()
        editing.mount.flush()
    assert sent(tally) == ["PutObject file"]
    assert editing.there(directory).read("file") == b"new"


@pytest.mark.parametrize("how", ["backupcopy=yes", "backupcopy=no"])
def test_vim(editing: Counted, directory: Path, how: str) -> None:
    """Its swap file is there while it works, and saving is one PUT."""
    vim = shutil.which("vim") or "vim.tiny"
    seen = "call writefile(glob('.*.swp', 0, 1), 'seen.tmp')"
    script = ["-c", f"set {how} backupskip= directory=. updatecount=1 swapfile"]
    script += ["-c", "edit file", "-c", "%s/two/2/", "-c", "preserve", "-c", seen]

    with editing.requests() as tally:
        run(
            vim, "-es", "-u", "NONE", "-c", "set wb", *script, "-c", "wq", cwd=directory
        )
        editing.mount.flush()

    assert editing.there(directory).read("file") == b"one\n2\n"
    assert (directory / "seen.tmp").read_text() == ".file.swp\n"
    assert {each for each in sent(tally) if not each.startswith("GetObject")} == {
        "PutObject file"
    }
    assert sum(each.startswith("PutObject") for each in sent(tally)) == 1
    assert sorted(os.listdir(directory)) == ["file", "seen.tmp"]


def test_what_is_removed_is_never_sent(editing: Counted, directory: Path) -> None:
    """Whether it is open or not, and a directory of such files as well."""
    with editing.requests() as tally:
        lock = directory / ".~lock.file#"
        lock.write_bytes(b"user, host")
        lock.unlink()
        with (directory / "a.tmp").open("w+b") as file:
            file.write(b"bytes")
            file.flush()
            os.fsync(file.fileno())
            (directory / "a.tmp").unlink()
            file.write(b" more")
            file.seek(0)
            assert file.read() == b"bytes more"
        editing.mount.flush()
    assert sent(tally) == []


def test_a_second_name_sends_it(editing: Counted, directory: Path) -> None:
    """The store has to know that both are one file."""
    (directory / "a.tmp").write_bytes(b"bytes")
    os.link(directory / "a.tmp", directory / "b")
    editing.mount.flush()
    there = editing.there(directory)
    assert there.read("a.tmp") == there.read("b") == b"bytes"
    assert os.stat(directory / "b").st_nlink == 2


def test_what_the_store_has_is_changed_there(editing: Counted, directory: Path) -> None:
    """A backup is a rename of what lies there; an object of such a name is a file."""
    there = editing.there(directory)
    (directory / "file").rename(directory / "file~")
    (directory / "file").write_bytes(b"new")
    editing.mount.flush()
    assert there.read("file~") == b"one\ntwo\n"
    assert there.read("file") == b"new"

    (directory / "file~").write_bytes(b"other")
    editing.mount.flush()
    assert there.read("file~") == b"other"


# --- what becomes of it -------------------------------------------------------------


@shared_stores
def test_it_stays_and_is_seen_after_a_kill(mounter: Mounter, store: Store) -> None:
    """Nobody waits for it, and what a mount tells of itself says how many there are."""
    mount = mounter(store, *OPTIONS)
    (mount.path / "d").mkdir()
    (mount.path / "d" / "a.tmp").write_bytes(bytes(3 * MIB))
    (mount.path / "b.tmp").write_bytes(b"bytes")
    (mount.path / "real").write_bytes(b"real")
    mount.flush()
    told = status_of(mount)
    assert (told["pending_files"], told["needs_attention"]) == (0, False)
    assert (told["local_only_files"], told["local_only_bytes"]) == (2, 3 * MIB + 5)
    assert "2 local-only files, 3 MiB, are kept here only" in mount.look()
    told = json.loads(
        run_command("explain", "--json", str(mount.path / "b.tmp")).stdout
    )
    assert told["state"] == "local-only"
    assert mount.end(signal.SIGKILL) == -signal.SIGKILL

    again = mounter(store, *OPTIONS)
    again.announce("cleaning up")
    assert (again.path / "b.tmp").read_bytes() == b"bytes"
    assert (again.path / "d" / "a.tmp").stat().st_size == 3 * MIB
    with pytest.raises(OSError, match="not empty"):
        (again.path / "d").rmdir()
    (again.path / "d").rename(again.path / "e")
    assert os.listdir(again.path / "e") == ["a.tmp"]
    again.unmount()
    assert f"local-only files stay in {again.state_dir}: 2" in again.log()
    there = {key for key in store.there.listing() if not key.startswith(".mountfs")}
    assert there == {"e/", "real"}

    last = mounter(store, *OPTIONS)
    assert os.listdir(last.path / "e") == ["a.tmp"]
    shutil.rmtree(last.path / "e")
    (last.path / "b.tmp").rename(last.path / "b")
    last.unmount()
    there = {key for key in store.there.listing() if not key.startswith(".mountfs")}
    assert there == {"b", "real"}
    assert store.there.read("b") == b"bytes"


@shared_stores
@pytest.mark.parametrize("durability", ["journal", "store"])
def test_a_mount_without_the_patterns_sends_it(
    mounter: Mounter, store: Store, durability: str
) -> None:
    """After a kill, and a mount that has kept it."""
    mount = mounter(store, *OPTIONS)
    (mount.path / "a.tmp").write_bytes(b"bytes")
    mount.end(signal.SIGKILL)
    again = mounter(store, *OPTIONS)
    again.announce("cleaning up")
    assert (again.path / "a.tmp").read_bytes() == b"bytes"
    again.unmount()
    assert "a.tmp" not in store.there.listing()
    mounter(store, f"--durability={durability}").unmount()
    assert store.there.read("a.tmp") == b"bytes"


@shared_stores
def test_they_are_sent_when_there_is_no_room(mounter: Mounter, store: Store) -> None:
    """No program fails for want of it; the log says it once."""
    mount = mounter(store, "--cache-size=16M", *OPTIONS)
    mount.announce("no room here for more")
    content = {f"{number}.tmp": os.urandom(5 * MIB) for number in range(5)}
    for name, each in content.items():
        (mount.path / name).write_bytes(each)
    assert store.there.read("0.tmp") == content["0.tmp"]
    assert "4.tmp" not in store.there.listing()
    for name, each in content.items():
        assert (mount.path / name).read_bytes() == each
    assert mount.log().count("no room here for more") == 1


@one_store
def test_one_that_is_larger_than_the_cache_is_sent(
    mounter: Mounter, store: Store
) -> None:
    content = os.urandom(24 * MIB)
    mount = mounter(store, "--cache-size=16M", *OPTIONS)
    mount.announce("no room here for more")
    (mount.path / "a.tmp").write_bytes(content)
    mount.flush()
    assert store.there.read("a.tmp") == content


# --- the option ---------------------------------------------------------------------


def test_it_needs_the_journal(tmp_path: Path) -> None:
    """Said before anything is mounted, with the exit code of a wrong call."""
    told = io.StringIO()
    with redirect_stderr(told):
        code = cli.main(["mount", "--local-only=*.tmp", "memory://", str(tmp_path)])
    assert code == 2
    assert "--local-only needs durability=journal" in told.getvalue()


def test_a_file_of_options_has_a_list(
    mounter: Mounter, make_store: Callable[[str], Store], tmp_path: Path
) -> None:
    """And a change of it waits for the next mount."""
    store = make_store("local")
    options = tmp_path / "options.toml"
    text = '[mount]\ndurability = "journal"\nlocal_only = ["*.tmp", ".DS_Store"]\n'
    options.write_text(text)
    mount = mounter(store, f"--config={options}")
    for name in ("a.tmp", ".DS_Store", "DS_Store"):
        (mount.path / name).write_bytes(b"bytes")
    mount.flush()
    assert store.there.listing() - {".mountfs/"} == {"DS_Store"}
    done = run_command("set", str(mount.path), "local-only=*.swp")
    assert done.returncode == 2
    assert "local-only cannot change while it is mounted" in done.stderr
