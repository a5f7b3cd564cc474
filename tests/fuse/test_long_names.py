"""Names and paths as long as they can be, and keys that are longer."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mountfs.vfs.names import Names
from tests.fuse.conftest import Mounter
from tests.fuse.counting import Counted
from tests.fuse.mounting import Mount, run
from tests.fuse.stores import Store

PATH_MAX = 4096
DEPTH = 300 if "AT_LENGTH" in os.environ else 120
LONG = "ä" * 200
SHORT = Names(utf8_keys=True).name(LONG).decode()
SHADOWED = Names(utf8_keys=True).name(LONG, is_shadowed=True).decode()

with_whole_paths = pytest.mark.parametrize(
    "shared_store", ["memory", "local"], indirect=True
)
"""The stores whose keys are as long as paths can be."""


@pytest.fixture
def root(mounter: Mounter, moto_store: Store) -> Path:
    """A mount of a bucket with keys that are too long for names."""
    moto_store.there.write(f"d/{LONG}", b"the file")
    moto_store.there.write(f"{LONG}/child", b"the child")
    return mounter(moto_store).path


def test_long_key_is_listed_and_read_by_its_short_name(root: Path) -> None:
    """A name of more than 255 bytes is shown by its beginning and its digest."""
    assert os.listdir(root / "d") == [SHORT]
    assert (root / "d" / SHORT).read_bytes() == b"the file"
    assert (root / "d" / SHORT).stat().st_size == len(b"the file")
    assert (root / SHORT / "child").read_bytes() == b"the child"


def test_short_name_works_in_a_mount_that_never_listed_it(root: Path) -> None:
    """It is found by its digest, and is absent if nothing has that digest."""
    assert (root / "d" / SHORT).read_bytes() == b"the file"
    with pytest.raises(FileNotFoundError):
        (root / "d" / SHORT.replace(SHORT[-8:], "0" * 8)).stat()


def test_long_key_is_edited_renamed_and_removed(root: Path, moto_store: Store) -> None:
    """Every call takes the short name for the long key."""
    there = moto_store.there
    with (root / "d" / SHORT).open("r+b") as file:
        file.write(b"THE")
    edited = there.read(f"d/{LONG}")
    (root / "d" / SHORT).rename(root / "d" / "plain")
    run("mv", root / SHORT, root / "directory")
    (root / "directory" / "child").unlink()

    assert edited == b"THE file"
    assert there.read("d/plain") == b"the file".replace(b"the", b"THE")
    assert not [key for key in there.listing() if LONG in key]


def test_long_key_is_removed_by_rm(root: Path, moto_store: Store) -> None:
    """rm -r of a directory takes them away with the rest."""
    run("rm", "-r", root / "d", root / SHORT)

    assert not [key for key in moto_store.there.listing() if LONG in key]


def test_long_file_beside_a_directory_of_its_name(
    mounter: Mounter, moto_store: Store
) -> None:
    """Neither hides the other."""
    moto_store.there.write(LONG, b"the file")
    moto_store.there.write(f"{LONG}/child", b"the child")

    path = mounter(moto_store).path

    assert sorted(os.listdir(path)) == sorted([SHORT, SHADOWED])
    assert (path / SHADOWED).read_bytes() == b"the file"
    assert (path / SHORT / "child").read_bytes() == b"the child"


def test_short_names_cannot_be_made(directory: Path) -> None:
    """They stand for keys of other names, so they are reserved."""
    for deed in (Path.touch, Path.mkdir):
        with pytest.raises(PermissionError):
            deed(directory / SHORT)


def test_too_long_names_and_paths_cost_no_request(
    counted: Counted, counted_directory: Path
) -> None:
    """ENAMETOOLONG is an answer of this host."""
    deep = counted_directory / ("d" * 255) / ("e" * 255) / ("f" * 255)
    deep.mkdir(parents=True)
    deeds: list[Callable[[Path], object]] = [
        Path.lstat,
        Path.touch,
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("x"),
        lambda path: deep.parent.rename(path),
    ]
    with counted.requests() as tally:
        for path in (counted_directory / ("n" * 256), deep / ("g" * 255)):
            for deed in deeds:
                with pytest.raises(OSError, match="too long") as caught:
                    deed(path)
                assert caught.value.errno == errno.ENAMETOOLONG

    assert not tally


def path_of(directory: Path, size: int) -> Path:
    """Return a path of exactly so many bytes, in components of up to 255."""
    left = size - len(os.fsencode(directory))
    while left > 256:
        step = min(255, left - 3)
        directory /= "d" * step
        left -= step + 1
    return directory / ("f" * (left - 1))


@with_whole_paths
def test_paths_of_4095_bytes_work(directory: Path) -> None:
    """The longest path that a call takes is made, listed, renamed and removed."""
    path = path_of(directory, PATH_MAX - 1)
    path.parent.mkdir(parents=True)

    path.write_bytes(b"deep")
    moved = path.with_name(path.name[:-1] + "g")
    path.rename(moved)

    assert moved.read_bytes() == b"deep"
    assert os.listdir(moved.parent) == [moved.name]
    run("rm", "-r", directory / ("d" * 255))
    assert os.listdir(directory) == []


@with_whole_paths
def test_directories_nested_deeply_work(directory: Path) -> None:
    """Many directories in one another are made, walked and removed."""
    path = directory.joinpath(*["d"] * DEPTH)

    run("mkdir", "-p", path)
    (path / "file").write_bytes(b"deep")

    assert run("find", directory, "-name", "file").strip() == str(path / "file")
    run("rm", "-r", directory / "d")
    assert os.listdir(directory) == []


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_long_paths_survive_a_remount(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount]
) -> None:
    """The store has them, also where its own root makes them longer than PATH_MAX."""
    mount = mounter(store)
    path = path_of(mount.path, PATH_MAX - 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"deep")

    again = remounter(mount).path

    # From inside: the new mount point is longer.
    assert run("cat", path.relative_to(mount.path), cwd=again) == "deep"
