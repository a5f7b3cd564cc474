"""A few seconds of what `bench/soak.py` does for ten minutes."""

import os
from collections.abc import Iterator

import pytest

from tests.fakes.cutting_proxy import CuttingProxy
from tests.fakes.s3_servers import S3Server, bucket
from tests.fuse.conftest import Mounter, s3_store
from tests.fuse.stores import Store
from tests.recovery.load import DURABILITIES, Load, leave
from tests.recovery.soaking import CACHE_SIZE, beyond, soak

SECONDS = 60.0 if "AT_LENGTH" in os.environ else 5.0
pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]


@pytest.fixture
def proxy(seaweedfs_server: S3Server) -> Iterator[CuttingProxy]:
    """A proxy that fails requests when it is told to."""
    with CuttingProxy(seaweedfs_server) as proxy:
        yield proxy


# With the journal a renamed file makes a conflict with itself now and then: at length.
SLOW = {"journal": pytest.mark.slow}


@pytest.mark.parametrize(
    "durability",
    [pytest.param(each, marks=SLOW.get(each, ())) for each in DURABILITIES],
)
def test_what_a_mount_takes_is_bounded(
    mounter: Mounter, proxy: CuttingProxy, durability: str
) -> None:
    """Under mixed load and faults nobody sees an error, nothing is lost, and memory,
    descriptors, threads, journal and cache stay within the bounds.
    """
    with bucket(proxy.upstream) as name:
        behind = s3_store(proxy.server, name, prefix="soak")
        direct = s3_store(proxy.upstream, name, prefix="soak")
        store = Store(behind.url, behind.options, direct.other_side)
        options = (f"--durability={durability}", f"--cache-size={CACHE_SIZE}")
        mount = mounter(store, *options)
        mount.announce(r"^\S+ \S+ WARNING ")
        load = Load()
        load.prepare(mount.path)

        soaked = soak(mount, load, proxy, SECONDS)
        code = leave(mount)

        assert beyond(soaked.peak) == [], str(soaked)
        assert soaked.faults > 0, "nothing went wrong"
        assert code == 0, mount.log()
        load.check_store(store)
        load.check_mount(mounter(store, at="fresh"))
