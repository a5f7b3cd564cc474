"""What the files of the benchmark hold: made, not kept, and the same everywhere."""

import functools
import hashlib
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
SMALL = 8 * 1024
PAGE = 4 * 1024


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work the rows do."""

    big: int = 256 * MIB
    small: int = 400
    tree: int = 300
    stats: int = 8000
    random: int = 200
    edits: int = 20
    appends: int = 100
    transactions: int = 30

    def quick(self) -> "Sizes":
        """Return a quarter of it: shows the same shape, not the same seconds."""
        return Sizes(self.big // 4, 100, 75, 2000, 50, 5, 25, 10)

    def tiny(self) -> "Sizes":
        """Return as little as shows that a row works."""
        return Sizes(8 * MIB, 8, 6, 40, 5, 1, 4, 2)


@functools.cache
def _block() -> bytes:
    return random.Random(1).randbytes(MIB)


def big_block(index: int) -> bytes:
    """Return the index-th MiB of a big file."""
    return index.to_bytes(16, "big") + _block()[16:]


@functools.cache
def big_digest(size: int) -> str:
    """Return the digest of a big file of this size."""
    digest = hashlib.sha256()
    for index in range(size // MIB):
        digest.update(big_block(index))
    return digest.hexdigest()


def small_content(name: str, size: int = SMALL) -> bytes:
    """Return the content of a small file."""
    return random.Random(name).randbytes(size)


def small_names(count: int) -> list[str]:
    """Return the names of small files."""
    return [f"f{index:06}" for index in range(count)]


def tree_files(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a tree: 20 to a directory, 100 bytes to 30 KB each."""
    for index in range(count):
        name = f"d{index // 20:02}/f{index:03}.txt"
        size = random.Random(f"size {name}").randrange(100, 30_000)
        yield name, random.Random(name).randbytes(size // 2).hex().encode()


def make_tree(directory: Path, count: int) -> None:
    """Write the tree below a directory."""
    for name, content in tree_files(count):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def make_tar(path: Path, tree: Path) -> None:
    """Pack a tree."""
    with tarfile.open(path, "w") as archive:
        archive.add(tree, arcname="tree")
