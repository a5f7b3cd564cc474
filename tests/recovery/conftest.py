"""Recovery is tested on the same mounts as everything else."""

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
