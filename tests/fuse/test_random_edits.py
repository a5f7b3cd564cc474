"""Random operations on one file, compared with a plain file after each of them."""

import os
import random
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import on_shared_stores
from tests.fuse.stores import OtherSide, Store

MIB = 1 << 20
SIZE_MAX = 24 * MIB
STEPS = 120
DEEDS = (
    *("write", "write", "write", "extend", "truncate"),
    *("reopen", "sync", "rename", "read", "read"),
)
SEEDS = [
    *range(3),
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30)),
]


class Twin:
    """A file in the mount and its model, which every step changes alike."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.chooser = random.Random(seed)
        self.model = bytearray()
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)

    def step(self) -> str:
        """Do something at random; return what it was."""
        name = self.chooser.choice(DEEDS)
        getattr(self, f"do_{name}")()
        return name

    def _patch(self, offset: int) -> None:
        size = self.chooser.choice([1, 100, 4096, 150_000, 3 * MIB])
        patch = self.chooser.randbytes(size)
        if len(self.model) < offset:
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset : offset + size] = patch
        assert os.pwrite(self.descriptor, patch, offset) == size

    def do_write(self) -> None:
        """Write somewhere inside."""
        self._patch(self.chooser.randrange(len(self.model) + 1))

    def do_extend(self) -> None:
        """Write at the end or behind it."""
        if len(self.model) < SIZE_MAX:
            self._patch(len(self.model) + self.chooser.choice([0, 0, 5, 6 * MIB]))

    def do_truncate(self) -> None:
        """Cut, or lengthen a little."""
        size = self.chooser.randrange(len(self.model) + 10_000)
        if self.chooser.random() < 0.5:
            os.ftruncate(self.descriptor, size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def do_sync(self) -> None:
        """Store it."""
        os.fsync(self.descriptor)

    def do_reopen(self) -> None:
        """Close, which stores it, and open again."""
        os.close(self.descriptor)
        self.descriptor = os.open(self.path, os.O_RDWR)

    def do_rename(self) -> None:
        """Give it another name while it is open."""
        target = self.path.with_name(f"file-{self.chooser.randrange(1000)}")
        self.path.rename(target)
        self.path = target

    def do_read(self) -> None:
        """Read a range, perhaps across the end."""
        offset = self.chooser.randrange(len(self.model) + 100)
        size = self.chooser.choice([1, 5000, MIB, SIZE_MAX])
        assert os.pread(self.descriptor, size, offset) == self.model[offset:][:size]

    def check(self) -> None:
        """Compare everything."""
        assert os.fstat(self.descriptor).st_size == len(self.model)
        assert os.pread(self.descriptor, 2 * SIZE_MAX, 0) == self.model


@on_shared_stores
@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_leave_what_a_plain_file_has(
    directory: Path, there: OtherSide, seed: int
) -> None:
    """Writes, holes, truncations, renames, syncs and reopenings in any order."""
    twin = Twin(directory / "file", seed)

    for _ in range(STEPS):
        twin.step()
    twin.check()
    os.close(twin.descriptor)

    assert twin.path.read_bytes() == twin.model
    assert there.read(twin.path.name) == twin.model
    assert [path.name for path in directory.iterdir()] == [twin.path.name]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_in_a_cache_of_the_smallest_size(
    mounter: Mounter, store: Store, seed: int
) -> None:
    """The same with a cache that holds less than the file."""
    mount = mounter(store, "--cache-size=16M")
    twin = Twin(mount.path / "file", seed)

    for _ in range(STEPS):
        twin.step()
    os.close(twin.descriptor)

    assert store.there.read(twin.path.name) == twin.model
    assert twin.path.read_bytes() == twin.model
