"""The exerciser runs on the same mounts as everything else."""

from tests.fuse.conftest import (
    _connections_can_be_aborted,
    make_store,
    mounter,
    store,
)

__all__ = ["_connections_can_be_aborted", "make_store", "mounter", "store"]
