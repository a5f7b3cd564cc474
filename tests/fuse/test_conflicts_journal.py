"""Two clients change one file while changes wait in the journal."""

import os
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import Store

SAID = "was changed by another client"
OPTIONS = ("--ttl=0", "--durability=journal")


def copy_of(path: Path) -> Path:
    """Return the one conflict copy of a file."""
    (copy,) = path.parent.glob(f"{path.name} (conflict *)")
    return copy


def wait(mount: Mount, name: str) -> None:
    """Return when the store has a file, or the loser of a race its copy."""
    run_command("wait", str(mount.path / name))


def test_loser_is_stored_beside_later(mounter: Mounter, store: Store) -> None:
    """close(2) has succeeded; what it promised is found beside the other's file."""
    mount = mounter(store, *OPTIONS)
    mount.announce(SAID)
    path = mount.path / "file"
    path.write_bytes(b"common ground")
    wait(mount, "file")

    with path.open("wb", buffering=0) as file:
        file.write(b"ours")
        store.there.write("file", b"theirs")
    wait(mount, "file")

    assert copy_of(path).name in mount.look()
    assert path.read_bytes() == b"theirs"
    assert copy_of(path).read_bytes() == b"ours"
    assert store.there.read(copy_of(path).name) == b"ours"


def test_open_file_whose_promise_lost_keeps_its_bytes(
    mounter: Mounter, store: Store
) -> None:
    """It was synced, then somebody else was first; later bytes are not lost either."""
    mount = mounter(store, *OPTIONS)
    mount.announce(SAID)
    path = mount.path / "file"
    path.write_bytes(b"common ground")
    wait(mount, "file")

    with path.open("r+b", buffering=0) as file:
        file.write(b"OURS")
        store.there.write("file", b"theirs")
        os.fsync(file.fileno())
        wait(mount, "file")
        assert path.read_bytes() == b"theirs"
        assert os.pread(file.fileno(), 100, 0) == b"OURSon ground"
        file.write(b" more")
    wait(mount, "file")
    run_command("flush", str(mount.path))

    found = [each.read_bytes() for each in path.parent.glob("file (conflict *)")]
    assert b"OURS moreound" in found
    assert path.read_bytes() == b"theirs"
    mount.look()


def test_late_error_is_told_by_the_next_fsync(mounter: Mounter, store: Store) -> None:
    """A promise that cannot be kept: who has the file open hears of it, once."""
    mount = mounter(store, *OPTIONS, "--conflict=fail")
    mount.announce(".")
    path = mount.path / "file"
    path.write_bytes(b"common ground")
    wait(mount, "file")
    reader = os.open(path, os.O_RDONLY)

    with path.open("wb", buffering=0) as file:
        file.write(b"ours")
        store.there.write("file", b"theirs")
    wait(mount, "file")

    with pytest.raises(OSError, match="Stale"):
        os.fsync(reader)
    os.fsync(reader)
    os.close(reader)
    assert run_command("umount", str(mount.path)).returncode == 75
    mount.process.wait(60)
