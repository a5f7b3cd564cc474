"""What whole programs cost: saving, listing, copying a tree, git."""

import os
from pathlib import Path

from tests.fuse.counting import Counted
from tests.fuse.mounting import run
from tests.fuse.stores import S3Objects
from tests.fuse.test_programs import git

Cold = tuple[Path, S3Objects]
SAMPLE = 32


def test_save_by_rename(counted: Counted, counted_directory: Path) -> None:
    """Write beside, fsync, rename over: one PUT, one copy, one delete."""
    (counted_directory / "text").write_bytes(b"old")
    beside = counted_directory / "text.new"

    with counted.requests() as asked:
        with beside.open("wb") as file:
            file.write(b"new")
            file.flush()
            os.fsync(file.fileno())
        beside.rename(counted_directory / "text")

    assert asked == {"PutObject": 1, "CopyObject": 1, "DeleteObject": 1}


def test_save_with_backup(counted: Counted, counted_directory: Path) -> None:
    """Rename away, write anew, remove the backup, as vim does."""
    text, backup = counted_directory / "text", counted_directory / "text~"
    text.write_bytes(b"old")

    with counted.requests() as asked:
        text.rename(backup)
        with text.open("wb") as file:
            file.write(b"new")
            file.flush()
            os.fsync(file.fileno())
        text.chmod(0o644)
        backup.unlink()

    assert asked == {"PutObject": 1, "CopyObject": 1, "DeleteObject": 2}


def test_sed_in_place(counted: Counted, counted_directory: Path) -> None:
    """`sed -i` is a new file and a rename."""
    (counted_directory / "text").write_bytes(b"old\n")

    with counted.requests() as asked:
        run("sed", "-i", "s/old/new/", "text", cwd=counted_directory)

    assert asked == {"PutObject": 1, "CopyObject": 1, "DeleteObject": 1}


def test_listing_of_many_plain_objects(counted: Counted, cold: Cold) -> None:
    """A cold `ls -l` of 1000 objects without attributes samples 32 of them."""
    directory, there = cold
    for number in range(1000):
        there.write(f"{number:04}", b"")
    directory.stat()

    with counted.requests() as asked:
        cold_lines = run("ls", "-l", directory).splitlines()
    with counted.requests() as asked_again:
        warm_lines = run("ls", "-l", directory).splitlines()

    assert asked == {"ListObjectsV2": 1, "HeadObject": SAMPLE}
    assert asked_again == {}
    assert len(cold_lines) == len(warm_lines) == 1001


def test_listing_of_objects_with_attributes(counted: Counted, cold: Cold) -> None:
    """If one of the sample carries attributes, the others are asked, 64 at once."""
    directory, there = cold
    for number in range(100):
        there.client.put_object(
            Bucket=there.bucket,
            Key=f"{there.prefix}{number:04}",
            Metadata={"mode": str(0o100600)},
        )
    directory.stat()

    many = counted.shim.at_once(64, "HeadObject", after=SAMPLE)
    with counted.requests() as asked, many:
        lines = run("ls", "-l", directory).splitlines()
    with counted.requests() as asked_again:
        run("ls", "-l", directory)

    assert asked == {"ListObjectsV2": 1, "HeadObject": 100}
    assert asked_again == {}
    assert all(line.startswith("-rw-------") for line in lines[1:])


def test_copying_a_tree(
    counted: Counted, counted_directory: Path, tmp_path: Path
) -> None:
    """`cp -r` of small files is one PUT for each file and directory, and no lookup."""
    original = tmp_path / "tree"
    for number in range(50):
        path = original / f"d{number % 5}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1000))

    with counted.requests() as asked:
        run("cp", "-r", original, counted_directory / "copy")

    assert asked == {"PutObject": 50 + 6}


def test_reading_a_tree_back(counted: Counted, cold: Cold) -> None:
    """`cp -r` out of a cold directory is a GET for each file beside the listing.

    The program waits for the first two of them; the others are fetched ahead of it.
    """
    directory, there = cold
    for number in range(50):
        there.write(f"{number:02}", b"bytes")
    directory.stat()

    with counted.requests() as asked:
        run("grep", "-r", "-c", "bytes", directory)

    assert asked == {"ListObjectsV2": 1, "HeadObject": SAMPLE, "GetObject": 2}
    assert len(asked.keys_of("GetObject")) == 50


def test_git_status_twice(counted: Counted, counted_directory: Path) -> None:
    """A second `git status` asks only for the lock that git takes and gives back."""
    git(counted_directory, "init", "-q")
    for number in range(20):
        path = counted_directory / f"f{number}"
        path.write_text("line\n")
        # Older than the index: of what is not, git cannot tell if it has changed.
        os.utime(path, (10**9, 10**9))
    git(counted_directory, "add", ".")
    git(counted_directory, "commit", "-qm", "first")
    git(counted_directory, "status")

    with counted.requests() as asked:
        assert "nothing to commit" in git(counted_directory, "status")
    with counted.requests() as asked_without_lock:
        git(counted_directory, "--no-optional-locks", "status")

    assert asked == {"PutObject": 1, "DeleteObject": 1}
    assert asked.keys_of("PutObject")[0].endswith("/.git/index.lock")
    assert asked_without_lock == {}
