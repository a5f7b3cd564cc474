"""Files that lose or change their name while they are open."""

import os
import random
from pathlib import Path

import pytest

from tests.fuse.marks import on_shared_stores
from tests.fuse.stores import OtherSide

MIB = 1 << 20
SIZES = pytest.mark.parametrize("size", [10, 40 * MIB], ids=["small", "large"])


def content_of(size: int) -> bytes:
    """Return bytes that do not repeat."""
    return random.Random(size).randbytes(size)


@SIZES
def test_unlinked_file_is_read_to_its_last_close(directory: Path, size: int) -> None:
    """A file that was deleted while open keeps its bytes."""
    content = content_of(size)
    (directory / "file").write_bytes(content)

    with (directory / "file").open("rb") as file:
        (directory / "file").unlink()

        assert not (directory / "file").exists()
        assert file.read() == content


@SIZES
def test_unlinked_file_is_written_and_read(directory: Path, size: int) -> None:
    """A file that was deleted while open takes writes and reads them back."""
    content = content_of(size)
    with (directory / "file").open("w+b", buffering=0) as file:
        (directory / "file").unlink()
        file.write(content)
        file.seek(0)

        assert file.read() == content
        assert os.fstat(file.fileno()).st_size == size


@on_shared_stores
def test_unlinked_file_never_comes_back(directory: Path, there: OtherSide) -> None:
    """What is written to a deleted file, and synced, makes no object."""
    with (directory / "file").open("wb", buffering=0) as file:
        file.write(b"before")
        (directory / "file").unlink()
        file.write(b"after")
        os.fsync(file.fileno())

    assert list(directory.iterdir()) == []
    assert {key for key in there.listing() if not key.endswith("/")} == set()


def test_unlinked_file_has_no_links(directory: Path) -> None:
    """fstat(2) tells that no name is left."""
    (directory / "file").write_bytes(b"x")

    with (directory / "file").open("rb") as file:
        (directory / "file").unlink()

        assert os.fstat(file.fileno()).st_nlink == 0


def test_unlinked_file_can_be_changed(directory: Path) -> None:
    """A deleted file can be truncated and its mode changed."""
    with (directory / "file").open("w+b", buffering=0) as file:
        file.write(b"0123456789")
        (directory / "file").unlink()
        os.ftruncate(file.fileno(), 4)
        os.fchmod(file.fileno(), 0o600)

        assert os.pread(file.fileno(), 100, 0) == b"0123"
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600


def test_stored_file_unlinked_then_edited(directory: Path) -> None:
    """A stored file that was deleted while open can still be edited in place."""
    content = content_of(9 * MIB)
    (directory / "file").write_bytes(content)

    with (directory / "file").open("r+b", buffering=0) as file:
        (directory / "file").unlink()
        os.pwrite(file.fileno(), b"edit", 5 * MIB)

        expected = content[: 5 * MIB] + b"edit" + content[5 * MIB + 4 :]
        assert file.read() == expected


def test_name_of_an_unlinked_file_is_free(directory: Path) -> None:
    """A new file under the name is another file."""
    (directory / "file").write_bytes(b"old")

    with (directory / "file").open("rb") as file:
        (directory / "file").unlink()
        (directory / "file").write_bytes(b"new")

        assert file.read() == b"old"
        assert (directory / "file").read_bytes() == b"new"


@SIZES
def test_replaced_file_keeps_its_bytes_for_its_readers(
    directory: Path, size: int
) -> None:
    """rename(2) over an open file: old descriptors read the old file."""
    content = content_of(size)
    (directory / "file").write_bytes(content)
    (directory / "new").write_bytes(b"new")

    with (directory / "file").open("rb") as file:
        (directory / "new").rename(directory / "file")

        assert file.read() == content
        assert (directory / "file").read_bytes() == b"new"


@on_shared_stores
def test_writes_to_a_replaced_file_go_nowhere(
    directory: Path, there: OtherSide
) -> None:
    """Bytes written to a file that was replaced do not touch its successor."""
    (directory / "new").write_bytes(b"new")

    with (directory / "file").open("wb", buffering=0) as file:
        file.write(b"old")
        (directory / "new").rename(directory / "file")
        file.write(b"lost, as on every file system")

    assert there.read("file") == b"new"
    assert (directory / "file").read_bytes() == b"new"


@on_shared_stores
def test_file_renamed_while_it_is_written(directory: Path, there: OtherSide) -> None:
    """Bytes written after a rename arrive under the new name only."""
    with (directory / "old").open("wb", buffering=0) as file:
        file.write(b"one ")
        (directory / "old").rename(directory / "new")
        file.write(b"two")

    assert (directory / "new").read_bytes() == b"one two"
    assert there.read("new") == b"one two"
    assert "old" not in there.listing()


@on_shared_stores
def test_stored_file_renamed_while_it_is_edited(
    directory: Path, there: OtherSide
) -> None:
    """An edit of a stored file that begins before a rename arrives after it."""
    content = content_of(9 * MIB)
    (directory / "old").write_bytes(content)

    with (directory / "old").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"A", 0)
        (directory / "old").rename(directory / "new")
        os.pwrite(file.fileno(), b"Z", len(content) - 1)

    assert there.read("new") == b"A" + content[1:-1] + b"Z"
    assert "old" not in there.listing()


def test_reader_goes_on_after_a_rename(directory: Path) -> None:
    """A descriptor reads on under the new name."""
    content = content_of(20 * MIB)
    (directory / "old").write_bytes(content)

    with (directory / "old").open("rb", buffering=0) as file:
        begin = file.read(100)
        (directory / "old").rename(directory / "new")

        assert begin + file.read() == content


@on_shared_stores
def test_directory_renamed_above_a_file_being_written(
    directory: Path, there: OtherSide
) -> None:
    """Open files follow their directory to its new name."""
    (directory / "old" / "deep").mkdir(parents=True)
    (directory / "old" / "deep" / "stored").write_bytes(b"0123456789")
    with (
        (directory / "old" / "deep" / "fresh").open("wb", buffering=0) as fresh,
        (directory / "old" / "deep" / "stored").open("r+b", buffering=0) as stored,
    ):
        fresh.write(b"one ")
        stored.write(b"AB")
        (directory / "old").rename(directory / "new")
        fresh.write(b"two")
        os.pwrite(stored.fileno(), b"YZ", 8)

    assert (directory / "new" / "deep" / "fresh").read_bytes() == b"one two"
    assert there.read("new/deep/fresh") == b"one two"
    assert there.read("new/deep/stored") == b"AB234567YZ"
    assert not [key for key in there.listing() if key.startswith("old")]


def test_working_directory_follows_a_rename(directory: Path) -> None:
    """A descriptor of a directory leads to it under its new name."""
    (directory / "old").mkdir()
    descriptor = os.open(directory / "old", os.O_RDONLY | os.O_DIRECTORY)

    (directory / "old").rename(directory / "new")
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)

    assert (directory / "new" / "file").exists()


def test_removed_directory_that_is_open_is_empty(directory: Path) -> None:
    """A removed directory lists nothing and takes nothing."""
    (directory / "gone").mkdir()
    descriptor = os.open(directory / "gone", os.O_RDONLY | os.O_DIRECTORY)
    (directory / "gone").rmdir()

    with os.scandir(descriptor) as entries:
        assert list(entries) == []
    with pytest.raises(FileNotFoundError):
        os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    os.close(descriptor)
