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
from tests.fuse.sampling import leave_crossed, leave_some
from tests.recovery.small_disk import small_disk, thin_disk

__all__ = [
    "_connections_can_be_aborted",
    "make_store",
    "mounter",
    "small_disk",
    "store",
    "thin_disk",
]

CROSSED = {"test_kill_at_random", "test_outcomes", "test_power_cut", "test_small_disk"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave half of what is crossed to `make proof`, and of the rest what it may."""
    leave_crossed(items, CROSSED)
    others = [item for item in items if item.path.stem not in CROSSED]
    leave_some(others, "tests/recovery/")
