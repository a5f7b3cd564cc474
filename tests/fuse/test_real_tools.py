"""The real rclone and s3fs on one store with mountfs: each reads what the other wrote.

SeaweedFS keeps no metadata of directory markers, so those of directories are left to
the buckets in `test_other_tools`.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.tools import rclone, s3fs
from tests.fuse.conftest import Mounter
from tests.fuse.stores import S3Objects, Store

ATIME_NS = 10**18 + 5
MTIME_NS = 1_700_000_000_123_456_789
TARGET = "../target ü"


@pytest.fixture
def s3_store(make_store: Callable[[str], Store]) -> Store:
    """An empty store on SeaweedFS."""
    return make_store("s3")


def _there(store: Store) -> S3Objects:
    assert isinstance(store.there, S3Objects)
    return store.there


def write_tree(top: Path) -> None:
    """Write a file, a link and directories with everything that a file system keeps."""
    (top / "d").mkdir(parents=True)
    (top / "empty").mkdir()
    file = top / "d" / "file"
    file.write_bytes(b"bytes")
    os.chown(file, 1000, 100)
    file.chmod(0o640)
    os.utime(file, ns=(ATIME_NS, MTIME_NS))
    (top / "d" / "link").symlink_to(TARGET)


def check_tree(top: Path, *, has_mode: bool = True, has_owner: bool = True) -> None:
    """See that what `write_tree` writes is there.

    SeaweedFS goes on listing a directory whose last key is gone, which `.mountfs` is
    when the conditions of the store were tried.
    """
    assert set(os.listdir(top)) - {".mountfs"} == {"d", "empty"}
    assert sorted(os.listdir(top / "d")) == ["file", "link"]
    assert os.listdir(top / "empty") == []
    file = top / "d" / "file"
    found = file.stat()
    assert file.read_bytes() == b"bytes"
    assert found.st_mtime_ns == MTIME_NS
    if has_owner:
        assert (found.st_uid, found.st_gid) == (1000, 100)
    if has_mode:
        assert found.st_mode == stat.S_IFREG | 0o640


def test_what_rclone_writes_is_read(
    s3_store: Store, mounter: Mounter, tmp_path: Path
) -> None:
    """Attributes, links and empty directories that rclone stored are as they were."""
    write_tree(tmp_path / "source")
    flags = ("--links", "--metadata", "--create-empty-src-dirs")
    rclone(
        _there(s3_store),
        *("copy", tmp_path / "source", "s3:", *flags, "--s3-directory-markers"),
    )
    mount = mounter(s3_store)

    # Before it is read, which sets it.
    assert (mount.path / "d" / "file").stat().st_atime_ns == ATIME_NS
    check_tree(mount.path)
    assert os.readlink(mount.path / "d" / "link") == TARGET


def test_what_is_written_here_is_read_by_rclone(
    s3_store: Store, mounter: Mounter, tmp_path: Path
) -> None:
    """Bytes, times, owners and directories arrive; a link is a file with its target."""
    mount = mounter(s3_store)
    write_tree(mount.path)
    mount.unmount()

    flags = ("--create-empty-src-dirs", "--s3-directory-markers")
    rclone(_there(s3_store), "copy", "s3:", tmp_path / "target", *flags)

    check_tree(tmp_path / "target", has_mode=False, has_owner=False)
    assert (tmp_path / "target" / "d" / "link").read_text() == TARGET
    described = rclone(_there(s3_store), "lsjson", "--metadata", "s3:d/file")
    assert '"uid":"1000"' in described
    assert '"gid":"100"' in described


def test_what_s3fs_writes_is_read(
    s3_store: Store, mounter: Mounter, tmp_path: Path
) -> None:
    """Everything that s3fs keeps is there, special files and attributes included."""
    with s3fs(_there(s3_store), tmp_path) as foreign:
        write_tree(foreign)
        os.mkfifo(foreign / "d" / "fifo", 0o600)
        os.setxattr(foreign / "d" / "file", "user.color", "grün".encode())
        os.setxattr(foreign / "d" / "file", "user.a", b"\0\xff")
    mount = mounter(s3_store, "--virtual=all")

    fifo, file = mount.path / "d" / "fifo", mount.path / "d" / "file"
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    assert os.getxattr(file, "user.color") == "grün".encode()
    assert os.getxattr(file, "user.a") == b"\0\xff"
    fifo.unlink()
    check_tree(mount.path)
    assert os.readlink(mount.path / "d" / "link") == TARGET


def test_what_is_written_here_is_read_by_s3fs(
    s3_store: Store, mounter: Mounter, tmp_path: Path
) -> None:
    """s3fs shows modes, owners, times, links, attributes and special files as here."""
    mount = mounter(s3_store, "--virtual=all")
    write_tree(mount.path)
    os.mkfifo(mount.path / "d" / "fifo", 0o600)
    os.setxattr(mount.path / "d" / "file", "user.color", "grün".encode())
    mount.unmount()

    with s3fs(_there(s3_store), tmp_path) as foreign:
        fifo, file = foreign / "d" / "fifo", foreign / "d" / "file"
        assert stat.S_ISFIFO(fifo.lstat().st_mode)
        assert os.getxattr(file, "user.color") == "grün".encode()
        fifo.unlink()
        check_tree(foreign)
        assert os.readlink(foreign / "d" / "link") == TARGET
        os.setxattr(file, "user.new", b"new")

    again = mounter(s3_store, "--virtual=all", at="again")
    names = os.listxattr(again.path / "d" / "file")
    assert sorted(names) == ["user.color", "user.new"]
