"""The power goes under load: what was not synced is gone, nothing acknowledged is.

State and cache directory lie on a disk of their own. When the daemon has died, what the
disk has by then is what a machine would find after a power cut; the next mount works
with that. Then the store is read as it is, and through a mount that has only it.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.fakes.image_disk import ImageDisk, image_disk
from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import Mount
from tests.fuse.stores import Store
from tests.recovery.load import DURABILITIES, Load, kill, moments, pending_changes
from tests.recovery.program import MIB, SMALL_SIZES

AT_LENGTH = "AT_LENGTH" in os.environ
TRIES = 5
CUTS = 25 if AT_LENGTH else 2
"""For each store and durability."""
SIZES = (*SMALL_SIZES * 8, 9 * MIB)
pytestmark = [
    pytest.mark.fuse,
    pytest.mark.timeout(3600 if AT_LENGTH else 300),
    needs_root,
]


def test_a_power_cut_takes_what_was_not_synced(tmp_path: Path) -> None:
    """The tool itself: unsynced files, names and bytes vanish, synced ones stay.

    Somebody else may call sync(2) on this machine, so it may try a few times.
    """
    found: dict[str, bytes] = {}
    for number in range(TRIES):
        with image_disk(tmp_path / f"before-{number}") as disk:
            (disk.path / "old").write_bytes(b"old")
            (disk.path / "renamed").write_bytes(b"renamed")
            disk.sync()
            (disk.path / "unsynced").write_bytes(b"x" * 10_000)
            (disk.path / "old").write_bytes(b"new")
            (disk.path / "renamed").rename(disk.path / "other")
            found = found_after_a_cut(disk, tmp_path / f"after-{number}")
        if found == {"old": b"old", "renamed": b"renamed"}:
            break
    else:
        raise AssertionError(f"not synced and yet there: {found}")


def test_a_power_cut_leaves_what_was_synced(tmp_path: Path) -> None:
    """One fsync(2) is enough for a new file."""
    with image_disk(tmp_path / "before") as disk:
        with (disk.path / "synced").open("wb") as file:
            file.write(b"y" * 10_000)
            file.flush()
            os.fsync(file.fileno())
        found = found_after_a_cut(disk, tmp_path / "after")
        assert found["synced"] == b"y" * 10_000


def found_after_a_cut(disk: ImageDisk, base: Path) -> dict[str, bytes]:
    """Return what is on the disk after a power cut."""
    base.mkdir()
    after = disk.power_cut(base)
    try:
        files = [path for path in after.path.iterdir() if path.is_file()]
        return {path.name: path.read_bytes() for path in files}
    finally:
        after.close()


@pytest.mark.parametrize("durability", DURABILITIES)
def test_nothing_acknowledged_is_lost_by_a_power_cut(
    mounter: Mounter, store: Store, durability: str, tmp_path: Path
) -> None:
    """Each name ends old or new, whole, and new if it was told so; also where blocks
    of the cache were lost.
    """
    load = Load(sizes=SIZES)
    pending = 0
    fresh = mounter(store, at="fresh-0")
    load.prepare(fresh.path)
    fresh.unmount()

    for number, (seed, deeds) in enumerate(moments(11, CUTS), 1):
        base = tmp_path / f"cut-{number}"
        with image_disk(base) as disk:
            mount = mounted_on(disk, mounter, store, durability, at=f"mount-{number}")
            load.run_until(mount.path, seed, deeds, lambda: kill(mount))  # noqa: B023
            after = disk.power_cut(base)
        try:
            if durability == "journal":
                pending += pending_changes(after.path / "state")
            with mounted_on(
                after, mounter, store, durability, at=f"again-{number}"
            ) as again:
                load.check_mount(again, settle=False)
        finally:
            after.close()

        load.check_store(store)
        fresh = mounter(store, at=f"fresh-{number}")
        load.check_mount(fresh)
        fresh.unmount()
        shutil.rmtree(base)

    assert durability == "store" or pending > 0, "nothing waited when the power went"


def mounted_on(
    disk: ImageDisk, mounter: Mounter, store: Store, durability: str, at: str
) -> Mount:
    """Mount with state and cache on a disk."""
    return mounter(
        store,
        f"--durability={durability}",
        "--cache-size=48M",
        f"--state-dir={disk.path / 'state'}",
        f"--cache-dir={disk.path / 'cache'}",
        at=at,
    )
