"""What an operator sees of a real mount: explain, xattrs, list, status, top."""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mountfs import cli
from tests.fuse.conftest import GATED, Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import Mount, run
from tests.fuse.stores import Store

local = pytest.mark.parametrize("store", ["local"], indirect=True)


@dataclass
class Command:
    """`mountfs` in this process: starting another for each word takes long."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Return what a command prints; what it complains of if it ends with 2."""
        self.capsys.readouterr()
        assert cli.main(arguments) == code
        out, complaint = self.capsys.readouterr()
        assert not (out and complaint)
        return complaint if code == 2 else out

    def told(self, *arguments: str, code: int = 0) -> Any:
        """Return the document that a command prints for programs."""
        return json.loads(self(*arguments, "--json", code=code))


def fact(path: Path, name: str) -> str | None:
    """Return an attribute of mountfs' own; None for ENODATA."""
    try:
        return os.getxattr(path, f"user.mountfs.{name}").decode()
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return None


def _explains(mountfs: Command, mount: Mount) -> None:
    path = mount.path / "docs" / "file"
    path.parent.mkdir()
    path.write_bytes(b"bytes")
    path.chmod(0o640)
    path.read_bytes()

    file = mountfs.told("explain", str(path))
    lines = mountfs("explain", str(path)).splitlines()
    assert (file["found"], file["kind"], file["state"]) == (True, "file", "clean")
    assert file["object"]["key"] == "docs/file"
    assert file["object"]["url"].endswith("/docs/file")
    assert file["object"]["size"] == 5
    assert file["attributes"]["mode"]["value"] == "0640"
    assert "(mountfs)" in file["attributes"]["mode"]["source"]
    assert lines[0] == f"{path}: a file, clean"
    assert "  key         docs/file" in lines
    assert mountfs.told("explain", str(path.parent))["form"]["name"] == "directory"

    missing = mountfs.told("explain", str(path / "below" / "it"), code=1)
    assert missing["why"] == "docs/file is no directory"
    outside = mountfs("explain", str(mount.path.parent), code=2)
    assert "is not in a mount of mountfs" in outside


def _tells_by_xattrs(mountfs: Command, mount: Mount) -> None:
    path = mount.path / "xattrs"
    path.write_bytes(b"12345")

    assert fact(path, "key") == "xattrs"
    assert fact(path, "state") == "clean"
    assert fact(path, "size") == "5"
    assert fact(path, "dirty") is None
    assert fact(path, "pending") is None
    explained = json.loads(fact(path, "explain") or "")
    asked = mountfs.told("explain", str(path))
    assert explained.items() <= asked.items()
    path.read_bytes()
    assert fact(path, "cached") == "0-4"
    with path.open("r+b", buffering=0) as file:
        file.write(b"6")
        os.fdatasync(file.fileno())
        assert os.listxattr(path) == []
        with pytest.raises(PermissionError):
            os.setxattr(path, "user.mountfs.key", b"x")
        with pytest.raises(PermissionError):
            os.removexattr(path, "user.mountfs.key")


def _is_not_copied(mount: Mount, beside: Path) -> None:
    path = mount.path / "copied"
    path.write_bytes(b"12345")
    os.setxattr(path, "user.own", b"1")
    for command in (
        ("cp", "-a", "--preserve=all", str(path), str(beside / "cp")),
        ("cp", "-a", str(path), str(mount.path / "again")),
    ):
        run(*command)

    for copy in (beside / "cp", mount.path / "again"):
        assert os.listxattr(copy) == ["user.own"]


def _is_listed(mountfs: Command, mount: Mount, store: Store) -> None:
    mounts = {each["mount_point"]: each for each in mountfs.told("list")}
    entry = mounts[str(mount.path)]
    lines = mountfs("list").splitlines()
    (status,) = mountfs.told("status", str(mount.path))

    assert (entry["url"], entry["state"]) == (store.url, "mounted")
    assert entry["pid"] == status["pid"]
    assert entry["since_ns"] == status["since_ns"] > 0
    assert lines[0].split()[:3] == ["URL", "DIRECTORY", "STATE"]
    assert any(store.url in line and " mounted " in line for line in lines)


def _is_counted(mountfs: Command, mount: Mount) -> None:
    (load,) = mountfs.told("top", "--once", str(mount.path))
    shown = mountfs("top", "--once", str(mount.path))

    names = [row["name"] for row in load["operations"]]
    assert {"lookup", "create", "write", "flush"} <= set(names)
    assert "upload" in [row["name"] for row in load["calls"]]
    assert all(row["per_s"] > 0 for row in load["operations"])
    assert "  operation " in shown


@local
@needs_root
def test_an_operator_sees_what_a_mount_does(
    mounter: Mounter,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One mount, and all that tells of it: for people and for programs."""
    mount, mountfs = mounter(store, *GATED), Command(capsys)

    _explains(mountfs, mount)
    _tells_by_xattrs(mountfs, mount)
    _is_not_copied(mount, tmp_path)
    _is_listed(mountfs, mount, store)
    _is_counted(mountfs, mount)
    for command in ("wait", "flush", "warm", "check"):
        assert mountfs.told(command, str(mount.path))
