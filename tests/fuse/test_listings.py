"""What readdir(3) tells of entries, and where it goes on."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import run
from tests.fuse.stores import Store

LIBC = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.opendir.argtypes = [ctypes.c_char_p]
libc.readdir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
path = os.fsencode(sys.argv[1])
directory = libc.opendir(path)

def entry():
    ctypes.set_errno(0)
    found = libc.readdir(directory)
    assert ctypes.get_errno() == 0, os.strerror(ctypes.get_errno())
    if not found:
        return None
    number = ctypes.c_ulong.from_address(found).value
    kind = ctypes.c_ubyte.from_address(found + 18).value
    return ctypes.string_at(found + 19).decode(), number, kind

def names():
    return [found[0] for found in iter(entry, None)]
"""


def ask(program: str, path: Path) -> str:
    """Run a program that knows readdir(3), in a process of its own."""
    return run(sys.executable, "-c", LIBC + program, path).strip()


def entries(path: Path) -> dict[str, tuple[int, int]]:
    """Return number and type of every entry, `.` and `..` included."""
    told = ask("for found in iter(entry, None): print(*found)", path)
    rows = [line.rsplit(" ", 2) for line in told.splitlines()]
    return {name: (int(number), int(kind)) for name, number, kind in rows}


def kind_of(path: Path) -> int:
    """Return the type that an entry should have: the upper bits of the mode."""
    return stat.S_IFMT(path.lstat().st_mode) >> 12


def test_dots_lead_here_and_up(directory: Path) -> None:
    """`.` has the directory's own number, `..` that of the one above."""
    (directory / "d").mkdir()

    found = entries(directory / "d")

    assert set(found) == {".", ".."}
    assert found["."] == ((directory / "d").stat().st_ino, stat.S_IFDIR >> 12)
    assert found[".."] == (directory.stat().st_ino, stat.S_IFDIR >> 12)


def test_dots_of_the_root_are_the_root(mounter: Mounter, store: Store) -> None:
    """Above the root of a file system is the root."""
    path = mounter(store).path

    found = entries(path)

    assert found["."][0] == found[".."][0] == path.stat().st_ino


def test_dots_follow_a_rename(directory: Path) -> None:
    """A directory that is moved has another directory above it."""
    (directory / "one" / "d").mkdir(parents=True)
    (directory / "two").mkdir()
    entries(directory / "one" / "d")

    (directory / "one" / "d").rename(directory / "two" / "d")

    above = entries(directory / "two" / "d")[".."][0]
    assert above == (directory / "two").stat().st_ino


@needs_root
@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
def test_entries_have_number_and_type_of_what_they_are(
    mounter: Mounter, make_store: Callable[[str], Store], kind: str
) -> None:
    """d_ino and d_type are what stat(2) tells, for every kind of file."""
    path = mounter(make_store(kind), "--virtual=all").path
    (path / "file").write_bytes(b"x")
    (path / "directory").mkdir()
    (path / "link").symlink_to("file")
    os.link(path / "file", path / "second")
    for name, mode, device in (
        ("fifo", stat.S_IFIFO, 0),
        ("socket", stat.S_IFSOCK, 0),
        ("character", stat.S_IFCHR, os.makedev(1, 3)),
        ("block", stat.S_IFBLK, os.makedev(7, 0)),
    ):
        os.mknod(path / name, mode | 0o600, device)

    found = entries(path)

    del found["."], found[".."]
    assert found == {
        each.name: (each.lstat().st_ino, kind_of(each)) for each in path.iterdir()
    }
    assert len(found) == 8


def test_removed_directory_lists_nothing(directory: Path) -> None:
    """Who has a removed directory open gets an empty listing and no error."""
    (directory / "d").mkdir()
    handle = os.open(directory / "d", os.O_RDONLY)

    (directory / "d").rmdir()

    assert os.listdir(handle) == []
    assert os.fstat(handle).st_nlink == 0
    os.close(handle)


PLACES = """
first = [entry()[0] for _ in range(52)]
place = libc.telldir(directory)
rest = names()
gone, there = rest[10], first[10]
os.unlink(os.path.join(path, gone.encode()))
os.unlink(os.path.join(path, there.encode()))
open(os.path.join(path, b"0-new"), "w").close()
open(os.path.join(path, b"zzz-new"), "w").close()
libc.seekdir(directory, place)
again = names()
libc.rewinddir(directory)
anew = names()
print(again == [name for name in rest if name != gone])
print({"0-new", "zzz-new"} <= set(anew), not {gone, there} & set(anew))
print(len(anew) == len(set(anew)) == len(first) + len(rest))
"""


def test_places_in_a_listing_hold_while_entries_come_and_go(directory: Path) -> None:
    """seekdir(3) goes on at the same entry, rewinddir(3) sees what is new."""
    for number in range(300):
        (directory / f"file-{number:03}").touch()

    assert ask(PLACES, directory).split() == ["True"] * 4
