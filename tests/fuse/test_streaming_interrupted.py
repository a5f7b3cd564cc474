"""A large file that streams out, and what happens to it before its close."""

import os
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import on_shared_stores
from tests.fuse.mounting import Mount
from tests.fuse.stores import OtherSide, Store
from tests.fuse.streaming import MIB, content, open_new, unfinished_uploads, write


@on_shared_stores
def test_renamed_while_it_streams(directory: Path, there: OtherSide) -> None:
    """The whole file arrives under the new name, nothing under the old one."""
    descriptor = open_new(directory / "old")
    write(descriptor, 0, 40 * MIB)
    (directory / "old").rename(directory / "new")
    write(descriptor, 40 * MIB, 64 * MIB)
    os.close(descriptor)

    assert there.read("new") == content()
    assert (directory / "new").read_bytes() == content()
    assert "old" not in there.listing()


@on_shared_stores
def test_renamed_over_a_stored_file(directory: Path, there: OtherSide) -> None:
    """A download finished under a temporary name and renamed before its close."""
    (directory / "file").write_bytes(b"old")
    descriptor = open_new(directory / "file.part")
    write(descriptor, 0, 64 * MIB)
    (directory / "file.part").rename(directory / "file")
    os.close(descriptor)

    assert there.read("file") == content()
    assert "file.part" not in there.listing()


@on_shared_stores
def test_directory_renamed_while_a_file_in_it_streams(
    directory: Path, there: OtherSide
) -> None:
    """The file follows its directory."""
    (directory / "old").mkdir()
    descriptor = open_new(directory / "old" / "file")
    write(descriptor, 0, 40 * MIB)
    (directory / "old").rename(directory / "new")
    write(descriptor, 40 * MIB, 64 * MIB)
    os.close(descriptor)

    assert there.read("new/file") == content()
    assert not [key for key in there.listing() if key.startswith("old")]


@on_shared_stores
def test_unlinked_while_it_streams(directory: Path, there: OtherSide) -> None:
    """It stays readable and writable here and never becomes an object."""
    descriptor = open_new(directory / "file")
    write(descriptor, 0, 48 * MIB)
    (directory / "file").unlink()
    write(descriptor, 48 * MIB, 64 * MIB)

    assert os.pread(descriptor, 2 * MIB, 7) == content()[7 : 2 * MIB + 7]
    assert os.pread(descriptor, MIB, 60 * MIB) == content()[60 * MIB : 61 * MIB]
    os.close(descriptor)
    assert {key for key in there.listing() if not key.endswith("/")} == set()


@on_shared_stores
@pytest.mark.parametrize("size", [0, 5, 20 * MIB + 1])
def test_truncated_while_it_streams(
    directory: Path, there: OtherSide, size: int
) -> None:
    """What was cut off is not in the object, though it may have been sent."""
    descriptor = open_new(directory / "file")
    write(descriptor, 0, 48 * MIB)
    os.ftruncate(descriptor, size)
    os.pwrite(descriptor, b"end", size)
    os.close(descriptor)

    assert there.read("file") == content()[:size] + b"end"


@on_shared_stores
def test_read_back_while_it_streams(directory: Path, there: OtherSide) -> None:
    """Bytes that were sent in a part are read from the unfinished file."""
    descriptor = open_new(directory / "file")
    write(descriptor, 0, 64 * MIB)

    for offset in (0, 5 * MIB + 3, 31 * MIB, 63 * MIB):
        assert os.pread(descriptor, MIB, offset) == content()[offset : offset + MIB]
    os.fsync(descriptor)
    stored = there.read("file")
    os.pwrite(descriptor, b"again", 100)
    os.close(descriptor)

    assert stored == content()
    assert there.read("file") == content()[:100] + b"again" + content()[105:]


@on_shared_stores
def test_written_from_its_end_to_its_begin(directory: Path, there: OtherSide) -> None:
    """A file that is written backwards cannot stream, and arrives all the same."""
    descriptor = open_new(directory / "file")
    for offset in reversed(range(0, 40 * MIB, MIB)):
        os.pwrite(descriptor, content()[offset : offset + MIB], offset)
    os.close(descriptor)

    assert there.read("file") == content()[: 40 * MIB]


@pytest.mark.parametrize("store", ["s3"], indirect=True)
@pytest.mark.parametrize("end", ["close", "unlink", "truncate", "rename"])
def test_no_upload_is_left_behind(mounter: Mounter, store: Store, end: str) -> None:
    """However a streaming file ends, the bucket keeps no parts that cost money."""
    mount: Mount = mounter(store)
    descriptor = open_new(mount.path / "file")
    write(descriptor, 0, 48 * MIB)
    while unfinished_uploads(store) == 0:  # it begins in the background
        os.sched_yield()
    if end == "unlink":
        (mount.path / "file").unlink()
    elif end == "truncate":
        os.ftruncate(descriptor, 3)
    elif end == "rename":
        (mount.path / "file").rename(mount.path / "other")
    os.close(descriptor)
    mount.unmount()

    assert unfinished_uploads(store) == 0
