"""Random operations on one file, each compared with a shadow of it in memory.

    python tests/fsx/exerciser.py --directory /mnt --seed 1 --count 100000

The same seed gives the same operations. It reads, writes, appends, cuts, lengthens,
reads and writes through shared memory maps, syncs, drops cached pages, closes and
opens, renames and empties the file. It is a process of its own because a program that
takes a page fault in a mount that hangs cannot be killed, and it imports nothing of
ours.

It tells how far it is on standard output, a line at a time: `at N`, `remount` (it has
nothing open, and goes on when it reads a line), `done N NAME`. At a difference it
prints the last operations and where the bytes differ, keeps the shadow in the file
that `--shadow` names, and ends with exit code 1.
"""

import argparse
import ctypes
import mmap
import os
import random
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

PAGE = mmap.PAGESIZE
MS_SYNC = 4
LOGGED = 60
CHECK_EVERY = 2000
TELL_EVERY = 500
MAP_FAILED = ctypes.c_void_p(-1).value

WEIGHTS = {
    "read": 200,
    "write": 200,
    "append": 50,
    "map_read": 120,
    "map_write": 150,
    "truncate": 80,
    "drop": 20,
    "sync": 10,
    "reopen": 15,
    "rename": 5,
    "empty": 2,
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Difference(Exception):
    """The file is not what the shadow says."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large the file and one operation may become."""

    file_size: int = 256 << 10
    operation_size: int = 64 << 10


class Map:
    """A shared map of a range. Unlike Python's own it holds no second descriptor,
    whose end would be a close(2) that the file system sees.
    """

    def __init__(
        self, descriptor: int, offset: int, size: int, protection: int
    ) -> None:
        begin = offset - offset % PAGE
        self._length = offset + size - begin
        address = _libc.mmap(
            None, self._length, protection, mmap.MAP_SHARED, descriptor, begin
        )
        if address == MAP_FAILED:
            raise OSError(ctypes.get_errno(), "mmap")
        self._base: int = address
        self.address = self._base + offset - begin

    def sync(self) -> None:
        """msync(2) with MS_SYNC."""
        if _libc.msync(self._base, self._length, MS_SYNC):
            raise OSError(ctypes.get_errno(), "msync")

    def close(self) -> None:
        """munmap(2)."""
        if _libc.munmap(self._base, self._length):
            raise OSError(ctypes.get_errno(), "munmap")


class Exerciser:
    """One file and its shadow."""

    def __init__(self, directory: Path, seed: int, bounds: Bounds) -> None:
        self.path = directory / f"fsx-{seed}"
        self.shadow = bytearray()
        self.log: deque[str] = deque(maxlen=LOGGED)
        self._bounds = bounds
        self._chooser = random.Random(seed)
        # Bytes to write: a slice of it is much cheaper than fresh ones.
        self._pool = random.Random(seed).randbytes(bounds.operation_size * 4)
        self._names = [f"fsx-{seed}{suffix}" for suffix in ("", "-b", " c", ".d")]
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT)

    def step(self) -> None:
        """Do one operation and look at the size."""
        (name,) = self._chooser.choices(list(WEIGHTS), list(WEIGHTS.values()))
        getattr(self, f"do_{name}")()
        size = os.fstat(self._descriptor).st_size
        if size != len(self.shadow):
            raise Difference(f"the size is {size} instead of {len(self.shadow)}")

    def check(self) -> None:
        """Compare everything."""
        self._note("check")
        found = os.pread(self._descriptor, len(self.shadow) + PAGE, 0)
        self._compare(found, 0, len(self.shadow) + PAGE)

    def close(self) -> None:
        """Close the file."""
        self._note("close")
        os.close(self._descriptor)

    def open(self, flags: int = 0) -> None:
        """Open it again, and compare everything."""
        self._note("open")
        self._descriptor = os.open(self.path, os.O_RDWR | flags)
        self.check()

    def do_read(self) -> None:
        """pread(2), perhaps across the end."""
        offset, size = self._range(len(self.shadow) + PAGE)
        self._note("read", offset, size)
        self._compare(os.pread(self._descriptor, size, offset), offset, size)

    def do_write(self) -> None:
        """pwrite(2), perhaps behind the end."""
        offset, size = self._range(self._bounds.file_size)
        patch = self._patch(size)
        self._note("write", offset, size)
        written = os.pwrite(self._descriptor, patch, offset)
        if written != size:
            raise Difference(f"{written} of {size} bytes were written")
        self._put(offset, patch)

    def do_append(self) -> None:
        """write(2) through a second descriptor with O_APPEND, which is closed."""
        size = self._chooser.randrange(1, 2 * PAGE)
        if len(self.shadow) + size > self._bounds.file_size:
            return
        patch = self._patch(size)
        self._note("append", len(self.shadow), size)
        second = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(second, patch)
        finally:
            os.close(second)
        self._put(len(self.shadow), patch)

    def do_map_read(self) -> None:
        """Read through a map; behind the end its last page has zeros."""
        if not self.shadow:
            return
        offset, size = self._range(len(self.shadow))
        size = min(size, len(self.shadow) - offset)
        size = size + -(offset + size) % PAGE  # to the end of the page
        self._note("map_read", offset, size)
        mapped = Map(self._descriptor, offset, size, mmap.PROT_READ)
        try:
            found = ctypes.string_at(mapped.address, size)
        finally:
            mapped.close()
        inside = len(self.shadow) - offset
        self._compare(found[:inside], offset, size)
        if any(found[inside:]):
            raise Difference("the page that holds the end goes on with other bytes")

    def do_map_write(self) -> None:
        """Write through a shared map, after the file was lengthened if need be."""
        offset, size = self._range(self._bounds.file_size)
        patch = self._patch(size)
        is_synced = self._chooser.random() < 0.1
        self._note("map_write+msync" if is_synced else "map_write", offset, size)
        if offset + size > len(self.shadow):
            os.ftruncate(self._descriptor, offset + size)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        mapped = Map(self._descriptor, offset, size, protection)
        try:
            ctypes.memmove(mapped.address, patch, size)
            if is_synced:
                mapped.sync()
        finally:
            mapped.close()
        self._put(offset, patch)

    def do_truncate(self) -> None:
        """Cut or lengthen, by descriptor or by name."""
        size = self._chooser.randrange(self._bounds.file_size)
        if self._chooser.random() < 0.5:  # more often a little
            size = max(0, len(self.shadow) + self._chooser.randrange(-PAGE, PAGE))
            size = min(size, self._bounds.file_size)
        self._note("truncate", size)
        if self._chooser.random() < 0.5:
            os.ftruncate(self._descriptor, size)
        else:
            os.truncate(self.path, size)
        del self.shadow[size:]
        self.shadow.extend(bytes(size - len(self.shadow)))

    def do_drop(self) -> None:
        """Have the kernel forget the pages that are clean."""
        self._note("drop")
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def do_sync(self) -> None:
        """fsync(2)."""
        self._note("sync")
        os.fsync(self._descriptor)

    def do_reopen(self) -> None:
        """Close and open."""
        self.close()
        self.open()

    def do_rename(self) -> None:
        """Give the open file another name."""
        target = self.path.with_name(self._chooser.choice(self._names))
        self._note("rename", target.name)
        self.path.rename(target)
        self.path = target

    def do_empty(self) -> None:
        """Close, and open with O_TRUNC."""
        self.close()
        self.shadow.clear()
        self.open(os.O_TRUNC)

    def _range(self, end: int) -> tuple[int, int]:
        """Return an offset and a size, often at the borders of pages."""
        size = self._chooser.randrange(1, self._bounds.operation_size)
        if self._chooser.random() < 0.5:
            size = self._chooser.randrange(1, PAGE)
        offset = self._chooser.randrange(max(1, end))
        if self._chooser.random() < 0.25:
            offset -= offset % PAGE
        if self._chooser.random() < 0.1:
            size += -(offset + size) % PAGE
        size = min(size, max(1, self._bounds.file_size - offset))
        return offset, size

    def _patch(self, size: int) -> bytes:
        start = self._chooser.randrange(len(self._pool) - size + 1)
        return self._pool[start : start + size]

    def _put(self, offset: int, patch: bytes) -> None:
        if len(self.shadow) < offset:
            self.shadow.extend(bytes(offset - len(self.shadow)))
        self.shadow[offset : offset + len(patch)] = patch

    def _compare(self, found: bytes, offset: int, size: int) -> None:
        expected = self.shadow[offset : offset + size]
        if found == expected:
            return
        if len(found) != len(expected):
            raise Difference(f"{len(found)} bytes were read, not {len(expected)}")
        wrong = [at for at in range(len(found)) if found[at] != expected[at]]
        zeros = sum(1 for at in wrong if not found[at])
        raise Difference(
            f"{len(wrong)} bytes differ between {offset + wrong[0]} and"
            f" {offset + wrong[-1]}, of which {zeros} are read as zero"
        )

    def _note(self, *words: object) -> None:
        self.log.append(" ".join(str(word) for word in words))


def tell(*words: object) -> None:
    """Write a line that whoever runs this waits for."""
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def run(exerciser: Exerciser, count: int, remount_every: int) -> None:
    """Do so many operations."""
    for number in range(1, count + 1):
        exerciser.step()
        if number % CHECK_EVERY == 0:
            exerciser.check()
        if number % TELL_EVERY == 0:
            tell("at", number)
        if remount_every and number % remount_every == 0:
            exerciser.close()
            tell("remount")
            if not sys.stdin.readline():
                raise SystemExit("nobody has mounted it again")
            exerciser.open()
    exerciser.check()
    exerciser.close()


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--shadow", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size-max", type=int, default=256 << 10)
    parser.add_argument("--remount-every", type=int, default=0)
    arguments = parser.parse_args()
    bounds = Bounds(arguments.size_max, max(2 * PAGE, arguments.size_max // 4))
    exerciser = Exerciser(arguments.directory, arguments.seed, bounds)
    try:
        run(exerciser, arguments.count, arguments.remount_every)
    except (Difference, OSError) as problem:
        tell("difference", repr(problem))
        for line in exerciser.log:
            tell(" ", line)
        arguments.shadow.write_bytes(exerciser.shadow)
        return 1
    arguments.shadow.write_bytes(exerciser.shadow)
    tell("done", arguments.count, exerciser.path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
