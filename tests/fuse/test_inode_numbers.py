"""Inode numbers, link counts of directories, and what listings say of both."""

import os
from pathlib import Path

from tests.fuse.conftest import Mounter
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
