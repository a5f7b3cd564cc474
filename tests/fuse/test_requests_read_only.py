"""Mounts that cannot or must not write: what they send, and what programs are told."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.counting import READING, CountingShim
from tests.fuse.stores import S3Objects, Store


@pytest.fixture
def filled_store(counted_store: Store, counting_shim: CountingShim) -> Store:
    """A store with a directory and a file in it; counting begins here."""
    counted_store.there.write("dir/file", b"bytes")
    counting_shim.clear()
    return counted_store


@pytest.fixture
def refusing_shim(counting_shim: CountingShim) -> Iterator[CountingShim]:
    """A shim that answers every write as it answers credentials that may only read."""
    with counting_shim.refusing():
        yield counting_shim


ATTEMPTS: dict[str, Callable[[Path], object]] = {
    "create": lambda root: (root / "dir" / "new").write_bytes(b""),
    "overwrite": lambda root: (root / "dir" / "file").write_bytes(b"other"),
    "open": lambda root: os.open(root / "dir" / "file", os.O_RDWR),
    "truncate": lambda root: os.truncate(root / "dir" / "file", 0),
    "mkdir": lambda root: (root / "new").mkdir(),
    "symlink": lambda root: (root / "new").symlink_to("target"),
    "unlink": lambda root: (root / "dir" / "file").unlink(),
    "rmdir": lambda root: (root / "dir").rmdir(),
    "rename": lambda root: (root / "dir" / "file").rename(root / "dir" / "new"),
    "rename-dir": lambda root: (root / "dir").rename(root / "new"),
    "chmod": lambda root: (root / "dir" / "file").chmod(0o600),
    "chown": lambda root: os.chown(root / "dir" / "file", 1, 1),
    "utime": lambda root: os.utime(root / "dir" / "file"),
}
KEEPING_BYTES = {"create", "overwrite", "truncate"}
"""What leaves bytes behind that the store does not have."""
NOT_SENT = {"open", "rmdir"}
"""An open alone writes nothing; a directory that is not empty is no question."""


def errno_of(attempt: Callable[[Path], object], root: Path) -> int | None:
    """Return the error that a program is told, or None."""
    try:
        attempt(root)
    except OSError as error:
        return error.errno
    return None


def test_read_only_mount_sends_no_write(
    filled_store: Store, counting_shim: CountingShim, mounter: Mounter
) -> None:
    """With --read-only programs get EROFS and the store gets no write of any kind."""
    mount = mounter(filled_store, "--read-only")

    told = {name: errno_of(each, mount.path) for name, each in ATTEMPTS.items()}
    content = (mount.path / "dir" / "file").read_bytes()
    mount.unmount()

    assert told == dict.fromkeys(ATTEMPTS, errno.EROFS)
    assert content == b"bytes"
    # The shim is shared: another mount may be sending the times of its directories.
    there = filled_store.there
    assert isinstance(there, S3Objects)
    own = [
        each
        for each in counting_shim.requests()
        if not each.key or each.key.startswith(there.prefix)
    ]
    assert {each.method for each in own} <= READING


def test_credentials_that_may_only_read(
    filled_store: Store, refusing_shim: CountingShim, mounter: Mounter
) -> None:
    """Without the right to write a mount reads, and refuses changes with EACCES."""
    mount = mounter(filled_store)
    mount.announce("the credentials cannot write")
    mount.announce("Access Denied|AccessDenied|EACCES")

    names = ATTEMPTS.keys() - KEEPING_BYTES - NOT_SENT
    told = {name: errno_of(ATTEMPTS[name], mount.path) for name in names}
    content = (mount.path / "dir" / "file").read_bytes()
    listed = os.listdir(mount.path / "dir")
    mount.unmount()

    assert told == dict.fromkeys(names, errno.EACCES)
    assert (content, listed) == (b"bytes", ["file"])
    assert filled_store.there.listing() == {"dir/file"}


def test_refused_bytes_are_told_at_close_and_kept(
    filled_store: Store, refusing_shim: CountingShim, mounter: Mounter
) -> None:
    """close(2) says EACCES, and the daemon does not end as if all were well."""
    mount = mounter(filled_store)
    mount.announce("")

    with pytest.raises(PermissionError), (mount.path / "new").open("wb") as file:
        file.write(b"bytes")
    code = mount.end(signal.SIGTERM)

    assert code == 75
    assert any((mount.state_dir).rglob("*.spool"))
