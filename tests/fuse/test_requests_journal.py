"""What changes cost with `--durability journal`, until the store has them.

No program waits for these requests, so they are all background ones; each test counts
everything that was on the wire when `mountfs flush` had returned.
"""

import contextlib
import itertools
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.s3_servers import S3Server
from tests.fuse.counting import Counted, CountingShim, store_behind
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.stores import S3Objects


@pytest.fixture(scope="module")
def journaled(
    moto_server: S3Server,
    counting_shim: CountingShim,
    counting_bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Counted]:
    """A mount with the journal, for all tests of this module."""
    store = store_behind(counting_shim, moto_server, counting_bucket)
    base = tmp_path_factory.mktemp("journaled")
    options = (*store.options, "--cache-size=1G", "--ttl=3600", "--durability=journal")
    with Mount(store.url, base, options, life_s=TEST_S) as mount:
        yield Counted(mount, store, counting_shim)
        mount.watch(3600)


TRIES = 5
FILES = 300 if "AT_LENGTH" in os.environ else 100


@pytest.fixture
def directory(journaled: Counted, request: pytest.FixtureRequest) -> Path:
    """A new directory in the mount, which the store has."""
    journaled.mount.watch()
    path = journaled.path / str(request.node.name)
    path.mkdir()
    journaled.mount.flush()
    return path


@contextlib.contextmanager
def sent(counted: Counted) -> Iterator[Counter[str]]:
    """Count all requests from the block to when the store has everything.

    But for the times of directories, which are stored now and then.
    """
    asked: Counter[str] = Counter()
    with counted.requests() as tally:
        yield asked
        counted.mount.flush()
    asked.update(
        each.operation
        for each in tally.log
        if not (each.operation == "CopyObject" and each.key.endswith("/"))
    )


def at(counted: Counted, directory: Path) -> S3Objects:
    return counted.there(directory)


def test_nothing_is_sent_before_a_change_returns(
    journaled: Counted, directory: Path
) -> None:
    """S-140: close, mkdir, rename, chmod and unlink return while the store is busy."""
    with journaled.shim.holding("PutObject"):
        (directory / "file").write_bytes(b"bytes")
        (directory / "folder").mkdir()
        (directory / "file").rename(directory / "folder" / "name")
        (directory / "folder" / "name").chmod(0o600)
        os.symlink("name", directory / "folder" / "link")
        assert at(journaled, directory).listing() == set()
        assert (directory / "folder" / "link").read_bytes() == b"bytes"
        assert sorted(os.listdir(directory / "folder")) == ["link", "name"]
    journaled.mount.flush()
    found = at(journaled, directory).listing()
    assert found == {"folder/", "folder/link", "folder/name"}


def test_a_new_file_with_a_mode_and_another_name_is_one_put(
    journaled: Counted, directory: Path
) -> None:
    """Created, described and renamed: the store sees the outcome alone.

    If one comes soon after the other: a busy machine gets more than one try.
    """
    tries: list[Counter[str]] = []
    for number in range(TRIES):
        with sent(journaled) as asked:
            path = directory / f"file{number}.tmp"
            path.write_bytes(b"bytes")
            path.chmod(0o640)
            os.utime(path, (1, 1))
            path.rename(directory / f"file{number}")
        assert at(journaled, directory).read(f"file{number}") == b"bytes"
        tries.append(asked)
    assert {"PutObject": 1} in tries


def test_what_is_made_and_removed_is_never_sent(
    journaled: Counted, directory: Path
) -> None:
    """A temporary file costs nothing, unless the machine is so busy that it lives long:
    then a write and a removal.
    """
    with sent(journaled) as asked:
        for number in range(40):
            path = directory / f"temporary{number}"
            path.write_bytes(b"bytes")
            path.unlink()
    assert sum(asked.values()) <= 8


def test_many_attributes_are_one_copy(journaled: Counted, directory: Path) -> None:
    """chmod, chown and utimensat of a stored file go out together.

    If one comes soon after the other: a busy machine gets more than one try.
    """
    tries: list[Counter[str]] = []
    path = directory / "file"
    path.write_bytes(b"bytes")
    journaled.mount.flush()
    for number in range(TRIES):
        with sent(journaled) as asked:
            path.chmod(0o600 + number)
            os.chown(path, 1, 1 + number)
            os.utime(path, (1, 1 + number))
        tries.append(asked)
    assert {"CopyObject": 1} in tries


def test_renames_in_a_row_are_one(journaled: Counted, directory: Path) -> None:
    """A stored file that changes its name thrice is copied and deleted once.

    If the names come one soon after the other: a busy machine gets more than one try.
    """
    tries: list[Counter[str]] = []
    for number in range(TRIES):
        names = [f"{number}{name}" for name in "abcd"]
        (directory / names[0]).write_bytes(b"bytes")
        journaled.mount.flush()
        with sent(journaled) as asked:
            for old, new in itertools.pairwise(names):
                (directory / old).rename(directory / new)
        tries.append(asked)
    assert {"CopyObject": 1, "DeleteObject": 1} in tries


def test_a_tree_goes_in_batches(journaled: Counted, directory: Path) -> None:
    """`rm -r` of N names: a multi-object DELETE for each thousand of them."""
    for number in range(FILES):
        (directory / f"file{number}").write_bytes(b"x")
    journaled.mount.flush()
    start_s = time.monotonic()
    with sent(journaled) as asked:
        shutil.rmtree(directory)
    assert asked.pop("ListObjectsV2", 0) <= 1
    assert set(asked) <= {"DeleteObjects", "DeleteObject"}
    # One for each second that it takes, and the last.
    assert asked.total() <= 4 + int(time.monotonic() - start_s)
    assert at(journaled, directory).listing() == set()


def test_a_log_that_grows_line_by_line(journaled: Counted, directory: Path) -> None:
    """A close for each of 200 lines: far fewer requests than lines."""
    path = directory / "log"
    with sent(journaled) as asked:
        for number in range(200):
            with path.open("a") as log:
                log.write(f"line {number}\n")
    lines = at(journaled, directory).read("log").decode().splitlines()
    assert lines == [f"line {number}" for number in range(200)]
    assert asked["PutObject"] <= 40


def test_fsync_returns_without_the_store(journaled: Counted, directory: Path) -> None:
    """S-141: fsync of a file and of a directory asks the local disk, not the store."""
    with journaled.shim.holding("PutObject"):
        descriptor = os.open(directory / "file", os.O_CREAT | os.O_RDWR)
        os.write(descriptor, b"bytes")
        os.fsync(descriptor)
        os.close(descriptor)
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
        assert at(journaled, directory).listing() == set()
    journaled.mount.flush()
    assert at(journaled, directory).read("file") == b"bytes"
