"""What stat(2) tells: numbers, times, kinds; and the root of the mount."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import run
from tests.fuse.stores import Store


def test_inode_number_stays_with_the_file(directory: Path) -> None:
    """Storing, renaming and changing a file leave its number."""
    path = directory / "file"
    with path.open("wb", buffering=0) as file:
        number = os.fstat(file.fileno()).st_ino
        file.write(b"x")
    after_close = path.stat().st_ino
    path.rename(directory / "moved")
    with (directory / "moved").open("ab") as file:
        file.write(b"y")
    (directory / "moved").chmod(0o600)

    assert [after_close, (directory / "moved").stat().st_ino] == [number, number]


def test_listing_tells_numbers_and_kinds(directory: Path) -> None:
    """Entries of a listing have the number and the kind that stat(2) tells."""
    (directory / "file").touch()
    (directory / "d").mkdir()
    (directory / "link").symlink_to("file")

    with os.scandir(directory) as entries:
        found = {
            entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False))
            for entry in entries
        }

    for name, (number, is_directory) in found.items():
        status = (directory / name).lstat()
        assert number == status.st_ino
        assert is_directory == stat.S_ISDIR(status.st_mode)
    assert len({number for number, _ in found.values()}) == 3


def test_change_of_a_directory_moves_its_time(directory: Path) -> None:
    """Making and removing a name sets the mtime of the directory."""
    (directory / "d").mkdir()
    os.utime(directory / "d", ns=(5, 5))

    (directory / "d" / "file").touch()
    made = (directory / "d").stat().st_mtime_ns
    os.utime(directory / "d", ns=(5, 5))
    (directory / "d" / "file").unlink()
    removed = (directory / "d").stat().st_mtime_ns

    assert made > 10**18
    assert removed > 10**18


@needs_root
def test_group_of_a_setgid_directory_is_inherited(directory: Path) -> None:
    """What is made in a directory with the setgid bit has its group."""
    (directory / "d").mkdir()
    os.chown(directory / "d", 0, 4321)
    (directory / "d").chmod(0o2775)

    (directory / "d" / "file").touch()
    (directory / "d" / "sub").mkdir()

    assert (directory / "d" / "file").stat().st_gid == 4321
    assert (directory / "d" / "sub").stat().st_gid == 4321
    assert (directory / "d" / "sub").stat().st_mode & stat.S_ISGID


def test_umask_of_the_program_counts(directory: Path) -> None:
    """A file is made with the mode asked for, less the umask."""
    run("sh", "-c", f'umask 027; touch "{directory}/file"; mkdir "{directory}/d"')

    assert (directory / "file").stat().st_mode & 0o7777 == 0o640
    assert (directory / "d").stat().st_mode & 0o7777 == 0o750


@needs_root
def test_writing_clears_setuid(directory: Path) -> None:
    """A write by another user than root takes the setuid bit away."""
    (directory / "file").write_bytes(b"x")
    os.chown(directory / "file", 65534, 65534)
    (directory / "file").chmod(0o4755)
    directory.chmod(0o777)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

    run(*command, "sh", "-c", "echo y >> file", cwd=directory)

    assert (directory / "file").stat().st_mode & 0o7777 == 0o755


def test_allocation_falls_back(directory: Path) -> None:
    """posix_fallocate(3) works, by writing; fallocate(1) says it is not supported."""
    with (directory / "file").open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, 100_000)

    assert (directory / "file").read_bytes() == bytes(100_000)


def test_seeking_for_data_and_holes(directory: Path) -> None:
    """lseek(2) with SEEK_DATA and SEEK_HOLE takes the file for one piece."""
    (directory / "file").write_bytes(b"x" * 10_000)

    with (directory / "file").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 10_000
        assert os.lseek(file.fileno(), -1, os.SEEK_END) == 9_999


def test_renaming_a_file_to_its_own_name(directory: Path) -> None:
    """rename(2) of a name to itself does nothing."""
    (directory / "file").write_bytes(b"x")

    (directory / "file").rename(directory / "file")

    assert (directory / "file").read_bytes() == b"x"


def test_file_larger_than_any_object_is_refused(
    mounter: Mounter, make_store: Callable[[str], Store]
) -> None:
    """Where objects have a largest size, a size beyond it is EFBIG at once."""
    path = mounter(make_store("s3")).path

    with (path / "file").open("wb") as file:
        with pytest.raises(OSError, match=r".") as caught:
            os.ftruncate(file.fileno(), 1 << 60)
        assert caught.value.errno == errno.EFBIG


# --- the root -----------------------------------------------------------------------


def test_root_is_a_directory_like_others(mounter: Mounter, store: Store) -> None:
    """The mount point can be listed, changed and not removed."""
    path = mounter(store).path

    path.chmod(0o700)
    os.utime(path)

    assert path.stat().st_mode & 0o7777 == 0o700
    assert path.is_mount()
    assert list(path.iterdir()) == []
    with pytest.raises(OSError, match="busy"):
        path.rmdir()


def test_names_of_ours_are_hidden_and_refused(mounter: Mounter, store: Store) -> None:
    """`.mountfs` in the root is not listed, and cannot be made."""
    store.there.write(".mountfs/x", b"")
    path = mounter(store, "--ttl=0").path

    assert list(path.iterdir()) == []
    with pytest.raises(PermissionError):
        (path / ".mountfs").write_bytes(b"")
