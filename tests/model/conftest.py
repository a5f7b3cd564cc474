"""Grounds for the models: a store and its mount, shared by the examples of a test."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fuse import mounting
from tests.fuse.conftest import make_store as make_store
from tests.model.twins import Ground, Offer

OFFERS = {
    "memory": Offer(can_remount=False),
    "local": Offer(keeps_links=False),
    "s3": Offer(keeps_directories=False),
    "s3 journal": Offer(keeps_directories=False),
    "gs": Offer(),
    "dropbox": Offer(),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what mounts for real."""
    for item in items:
        if item.nodeid.startswith("tests/model/"):
            item.add_marker(pytest.mark.fuse)


@pytest.fixture(scope="session", autouse=True)
def _connections_can_be_aborted() -> Iterator[None]:
    with mounting.fusectl():
        yield


LEFT = {"local", "gs", "dropbox"}
"""What is left to `make proof`."""
PARAMS = [
    pytest.param(kind, marks=pytest.mark.slow) if kind in LEFT else kind
    for kind in OFFERS
]


@pytest.fixture(params=PARAMS)
def ground(
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Ground]:
    """A store and its mount."""
    make = request.getfixturevalue("make_store")
    kind = request.param
    store, _, durability = kind.partition(" ")
    options = (f"--durability={durability or 'store'}",)
    with closing(Ground(make(store), tmp_path, OFFERS[kind], options)) as ground:
        yield ground


@pytest.fixture
def plain() -> Iterator[Path]:
    """A directory on tmpfs."""
    path = Path(tempfile.mkdtemp(prefix="mountfs-model-", dir="/dev/shm"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
