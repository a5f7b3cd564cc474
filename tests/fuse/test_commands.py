"""`mountfs status`, `wait` and `flush` with real mounts."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from mountfs import mounts
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.processes import COMMAND
from tests.fuse.stores import Store

local = pytest.mark.parametrize("store", ["local"], indirect=True)


def status_of(mount: Mount) -> dict[str, object]:
    """Return what programs are told of a mount."""
    told = json.loads(run_command("status", "--json", str(mount.path)).stdout)
    assert len(told) == 1
    assert isinstance(told[0], dict)
    return told[0]


@local
def test_status_tells_how_a_mount_does(mounter: Mounter, store: Store) -> None:
    """An idle mount is well, and the table says so in words."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(bytes(5 << 20))

    done = run_command("status", str(mount.path / "file"))
    told = status_of(mount)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{store.url} at {mount.path}" in done.stdout
    assert "store     online" in done.stdout
    assert "pending   nothing" in done.stdout
    assert (told["url"], told["state"]) == (store.url, "mounted")
    assert (told["pending_files"], told["needs_attention"]) == (0, False)
    assert told["cache_used"] == 5 << 20
    assert told["cache_limit"] == 512 << 20
    assert isinstance(told["journal_size"], int)
    assert told["journal_size"] > 0


@local
def test_status_names_what_the_store_lacks(mounter: Mounter, store: Store) -> None:
    """A file that is open and dirty is pending, with its size and name."""
    mount = mounter(store)
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"12345")
    assert run_command("wait", str(mount.path)).returncode == 0  # not its content

    told, shown = status_of(mount), run_command("status", str(mount.path))
    assert (told["pending_files"], told["waiting"]) == (1, ["file"])
    assert "pending   1 file" in shown.stdout
    assert shown.returncode == 0
    os.close(descriptor)
    assert status_of(mount)["pending"] == []


@local
def test_status_without_a_name_tells_of_every_mount(
    mounter: Mounter, store: Store
) -> None:
    """Two mounts are two entries; a dead one needs attention and says what to do."""
    one, two = mounter(store, at="one"), mounter(store, at="two")

    told = json.loads(run_command("status", "--json").stdout)
    places = {each["mount_point"] for each in told}
    assert {str(one.path), str(two.path)} <= places

    two.end(signal.SIGKILL)
    done = run_command("status")
    assert done.returncode == 1
    assert "dead: its daemon has died; mount it again" in done.stdout


def test_status_of_what_is_no_mount_is_a_mistake(tmp_path: Path) -> None:
    """A directory that is not mounted is the user's to mend."""
    done = run_command("status", str(tmp_path))

    assert done.returncode == 2
    assert done.stderr == f"mountfs: {tmp_path} is not in a mount of mountfs\n"


def test_wait_returns_when_the_store_has_a_file(mounter: Mounter, store: Store) -> None:
    """Bytes of a file that is still open, and that only the kernel knows, are stored.

    Its neighbour is not touched.
    """
    mount = mounter(store)
    (mount.path / "d").mkdir()
    descriptors = []
    for name in ("asked", "other"):
        path = mount.path / "d" / name
        descriptors.append(os.open(path, os.O_WRONLY | os.O_CREAT))
        os.write(descriptors[-1], b"written")

    done = run_command("wait", str(mount.path / "d" / "asked"))

    assert (done.returncode, done.stderr) == (0, "")
    assert store.there.read("d/asked") == b"written"
    assert "d/other" not in store.there.listing()
    for descriptor in descriptors:
        os.close(descriptor)
    assert store.there.read("d/other") == b"written"


def test_flush_stores_everything_below_a_directory(
    mounter: Mounter, store: Store
) -> None:
    """All open files of the directory and below are stored, and none beside it."""
    mount = mounter(store)
    (mount.path / "d" / "e").mkdir(parents=True)
    names = ["d/one", "d/e/two", "beside"]
    descriptors = [
        os.open(mount.path / name, os.O_WRONLY | os.O_CREAT) for name in names
    ]
    for descriptor in descriptors:
        os.write(descriptor, b"written")

    done = run_command("flush", str(mount.path / "d"))

    assert (done.returncode, done.stderr) == (0, "")
    assert store.there.read("d/one") == store.there.read("d/e/two") == b"written"
    assert "beside" not in store.there.listing()
    assert run_command("flush", str(mount.path)).returncode == 0
    assert store.there.read("beside") == b"written"
    for descriptor in descriptors:
        os.close(descriptor)


@local
def test_wait_says_what_is_not_there(mounter: Mounter, store: Store) -> None:
    """A path that does not exist is a failure; one in no mount is a mistake."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"x")

    missing = run_command("wait", str(mount.path / "file"), str(mount.path / "missing"))
    outside = run_command("wait", str(mount.path.parent))

    assert (missing.returncode, missing.stderr) == (
        1,
        "mountfs: missing: No such file or directory\n",
    )
    assert outside.returncode == 2
    assert "is not in a mount of mountfs" in outside.stderr


@local
def test_a_dead_daemon_cannot_be_waited_for(mounter: Mounter, store: Store) -> None:
    """Nobody hangs: the sentence says that the mount is to be mounted again."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"x")
    mount.end(signal.SIGKILL)
    assert mounts.mount_at(mount.path) is not None

    done = run_command("wait", str(mount.path / "file"))

    assert done.returncode == 2
    assert "nobody serves" in done.stderr


def test_check_compares_what_is_kept_with_the_store(
    mounter: Mounter, store: Store
) -> None:
    """A mount in use finds nothing wrong with itself, nor does the store after it."""
    mount = mounter(store, "--virtual=all")
    (mount.path / "d").mkdir()
    (mount.path / "d" / "file").write_bytes(bytes(3 << 20))
    os.link(mount.path / "d" / "file", mount.path / "d" / "other")
    os.setxattr(mount.path / "d" / "file", "user.large", b"x" * 4000)
    descriptor = os.open(mount.path / "d" / "file", os.O_RDONLY)
    os.unlink(mount.path / "d" / "file")

    live = run_command("check", str(mount.path / "d"))
    os.close(descriptor)
    mount.unmount()
    directories = [f"--state-dir={mount.state_dir}", f"--cache-dir={mount.cache_dir}"]
    after = run_command("check", store.url, *store.options, *directories)

    assert (live.returncode, live.stderr) == (0, "")
    assert (after.returncode, after.stderr) == (0, ""), after.stdout


@local
def test_check_explains_before_it_mends(mounter: Mounter, store: Store) -> None:
    """Without --yes nothing is deleted; a mounted store is checked by its mount."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"x")
    store.there.write(".mountfs/links/none", b'{"format":1,"names":{"gone":"1"}}')
    directories = [f"--state-dir={mount.state_dir}", f"--cache-dir={mount.cache_dir}"]

    in_use = run_command("check", store.url, *directories)
    explained = run_command("check", "--repair", str(mount.path))
    key = ".mountfs/links/none"
    is_there = key in store.there.listing()
    mended = run_command("check", "--repair", "--yes", str(mount.path))

    assert in_use.returncode == 2
    assert "is mounted by process" in in_use.stderr
    assert explained.returncode == 1
    assert f"could be mended: delete {key}" in explained.stdout
    assert "nothing was changed" in explained.stdout
    assert is_there
    assert f"done: delete {key}" in mended.stdout
    assert key not in store.there.listing()
    assert run_command("check", str(mount.path)).returncode == 0


@local
def test_a_mount_is_checked_explained_and_recovered_by_its_name(
    mounter: Mounter, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted it checks itself; afterwards its store is checked, with its options."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"x")
    file = tmp_path / "mountfs.toml"
    file.write_text(
        f"[mounts.pics]\nurl = '{store.url}'\nmount-point = '{mount.path}'\n"
        f"state-dir = '{mount.state_dir}'\ncache-dir = '{mount.cache_dir}'\n"
    )
    monkeypatch.setenv("MOUNTFS_CONFIG", str(file))
    store.there.write(".mountfs/links/none", b'{"format":1,"names":{"gone":"1"}}')

    explained = run_command("explain", "pics")
    in_use = run_command("recover", "pics")
    live = run_command("check", "--repair", "pics")
    mount.unmount()
    recovered = run_command("recover", "pics")
    after = run_command("check", "--repair", "--yes", "pics")

    assert (explained.returncode, explained.stderr) == (0, "")
    assert explained.stdout.startswith(f"{mount.path}/: a directory, ")
    assert in_use.returncode == 2
    assert "is in use by process" in in_use.stderr
    assert live.returncode == 1
    assert "could be mended: delete .mountfs/links/none" in live.stdout
    assert (recovered.returncode, recovered.stderr) == (0, "")
    assert "done: delete .mountfs/links/none" in after.stdout
    assert ".mountfs/links/none" not in store.there.listing()


@local
def test_a_mount_is_watched_until_it_is_interrupted(
    mounter: Mounter, store: Store
) -> None:
    """Each line has what was done so far; Ctrl-C is how it ends, with 0."""
    mount = mounter(store)
    file = mount.path / "file"
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", "--json", "--interval=0.1", str(mount.path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        file.write_bytes(bytes(3 << 20))
        last = first
        for _ in range(100):
            last = json.loads(watching.stdout.readline())
            if last["activity"]["uploaded_bytes"]:
                break
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=30)

    assert first["rates"] is None
    assert last["activity"]["written_bytes"] == 3 << 20
    assert last["activity"]["uploaded_bytes"] == 3 << 20
    assert last["activity"]["requests"] > first["activity"]["requests"]
    assert last["rates"]["requests"] >= 0
    assert watching.returncode == os.EX_OK


@local
def test_what_is_read_is_counted_where_it_came_from(
    mounter: Mounter, store: Store
) -> None:
    """Bytes of the store are fetched once; the names are known after a listing."""
    mount = mounter(store)
    assert store.other_side is not None
    store.other_side.write("file", bytes(3 << 20))

    with (mount.path / "file").open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    os.listdir(mount.path)
    done = status_of(mount)["activity"]

    assert isinstance(done, dict)
    assert (done["fetched_bytes"], done["read_bytes"]) == (3 << 20, 3 << 20)
    assert done["block_misses"] >= 1
    assert done["metadata_misses"] >= 1


@local
def test_a_warm_tree_is_read_without_the_store(mounter: Mounter, store: Store) -> None:
    """What was warmed asks the store for no byte; a summary says what was done."""
    mount = mounter(store)
    assert store.other_side is not None
    for number in range(30):
        store.other_side.write(f"t/{number % 3}/{number}", bytes([number]) * 5000)

    done = run_command("warm", str(mount.path / "t"))
    fetched = status_of(mount)["activity"]
    read = {
        path.name: path.read_bytes()
        for path in (mount.path / "t").rglob("*")
        if path.is_file()
    }
    after = status_of(mount)["activity"]

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("30 files, 146.5 KiB in the cache; 146.5 KiB of that")
    assert isinstance(fetched, dict)
    assert isinstance(after, dict)
    assert fetched["fetched_bytes"] == after["fetched_bytes"] == 30 * 5000
    assert read == {str(number): bytes([number]) * 5000 for number in range(30)}


@local
def test_what_cannot_be_warmed_is_named(mounter: Mounter, store: Store) -> None:
    """A path that is not there is 1; one in no mount is a mistake of the user."""
    mount = mounter(store)

    done = run_command("warm", str(mount.path / "gone"))
    elsewhere = run_command("warm", "/proc")

    assert done.returncode == 1
    assert "gone: No such file or directory" in done.stderr
    assert elsewhere.returncode == 2
