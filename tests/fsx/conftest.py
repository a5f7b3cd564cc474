"""The exerciser runs on the same mounts as everything else."""

import pytest

from tests.fuse.conftest import (
    _connections_can_be_aborted,
    make_store,
    mounter,
    store,
)
from tests.fuse.sampling import leave_crossed

__all__ = ["_connections_can_be_aborted", "make_store", "mounter", "store"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave half of what is crossed to `make proof`."""
    leave_crossed(items, {"test_fsx"})
