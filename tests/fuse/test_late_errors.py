"""Late errors, as programs meet them."""

import os
import shutil

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import run
from tests.fuse.stores import Store

LAST_ERROR = "user.mountfs.last_error"


def test_last_error_is_told_by_name_and_copied_by_nobody(
    mounter: Mounter, store: Store
) -> None:
    """It is read by its name, never listed, and neither cp nor rsync takes it along."""
    mount = mounter(store, "--ttl=0", "--virtual=all")
    mount.announce("another client")
    path = mount.path / "file"
    path.write_bytes(b"common ground")
    os.setxattr(path, "user.mine", b"kept")
    with path.open("wb", buffering=0) as file:
        file.write(b"ours")
        store.there.write("file", b"theirs")

    assert b"(conflict " in os.getxattr(path, LAST_ERROR)
    assert LAST_ERROR not in os.listxattr(path)
    (mount.path / "plain").write_bytes(b"x")
    os.setxattr(mount.path / "plain", "user.mine", b"kept")
    for source in (path, mount.path / "plain"):
        copied = mount.path / f"copy of {source.name}"
        run("cp", "-a", source, copied)
        assert not any(name.startswith("user.mountfs") for name in os.listxattr(copied))
        if shutil.which("rsync"):
            run("rsync", "-X", source, f"{copied} again")
        with pytest.raises(OSError, match="No data"):
            os.getxattr(copied, LAST_ERROR)
    assert os.getxattr(mount.path / "copy of plain", "user.mine") == b"kept"
    mount.look()
