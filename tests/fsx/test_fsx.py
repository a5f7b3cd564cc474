"""Random operations, shared maps among them, against a shadow; the mount is changed
for a new one in between, and the store has the same bytes in the end.
"""

import os
import shutil

import pytest

from tests.fsx.runs import Run, exercise
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount
from tests.fuse.stores import Store

COUNT = 10_000 if "AT_LENGTH" in os.environ else 1_000
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))]
DURABILITIES = ("store", "journal")
pytestmark = [pytest.mark.fuse, pytest.mark.timeout(3600)]  # the watchdog is nearer


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_differ_nowhere(
    mounter: Mounter, store: Store, seed: int, durability: str
) -> None:
    """Every read, and the object in the end, has the bytes of the shadow."""
    option = f"--durability={durability}"
    mounts = [mounter(store, option)]

    def again(mount: Mount) -> Mount:
        mount.unmount()
        shutil.rmtree(mount.cache_dir)  # what is read comes from the store
        mounts.append(mounter(store, option))
        return mounts[-1]

    run = Run(seed, COUNT, remount_every=COUNT // 3)

    name, expected = exercise(run, mounts[0], again)

    fresh = again(mounts[-1])
    assert store.there.read(name) == expected
    assert (fresh.path / name).read_bytes() == expected
