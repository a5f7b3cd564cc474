"""With the attribute index everything keeps its attributes, on every store."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import Mount, run
from tests.fuse.stores import PlainFiles, Store

ALL = "--virtual=all"


@pytest.fixture
def remounted(mounter: Mounter, store: Store) -> Callable[[Mount], Path]:
    """Unmount, and mount anew with empty cache and state directories."""
    count = iter(range(99))

    def remount(mount: Mount) -> Path:
        mount.unmount()
        return mounter(store, ALL, at=f"again-{next(count)}").path

    return remount


def told(path: Path) -> tuple[int, int, int, int, int]:
    """Return what is to be kept: mode, owner, times."""
    status = path.lstat()
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_atime_ns,
        status.st_mtime_ns,
    )


@needs_root
def test_directory_keeps_its_attributes(
    mounter: Mounter, store: Store, remounted: Callable[[Mount], Path]
) -> None:
    """Mode, owner and times of a directory survive a remount with nothing here."""
    mount = mounter(store, ALL)
    path = mount.path / "d" / "sub"
    path.mkdir(parents=True)
    path.chmod(0o2751)
    os.chown(path, 12, 34)
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_600_000_000_987_654_321))
    before = told(path)

    again = remounted(mount) / "d" / "sub"

    assert told(again) == before
    assert before[:3] == (0o42751, 12, 34)
    assert before[4] == 1_600_000_000_987_654_321


@needs_root
def test_link_keeps_its_attributes(
    mounter: Mounter, store: Store, remounted: Callable[[Mount], Path]
) -> None:
    """Owner and times of a symbolic link, which `cp -a` and tar set."""
    mount = mounter(store, ALL)
    path = mount.path / "link"
    path.symlink_to("nowhere")
    os.chown(path, 12, 34, follow_symlinks=False)
    os.utime(path, ns=(5_000_000_001, 6_000_000_002), follow_symlinks=False)
    path.rename(mount.path / "moved")
    before = told(mount.path / "moved")

    again = remounted(mount) / "moved"

    assert told(again) == before
    assert before[1:] == (12, 34, 5_000_000_001, 6_000_000_002)
    assert again.readlink() == Path("nowhere")


@needs_root
def test_root_keeps_its_attributes(
    mounter: Mounter, store: Store, remounted: Callable[[Mount], Path]
) -> None:
    """The mount point looks as it was left."""
    mount = mounter(store, ALL)
    mount.path.chmod(0o1777)
    os.chown(mount.path, 12, 34)
    os.utime(mount.path, ns=(5_000_000_001, 6_000_000_002))
    before = told(mount.path)

    assert told(remounted(mount)) == before
    assert before == (0o41777, 12, 34, 5_000_000_001, 6_000_000_002)


@needs_root
def test_killed_daemon_has_stored_what_was_acknowledged(
    mounter: Mounter, store: Store
) -> None:
    """The attributes of directories and links are stored when their calls return."""
    mount = mounter(store, ALL)
    (mount.path / "d").mkdir()
    (mount.path / "d" / "link").symlink_to("nowhere")
    (mount.path / "d").chmod(0o2750)
    os.chown(mount.path / "d" / "link", 12, 34, follow_symlinks=False)
    mount.kill()

    again = mounter(store, ALL, at="again").path

    assert told(again / "d")[0] == 0o42750
    assert told(again / "d" / "link")[1:3] == (12, 34)


@needs_root
def test_renamed_tree_keeps_its_attributes(
    mounter: Mounter, store: Store, remounted: Callable[[Mount], Path]
) -> None:
    """Directories and links below a directory that was renamed."""
    mount = mounter(store, ALL)
    (mount.path / "old" / "sub").mkdir(parents=True)
    (mount.path / "old" / "sub" / "file").write_bytes(b"bytes")
    (mount.path / "old" / "sub" / "link").symlink_to("file")
    for number, name in enumerate(("sub/link", "sub", "")):
        os.chown(mount.path / "old" / name, 10 + number, 20, follow_symlinks=False)
    (mount.path / "old").rename(mount.path / "new")

    again = remounted(mount) / "new"

    owners = [(again / name).lstat().st_uid for name in ("sub/link", "sub", "")]
    assert owners == [10, 11, 12]


@needs_root
def test_copying_with_all_attributes_survives(
    mounter: Mounter, store: Store, remounted: Callable[[Mount], Path], tmp_path: Path
) -> None:
    """A tree that `cp -a` has copied is the same tree after a remount."""
    source = tmp_path / "tree"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "file").write_bytes(b"bytes")
    (source / "a" / "link").symlink_to("b/file")
    for number, path in enumerate(sorted(source.rglob("*"))):
        os.chown(path, 100 + number, 200 + number, follow_symlinks=False)
        os.utime(path, ns=(number + 1, 1000 + number), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o700 | number)
    mount = mounter(store, ALL)
    run("cp", "-a", source, mount.path / "copy")

    copy = remounted(mount) / "copy"

    for path in source.rglob("*"):
        found = copy / path.relative_to(source)
        assert told(found)[:3] == told(path)[:3]
        assert told(found)[4] == told(path)[4]


@needs_root
def test_link_of_another_program_has_the_defaults(
    mounter: Mounter, store: Store
) -> None:
    """Attributes of a link are those of that link, not of its name."""
    if not isinstance(store.there, PlainFiles):
        return  # links of key stores are objects, and keep their own
    mount = mounter(store, ALL, "--ttl=0")
    (mount.path / "link").symlink_to("target")
    os.chown(mount.path / "link", 12, 34, follow_symlinks=False)
    assert (mount.path / "link").lstat().st_uid == 12

    (store.there.root / "link").unlink()
    (store.there.root / "link").symlink_to("target")

    assert (mount.path / "link").lstat().st_uid == os.geteuid()


def test_index_is_hidden(mounter: Mounter, store: Store) -> None:
    """`.mountfs` is there in the store and nowhere in the mount."""
    mount = mounter(store, ALL)
    mount.path.chmod(0o711)
    (mount.path / "d").mkdir()

    assert any(key.startswith(".mountfs/index/") for key in store.there.listing())
    assert os.listdir(mount.path) == ["d"]
    assert not (mount.path / ".mountfs").exists()
    (mount.path / "d").rmdir()
