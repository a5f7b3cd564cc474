"""Recovery is tested on the same mounts as everything else.

Where a test is for each store and each durability, `make test` takes two of the four,
so that each store and each durability is tried; `make proof` takes all of them.
"""

import pytest

from tests.fuse.conftest import (
    _connections_can_be_aborted,
    make_store,
    mounter,
    store,
)
from tests.recovery.small_disk import small_disk

__all__ = [
    "_connections_can_be_aborted",
    "make_store",
    "mounter",
    "small_disk",
    "store",
]

CROSSED = {"test_outcomes", "test_power_cut", "test_small_disk"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave half of what is crossed to `make proof`."""
    for item in items:
        if item.path.stem not in CROSSED or not isinstance(item, pytest.Function):
            continue
        callspec = getattr(item, "callspec", None)
        chosen = callspec.params if callspec is not None else {}
        pair = (chosen.get("store"), chosen.get("durability"))
        if pair in {("s3", "store"), ("local", "journal")}:
            item.add_marker(pytest.mark.slow)
