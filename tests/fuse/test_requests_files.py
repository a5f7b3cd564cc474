"""What the bytes of files cost: creating, reading, appending, editing."""

import os
from pathlib import Path

import pytest

from tests.fuse.counting import Counted
from tests.fuse.mounting import run
from tests.fuse.stores import S3Objects

Cold = tuple[Path, S3Objects]
MIB = 1 << 20
PART = 5 * MIB
LINES = 1000
PROCESSES, REQUESTS = (1000, 200) if "AT_LENGTH" in os.environ else (100, 60)
"""Lines where each costs one of these."""


def shell(directory: Path, script: str) -> None:
    """Run a shell script in a directory of the mount."""
    run("bash", "-c", script, cwd=directory, timeout=90)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file elsewhere, with a mode and a time that are worth keeping."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(8 * MIB))
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.mark.parametrize(
    "script",
    [
        "cp {source} new",
        "cp -p {source} new",
        "cp -a {source} new",
        "cat {source} > new",
        "dd if={source} of=new bs=4k status=none",
        "head -c 8M {source} > new",
        "tar c -C {source.parent} {source.name} | tar x",
        "touch new",
        "echo > new",
        "printf '' > new",
    ],
)
def test_new_small_file_is_one_put(
    counted: Counted, counted_directory: Path, source: Path, script: str
) -> None:
    """A new file of up to 8 MiB is one request, its attributes included."""
    with counted.requests() as asked:
        shell(counted_directory, script.format(source=source))

    assert asked == {"PutObject": 1}


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        ("install -m 640 {source} new", {"PutObject": 1, "CopyObject": 1}),
        (
            "rsync -a {source} new",  # times, mode, and a rename
            {"PutObject": 1, "CopyObject": 3, "DeleteObject": 1},
        ),
    ],
)
def test_attributes_set_after_close_are_copies(
    counted: Counted,
    counted_directory: Path,
    source: Path,
    script: str,
    requests: dict[str, int],
) -> None:
    """What a program sets after its close is no longer part of that one request."""
    with counted.requests() as asked:
        shell(counted_directory, script.format(source=source))

    assert asked == requests


def test_attributes_set_before_close_travel_with_the_bytes(
    counted: Counted, counted_directory: Path
) -> None:
    """Mode, owner and times of a file that is still open cost nothing more."""
    path = counted_directory / "new"

    with counted.requests() as asked, path.open("wb") as file:
        file.write(b"bytes")
        file.flush()
        path.chmod(0o600)
        os.chown(path, 12, 34)
        os.utime(path, ns=(5, 7))

    assert asked == {"PutObject": 1}
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (12, 34, 7)


def test_rewriting_a_file_is_one_put(counted: Counted, counted_directory: Path) -> None:
    """`echo > f` over a stored file sends the new bytes and asks for no old ones."""
    (counted_directory / "f").write_bytes(os.urandom(MIB))

    with counted.requests() as asked:
        shell(counted_directory, "echo new > f")

    assert asked == {"PutObject": 1}


@pytest.mark.parametrize("size", [0, 3, MIB])
def test_truncating_a_stored_file_is_one_put(
    counted: Counted, counted_directory: Path, size: int
) -> None:
    """The new size, and the times that it brings, go in one request."""
    (counted_directory / "f").write_bytes(b"bytes")

    with counted.requests() as asked:
        os.truncate(counted_directory / "f", size)

    assert asked == {"PutObject": 1}


def test_closing_what_was_not_changed_is_free(
    counted: Counted, counted_directory: Path
) -> None:
    """A file that was opened for writing and not written is not sent."""
    path = counted_directory / "f"
    path.write_bytes(b"bytes")

    with counted.requests() as asked, path.open("r+b") as file:
        file.read()

    assert asked == {}


def test_fsync_then_close_is_one_put(counted: Counted, counted_directory: Path) -> None:
    """What fsync(2) has stored is not stored again by close(2)."""
    with counted.requests() as asked, (counted_directory / "f").open("wb") as file:
        file.write(b"bytes")
        file.flush()
        os.fsync(file.fileno())

    assert asked == {"PutObject": 1}


@pytest.mark.parametrize("size", [0, 1, 4096, MIB])
def test_reading_a_listed_file_is_one_get(
    counted: Counted, cold: Cold, size: int
) -> None:
    """A file of up to 1 MiB is opened and read by one request."""
    directory, there = cold
    there.write("f", os.urandom(size))
    os.listdir(directory)

    with counted.requests() as asked:
        assert len((directory / "f").read_bytes()) == size

    assert asked == ({"GetObject": 1} if size else {})


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("for i in {{1..{lines}}}; do echo $i; done > f", LINES),
        ("for i in {{1..{lines}}}; do /bin/echo $i; done > f", PROCESSES),
        ("for i in {{1..{lines}}}; do echo $i; done >> f", LINES),
    ],
)
def test_loop_into_one_redirection_is_one_put(
    counted: Counted, counted_directory: Path, script: str, lines: int
) -> None:
    """A loop with one redirection is one request, whoever writes the lines."""
    with counted.requests() as asked:
        shell(counted_directory, script.format(lines=lines))

    assert asked == {"PutObject": 1}
    found = (counted_directory / "f").read_text().splitlines()
    assert found == [str(number) for number in range(1, lines + 1)]


def test_loop_that_appends_each_line_is_a_put_each(
    counted: Counted, counted_directory: Path
) -> None:
    """A redirection for each line closes the file for each line: each is stored."""
    with counted.requests() as asked:
        shell(counted_directory, f"for i in {{1..{REQUESTS}}}; do echo $i >> f; done")

    assert asked == {"PutObject": REQUESTS}
    assert len((counted_directory / "f").read_text().splitlines()) == REQUESTS


def test_append_to_a_small_file_is_one_rewrite(counted: Counted, cold: Cold) -> None:
    """Below the smallest part an append sends the whole file, fetched once."""
    directory, there = cold
    there.write("f", bytes(4 * MIB))
    os.listdir(directory)

    with counted.requests() as asked:
        shell(directory, "echo line >> f")
        shell(directory, "echo line >> f")

    assert asked == {"GetObject": 1, "PutObject": 2}
    assert there.read("f") == bytes(4 * MIB) + b"line\n" * 2


@pytest.mark.parametrize("size", [5 * MIB, 20 * MIB])
def test_append_to_a_large_file_sends_the_tail(
    counted: Counted, cold: Cold, size: int
) -> None:
    """From 5 MiB on the store copies the old bytes and only the new ones are sent."""
    directory, there = cold
    there.write("f", bytes(size))
    os.listdir(directory)

    with counted.requests() as asked:
        shell(directory, "echo line >> f")

    assert asked == {
        "CreateMultipartUpload": 1,
        "UploadPartCopy": 1,
        "UploadPart": 1,
        "CompleteMultipartUpload": 1,
    }
    assert asked.sent("UploadPart") < MIB
    assert there.read("f") == bytes(size) + b"line\n"


def edit(path: Path, offsets: list[int]) -> None:
    """Overwrite 4 KiB at each offset, in place."""
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(b"x" * 4096)


@pytest.mark.parametrize(
    ("size", "edits"),
    [
        (64 * MIB, 1),
        (64 * MIB, 5),
        pytest.param(128 * MIB, 10, marks=pytest.mark.slow),
        pytest.param(256 * MIB, 20, marks=pytest.mark.slow),
    ],
)
def test_small_edits_of_a_large_file_send_little(
    counted: Counted, cold: Cold, size: int, edits: int
) -> None:
    """Each 4 KiB edit sends at most one smallest part; the store copies the rest."""
    directory, there = cold
    there.write("f", bytes(size))
    os.listdir(directory)
    offsets = [size // edits * each + 123 * 4096 for each in range(edits)]

    with counted.requests() as asked:
        edit(directory / "f", offsets)

    reads = asked.pop("GetObject")
    assert reads <= 3 * edits
    assert asked == {
        "CreateMultipartUpload": 1,
        "UploadPart": edits,
        "UploadPartCopy": edits,
        "CompleteMultipartUpload": 1,
    }
    assert asked.sent("UploadPart") <= edits * PART
    content = there.read("f")
    assert content.count(b"x") == edits * 4096
    assert len(content) == size
