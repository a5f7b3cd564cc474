"""Writing and reading at any offset: edits, holes, sizes, descriptors."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.fuse.marks import on_shared_stores
from tests.fuse.mounting import run, run_python
from tests.fuse.stores import OtherSide

MIB = 1 << 20


def random_bytes(size: int, seed: int = 1) -> bytes:
    """Return bytes that do not repeat and are the same in each run."""
    return random.Random(seed).randbytes(size)


@on_shared_stores
@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 10 * MIB + 17, 22 * MIB - 3])
def test_edit_in_the_middle_changes_only_that(
    directory: Path, there: OtherSide, offset: int
) -> None:
    """`dd conv=notrunc` into a large file: the other side sees exactly that edit."""
    old = random_bytes(22 * MIB + 5)
    (directory / "big").write_bytes(old)
    patch = b"edited!!"

    command = ["dd", f"of={directory}/big", "bs=1", "conv=notrunc", f"seek={offset}"]
    (directory.parent / "patch").write_bytes(patch)
    run(*command, f"if={directory.parent}/patch")

    expected = old[:offset] + patch + old[offset + len(patch) :]
    assert there.read("big") == expected
    assert (directory / "big").read_bytes() == expected


def test_many_small_edits_in_any_order(directory: Path) -> None:
    """Writes at random places leave what a plain file would have."""
    chooser = random.Random(7)
    expected = bytearray(random_bytes(3 * MIB))
    (directory / "file").write_bytes(expected)

    with (directory / "file").open("r+b", buffering=0) as file:
        for _ in range(200):
            offset = chooser.randrange(len(expected))
            patch = chooser.randbytes(chooser.randrange(1, 9000))
            file.seek(offset)
            file.write(patch)
            expected[offset : offset + len(patch)] = patch

    assert (directory / "file").read_bytes() == bytes(expected)


@pytest.mark.parametrize("size", [0, 1, 4096, 5000, 9 * MIB])
def test_truncate_cuts(directory: Path, size: int) -> None:
    """truncate(1) to a smaller size keeps the beginning."""
    content = random_bytes(10 * MIB)
    (directory / "file").write_bytes(content)

    run("truncate", "-s", str(size), directory / "file")

    assert (directory / "file").read_bytes() == content[:size]


@pytest.mark.parametrize("size", [11, 4096, 150_000, 9 * MIB])
def test_truncate_extends_with_zeros(directory: Path, size: int) -> None:
    """truncate(1) to a larger size adds zeros."""
    (directory / "file").write_bytes(b"0123456789")

    run("truncate", "-s", str(size), directory / "file")

    assert (directory / "file").read_bytes() == b"0123456789".ljust(size, b"\0")


@on_shared_stores
def test_truncate_reaches_the_store(directory: Path, there: OtherSide) -> None:
    """truncate(2) without a descriptor is in the store when it returns."""
    (directory / "file").write_bytes(b"0123456789")

    os.truncate(directory / "file", 4)

    assert there.read("file") == b"0123"


def test_cut_and_extended_again_has_zeros(directory: Path) -> None:
    """Bytes that were cut off do not come back when the file grows."""
    (directory / "file").write_bytes(b"x" * 10_000)

    with (directory / "file").open("r+b") as file:
        file.truncate(100)
        file.truncate(10_000)

    assert (directory / "file").read_bytes() == b"x" * 100 + b"\0" * 9900


@on_shared_stores
def test_hole_reads_as_zeros(directory: Path, there: OtherSide) -> None:
    """What was skipped by a seek is zeros, here and in the store."""
    with (directory / "file").open("wb") as file:
        file.write(b"begin")
        file.seek(3 * MIB)
        file.write(b"end")

    expected = b"begin".ljust(3 * MIB, b"\0") + b"end"
    assert (directory / "file").read_bytes() == expected
    assert there.read("file") == expected


def test_hole_behind_an_existing_file(directory: Path) -> None:
    """A write behind the end of a stored file fills the gap with zeros."""
    (directory / "file").write_bytes(b"begin")

    with (directory / "file").open("r+b") as file:
        file.seek(100_000)
        file.write(b"end")

    assert (directory / "file").read_bytes() == b"begin".ljust(100_000, b"\0") + b"end"


def test_reading_beyond_the_end_is_empty(directory: Path) -> None:
    """A read at or behind the end returns nothing."""
    (directory / "file").write_bytes(b"12345")

    with (directory / "file").open("rb") as file:
        assert os.pread(file.fileno(), 10, 5) == b""
        assert os.pread(file.fileno(), 10, 1 << 40) == b""


def test_size_is_right_while_the_file_is_open(directory: Path) -> None:
    """stat(2) by path tells the size of what was written so far."""
    with (directory / "file").open("wb", buffering=0) as file:
        file.write(b"12345")

        assert (directory / "file").stat().st_size == 5
        assert os.fstat(file.fileno()).st_size == 5


def test_second_descriptor_reads_what_the_first_wrote(directory: Path) -> None:
    """Bytes are seen by other descriptors before any close."""
    with (directory / "file").open("wb", buffering=0) as writing:
        writing.write(b"unsaved")

        assert (directory / "file").read_bytes() == b"unsaved"


@on_shared_stores
def test_fsync_stores_before_close(directory: Path, there: OtherSide) -> None:
    """What fsync(2) was told of is in the store while the file is still open."""
    with (directory / "file").open("wb", buffering=0) as file:
        file.write(b"first")
        os.fsync(file.fileno())
        seen = there.read("file")
        file.write(b" second")

    assert seen == b"first"
    assert there.read("file") == b"first second"


@on_shared_stores
def test_bytes_after_a_duplicate_was_closed(directory: Path, there: OtherSide) -> None:
    """Closing a duplicate does not end the writing through the original."""
    descriptor = os.open(directory / "file", os.O_WRONLY | os.O_CREAT)
    duplicate = os.dup(descriptor)
    os.write(duplicate, b"one ")
    os.close(duplicate)
    os.write(descriptor, b"two")
    os.close(descriptor)

    assert (directory / "file").read_bytes() == b"one two"
    assert there.read("file") == b"one two"


@on_shared_stores
def test_shell_loop_into_one_descriptor(directory: Path, there: OtherSide) -> None:
    """Children of a shell that write to its descriptor lose nothing."""
    loop = f'for i in 1 2 3 4 5; do /bin/echo $i; done > "{directory}/file"'

    run("sh", "-c", loop)

    assert there.read("file") == b"1\n2\n3\n4\n5\n"


@on_shared_stores
def test_child_that_outlives_the_writer(directory: Path, there: OtherSide) -> None:
    """A child that inherited the descriptor goes on writing after its parent's end."""
    with (directory / "file").open("wb", buffering=0) as file:
        file.write(b"early ")
        child = subprocess.Popen(
            ["sh", "-c", "read go; echo late"], stdin=subprocess.PIPE, stdout=file
        )
    child.communicate(b"go\n", timeout=30)

    assert (directory / "file").read_bytes() == b"early late\n"
    assert there.read("file") == b"early late\n"


MMAP_WRITE = """
import mmap, os, sys
with open(sys.argv[1], "r+b") as file:
    view = mmap.mmap(file.fileno(), 0)
view[5:9] = b"MMAP"
if sys.argv[2] == "flush":
    view.flush()
view.close()
"""


@pytest.mark.parametrize("how", ["flush", "close"])
def test_memory_map_written_after_close(directory: Path, how: str) -> None:
    """Stores through a map whose descriptor was closed before reach the file."""
    (directory / "file").write_bytes(b"x" * 9000)

    run_python(MMAP_WRITE, directory / "file", how)

    expected = b"xxxxxMMAP" + b"x" * 8991
    assert run("cat", directory / "file").encode() == expected


MMAP_READ = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print(view[4096 * 700 : 4096 * 700 + 3].hex(), len(view))
"""


def test_memory_map_reads(directory: Path) -> None:
    """A file can be mapped for reading."""
    content = random_bytes(3 * MIB)
    (directory / "file").write_bytes(content)

    told = run_python(MMAP_READ, directory / "file")

    assert told.split() == [content[4096 * 700 :][:3].hex(), str(3 * MIB)]


def test_copying_within_the_mount(directory: Path) -> None:
    """copy_file_range(2) between two files copies the bytes."""
    content = random_bytes(2 * MIB + 1)
    (directory / "from").write_bytes(content)

    with (
        (directory / "from").open("rb") as source,
        (directory / "to").open("wb") as target,
    ):
        while os.copy_file_range(source.fileno(), target.fileno(), MIB):
            pass

    assert (directory / "to").read_bytes() == content


def test_reading_a_large_file_in_small_random_pieces(directory: Path) -> None:
    """Reads in any order and size return the right bytes."""
    content = random_bytes(20 * MIB)
    (directory / "file").write_bytes(content)
    chooser = random.Random(3)

    with (directory / "file").open("rb", buffering=0) as file:
        for _ in range(200):
            offset = chooser.randrange(len(content))
            size = chooser.randrange(1, 300_000)
            assert os.pread(file.fileno(), size, offset) == content[offset:][:size]
