"""What mounting costs, and what is asked for in the background."""

import os
from pathlib import Path

import pytest

from tests.fuse import tried
from tests.fuse.conftest import Mounter
from tests.fuse.counting import Counted, CountingShim
from tests.fuse.stores import S3Objects, Store

MIB = 1 << 20
PROBES_MAX = 40


def test_first_mount_tries_the_store_out_once(
    counted_store: Store,
    counting_shim: CountingShim,
    mounter: Mounter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a store honours is tried out at the first mount and then remembered."""
    monkeypatch.delitem(tried.servers, counting_shim.endpoint_url)
    counting_shim.clear()
    mounter(counted_store).unmount()
    probes = counting_shim.requests(reason="probe")
    first = counting_shim.counts()
    counting_shim.clear()
    mounter(counted_store).unmount()

    assert 0 < len(probes) <= PROBES_MAX
    assert all("/.mountfs/" in each.key for each in probes if each.key)
    assert first == {"ListObjectsV2": 2}
    assert counting_shim.counts() == {"ListObjectsV2": 2}
    assert counting_shim.requests(reason="probe") == []
    assert counted_store.there.listing() == set()


def test_reading_in_sequence_asks_in_large_pieces(
    counted: Counted, cold: tuple[Path, S3Objects]
) -> None:
    """A large file is read in requests of several MiB, each byte once."""
    directory, there = cold
    there.write("f", os.urandom(64 * MIB))
    os.listdir(directory)

    with counted.requests() as asked, (directory / "f").open("rb") as file:
        while file.read(MIB):
            pass

    assert set(asked) == {"GetObject"}
    assert asked["GetObject"] <= 16


def test_head_of_a_large_file_fetches_little(
    counted: Counted, cold: tuple[Path, S3Objects]
) -> None:
    """Who reads the first bytes of a large file does not cause it to be fetched."""
    directory, there = cold
    there.write("f", bytes(64 * MIB))
    os.listdir(directory)

    with counted.requests() as asked, (directory / "f").open("rb") as file:
        os.read(file.fileno(), 512)

    assert asked == {"GetObject": 1}


def test_next_mount_does_not_ask_for_what_was_learnt(
    counted_store: Store, counting_shim: CountingShim, mounter: Mounter
) -> None:
    """What was learnt of objects is kept in the cache directory: one LIST is left."""
    there = counted_store.below("d")
    assert isinstance(there, S3Objects)
    for number in range(70):
        there.client.put_object(
            Bucket=there.bucket,
            Key=f"{there.prefix}{number}",
            Body=b"target",
            Metadata={"mode": str(0o120777 if number % 2 else 0o100640)},
        )
    mount = mounter(counted_store)
    first = {
        entry.name: entry.stat(follow_symlinks=False).st_mode
        for entry in os.scandir(mount.path / "d")
    }
    mount.unmount()
    mount = mounter(counted_store)
    os.listdir(mount.path)
    counting_shim.clear()
    second = {
        entry.name: entry.stat(follow_symlinks=False).st_mode
        for entry in os.scandir(mount.path / "d")
    }
    targets = {
        os.readlink(mount.path / "d" / str(number)) for number in range(1, 70, 2)
    }
    asked = counting_shim.counts()

    assert len(first) == 70
    assert second == first
    assert targets == {"target"}
    assert asked == {"ListObjectsV2": 1}
