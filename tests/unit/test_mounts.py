"""The kernel's list of mounts, and who holds one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mountfs import mounts

MOUNTINFO = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /mnt/with\040space rw - fuse.mountfs s3://b\134x rw,user_id=1000
31 22 0:27 / /mnt/x rw - tmpfs tmpfs rw
32 22 0:28 / /mnt/x rw shared:4 master:2 - fuse.mountfs memory:// rw,user_id=0
nonsense
"""


def test_mountinfo_is_read() -> None:
    """Escapes, optional fields and FUSE's owner are understood."""
    entries = mounts.parse_mountinfo(MOUNTINFO)

    assert [str(entry.mount_point) for entry in entries] == [
        "/",
        "/mnt/with space",
        "/mnt/x",
        "/mnt/x",
    ]
    assert (entries[1].fstype, entries[1].source) == ("fuse.mountfs", "s3://b\\x")
    assert [entry.user_id for entry in entries] == [None, 1000, None, 0]


def test_a_mount_point_is_whatever_bytes_it_was_called() -> None:
    """What ends a line of text (a form feed) is part of a name, and so is no UTF-8."""
    text = os.fsdecode(b"30 22 0:26 / /a\x0cb\xff rw - fuse.mountfs memory:// rw\n")
    (entry,) = mounts.parse_mountinfo(text)

    assert os.fsencode(entry.mount_point) == b"/a\x0cb\xff"


def test_the_topmost_mount_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where mounts are stacked, the last one is what programs see."""
    listing = tmp_path / "mountinfo"
    listing.write_text(MOUNTINFO)
    monkeypatch.setattr(mounts, "MOUNTINFO", listing)

    found = mounts.mount_at(Path("/mnt/x"))

    assert found is not None
    assert found.source == "memory://"
    assert mounts.mount_at(Path("/mnt/y")) is None


def test_the_mount_of_a_path_is_found() -> None:
    """A file in /proc lies on proc."""
    found = mounts.mount_of(Path("/proc/self"))

    assert found is not None
    assert found.fstype == "proc"


@pytest.mark.parametrize(
    "script",
    [
        "import os, sys; os.chdir(sys.argv[1])",
        "import sys; file = open(sys.argv[1] + '/file')",
    ],
)
def test_holders_are_found_by_what_they_hold(tmp_path: Path, script: str) -> None:
    """A working directory or an open file makes a process a holder."""
    held = tmp_path / "held"
    held.mkdir()
    (held / "file").touch()
    (tmp_path / "held-not").mkdir()
    script += "; print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(held)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()

        found = [pid for pid, _ in mounts.holders(held)]
        elsewhere = mounts.holders(tmp_path / "held-n")

        child.terminate()
    assert found == [child.pid]
    assert elsewhere == []


def test_a_failed_unmount_tells_why(tmp_path: Path) -> None:
    """What the system's command said comes back."""
    problem = mounts.unmount(tmp_path)

    assert problem is not None
    assert "not" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs")
def test_unmount_of_what_is_mounted_says_nothing(tmp_path: Path) -> None:
    """Success has no message."""
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)

    assert mounts.unmount(tmp_path) is None
    assert mounts.mount_at(tmp_path) is None


def test_paths_are_found_without_a_look_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path in a mount needs not exist; links outside of mounts are followed."""
    top = tmp_path / "m"
    (tmp_path / "link").symlink_to(top / "dir")
    listing = tmp_path / "mountinfo"
    lines = [
        f"30 22 0:26 / {top} rw - fuse.mountfs s3://b rw,user_id=0",
        f"31 22 0:27 / {top}/other rw - tmpfs tmpfs rw",
    ]
    listing.write_text("\n".join(lines))
    monkeypatch.setattr(mounts, "MOUNTINFO", listing)

    def found(path: object) -> str | None:
        place = mounts.find_ours(str(path))
        return None if place is None else place[1]

    assert found(top) == ""
    assert found(f"{top}/a/../b//c/") == "b/c"
    assert found(tmp_path / "link" / "file") == "dir/file"
    assert found(f"{top}x/a") is None
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "near").symlink_to("link/../deep")
    assert found(tmp_path / "loop" / "a") is None
    assert found(tmp_path / "near" / "a") == "deep/a"
    assert found(top / "other" / "a") is None
    assert found(tmp_path) is None


def test_a_mount_is_known_by_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies above it, or at its place since, is another; unread, it is there."""
    listing = tmp_path / "mountinfo"
    listing.write_text(
        "1 0 0:7 / /m rw - fuse.mountfs x rw\n2 1 0:8 / /n rw - t x rw\n"
    )
    monkeypatch.setattr(mounts, "MOUNTINFO", listing)

    assert mounts.is_mounted_as(Path("/m"), os.makedev(0, 7))
    assert mounts.is_mounted_as(Path("/m"), None)
    assert not mounts.is_mounted_as(Path("/n"), os.makedev(0, 7))
    assert not mounts.is_mounted_as(Path("/o"), None)
    listing.unlink()
    assert mounts.is_mounted_as(Path("/m"), os.makedev(0, 7))
