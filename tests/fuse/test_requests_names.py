"""What names cost: looking up, making, removing, renaming, changing attributes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.counting import Counted
from tests.fuse.mounting import run
from tests.fuse.stores import S3Objects

Cold = tuple[Path, S3Objects]


def test_stat_within_the_ttl_is_free(counted: Counted, counted_directory: Path) -> None:
    """What was asked once is not asked again: by nobody, in no program."""
    path = counted_directory / "file"
    path.write_bytes(b"bytes")

    with counted.requests() as asked:
        path.stat()
        run("stat", path)
        run("ls", "-l", path)

    assert asked == {}


def test_cached_bytes_are_free(counted: Counted, cold: Cold) -> None:
    """A second read of a file, by another program, asks for nothing."""
    directory, there = cold
    there.write("file", b"bytes" * 1000)
    (directory / "file").read_bytes()

    with counted.requests() as asked:
        assert run("cat", directory / "file") == "bytes" * 1000

    assert asked == {}


def test_own_bytes_are_free_to_read(counted: Counted, counted_directory: Path) -> None:
    """What was written through this mount is not fetched to be read."""
    path = counted_directory / "file"
    path.write_bytes(os.urandom(3 << 20))

    with counted.requests() as asked:
        run("cksum", path)

    assert asked == {}


def test_readlink_once_listed_is_free(counted: Counted, cold: Cold) -> None:
    """The listing of a directory learns the targets of its links."""
    directory, there = cold
    metadata = {"mode": str(0o120777)}
    there.client.put_object(
        Bucket=there.bucket, Key=f"{there.prefix}a", Body=b"target", Metadata=metadata
    )
    os.listdir(directory)

    with counted.requests() as asked:
        assert os.readlink(directory / "a") == "target"

    assert asked == {}


def test_lookup_of_an_unknown_name_is_one_round_trip(
    counted: Counted, cold: Cold
) -> None:
    """An unknown name costs a HEAD and a LIST, both under way at the same time."""
    directory, _ = cold

    both = counted.shim.at_once(2, "HeadObject", "ListObjectsV2")
    with counted.requests() as asked, both:
        assert not directory.exists()

    assert asked == {"HeadObject": 1, "ListObjectsV2": 1}


def test_names_in_a_directory_of_ours_are_free(
    counted: Counted, counted_directory: Path
) -> None:
    """A directory that we made is known to be empty: nobody is asked what is not."""
    with counted.requests() as asked:
        for name in ("a", "b", "c/d"):
            assert not (counted_directory / name).exists()
        assert os.listdir(counted_directory) == []

    assert asked == {}


def test_names_after_a_listing_are_free(counted: Counted, cold: Cold) -> None:
    """Within the TTL a listed directory answers for names that it does not have."""
    directory, there = cold
    there.write("file", b"")
    os.listdir(directory)

    with counted.requests() as asked:
        assert not (directory / "other").exists()

    assert asked == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("target"),
        lambda path: run("mkdir", "-m", "750", path),
        lambda path: run("mkdir", "-p", path),
        lambda path: run("ln", "-s", "../target", path),
    ],
    ids=["mkdir(2)", "symlink(2)", "mkdir -m", "mkdir -p", "ln -s"],
)
def test_directory_or_link_is_one_put(
    counted: Counted, counted_directory: Path, make: Callable[[Path], object]
) -> None:
    """A directory and a symbolic link are each made by one request."""
    with counted.requests() as asked:
        make(counted_directory / "new")

    assert asked == {"PutObject": 1}


def test_times_of_a_directory_cost_a_request_a_second(
    counted: Counted, counted_directory: Path
) -> None:
    """However many names a directory gets, its times are sent once in a while."""
    start_s = time.monotonic()
    with counted.requests() as asked:
        for number in range(200):
            (counted_directory / f"{number}").touch()
    took_s = time.monotonic() - start_s

    assert asked == {"PutObject": 200}
    own = f"/{counted_directory.name}/"  # others are still busy with earlier tests
    background = [
        each
        for each in asked.log
        if each.reason == "background" and each.key.endswith(own)
    ]
    assert {each.operation for each in background} <= {"CopyObject"}
    assert len(background) <= took_s + 1


def test_unlink_is_one_delete(counted: Counted, counted_directory: Path) -> None:
    """A directory that has its marker loses a file by one request."""
    path = counted_directory / "file"
    path.write_bytes(b"bytes")

    with counted.requests() as asked:
        path.unlink()

    assert asked == {"DeleteObject": 1}


def test_last_child_leaves_a_marker_once(counted: Counted, cold: Cold) -> None:
    """A directory without marker is given one before its last child goes."""
    directory, there = cold
    for name in ("a", "b"):
        there.write(name, b"")
    os.listdir(directory)

    with counted.requests() as asked:
        (directory / "a").unlink()
    with counted.requests() as asked_last:
        (directory / "b").unlink()
        (directory / "c").touch()
        (directory / "c").unlink()

    assert asked == {"DeleteObject": 1}
    assert asked_last == {"PutObject": 2, "DeleteObject": 2}
    assert asked_last.keys_of("PutObject") == [there.prefix, f"{there.prefix}c"]


def test_rmdir_asks_once_whether_it_is_empty(
    counted: Counted, counted_directory: Path
) -> None:
    """A directory is removed by a LIST and a DELETE."""
    (counted_directory / "sub").mkdir()

    with counted.requests() as asked:
        (counted_directory / "sub").rmdir()

    assert asked == {"ListObjectsV2": 1, "DeleteObject": 1}


def test_removing_a_tree_is_one_delete_each(
    counted: Counted, counted_directory: Path
) -> None:
    """`rm -r` deletes each name, and asks of each directory whether it is empty."""
    for each in range(3):
        (counted_directory / f"d{each}").mkdir()
        for name in range(5):
            (counted_directory / f"d{each}" / f"f{name}").touch()

    with counted.requests() as asked:
        run("rm", "-r", counted_directory)

    assert asked == {"DeleteObject": 3 * 5 + 3 + 1, "ListObjectsV2": 4}


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.chmod(0o600),
        lambda path: os.chown(path, 12, 34),
        lambda path: os.utime(path, ns=(5, 7)),
        lambda path: run("chmod", "600", path),
        lambda path: run("touch", path),
    ],
    ids=["chmod(2)", "chown(2)", "utimensat(2)", "chmod", "touch"],
)
def test_attributes_of_a_stored_file_are_one_copy(
    counted: Counted, counted_directory: Path, change: Callable[[Path], object]
) -> None:
    """Each change of attributes is one copy of the object onto itself."""
    path = counted_directory / "file"
    path.write_bytes(b"bytes")

    with counted.requests() as asked:
        change(path)

    assert asked == {"CopyObject": 1}


def test_rename_of_a_file_is_a_copy_and_a_delete(
    counted: Counted, counted_directory: Path
) -> None:
    """A file is renamed inside the store."""
    (counted_directory / "old").write_bytes(b"bytes")

    with counted.requests() as asked:
        run("mv", counted_directory / "old", counted_directory / "new")

    assert asked == {"CopyObject": 1, "DeleteObject": 1}


@pytest.mark.parametrize("count", [40, 1001])
def test_rename_of_a_directory_moves_many_at_once(
    counted: Counted, cold: Cold, count: int
) -> None:
    """A directory is listed, copied 32 and more at once, and deleted by thousands."""
    directory, there = cold
    for number in range(count):
        there.write(f"old/{number:04}", b"")
    (directory / "old").stat()
    (directory / "new").exists()

    with counted.requests() as asked, counted.shim.at_once(32, "CopyObject"):
        (directory / "old").rename(directory / "new")

    pages = -(-count // 1000)
    assert asked == {
        "ListObjectsV2": pages,
        "CopyObject": count,
        "DeleteObjects": pages,
    }
    assert len(there.listing()) == count
