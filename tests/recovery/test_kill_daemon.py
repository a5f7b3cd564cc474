"""The daemon dies by SIGKILL: programs notice, nothing acknowledged is lost."""

import errno
import os
import random
import signal
from collections.abc import Callable

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount
from tests.fuse.stores import Store, objects_of
from tests.fuse.streaming import MIB, open_new, unfinished_uploads, write

DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
pytestmark = pytest.mark.fuse


def kill(mount: Mount) -> None:
    """End the daemon as a crash would."""
    mount.end(signal.SIGKILL)


def test_dead_mount_is_no_empty_directory(mounter: Mounter, store: Store) -> None:
    """Listing, reading and writing fail with ENOTCONN, and never find nothing."""
    mount = mounter(store, "--ttl=0")
    (mount.path / "file").write_bytes(b"x")
    (mount.path / "d").mkdir()
    kill(mount)

    deeds: list[Callable[[], object]] = [
        lambda: list(mount.path.iterdir()),
        lambda: list((mount.path / "d").iterdir()),
        lambda: (mount.path / "file").read_bytes(),
        lambda: (mount.path / "new").write_bytes(b"x"),
        lambda: (mount.path / "new").mkdir(),
        lambda: (mount.path / "missing").stat(),
    ]
    for deed in deeds:
        with pytest.raises(OSError, match=r".") as caught:
            deed()
        assert caught.value.errno in DEAD


def test_open_file_of_a_dead_mount_is_an_error(mounter: Mounter, store: Store) -> None:
    """fsync(2) of what the dead daemon never got does not claim success."""
    mount = mounter(store)
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"lost")
    kill(mount)

    with pytest.raises(OSError, match=r".") as caught:
        os.fsync(descriptor)

    assert caught.value.errno in (*DEAD, errno.EIO)
    with pytest.raises(OSError, match=r"."):
        os.close(descriptor)


def test_next_mount_clears_the_dead_one_away(mounter: Mounter, store: Store) -> None:
    """`mountfs mount` at the same place, with the same directories, just works."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"x")
    kill(mount)

    again = mounter(store)
    again.announce("cleaning up")

    assert (again.path / "file").read_bytes() == b"x"
    (again.path / "file").write_bytes(b"y")
    assert store.there.read("file") == b"y"


def test_what_was_closed_is_in_the_store(mounter: Mounter, store: Store) -> None:
    """Files that were closed, names that were changed: all there after a crash."""
    mount = mounter(store)
    expected = {}
    for number in range(40):
        content = random.Random(number).randbytes(number * 1000)
        (mount.path / f"new-{number}").write_bytes(content)
        if number % 3 == 0:
            (mount.path / f"new-{number}").rename(mount.path / f"old-{number}")
        name = f"old-{number}" if number % 3 == 0 else f"new-{number}"
        expected[name] = content
    kill(mount)

    found = objects_of(store.there)
    found = {key: found[key] for key in found if not key.startswith(".mountfs/")}
    assert found == expected


def test_crash_while_streaming_leaves_the_old_object(
    mounter: Mounter, store: Store
) -> None:
    """A large file that was being rewritten is the old one, whole; the next mount works
    and a new attempt succeeds.
    """
    mount = mounter(store)
    (mount.path / "big").write_bytes(b"old")
    descriptor = os.open(mount.path / "big", os.O_WRONLY | os.O_TRUNC)
    write(descriptor, 0, 48 * MIB)
    kill(mount)
    with pytest.raises(OSError, match=r"."):
        os.close(descriptor)

    assert store.there.read("big") == b"old"
    again = mounter(store)
    again.announce("cleaning up")
    assert (again.path / "big").read_bytes() == b"old"
    (again.path / "big").write_bytes(b"new")
    assert store.there.read("big") == b"new"


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_next_mount_ends_the_upload_of_a_crash(mounter: Mounter, store: Store) -> None:
    """The parts of an upload that a crash cut short do not stay in the bucket."""
    mount = mounter(store)
    descriptor = open_new(mount.path / "big")
    write(descriptor, 0, 48 * MIB)
    while unfinished_uploads(store) == 0:  # it begins in the background
        os.sched_yield()
    kill(mount)
    with pytest.raises(OSError, match=r"."):
        os.close(descriptor)

    again = mounter(store)
    again.announce("cleaning up")
    again.unmount()

    assert unfinished_uploads(store) == 0


def test_watchdog_frees_who_waits(mounter: Mounter, store: Store) -> None:
    """A daemon that is stopped is ended by the watchdog, and its callers get errors."""
    mount = mounter(store, "--ttl=0", life_s=100)
    mount.process.send_signal(signal.SIGSTOP)
    mount.watch(0.3)

    with pytest.raises(OSError, match=r".") as caught:
        list(mount.path.iterdir())

    assert caught.value.errno in DEAD
    assert mount.process.wait(30) == -signal.SIGKILL
