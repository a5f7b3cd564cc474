"""What operations cost on Google Cloud Storage, counted on the wire.

`docs/reference/requests.md` has the same numbers; a test fails at one request more.
"""

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer
from tests.fuse.mounting import TEST_S, Mount

MIB = 1 << 20
COLD = "cold"
"""A directory in which the mount knows no names."""


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    """A fake for the tests of this module."""
    with contextlib.closing(GcsServer()) as made:
        made.make_bucket(GCS_BUCKET)
        made.put(GCS_BUCKET, f"pre/{COLD}/keep", b"")
        yield made


@pytest.fixture(scope="module")
def mounted(
    server: GcsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """A mount that believes for long what it knows."""
    base = tmp_path_factory.mktemp("gcs-requests")
    options = (
        f"--endpoint-url={server.endpoint_url}",
        "--no-sign-request",
        "--ttl=1h",
        "--cache-size=1G",
    )
    with Mount(f"gs://{GCS_BUCKET}/pre", base, options, life_s=TEST_S) as mount:
        os.listdir(mount.path)
        yield mount


@pytest.fixture
def directory(mounted: Mount, server: GcsServer) -> Iterator[Path]:
    """A directory that the mount knows to be empty."""
    mounted.watch()
    path = mounted.path / uuid.uuid4().hex[:12]
    path.mkdir()
    server.clear()
    yield path
    mounted.check_log()
    mounted.watch(3600)


def _new(path: Path) -> Path:
    path.write_bytes(b"bytes")
    return path


def _large(path: Path, size: int) -> Path:
    path.write_bytes(bytes(size))
    return path


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"tail")


NOTHING: Callable[[Path], object] = lambda directory: None  # noqa: E731 - a table
COSTS: dict[
    str, tuple[Callable[[Path], object], Callable[[Path], object], dict[str, int]]
] = {
    "create, write, chmod, close": (
        NOTHING,
        lambda d: _new(d / "f"),
        {"objects.insert": 1},
    ),
    "mkdir": (NOTHING, lambda d: (d / "d").mkdir(), {"objects.insert": 1}),
    "symlink": (NOTHING, lambda d: os.symlink("t", d / "l"), {"objects.insert": 1}),
    "stat of what is known": (lambda d: _new(d / "f"), lambda d: (d / "f").stat(), {}),
    "a name that is not there": (NOTHING, lambda d: (d / "no").exists(), {}),
    "chmod": (
        lambda d: _new(d / "f"),
        lambda d: (d / "f").chmod(0o600),
        {"objects.patch": 1},
    ),
    "utimensat": (
        lambda d: _new(d / "f"),
        lambda d: os.utime(d / "f", (1, 2)),
        {"objects.patch": 1},
    ),
    "chmod of a directory": (
        lambda d: (d / "d").mkdir(),
        lambda d: (d / "d").chmod(0o700),
        {"objects.patch": 1},
    ),
    "rename of a file": (
        lambda d: _new(d / "f"),
        lambda d: (d / "f").rename(d / "g"),
        {"objects.rewrite": 1, "objects.delete": 1},
    ),
    "unlink": (
        lambda d: _new(d / "f"),
        lambda d: (d / "f").unlink(),
        {"objects.delete": 1},
    ),
    "append below 2 MiB": (
        lambda d: _new(d / "f"),
        lambda d: _append(d / "f"),
        {"objects.insert": 1},
    ),
    "append from 2 MiB on": (
        lambda d: _large(d / "f", 3 * MIB),
        lambda d: _append(d / "f"),
        {"objects.insert": 1, "objects.compose": 1, "batch": 1},
    ),
    "overwrite": (
        lambda d: _new(d / "f"),
        lambda d: (d / "f").write_bytes(b"new"),
        {"objects.insert": 1},
    ),
    "a new file of 40 MiB": (
        NOTHING,
        lambda d: _large(d / "f", 40 * MIB),
        # The manifest and five parts, composed, and all of them removed.
        {"objects.insert": 6, "objects.compose": 1, "batch": 1},
    ),
}


@pytest.mark.parametrize("operation", COSTS)
def test_an_operation_costs_no_more(
    directory: Path, server: GcsServer, operation: str
) -> None:
    """Every row of the table."""
    prepare, act, cost = COSTS[operation]
    prepare(directory)
    # The first append of a process looks for what a crash has left.
    _large(directory.parent / "warm", 3 * MIB)
    _append(directory.parent / "warm")
    server.clear()
    act(directory)

    assert server.counts() == Counter(cost)


def test_a_cold_file_is_read_with_one_request_for_bytes(
    directory: Path, server: GcsServer
) -> None:
    """A name that nothing is known of is asked for, and its directory, at once."""
    server.put(GCS_BUCKET, f"pre/{COLD}/file", bytes(MIB))
    server.clear()
    assert (directory.parent / COLD / "file").read_bytes() == bytes(MIB)

    counts = server.counts()
    assert counts == {"objects.get": 1, "objects.list": 1, "objects.media": 1}


def test_a_directory_of_many_costs_its_pages(
    directory: Path, server: GcsServer
) -> None:
    """A page for each thousand entries, with all their attributes."""
    folder = directory.parent / COLD / "many"
    for number in range(1500):
        mode = {"metadata": {"mode": f"{0o100600 + number % 8}"}}
        server.put(GCS_BUCKET, f"pre/{COLD}/many/{number:04}", b"x", mode)
    folder.stat()
    server.clear()
    modes = {int(entry.name): entry.stat().st_mode for entry in os.scandir(folder)}

    assert modes == {number: 0o100600 + number % 8 for number in range(1500)}
    assert server.counts() == {"objects.list": 2}
