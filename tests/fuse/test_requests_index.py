"""What the attribute index saves and costs (`--virtual=all`), counted on the wire."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.counting import Counted, CountingShim
from tests.fuse.mounting import run
from tests.fuse.stores import S3Objects, Store

OPTIONS = ("--virtual=all", "--ttl=3600")
INDEX_KEY = "/.mountfs/index/"


@pytest.fixture
def indexed(
    counted_store: Store, counting_shim: CountingShim, mounter: Mounter
) -> Counted:
    """A mount of its own, with every gate open."""
    mount = mounter(counted_store, *OPTIONS)
    return Counted(mount, counted_store, counting_shim)


def put_many(there: S3Objects, count: int) -> None:
    """Make files with attributes, as s3fs does."""

    def put(number: int) -> None:
        there.client.put_object(
            Bucket=there.bucket,
            Key=f"{there.prefix}{number:05}",
            Metadata={"mode": str(0o100640), "uid": "7", "mtime": "12.5"},
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(count)))


def index_requests(counted: Counted) -> dict[str, int]:
    """Return what was asked for in the background, all of it about indexes."""
    found = counted.shim.requests(reason="index")
    assert all(INDEX_KEY in f"/{each.key}" for each in found)
    return dict(counted.shim.counts(reason="index"))


@pytest.mark.parametrize(
    "count",
    [1001, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_cold_listing_is_one_request_for_all_attributes(
    counted_store: Store, counting_shim: CountingShim, mounter: Mounter, count: int
) -> None:
    """`ls -l` of many files costs the pages of the listing and one GET, and no HEAD."""
    there = counted_store.below("d")
    assert isinstance(there, S3Objects)
    put_many(there, count)
    first = mounter(counted_store, *OPTIONS, life_s=600)
    learnt = run("ls", "-l", first.path / "d", timeout=600)
    first.unmount()

    mount = mounter(counted_store, *OPTIONS, at="cold", life_s=600)
    os.listdir(mount.path)
    counted = Counted(mount, counted_store, counting_shim)
    with counted.requests() as asked:
        told = run("ls", "-l", mount.path / "d", timeout=300)

    assert told == learnt
    assert told.count("-rw-r-----") == count
    assert asked == {"ListObjectsV2": -(-count // 1000), "GetObject": 1}


def test_writing_costs_no_program_anything(indexed: Counted) -> None:
    """A file is one PUT as ever; its index is written in the background, for many."""
    directory = indexed.path / "d"
    directory.mkdir()
    with indexed.requests() as asked:
        for number in range(50):
            (directory / str(number)).write_bytes(b"bytes")
    indexed.mount.unmount()

    assert asked == {"PutObject": 50}
    background = index_requests(indexed)
    assert set(background) <= {"GetObject", "PutObject"}
    assert background["PutObject"] <= 25
    assert background.get("GetObject", 0) <= 2


def test_removing_a_tree_removes_its_indexes(indexed: Counted) -> None:
    """Nothing of the index of a directory outlives the directory."""
    for each in range(3):
        (indexed.path / f"d{each}").mkdir()
        (indexed.path / f"d{each}" / "file").write_bytes(b"bytes")
    run("rm", "-r", *(indexed.path / f"d{each}" for each in range(3)))
    indexed.mount.unmount()

    left = {key for key in indexed.store.there.listing() if "index/" in key}
    assert len(left) <= 1, "that of the root"


def test_root_is_one_write(indexed: Counted) -> None:
    """The attributes of the root are one conditional PUT of its index."""
    with indexed.requests() as asked:
        indexed.path.chmod(0o711)
    with indexed.requests() as asked_again:
        os.utime(indexed.path, ns=(5, 7))

    assert asked + asked_again == {"PutObject": 2}


def test_index_is_written_with_a_condition(indexed: Counted) -> None:
    """Two mounts never lose each other's changes: each write names what it replaces."""
    indexed.path.chmod(0o711)
    indexed.path.chmod(0o755)
    puts = [
        each
        for each in indexed.shim.requests("PutObject")
        if INDEX_KEY in f"/{each.key}"
    ]

    assert puts
    assert "if-none-match" in puts[0].headers or "if-match" in puts[0].headers
    assert "if-match" in puts[-1].headers


def attributes_of(path: Path) -> dict[str, int]:
    """List a directory as `ls -l` does; return the modes."""
    with os.scandir(path) as entries:
        return {each.name: each.stat(follow_symlinks=False).st_mode for each in entries}


def chmod_there(there: S3Objects, name: str, mode: int) -> None:
    """Change the metadata of an object as s3fs does: same bytes, same ETag.

    LastModified has whole seconds, so it is done until that shows the change.
    """
    where = {"Bucket": there.bucket, "Key": there.prefix + name}
    before = there.client.head_object(Bucket=there.bucket, Key=where["Key"])
    after = before
    while after["LastModified"] == before["LastModified"]:
        there.client.copy_object(
            Bucket=there.bucket,
            Key=where["Key"],
            CopySource={"Bucket": there.bucket, "Key": where["Key"]},
            Metadata={"mode": str(mode)},
            MetadataDirective="REPLACE",
        )
        after = there.client.head_object(Bucket=there.bucket, Key=where["Key"])
    assert after["ETag"] == before["ETag"]


def test_foreign_changes_are_seen_and_nothing_else_is_asked(
    counted_store: Store, counting_shim: CountingShim, mounter: Mounter
) -> None:
    """New bytes, deletes, and a change of metadata that leaves the ETag."""
    there = counted_store.below("d")
    assert isinstance(there, S3Objects)
    put_many(there, 50)
    first = mounter(counted_store, *OPTIONS)
    assert set(attributes_of(first.path / "d").values()) == {0o100640}
    first.unmount()
    chmod_there(there, "00001", 0o100600)
    there.write("00002", b"other bytes, and no attributes")
    there.delete("00003")

    mount = mounter(counted_store, *OPTIONS, at="cold")
    os.listdir(mount.path)
    counted = Counted(mount, counted_store, counting_shim)
    with counted.requests() as asked:
        found = attributes_of(mount.path / "d")

    assert asked == {"ListObjectsV2": 1, "GetObject": 1, "HeadObject": 2}
    assert "00003" not in found
    assert found.pop("00001") == 0o100600
    assert found.pop("00002") == 0o100644
    assert set(found.values()) == {0o100640}


def test_two_mounts_write_one_index(
    counted_store: Store, counting_shim: CountingShim, mounter: Mounter
) -> None:
    """What both have made at the same time, a third one knows from the index."""
    mounts = [mounter(counted_store, *OPTIONS, at=name) for name in ("one", "other")]
    (mounts[0].path / "d").mkdir()

    def fill(number: int) -> None:
        path = mounts[number % 2].path / "d" / str(number)
        path.write_bytes(b"bytes")
        path.chmod(0o600)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(60)))
    for mount in mounts:
        mount.unmount()

    cold = mounter(counted_store, *OPTIONS, at="cold")
    os.listdir(cold.path)
    counted = Counted(cold, counted_store, counting_shim)
    with counted.requests() as asked:
        found = attributes_of(cold.path / "d")

    assert found == {str(number): 0o100600 for number in range(60)}
    assert asked == {"ListObjectsV2": 1, "GetObject": 1}
