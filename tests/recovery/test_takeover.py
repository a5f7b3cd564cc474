"""A new mount of a store begins while the earlier one, unmounted, still sends."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from mountfs import control, mounts
from mountfs.control import State
from tests.fakes.cutting_proxy import Stall
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import UNMOUNT_S, Mount, run_command
from tests.fuse.processes import COMMAND
from tests.fuse.streaming import open_new
from tests.recovery.outages import (
    WRITTEN_OFF,
    Outages,
    go_offline,
    outages,
    wait_for_store,
)

__all__ = ["outages"]
pytestmark = pytest.mark.fuse


def unmount_in_background(mount: Mount) -> "subprocess.Popen[str]":
    """Begin to unmount; return when the daemon drains."""
    running = subprocess.Popen(
        [*COMMAND, "umount", str(mount.path)], stderr=subprocess.PIPE, text=True
    )
    socket = control.socket_path(mount.path)
    end_s = time.monotonic() + UNMOUNT_S
    while (status := control.ask(socket, "status")) is None or (
        status.state is not State.DRAINING
    ):
        assert time.monotonic() < end_s, f"{status}\n{mount.log()}"
        time.sleep(0.02)
    return running


@pytest.mark.slow
def test_a_new_mount_goes_on_with_what_the_last_one_sends(
    outages: Outages, mounter: Mounter
) -> None:
    """With a journal it does not wait: it has all that was written, and sends it.

    Who waits for the end of the last mount is told what that has left.
    """
    first = mounter(outages.store, "--durability=journal")
    outages.proxy.fail("PutObject", Stall(), key="/stuck", is_lasting=True)
    (first.path / "sent").write_bytes(b"1")
    (first.path / "stuck").write_bytes(b"2")
    unmounting = unmount_in_background(first)

    second = mounter(outages.store, "--durability=journal")

    second.announce(WRITTEN_OFF)
    assert first.process.wait(UNMOUNT_S) == 75
    _, told = unmounting.communicate(timeout=UNMOUNT_S)
    assert unmounting.returncode == 75
    assert "stuck" in told
    assert (second.path / "stuck").read_bytes() == b"2"
    (second.path / "more").write_bytes(b"3")
    outages.proxy.mend()
    second.flush()
    names = ("sent", "stuck", "more")
    assert [outages.there.read(name) for name in names] == [b"1", b"2", b"3"]
    second.unmount()


@pytest.mark.slow
def test_at_another_mount_point_it_takes_over_too(
    outages: Outages, mounter: Mounter, tmp_path: Path
) -> None:
    """What is shared is the state directory."""
    first = mounter(outages.store, "--durability=journal")
    first.announce(WRITTEN_OFF)
    outages.proxy.fail("PutObject", Stall(), key="/stuck", is_lasting=True)
    (first.path / "stuck").write_bytes(b"2")
    unmounting = unmount_in_background(first)
    other = tmp_path / "other"
    other.mkdir()

    done = run_command(
        "mount",
        *outages.store.options,
        "--durability=journal",
        f"--state-dir={first.state_dir}",
        f"--cache-dir={first.cache_dir}",
        outages.store.url,
        str(other),
    )

    try:
        assert (done.returncode, done.stderr) == (0, "")
        assert (other / "stuck").read_bytes() == b"2"
        outages.proxy.mend()
    finally:
        ended = run_command("umount", str(other))
        mounts.unmount(other, is_lazy=True)
    assert ended.returncode == 0
    assert outages.there.read("stuck") == b"2"
    first.process.wait(UNMOUNT_S)
    unmounting.communicate(timeout=UNMOUNT_S)


def test_without_a_journal_it_begins_when_everything_is_sent(
    outages: Outages, mounter: Mounter
) -> None:
    """Nobody but the last mount can send what is in no journal: the new one waits.

    There is then nothing that it could lack, and whoever waits for the end of the last
    one is told that the store has everything.
    """
    first = mounter(outages.store, "--offline=eio")
    (first.path / "sent").write_bytes(b"1")
    stuck = open_new(first.path / "stuck")
    go_offline(outages, first)
    os.write(stuck, b"2")
    with pytest.raises(OSError, match="Input/output"):
        os.close(stuck)
    hold = Stall()
    outages.proxy.fail_only("PutObject", hold, key="/stuck")
    wait_for_store(first, "online")
    unmounting = unmount_in_background(first)
    seen: list[tuple[int | None, object]] = []

    def let_go() -> None:
        end_s = time.monotonic() + UNMOUNT_S
        while "a new mount goes on" not in first.log_path.read_text():
            if time.monotonic() > end_s:
                break
            time.sleep(0.02)
        seen.append((first.process.poll(), mounts.mount_at(first.path)))
        outages.proxy.mend()

    letting_go = threading.Thread(target=let_go)
    letting_go.start()
    try:
        second = mounter(outages.store)
    finally:
        letting_go.join()
    is_stored = outages.there.read("stuck")

    assert seen == [(None, None)], "it did not wait"
    assert is_stored == b"2"
    second.announce(WRITTEN_OFF)
    assert first.process.wait(UNMOUNT_S) == 0
    unmounting.communicate(timeout=UNMOUNT_S)
    assert unmounting.returncode in (0, 74)  # 74: the close that failed was heard of
    assert (second.path / "sent").read_bytes() == b"1"
    assert (second.path / "stuck").read_bytes() == b"2"
    second.unmount()
