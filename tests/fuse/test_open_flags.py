"""open(2): what its flags mean for a file in a mount."""

import errno
import os
from pathlib import Path

import pytest

from tests.fuse.marks import on_shared_stores
from tests.fuse.stores import OtherSide


def test_new_file_has_its_bytes_after_close(directory: Path) -> None:
    """What was written and closed is read back."""
    (directory / "file").write_bytes(b"hello")

    assert (directory / "file").read_bytes() == b"hello"
    assert (directory / "file").stat().st_size == 5


def test_empty_file_exists(directory: Path) -> None:
    """A file that was made and never written is there, with no bytes."""
    (directory / "file").touch()

    assert (directory / "file").read_bytes() == b""
    assert [path.name for path in directory.iterdir()] == ["file"]


@on_shared_stores
def test_empty_file_is_an_empty_object(directory: Path, there: OtherSide) -> None:
    """A file that was made and never written is an object with no bytes."""
    (directory / "file").touch()

    assert there.read("file") == b""


def test_truncating_open_empties_the_file(directory: Path) -> None:
    """O_TRUNC alone, with no byte written, leaves an empty file."""
    (directory / "file").write_bytes(b"old")

    os.close(os.open(directory / "file", os.O_WRONLY | os.O_TRUNC))

    assert (directory / "file").read_bytes() == b""


@on_shared_stores
def test_truncating_open_empties_the_object(directory: Path, there: OtherSide) -> None:
    """O_TRUNC alone is stored at close."""
    (directory / "file").write_bytes(b"old")

    os.close(os.open(directory / "file", os.O_WRONLY | os.O_TRUNC))

    assert there.read("file") == b""


def test_truncating_open_then_shorter_content(directory: Path) -> None:
    """Rewriting with fewer bytes leaves nothing of the old content."""
    (directory / "file").write_bytes(b"long old content")

    (directory / "file").write_bytes(b"new")

    assert (directory / "file").read_bytes() == b"new"


def test_exclusive_create_refuses_an_existing_file(directory: Path) -> None:
    """O_EXCL on a name that is taken is EEXIST."""
    (directory / "file").write_bytes(b"x")

    with pytest.raises(FileExistsError):
        os.open(directory / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_exclusive_create_makes_a_new_file(directory: Path) -> None:
    """O_EXCL on a free name makes the file."""
    descriptor = os.open(directory / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(descriptor, b"new")
    os.close(descriptor)

    assert (directory / "file").read_bytes() == b"new"


def test_exclusive_create_sees_a_file_that_is_still_open(directory: Path) -> None:
    """A name is taken from the moment of its creation, not of its first close."""
    with (directory / "file").open("wb"), pytest.raises(FileExistsError):
        (directory / "file").open("xb")


def test_missing_file_is_enoent(directory: Path) -> None:
    """Without O_CREAT a missing name is ENOENT."""
    with pytest.raises(FileNotFoundError):
        os.open(directory / "file", os.O_RDWR)


def test_read_and_write_through_one_descriptor(directory: Path) -> None:
    """O_RDWR reads what it wrote, and what was there."""
    (directory / "file").write_bytes(b"0123456789")

    descriptor = os.open(directory / "file", os.O_RDWR)
    os.pwrite(descriptor, b"ab", 4)
    seen = os.pread(descriptor, 100, 0)
    os.close(descriptor)

    assert seen == b"0123ab6789"
    assert (directory / "file").read_bytes() == b"0123ab6789"


def test_writing_through_a_reading_descriptor_is_ebadf(directory: Path) -> None:
    """A descriptor opened for reading refuses writes."""
    (directory / "file").write_bytes(b"x")
    descriptor = os.open(directory / "file", os.O_RDONLY)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"y")

    os.close(descriptor)


def test_opening_a_directory_for_writing_is_eisdir(directory: Path) -> None:
    """A directory cannot be opened for writing."""
    with pytest.raises(IsADirectoryError):
        os.open(directory, os.O_WRONLY)


def test_path_through_a_file_is_enotdir(directory: Path) -> None:
    """A file is no directory."""
    (directory / "file").touch()

    with pytest.raises(NotADirectoryError):
        (directory / "file" / "below").stat()


def test_appending_descriptors_add_at_the_end(directory: Path) -> None:
    """Two O_APPEND descriptors in turn lose nothing of each other."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    first = os.open(directory / "log", flags)
    second = os.open(directory / "log", flags)

    for number in range(20):
        os.write(first, b"a%d\n" % number)
        os.write(second, b"b%d\n" % number)
    os.close(first)
    os.close(second)

    expected = [b"%c%d" % (who, n) for n in range(20) for who in b"ab"]
    assert (directory / "log").read_bytes().split() == expected


@on_shared_stores
def test_append_loop_stores_every_line(directory: Path, there: OtherSide) -> None:
    """Opening, appending and closing again and again keeps every line."""
    for number in range(30):
        with (directory / "log").open("ab") as file:
            file.write(b"line %d\n" % number)

    expected = b"".join(b"line %d\n" % number for number in range(30))
    assert (directory / "log").read_bytes() == expected
    assert there.read("log") == expected


def test_append_to_a_file_above_the_smallest_part(directory: Path) -> None:
    """A large file that is appended to keeps its old bytes."""
    old = os.urandom(6 << 20)
    (directory / "file").write_bytes(old)

    with (directory / "file").open("ab") as file:
        file.write(b"tail")

    assert (directory / "file").read_bytes() == old + b"tail"


def test_direct_reads_and_writes(directory: Path) -> None:
    """O_DIRECT works where the kernel allows it."""
    (directory / "file").write_bytes(b"x" * 8192)

    descriptor = os.open(directory / "file", os.O_RDWR | os.O_DIRECT)
    os.close(descriptor)

    assert (directory / "file").stat().st_size == 8192


def test_temporary_file_flag_is_refused_by_name(directory: Path) -> None:
    """O_TMPFILE is EOPNOTSUPP, so that programs fall back to a name."""
    with pytest.raises(OSError, match="not supported") as caught:
        os.open(directory, os.O_TMPFILE | os.O_RDWR)

    assert caught.value.errno == errno.EOPNOTSUPP
