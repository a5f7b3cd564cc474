"""SIGKILL at random moments under load: nothing acknowledged is lost, nothing is torn.

After each kill the next mount finishes what was left, and unmounting waits for it. Then
the store is read twice: as it is, and through a mount that has nothing but the store.
"""

import os
import shutil

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.stores import Store
from tests.recovery.load import DURABILITIES, Load, kill, moments, pending_changes

AT_LENGTH = "AT_LENGTH" in os.environ
KILLS = 1000 if AT_LENGTH else 12
"""Over all stores and durabilities."""
RUNS = (4 if AT_LENGTH else 2) * len(DURABILITIES)
pytestmark = [pytest.mark.fuse, pytest.mark.timeout(7200 if AT_LENGTH else 300)]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_nothing_acknowledged_is_lost(
    mounter: Mounter, store: Store, durability: str
) -> None:
    """Four programs at work; each name ends old or new, whole, and new if it was told
    so.
    """
    option = f"--durability={durability}"
    load = Load()
    mount = mounter(store, option, at="fresh-0")
    load.prepare(mount.path)
    pending = 0

    for number, (seed, deeds) in enumerate(moments(7, KILLS // RUNS), 1):
        load.run_until(mount.path, seed, deeds, lambda: kill(mount))  # noqa: B023
        if durability == "journal":
            pending += pending_changes(mount.state_dir)
        again = mounter(store, option, at=mount.path.parent.name)
        again.announce("cleaning up")
        again.unmount()

        load.check_store(store)
        shutil.rmtree(mount.path.parent)
        mount = mounter(store, option, at=f"fresh-{number}")
        load.check_mount(mount)

    assert durability == "store" or pending > 0, "nothing waited when it was killed"
