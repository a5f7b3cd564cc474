"""Two clients change one file: what the later one's programs, and everybody, see."""

import errno
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import Mounter, s3_store
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import Store, objects_of

MIB = 1 << 20
AT_ONCE = "--ttl=0"
SAID = "was changed by another client"


def copy_of(path: Path) -> Path:
    """Return the one conflict copy of a file."""
    (copy,) = path.parent.glob(f"{path.name} (conflict *)")
    return copy


@pytest.mark.parametrize("size", [4, 12 * MIB], ids=["small", "large"])
def test_loser_is_stored_beside(mounter: Mounter, store: Store, size: int) -> None:
    """close(2) succeeds; both have their bytes, in the mount and in the store."""
    mount = mounter(store, AT_ONCE)
    mount.announce(SAID)
    ours = os.urandom(size)
    path = mount.path / "file"
    path.write_bytes(b"common ground")
    path.chmod(0o640)

    with path.open("wb", buffering=0) as file:
        file.write(ours)
        store.there.write("file", b"theirs")

    copy = copy_of(path)
    assert path.read_bytes() == b"theirs"
    assert copy.read_bytes() == ours
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    assert store.there.read("file") == b"theirs"
    assert store.there.read(copy.name) == ours
    assert mount.log().count(SAID) == 1
    assert copy.name in mount.look()
    mount.unmount()  # nothing waits
    again = mounter(store)
    assert (again.path / copy.name).read_bytes() == ours


def test_open_file_goes_on_as_the_copy(mounter: Mounter, store: Store) -> None:
    """Its descriptors read and write their own bytes, which land in the copy."""
    mount = mounter(store, AT_ONCE)
    mount.announce(SAID)
    path = mount.path / "file"
    path.write_bytes(b"common ground")

    with path.open("r+b", buffering=0) as file:
        file.write(b"OURS")
        store.there.write("file", b"theirs")
        os.fsync(file.fileno())
        assert path.read_bytes() == b"theirs"
        assert os.pread(file.fileno(), 100, 0) == b"OURSon ground"
        file.write(b" more")
        path.write_bytes(b"newer")

    assert store.there.read("file") == b"newer"
    assert copy_of(path).read_bytes() == b"OURS moreound"
    assert store.there.read(copy_of(path).name) == b"OURS moreound"
    copy_of(path).rename(mount.path / "renamed")
    assert sorted(os.listdir(mount.path)) == ["file", "renamed"]
    mount.look()


def test_overwrite_takes_the_name(mounter: Mounter, store: Store) -> None:
    """The other's bytes are gone, and nobody is told."""
    mount = mounter(store, AT_ONCE, "--conflict=overwrite")
    path = mount.path / "file"
    path.write_bytes(b"common ground")

    with path.open("r+b", buffering=0) as file:
        file.write(b"OURS")
        store.there.write("file", b"theirs")

    assert path.read_bytes() == b"OURSon ground"
    assert store.there.read("file") == b"OURSon ground"
    assert os.listdir(mount.path) == ["file"]


@pytest.mark.parametrize("size", [4, 12 * MIB], ids=["small", "large"])
def test_deleted_object_is_stored_anew(
    mounter: Mounter, store: Store, size: int
) -> None:
    """A file that another client deleted while it was written is there again."""
    mount = mounter(store, AT_ONCE)
    path = mount.path / "file"
    path.write_bytes(b"common ground")
    ours = os.urandom(size)

    with path.open("wb", buffering=0) as file:
        file.write(ours)
        store.there.delete("file")

    assert path.read_bytes() == ours
    assert store.there.read("file") == ours
    assert os.listdir(mount.path) == ["file"]


def test_bytes_that_the_kernel_brings_too_late_become_a_copy(
    mounter: Mounter, store: Store
) -> None:
    """The file was found replaced while its bytes still lay in the kernel."""
    mount = mounter(store, AT_ONCE)
    mount.announce(SAID)
    path = mount.path / "d" / "file"
    path.parent.mkdir()
    path.write_bytes(b"common ground")

    with path.open("r+b", buffering=0) as file:
        file.write(b"OURS")
        store.there.write("d/file", b"theirs")
        assert path.read_bytes() == b"theirs"

    assert path.read_bytes() == b"theirs"
    assert copy_of(path).read_bytes() == b"OURSon ground"
    mount.look()


def truncate(path: Path) -> None:
    """Cut a file by its name, which nobody has open."""
    os.truncate(path, 6)


def rename_over(path: Path) -> None:
    """Rename a file over it whose bytes are still to come."""
    with path.with_name("new").open("wb", buffering=0) as file:
        file.write(b"common")
        path.with_name("new").rename(path)


@pytest.mark.parametrize("change", [truncate, rename_over])
def test_changes_by_name_meet_a_foreign_one(
    mounter: Mounter, store: Store, change: Callable[[Path], None]
) -> None:
    """Truncation and renaming over: the other's bytes, or ours, or both; none torn."""
    mount = mounter(store, "--ttl=1h")
    mount.announce(SAID)
    path = mount.path / "file"
    path.write_bytes(b"common ground")
    store.there.write("file", b"theirs, unseen")

    change(path)

    found = objects_of(store.there)
    found = {k: v for k, v in found.items() if not k.startswith(".mountfs/")}
    assert b"common" in found.values()
    assert set(found.values()) <= {b"common", b"theirs, unseen", b"theirs"}
    assert os.listdir(mount.path)
    mount.look()


def test_two_mounts_creating_one_name_keep_both(mounter: Mounter, store: Store) -> None:
    """Each finds its own bytes: under the name, or beside it."""
    one, two = (mounter(store, AT_ONCE, at=name) for name in ("one", "two"))
    one.announce(SAID)
    two.announce(SAID)

    files = [(each.path / "file").open("wb", buffering=0) for each in (one, two)]
    for number, file in enumerate(files):
        file.write(b"from %d" % number)
    for file in files:
        file.close()

    for each in (one, two):
        found = {path.read_bytes() for path in each.path.iterdir()}
        assert found == {b"from 0", b"from 1"}
        assert (each.path / "file").read_bytes() == b"from 0"
        each.look()


def test_what_fail_has_kept_becomes_a_copy_at_the_next_mount(
    mounter: Mounter, store: Store
) -> None:
    """The policy of the mount that finds the bytes decides."""
    mount = mounter(store, AT_ONCE, "--conflict=fail")
    mount.announce(r"flush|not in the store")
    path = mount.path / "file"
    file = path.open("wb", buffering=0)
    file.write(b"ours")
    store.there.write("file", b"theirs")
    with pytest.raises(OSError, match="Stale") as caught:
        file.close()
    assert caught.value.errno == errno.ESTALE
    end(mount)

    again = mounter(store, AT_ONCE)
    again.announce(SAID)
    path = again.path / "file"
    assert path.read_bytes() == b"theirs"
    assert copy_of(path).read_bytes() == b"ours"
    again.look()


def test_removing_the_name_gives_up_what_fail_has_kept(
    mounter: Mounter, store: Store
) -> None:
    """It does not come back at the next mount, and the unmount has nothing to say."""
    mount = mounter(store, AT_ONCE, "--conflict=fail")
    mount.announce(r"flush|not in the store")
    path = mount.path / "file"
    file = path.open("wb", buffering=0)
    file.write(b"ours")
    store.there.write("file", b"theirs")
    with pytest.raises(OSError, match="Stale"):
        file.close()

    path.unlink()

    mount.unmount()  # which fails if anything waits
    assert os.listdir(mounter(store).path) == []


def end(mount: Mount) -> None:
    """End a mount in which something waits for the next one."""
    assert mount.end(signal.SIGTERM) == 75


def test_unmounting_tells_of_a_copy_that_nobody_has_seen(
    mounter: Mounter, store: Store
) -> None:
    """Once: by the command that unmounts, unless `mountfs status` has."""
    mount = mounter(store, AT_ONCE)
    mount.announce(SAID)
    path = mount.path / "file"
    with path.open("wb", buffering=0) as file:
        file.write(b"ours")
        store.there.write("file", b"theirs")
    copy = copy_of(path).name

    done = run_command("umount", str(mount.path))

    assert done.returncode != 0
    assert copy in done.stderr
    mount.process.wait(60)


def test_a_store_that_ignores_conditions_is_named_once(
    mounter: Mounter, moto_server: S3Server
) -> None:
    """When the mount begins, with what it ignores and what that means."""
    with s3_servers.bucket(moto_server) as bucket:
        mount = mounter(s3_store(moto_server, bucket, "p"))
        for number in range(3):
            (mount.path / "file").write_bytes(b"%d" % number)
        (mount.path / "file").rename(mount.path / "other")

        (line,) = [each for each in mount.log().splitlines() if "WARNING" in each]
        mount.unmount()
    assert "this store ignores conditions (copy" in line
    assert "overwritten" in line
