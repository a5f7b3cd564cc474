"""Directories: making, listing, moving and removing them."""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import on_shared_stores
from tests.fuse.mounting import Mount, run, run_python
from tests.fuse.stores import OtherSide, Store

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD = -100


def rename_with_flags(old: Path, new: Path, flags: int) -> None:
    """Call renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(old), os.fsencode(new)
    if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def names_in(directory: Path) -> set[str]:
    """Return the names in a directory."""
    return {path.name for path in directory.iterdir()}


def test_empty_directory_survives_a_remount(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount]
) -> None:
    """A directory with nothing in it is kept."""
    mount = mounter(store)
    (mount.path / "empty" / "inner").mkdir(parents=True)

    again = remounter(mount).path

    assert (again / "empty" / "inner").is_dir()
    assert names_in(again / "empty") == {"inner"}


def test_directory_outlives_its_last_child(directory: Path) -> None:
    """Removing the last file of a directory leaves the directory."""
    (directory / "d").mkdir()
    (directory / "d" / "file").write_bytes(b"x")
    (directory / "d" / "file").unlink()

    assert names_in(directory) == {"d"}
    assert names_in(directory / "d") == set()


def test_foreign_directory_outlives_its_last_child(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount]
) -> None:
    """A directory that only its keys made stays when its last file is removed."""
    store.there.write("d/file", b"x")
    mount = mounter(store)
    (mount.path / "d" / "file").unlink()

    assert names_in(mount.path) == {"d"}
    assert names_in(remounter(mount).path) == {"d"}


def test_rmdir_of_a_directory_with_a_child_is_refused(directory: Path) -> None:
    """rmdir(2) of a directory that is not empty is ENOTEMPTY."""
    (directory / "d").mkdir()
    (directory / "d" / "file").write_bytes(b"x")

    with pytest.raises(OSError, match="not empty") as caught:
        (directory / "d").rmdir()

    assert caught.value.errno == errno.ENOTEMPTY


def test_rmdir_of_a_directory_with_an_unsaved_child_is_refused(
    directory: Path,
) -> None:
    """A file that is open and not stored yet is a child, too."""
    (directory / "d").mkdir()
    with (directory / "d" / "file").open("wb"), pytest.raises(OSError, match="empty"):
        (directory / "d").rmdir()


@on_shared_stores
def test_rmdir_removes_the_directory(directory: Path, there: OtherSide) -> None:
    """An empty directory goes, its marker too."""
    (directory / "d").mkdir()
    (directory / "d").rmdir()

    assert names_in(directory) == set()
    assert "d/" not in there.listing()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_mkdir_over_an_existing_name_is_refused(directory: Path, kind: str) -> None:
    """mkdir(2) of a name that is taken is EEXIST."""
    path = directory / "name"
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")

    with pytest.raises(FileExistsError):
        path.mkdir()


def test_unlink_of_a_directory_is_eisdir(directory: Path) -> None:
    """unlink(2) does not remove directories."""
    (directory / "d").mkdir()

    with pytest.raises(IsADirectoryError):
        (directory / "d").unlink()


def test_rmdir_of_a_file_is_enotdir(directory: Path) -> None:
    """rmdir(2) does not remove files."""
    (directory / "file").touch()

    with pytest.raises(NotADirectoryError):
        (directory / "file").rmdir()


# --- listing ----------------------------------------------------------------------


def test_more_entries_than_a_page(mounter: Mounter, store: Store) -> None:
    """A directory with more entries than one answer of the store is listed whole."""
    expected = {f"file-{number:04}" for number in range(1105)}
    for name in expected:
        store.there.write(f"d/{name}", b"")

    path = mounter(store).path / "d"

    assert names_in(path) == expected


def test_files_made_here_are_listed_at_once(directory: Path) -> None:
    """A directory shows every file that was made in it, none twice."""
    expected = sorted(f"file-{number}" for number in range(300))
    for name in expected:
        (directory / name).touch()

    assert sorted(path.name for path in directory.iterdir()) == expected


def test_listing_while_entries_are_removed(directory: Path) -> None:
    """Removing each entry as it is listed removes them all: none is skipped."""
    for number in range(400):
        (directory / f"file-{number:03}").touch()

    with os.scandir(directory) as entries:
        for entry in entries:
            (directory / entry.name).unlink()

    assert names_in(directory) == set()


def test_listing_while_entries_are_made(directory: Path) -> None:
    """Entries that exist from begin to end are listed once whatever comes and goes."""
    expected = {f"file-{number:03}" for number in range(400)}
    for name in expected:
        (directory / name).touch()

    seen = []
    with os.scandir(directory) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 50 == 0:
                (directory / f"aaa-{number}").touch()
    seen = [name for name in seen if name.startswith("file")]

    assert len(seen) == len(expected)
    assert set(seen) == expected


SEEK = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.opendir.argtypes = [ctypes.c_char_p]
libc.readdir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
directory = libc.opendir(sys.argv[1].encode())

def read_on():
    names = []
    while entry := libc.readdir(directory):
        names.append(ctypes.string_at(entry + 19))
    return names

first = [ctypes.string_at(libc.readdir(directory) + 19) for _ in range(50)]
place = libc.telldir(directory)
rest = read_on()
libc.seekdir(directory, place)
again = read_on()
libc.rewinddir(directory)
print(rest == again, sorted(read_on()) == sorted(first + rest), len(first + rest))
"""


def test_seekdir_goes_back_to_telldir(directory: Path) -> None:
    """telldir(3), seekdir(3) and rewinddir(3) list the same entries again."""
    for number in range(300):
        (directory / f"file-{number:03}").touch()

    assert run_python(SEEK, directory).split() == ["True", "True", "302"]


# --- moving -----------------------------------------------------------------------


@on_shared_stores
def test_renaming_a_directory_moves_everything_in_it(
    directory: Path, there: OtherSide
) -> None:
    """300 files, nested directories and links arrive under the new name."""
    old, new = directory / "old", directory / "new"
    (old / "one" / "two").mkdir(parents=True)
    (old / "empty").mkdir()
    (old / "link").symlink_to("one/two/deep")
    (old / "one" / "two" / "deep").write_bytes(b"deep")
    for number in range(300):
        (old / f"file-{number:03}").write_bytes(b"%d" % number)

    old.rename(new)

    assert names_in(directory) == {"new"}
    assert len(names_in(new)) == 303
    assert names_in(new / "empty") == set()
    assert (new / "link").read_bytes() == b"deep"
    assert (new / "link").readlink() == Path("one/two/deep")
    assert (new / "file-299").read_bytes() == b"299"
    assert there.read("new/file-123") == b"123"
    assert not [key for key in there.listing() if key.startswith("old")]


def test_renaming_a_directory_over_an_empty_one(directory: Path) -> None:
    """An empty directory is replaced."""
    (directory / "old").mkdir()
    (directory / "old" / "file").write_bytes(b"x")
    (directory / "new").mkdir()

    (directory / "old").rename(directory / "new")

    assert names_in(directory) == {"new"}
    assert (directory / "new" / "file").read_bytes() == b"x"


def test_renaming_a_directory_over_a_full_one_is_refused(directory: Path) -> None:
    """A directory that has children is not replaced."""
    (directory / "old").mkdir()
    (directory / "new").mkdir()
    (directory / "new" / "file").touch()

    with pytest.raises(OSError, match="not empty"):
        (directory / "old").rename(directory / "new")


def test_renaming_a_directory_into_itself_is_refused(directory: Path) -> None:
    """A directory cannot become its own descendant."""
    (directory / "d" / "e").mkdir(parents=True)

    with pytest.raises(OSError, match="Invalid argument"):
        (directory / "d").rename(directory / "d" / "e" / "f")


def test_renaming_a_file_over_a_directory_is_refused(directory: Path) -> None:
    """Kinds do not mix: EISDIR one way, ENOTDIR the other."""
    (directory / "d").mkdir()
    (directory / "file").touch()

    with pytest.raises(IsADirectoryError):
        (directory / "file").rename(directory / "d")
    with pytest.raises(NotADirectoryError):
        (directory / "d").rename(directory / "file")


def test_renaming_a_missing_file_is_enoent(directory: Path) -> None:
    """A name that does not exist cannot be renamed."""
    with pytest.raises(FileNotFoundError):
        (directory / "missing").rename(directory / "other")


def test_rename_noreplace(directory: Path) -> None:
    """RENAME_NOREPLACE refuses a taken name and works with a free one."""
    (directory / "a").write_bytes(b"a")
    (directory / "b").write_bytes(b"b")

    with pytest.raises(FileExistsError):
        rename_with_flags(directory / "a", directory / "b", RENAME_NOREPLACE)
    rename_with_flags(directory / "a", directory / "c", RENAME_NOREPLACE)

    assert names_in(directory) == {"b", "c"}
    assert (directory / "c").read_bytes() == b"a"


@pytest.mark.parametrize("flag", [RENAME_WHITEOUT, 1 << 7])
def test_other_flags_of_rename_are_einval(directory: Path, flag: int) -> None:
    """What the mount does not offer is EINVAL, as renameat2(2) says."""
    (directory / "a").write_bytes(b"a")
    (directory / "b").write_bytes(b"b")

    with pytest.raises(OSError, match="Invalid argument"):
        rename_with_flags(directory / "a", directory / "b", flag)


def test_removing_a_tree(directory: Path) -> None:
    """`rm -r` removes nested directories, files and links."""
    for number in range(60):
        (directory / "tree" / f"d{number % 7}").mkdir(parents=True, exist_ok=True)
        (directory / "tree" / f"d{number % 7}" / f"f{number}").touch()
    (directory / "tree" / "link").symlink_to("nowhere")

    run("rm", "-r", directory / "tree")

    assert names_in(directory) == set()
