"""Mounts for the tests of the contract page, over moto behind a counting shim."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fuse import mounting
from tests.fuse.counting import Counted
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.stores import OtherSide, Store

Mounter = Callable[..., Mount]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what mounts for real."""
    for item in items:
        if item.nodeid.startswith("tests/semantics/"):
            item.add_marker(pytest.mark.fuse)


@pytest.fixture(scope="session", autouse=True)
def _connections_can_be_aborted() -> Iterator[None]:
    with mounting.fusectl():
        yield


@pytest.fixture
def directory(counted_directory: Path) -> Path:
    """An empty directory in the shared mount."""
    return counted_directory


@pytest.fixture
def there(counted: Counted, directory: Path) -> OtherSide:
    """`directory` as others see it."""
    return counted.there(directory)


@pytest.fixture
def mount(counted_store: Store, tmp_path: Path) -> Iterator[Mounter]:
    """Mount a store of the test's own: `mount("--option=x", at="name")`."""
    with ExitStack() as stack:

        def mounted(*options: str, at: str = "first") -> Mount:
            options = (*counted_store.options, "--cache-size=512M", *options)
            return stack.enter_context(
                Mount(counted_store.url, tmp_path / at, options, life_s=TEST_S)
            )

        yield mounted
