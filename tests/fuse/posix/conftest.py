"""The file systems that every table of this suite is tried on.

`tmpfs` is the judge of the tables: what it answers otherwise is wrong in the table.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.posix.place import Place
from tests.fuse.stores import Store

JUDGE = "tmpfs"
PLACES = (
    JUDGE,
    "memory",
    "local",
    "s3",
    pytest.param("gs", marks=pytest.mark.slow),
    pytest.param("dropbox", marks=pytest.mark.slow),
)
LENGTH_S = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give whole tables their time, where samples have that of any test."""
    for item in items:
        if "AT_LENGTH" in os.environ and item.nodeid.startswith("tests/fuse/posix/"):
            item.add_marker(pytest.mark.timeout(LENGTH_S))


@pytest.fixture(scope="session", params=PLACES)
def posix_place(
    request: pytest.FixtureRequest,
    make_store: Callable[[str], Store],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Place, Mount | None]]:
    base = tmp_path_factory.mktemp(f"posix-{request.param}")
    if request.param == JUDGE:
        with tmpfs(base), Place(base, lambda: None) as place:
            yield place, None
        return
    store = make_store(request.param)
    options = (*store.options, "--cache-size=1G", "--allow-other", "--virtual=all")
    with (
        Mount(store.url, base, options, life_s=TEST_S) as mount,
        Place(mount.path, mount.watch) as place,
    ):
        yield place, mount


@pytest.fixture
def place(posix_place: tuple[Place, Mount | None]) -> Iterator[Place]:
    """A file system, and an agent that makes the calls of a table in it."""
    found, mount = posix_place
    yield found
    if mount is not None:
        mount.check_log()
        mount.watch(3600)


@contextmanager
def tmpfs(directory: Path) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs"]
    subprocess.run([*command, directory], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True, timeout=30)
