"""Files larger than the cache: they stream in both directions."""

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import on_disk_stores
from tests.fuse.mounting import Mount, run
from tests.fuse.stores import PlainFiles, S3Objects, Store

pytestmark = on_disk_stores

MIB = 1 << 20
SIZES = [
    pytest.param(150, 48, id="150M"),
    pytest.param(
        10 << 10,
        1 << 10,
        id="10G",
        marks=[pytest.mark.slow, pytest.mark.timeout(3600)],
    ),
]


def pieces(count: int) -> Iterator[bytes]:
    """Return so many MiB that do not repeat, the same in each run."""
    seed = random.Random(5).randbytes(MIB)
    for number in range(count):
        yield number.to_bytes(8, "big") + seed[8:]


def write_pieces(path: Path, count: int) -> str:
    """Write a file piece by piece; return the checksum of it all."""
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for piece in pieces(count):
            assert file.write(piece) == len(piece)
            digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize(("size_mib", "cache_mib"), SIZES)
def test_file_larger_than_the_cache(
    mounter: Mounter, store: Store, size_mib: int, cache_mib: int
) -> None:
    """A new file three times the size of the cache is written and read back."""
    mount = mounter(store, f"--cache-size={cache_mib}M", life_s=3000)

    expected = write_pieces(mount.path / "big", size_mib)

    told = run("sha256sum", mount.path / "big", timeout=1500)
    assert told.split()[0] == expected
    assert (mount.path / "big").stat().st_size == size_mib * MIB
    assert sum_of_other_side(store, "big") == expected
    used = run("du", "-sm", mount.cache_dir, mount.state_dir).split()
    assert int(used[0]) + int(used[2]) <= cache_mib + 8


def sum_of_other_side(store: Store, key: str) -> str:
    """Return the checksum of an object, read in pieces."""
    digest = hashlib.sha256()
    if isinstance(store.there, PlainFiles):
        return run("sha256sum", store.there.root / key, timeout=600).split()[0]
    assert isinstance(store.there, S3Objects)
    answer = store.there.client.get_object(
        Bucket=store.there.bucket, Key=store.there.prefix + key
    )
    with answer["Body"] as body:
        while piece := body.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def test_large_file_is_read_from_a_fresh_mount(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount]
) -> None:
    """What was streamed out is read with an empty cache, from end to end and at random
    places at the same time.
    """
    mount = mounter(store)
    expected = write_pieces(mount.path / "big", 70)

    again = remounter(mount).path
    with (again / "big").open("rb", buffering=0) as file:
        last = os.pread(file.fileno(), MIB, 69 * MIB)
        middle = os.pread(file.fileno(), 100, 33 * MIB - 50)

    assert last[:8] == (69).to_bytes(8, "big")
    assert middle[50:58] == (33).to_bytes(8, "big")
    assert run("sha256sum", again / "big").split()[0] == expected


def test_edits_of_a_streamed_file_while_it_is_written(
    mounter: Mounter, store: Store
) -> None:
    """A header that is written last, over a part that is already on its way."""
    mount = mounter(store, "--cache-size=64M")

    with (mount.path / "big").open("wb", buffering=0) as file:
        for piece in pieces(80):
            file.write(piece)
        os.pwrite(file.fileno(), b"HEADER", 0)
        os.pwrite(file.fileno(), b"MIDDLE", 40 * MIB)

    with (mount.path / "big").open("rb", buffering=0) as file:
        for number, piece in enumerate(pieces(80)):
            expected = bytearray(piece)
            if number in (0, 40):
                expected[:6] = b"HEADER" if number == 0 else b"MIDDLE"
            assert file.read(MIB) == expected, number


def test_dirty_files_together_larger_than_the_cache(
    mounter: Mounter, store: Store
) -> None:
    """Several open files may be larger than the cache together."""
    mount = mounter(store, "--cache-size=48M")
    flags = os.O_WRONLY | os.O_CREAT
    files = [os.open(mount.path / f"f{number}", flags) for number in range(4)]

    for piece in pieces(25):
        for file in files:
            assert os.write(file, piece) == MIB
    for file in files:
        os.close(file)

    for number in range(4):
        with (mount.path / f"f{number}").open("rb") as reading:
            assert all(reading.read(MIB) == piece for piece in pieces(25))
