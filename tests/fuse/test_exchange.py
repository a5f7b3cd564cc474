"""renameat2(2) with RENAME_EXCHANGE: two names change places."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.test_directories import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    rename_with_flags,
)


def make_file(path: Path) -> None:
    path.write_bytes(path.name.encode())


def make_tree(path: Path) -> None:
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file").write_bytes(path.name.encode())
    (path / "link").symlink_to(path.name)


def make_link(path: Path) -> None:
    path.symlink_to(path.name)


def seen(path: Path) -> object:
    """Return everything that tells what a name leads to."""
    if path.is_symlink():
        return os.readlink(path)
    if path.is_dir():
        return {name: seen(path / name) for name in os.listdir(path)}
    return path.read_bytes()


KINDS = {"file": make_file, "tree": make_tree, "link": make_link}


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_any_two_change_places(gated_directory: Path, one: str, other: str) -> None:
    """Files, directories and links exchange, each with the inode that it had."""
    a, b = gated_directory / "a", gated_directory / "b"
    KINDS[one](a)
    KINDS[other](b)
    before = (seen(a), seen(b))
    numbers = (a.lstat().st_ino, b.lstat().st_ino)

    rename_with_flags(a, b, RENAME_EXCHANGE)

    assert (seen(b), seen(a)) == before
    assert (b.lstat().st_ino, a.lstat().st_ino) == numbers
    assert set(os.listdir(gated_directory)) == {"a", "b"}


def test_exchange_across_directories(gated_directory: Path) -> None:
    """The two names need not be in one directory."""
    (gated_directory / "d").mkdir()
    a, b = gated_directory / "a", gated_directory / "d" / "b"
    make_file(a)
    make_tree(b)

    rename_with_flags(a, b, RENAME_EXCHANGE)

    assert b.read_bytes() == b"a"
    assert (a / "sub" / "file").read_bytes() == b"b"


def test_open_files_follow_an_exchange(gated_directory: Path) -> None:
    """What is written to an open file is stored under its new name."""
    a, b = gated_directory / "a", gated_directory / "b"
    make_file(a)
    make_file(b)
    with a.open("ab") as one, b.open("ab") as other:
        one.write(b" before")
        one.flush()
        rename_with_flags(a, b, RENAME_EXCHANGE)
        one.write(b" after")
        other.write(b" too")

    assert b.read_bytes() == b"a before after"
    assert a.read_bytes() == b"b too"


def test_new_file_that_was_never_closed_is_exchanged(gated_directory: Path) -> None:
    """A file that the store does not have yet takes its place when it is closed."""
    a, b = gated_directory / "a", gated_directory / "b"
    make_file(b)
    with a.open("wb") as one:
        one.write(b"new")
        one.flush()
        rename_with_flags(a, b, RENAME_EXCHANGE)

    assert (a.read_bytes(), b.read_bytes()) == (b"b", b"new")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda at: make_file(at / "a"), FileNotFoundError),
        (lambda at: make_file(at / "b"), FileNotFoundError),
    ],
)
def test_both_names_must_be_there(
    gated_directory: Path, make: Callable[[Path], None], error: type[OSError]
) -> None:
    """An exchange with a name that does not exist is ENOENT."""
    make(gated_directory)

    with pytest.raises(error):
        rename_with_flags(gated_directory / "a", gated_directory / "b", RENAME_EXCHANGE)


def test_directory_cannot_change_places_with_what_is_in_it(
    gated_directory: Path,
) -> None:
    """An exchange of a directory with something below it is EINVAL, both ways."""
    make_tree(gated_directory / "d")
    ends = gated_directory / "d", gated_directory / "d" / "sub"

    for one, other in (ends, ends[::-1]):
        with pytest.raises(OSError, match="Invalid argument"):
            rename_with_flags(one, other, RENAME_EXCHANGE)


def test_exchange_and_noreplace_exclude_each_other(gated_directory: Path) -> None:
    """Both flags at once are EINVAL."""
    make_file(gated_directory / "a")
    make_file(gated_directory / "b")

    with pytest.raises(OSError, match="Invalid argument"):
        rename_with_flags(
            gated_directory / "a",
            gated_directory / "b",
            RENAME_EXCHANGE | RENAME_NOREPLACE,
        )


def test_names_of_one_file_exchange_to_nothing(gated_directory: Path) -> None:
    """Two hard links of a file change places without anybody noticing."""
    a, b = gated_directory / "a", gated_directory / "b"
    make_file(a)
    b.hardlink_to(a)

    rename_with_flags(a, b, RENAME_EXCHANGE)

    assert a.stat() == b.stat()
    assert a.stat().st_nlink == 2
