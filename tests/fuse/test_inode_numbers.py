"""Inode numbers, link counts of directories, and what listings say of both."""

import os
from pathlib import Path

from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import run
from tests.fuse.stores import Store

ALL = "--virtual=all"


def numbers_below(directory: Path) -> dict[str, int]:
    """Return the inode number of everything below a directory, itself included."""
    paths = [directory, *sorted(directory.rglob("*"))]
    return {str(path.relative_to(directory)): path.lstat().st_ino for path in paths}


def make_tree(directory: Path) -> None:
    (directory / "d" / "sub").mkdir(parents=True)
    (directory / "d" / "sub" / "file").write_bytes(b"1")
    (directory / "file").write_bytes(b"2")
    (directory / "link").symlink_to("file")


def test_numbers_survive_a_remount(mounter: Mounter, store: Store) -> None:
    """Renamed or not, made again or not: a file has the number that it had."""
    mount = mounter(store, ALL)
    make_tree(mount.path)
    (mount.path / "renamed").write_bytes(b"3")
    renamed = (mount.path / "renamed").stat().st_ino
    (mount.path / "renamed").rename(mount.path / "d" / "new")
    (mount.path / "again").write_bytes(b"4")
    (mount.path / "again").unlink()
    (mount.path / "again").write_bytes(b"5")
    before = numbers_below(mount.path)
    below = (mount.path / "d" / "sub" / "file").stat().st_ino
    (mount.path / "d").rename(mount.path / "e")
    moved = numbers_below(mount.path)
    mount.unmount()

    after = numbers_below(mounter(store, ALL).path)

    assert after == moved
    assert after["e/new"] == before["d/new"] == renamed
    assert after["e/sub/file"] == below
    assert after["again"] == before["again"]


def test_numbers_are_the_same_on_another_host(mounter: Mounter, store: Store) -> None:
    """A mount that has nothing but the store numbers files as every other does."""
    mount = mounter(store, ALL)
    make_tree(mount.path)
    before = numbers_below(mount.path)
    mount.unmount()

    assert numbers_below(mounter(store, ALL, at="elsewhere").path) == before


def test_name_made_again_is_another_file(directory: Path) -> None:
    """A file that is removed and made anew is told from the old one."""
    path = directory / "file"
    seen = set()
    for _ in range(5):
        path.write_bytes(b"x")
        seen.add(path.stat().st_ino)
        path.unlink()

    assert len(seen) == 5


def test_replaced_file_has_the_number_of_the_new_one(directory: Path) -> None:
    """After a rename over a name, it has the number of what was renamed."""
    (directory / "old").write_bytes(b"old")
    (directory / "new").write_bytes(b"new")
    number = (directory / "new").stat().st_ino

    (directory / "new").rename(directory / "old")

    assert (directory / "old").stat().st_ino == number


def test_listing_tells_the_numbers_that_stat_does(directory: Path) -> None:
    """d_ino is st_ino, for every entry."""
    make_tree(directory)

    listed = {entry.name: entry.inode() for entry in os.scandir(directory)}

    assert listed == {
        name: (directory / name).lstat().st_ino for name in os.listdir(directory)
    }


def test_directories_count_their_directories(directory: Path) -> None:
    """Two, and one for each `..` that leads to it."""

    def count(path: Path) -> int:
        return path.stat().st_nlink

    assert count(directory) == 2
    (directory / "one").mkdir()
    (directory / "two").mkdir()
    (directory / "file").touch()
    assert count(directory) == 4
    (directory / "two" / "sub").mkdir()
    (directory / "two" / "sub").rename(directory / "one" / "sub")
    assert [count(directory / name) for name in ("one", "two")] == [3, 2]
    (directory / "one" / "sub").rmdir()
    (directory / "two").rename(directory / "one")
    assert [count(directory), count(directory / "one")] == [3, 2]


def test_unlisted_directory_counts_one(mounter: Mounter, store: Store) -> None:
    """What is not known is not claimed: find(1) takes one link as unknown."""
    store.there.write("d/sub/file", b"x")
    path = mounter(store, "--ttl=0").path / "d"

    assert path.stat().st_nlink == 1
    os.listdir(path)
    assert path.stat().st_nlink == 3


def test_dot_dot_is_the_directory_above(directory: Path) -> None:
    """`.` and `..` have the numbers of what they lead to."""
    (directory / "d").mkdir()

    assert (directory / "d" / "..").stat().st_ino == directory.stat().st_ino
    assert (directory / "d" / ".").stat().st_ino == (directory / "d").stat().st_ino


def test_number_of_an_open_removed_file_is_its_own(directory: Path) -> None:
    """While somebody has a removed file open, nothing else has its number."""
    path = directory / "file"
    path.write_bytes(b"old")
    with path.open("rb") as file:
        path.unlink()
        path.write_bytes(b"new")

        assert os.fstat(file.fileno()).st_ino != path.stat().st_ino
        assert file.read() == b"old"
        assert path.read_bytes() == b"new"


@needs_root
def test_number_stays_when_the_kernel_forgets(directory: Path) -> None:
    """A file is looked up again under its number, renamed or made anew."""
    make_tree(directory)
    (directory / "file").rename(directory / "moved")
    (directory / "file").write_bytes(b"x")
    before = numbers_below(directory)

    Path("/proc/sys/vm/drop_caches").write_text("2")

    assert numbers_below(directory) == before


def test_number_of_a_file_with_several_names(mounter: Mounter, store: Store) -> None:
    """It keeps the number of its first name, over remounts, to its last name."""
    mount = mounter(store, ALL)
    (mount.path / "first").write_bytes(b"x")
    number = (mount.path / "first").stat().st_ino
    os.link(mount.path / "first", mount.path / "second")
    mount.unmount()
    mount = mounter(store, ALL)
    linked = [(mount.path / name).stat().st_ino for name in ("first", "second")]
    (mount.path / "first").unlink()
    (mount.path / "first").write_bytes(b"another")
    mount.unmount()

    path = mounter(store, ALL).path

    assert linked == [number, number]
    assert (path / "second").stat().st_ino == number
    assert (path / "first").stat().st_ino != number


def test_incremental_backup_sees_no_change_after_a_remount(
    mounter: Mounter, store: Store, tmp_path: Path
) -> None:
    """tar(1), which knows directories by their numbers, dumps nothing again."""
    mount = mounter(store)
    make_tree(mount.path / "tree")
    (mount.path / "tree" / "d").rename(mount.path / "tree" / "renamed")
    dump = ("tar", "--no-check-device", f"--listed-incremental={tmp_path}/list")
    run(*dump, "-cf", tmp_path / "full.tar", "-C", mount.path, "tree")
    mount.unmount()

    path = mounter(store).path
    told = run(*dump, "-cvf", tmp_path / "more.tar", "-C", path, "tree")

    assert [line for line in told.splitlines() if not line.endswith("/")] == []


def test_count_outlives_what_it_was_learnt_from(mounter: Mounter, store: Store) -> None:
    """When a listing is old, its count goes on with what this mount changes."""
    path = mounter(store, "--ttl=0").path
    (path / "d").mkdir()
    (path / "d" / "one").mkdir()
    with os.scandir(path / "d") as entries:
        assert len(list(entries)) == 1
        store.there.write("d/foreign/file", b"x")
        (path / "d" / "two").mkdir()

        assert (path / "d").stat().st_nlink == 4
    os.listdir(path / "d")
    assert (path / "d").stat().st_nlink == 5
