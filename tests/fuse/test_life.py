"""How a mount ends: by umount, by SIGTERM, with files open."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mountfs import control, mounts
from mountfs.control import State
from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import run, run_command
from tests.fuse.stores import Store

MIB = 1 << 20


def test_sigterm_right_after_writes_loses_nothing(
    mounter: Mounter, store: Store
) -> None:
    """Bytes written and not closed by a program that ends are stored at SIGTERM."""
    mount = mounter(store)
    for number in range(20):
        (mount.path / f"file-{number}").write_bytes(b"%d" % number * 1000)
    file = (mount.path / "open").open("wb", buffering=0)
    file.write(b"x" * MIB)

    mount.process.send_signal(signal.SIGTERM)
    wait_until_detached(mount.path)
    file.write(b"later")
    file.close()
    code = mount.process.wait(60)

    assert code == 0
    assert store.there.read("open") == b"x" * MIB + b"later"
    assert store.there.read("file-19") == b"19" * 1000
    mount.check_log()


def test_end_of_a_mount_in_use_stores_what_was_written(
    mounter: Mounter, store: Store
) -> None:
    """A program that goes on writing loses the mount, and nothing written before."""
    mount = mounter(store)
    mount.announce("programs still use")
    file = (mount.path / "log").open("wb", buffering=0)
    file.write(b"x" * 10_000)

    mount.process.send_signal(signal.SIGTERM)
    wait_until_detached(mount.path)
    mount.process.send_signal(signal.SIGTERM)
    code = mount.process.wait(60)

    assert code == 0
    assert store.there.read("log") == b"x" * 10_000
    with pytest.raises(OSError, match="not connected"):
        file.close()
    mount.check_log()


@needs_root
@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_end_of_a_detached_mount_leaves_what_has_its_place(
    mounter: Mounter, store: Store
) -> None:
    """Whoever mounts there next does not lose that when the last program goes."""
    mount = mounter(store)
    mount.announce("programs still use")
    file = (mount.path / "log").open("wb", buffering=0)

    mount.process.send_signal(signal.SIGTERM)
    wait_until_detached(mount.path)
    run("mount", "-t", "tmpfs", "next", mount.path)
    try:
        mount.process.send_signal(signal.SIGTERM)
        code = mount.process.wait(60)
        there = mounts.mount_at(mount.path)
    finally:
        mounts.unmount(mount.path)

    assert code == 0
    assert there is not None
    assert there.source == "next"
    with pytest.raises(OSError, match="not connected"):
        file.close()
    mount.check_log()


def wait_until_detached(path: Path) -> None:
    """Return when nothing is mounted at a path any more; the test's limit bounds it."""
    while mounts.mount_at(path) is not None:
        os.sched_yield()


def test_detached_mount_serves_those_inside(mounter: Mounter, store: Store) -> None:
    """After SIGTERM the mount point is free at once, and an open file still works."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"0123456789")
    descriptor = os.open(mount.path / "file", os.O_RDWR)

    mount.process.send_signal(signal.SIGTERM)
    wait_until_detached(mount.path)
    seen = os.pread(descriptor, 10, 0)
    os.pwrite(descriptor, b"edit", 3)
    os.fsync(descriptor)
    stored = store.there.read("file")
    os.close(descriptor)

    assert seen == b"0123456789"
    assert stored == b"012edit789"
    assert list(mount.path.iterdir()) == []
    assert mount.process.wait(60) == 0


def test_umount_of_a_busy_mount_is_refused(mounter: Mounter, store: Store) -> None:
    """`mountfs umount` names who uses the mount, and the mount goes on."""
    mount = mounter(store)
    with (mount.path / "file").open("wb") as file:
        done = run_command("umount", str(mount.path))
        file.write(b"still here")

    assert done.returncode == 1
    assert str(os.getpid()) in done.stderr
    assert (mount.path / "file").read_bytes() == b"still here"


def test_killed_writer_loses_only_what_it_kept(mounter: Mounter, store: Store) -> None:
    """What a program had written when it was killed is stored."""
    mount = mounter(store)
    program = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, b"written")
print("ready", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(mount.path / "file")]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdin is not None
    assert writer.stdout.readline() == b"ready\n"

    writer.kill()
    writer.wait(30)
    writer.stdin.close()
    writer.stdout.close()
    mount.unmount()

    assert store.there.read("file") == b"written"


def test_empty_mount_ends_at_once(mounter: Mounter, store: Store) -> None:
    """A mount that nobody used unmounts with nothing left in the store."""
    mount = mounter(store)

    mount.unmount()

    found = {key for key in store.there.listing() if not key.startswith(".mountfs")}
    assert found == set()


@needs_root
def test_plain_umount_stores_everything(mounter: Mounter, store: Store) -> None:
    """umount(8) alone is enough: the daemon ends by itself, with nothing pending."""
    mount = mounter(store)
    for number in range(30):
        (mount.path / f"file-{number}").write_bytes(b"%d" % number)

    subprocess.run(["umount", str(mount.path)], check=True, timeout=60)

    assert mount.process.wait(60) == 0
    assert store.there.read("file-29") == b"29"
    mount.check_log()


@pytest.mark.slow
def test_sigterm_after_a_lazy_umount_serves_those_inside(
    mounter: Mounter, store: Store
) -> None:
    """A mount that was detached before SIGTERM lets programs finish all the same."""
    mount = mounter(store)
    file = (mount.path / "file").open("wb", buffering=0)
    mounts.unmount(mount.path, is_lazy=True)

    mount.process.send_signal(signal.SIGTERM)
    asked = control.socket_path(mount.path)
    while (status := control.ask(asked, "status")) and status.state is State.MOUNTED:
        os.sched_yield()
    file.write(b"later")
    file.close()

    assert mount.process.wait(60) == 0
    assert store.there.read("file") == b"later"
    mount.check_log()
