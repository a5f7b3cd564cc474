"""What the kernel asks the daemon for what is known: counts, never seconds."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import Store

pytestmark = pytest.mark.parametrize("store", ["local"], indirect=True)

FILES = 500
NAMES_AT_ONCE = 100
"""So many entries of a listing fit into one request at least."""


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with one directory of many files."""
    for number in range(FILES):
        store.there.write(f"d/file-{number:04}", b"bytes")
    return store


def asked(mount: Mount) -> int:
    """Return how many requests the kernel has sent since the mount began."""
    told = json.loads(run_command("status", "--json", str(mount.path)).stdout)
    status = told[0] if isinstance(told, list) else told
    return int(status["activity"]["requests"])


def list_long(directory: Path) -> None:
    command = ["ls", "-l", str(directory)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_stat_of_what_is_known_asks_nothing(mounter: Mounter, filled: Store) -> None:
    """A thousand times within the time to live."""
    mount = mounter(filled, "--ttl=600")
    path = mount.path / "d" / "file-0007"
    path.stat()
    before = asked(mount)

    for _ in range(1000):
        os.stat(path)
    assert asked(mount) == before


@pytest.mark.parametrize(
    ("virtual", "for_each"), [("virtual_dir,virtual_link", 0), ("all", 2)]
)
def test_long_listing_of_what_is_known(
    mounter: Mounter, filled: Store, virtual: str, for_each: int
) -> None:
    """`ls -l` asks for the pages of the listing, and for attributes if we have them."""
    mount = mounter(filled, "--ttl=600", f"--virtual={virtual}")
    list_long(mount.path / "d")
    before = asked(mount)

    list_long(mount.path / "d")
    pages = FILES // NAMES_AT_ONCE
    assert asked(mount) - before <= for_each * FILES + pages + 8


def test_reading_again_asks_for_no_bytes(mounter: Mounter, filled: Store) -> None:
    """What is in the page cache costs an open and a close, and the stat in between.

    After a close the kernel takes the number of blocks for unknown and asks for it.
    """
    mount = mounter(filled, "--ttl=600")
    path = mount.path / "d" / "file-0007"
    path.read_bytes()
    before = asked(mount)

    for _ in range(10):
        path.read_bytes()
    assert asked(mount) - before <= 10 * 4  # open, getattr, flush, release
