"""Cached blocks as files that prove themselves when they are read.

A file holds blocks that came together and follow each other (a run): the more of them,
the less the kernel has to do for each. It is named by their content (a digest of key,
content version and block size), the first of them and their number, and carries all
that, and of each the length and the checksums of its parts, so that a few bytes can be
had without all of the block. A torn, foreign or damaged file therefore gives nothing,
whatever happened to the directory. Nothing is synced: a lost block is fetched again.
Everything here blocks; call it in a worker thread.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">8s16sQI")
_PARTS = 4
"""A block has so many parts of the same size; the last may be smaller.

With more of them a few bytes would cost less, and all that is written more turns.
"""
_ENTRY = struct.Struct(f">I{_PARTS}I")
"""Of each block: its length and the checksums of its parts."""
_MAGIC = b"mountfs3"
_SHARDS = 16
_PIECE = 512 << 10
"""So much is written at a time: for more the kernel takes larger pages, which come from
memory that nobody had lately, and that takes it up to five times as long.
"""
_DIGESTS_MAX = 4096
"""So many names are remembered: each is asked for several times in a moment."""
RUN_MAX = 8
"""So many blocks are in one file at most: they are evicted together."""

Block = bytes | memoryview
"""Bytes of one block. A fetch brings several, each of which is a view of its bytes."""


@dataclass(frozen=True, slots=True)
class BlockName:
    """Which block of which bytes."""

    content: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Run:
    """Which blocks are in one file."""

    content: bytes
    first: int
    count: int

    @property
    def indexes(self) -> range:
        """Which blocks of the content these are."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A file that was there when the directory was opened. `size` is of its blocks."""

    run: Run
    size: int
    used_ns: int


def runs_in(blocks: Mapping[BlockName, Block]) -> dict[Run, list[Block]]:
    """Group blocks into runs, as they are to be written."""
    found: list[list[BlockName]] = []
    for name in blocks:
        last = found[-1] if found else None
        if (
            last is not None
            and len(last) < RUN_MAX
            and last[-1] == BlockName(name.content, name.index - 1)
        ):
            last.append(name)
        else:
            found.append([name])
    return {
        Run(names[0].content, names[0].index, len(names)): [blocks[n] for n in names]
        for names in found
    }


@lru_cache(maxsize=_DIGESTS_MAX)
def content_digest(key: str, version: str, block_size: int) -> bytes:
    """Return the name under which the bytes of one content version are kept."""
    digest = blake2b(digest_size=16)
    for text in (key, version):
        raw = text.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    digest.update(block_size.to_bytes(8, "big"))
    return digest.digest()


class BlockFiles:
    """The files of a block cache below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_stuck = False

    def scan(self) -> list[FoundRun]:
        """Make the directory ready; return what lies there, longest unused first."""
        found: list[FoundRun] = []
        for shard in range(_SHARDS):
            path = self._directory / f"{shard:x}"
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.scandir(path) as entries:
                for entry in entries:
                    run = _found(entry)
                    if run is None:
                        self._remove(Path(entry.path))
                    else:
                        found.append(run)
        found.sort(key=lambda each: each.used_ns)
        return found

    def store_all(self, runs: "Mapping[Run, Sequence[Block]]") -> None:
        """Write blocks. After an error some of them may be there."""
        for run, blocks in runs.items():
            self.store(run, blocks)

    def store(self, run: Run, blocks: "Sequence[Block]") -> None:
        """Write a run; a crash in the midst leaves a file that lacks some blocks."""
        head = [_HEADER.pack(_MAGIC, run.content, run.first, run.count)]
        head += [_entry_of(block) for block in blocks]
        path = self._path(run)
        try:
            file = path.open("wb", buffering=0)
        except FileNotFoundError:
            # Somebody deleted the directory, which is everybody's right.
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = path.open("wb", buffering=0)
        with file:
            for piece in _pieces(b"".join(head), blocks):
                rest = piece
                while rest:
                    rest = rest[file.write(rest) :]

    def load(self, run: Run, index: int) -> bytes | None:
        """Return a block of a run, or None if it is not there, or is not that block."""
        return self.load_part(run, index, 0, None)

    def load_part(
        self, run: Run, index: int, offset: int, size: int | None
    ) -> bytes | None:
        """As `load`, but only some bytes of a block; no others are looked at."""
        try:
            with self._path(run).open("rb", buffering=0) as file:
                place = _place_in(file.read(_head_size(run)), run, index)
                if place is None or offset + (size or 0) > place.size:
                    return None
                stop = place.size if size is None else offset + size
                start, end = place.parts_around(offset, stop)
                found = os.pread(file.fileno(), end - start, place.start + start)
        except OSError:
            return None
        if not place.has_proven(start, found, end - start):
            return None
        return found[offset - start : stop - start]

    def damaged(self) -> list[Path]:
        """Return the files that are no blocks, or not the ones they are named after."""
        paths = sorted(self._directory.glob("?/*"))
        return [path for path in paths if self._is_damaged(path)]

    def _is_damaged(self, path: Path) -> bool:
        run = _run_named(path.name)
        if run is None or path != self._path(run):
            return True
        is_whole = all(self.load(run, index) is not None for index in run.indexes)
        return not is_whole and path.exists()

    def remove(self, runs: Iterable[Run]) -> None:
        """Delete runs; those that are gone already do not matter."""
        for run in runs:
            self._remove(self._path(run))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except IsADirectoryError:
            return  # not ours; the directory stays as somebody left it
        except OSError as error:
            # The disk may have become read-only: no reason to stop serving, nor to say
            # so for each block.
            is_first, self._is_stuck = not self._is_stuck, True
            if is_first:
                log.warning("the block %s cannot be removed: %s", path, error)
            return
        self._is_stuck = False

    def _path(self, run: Run) -> Path:
        shard = f"{run.content[0] >> 4:x}"
        name = f"{run.content.hex()}.{run.first:x}+{run.count:x}"
        return self._directory / shard / name


def _pieces(head: bytes, blocks: "Sequence[Block]") -> Iterator[memoryview]:
    """Cut a file into what is written at a time."""
    if len(blocks) == 1 and len(blocks[0]) <= _PIECE:
        yield memoryview(head + blocks[0])
        return
    yield memoryview(head)
    for block in blocks:
        view = memoryview(block)
        yield from (view[at : at + _PIECE] for at in range(0, len(view), _PIECE))


def _head_size(run: Run) -> int:
    return _HEADER.size + run.count * _ENTRY.size


def _entry_of(block: Block) -> bytes:
    checksums = _checksums(block, _part_size(len(block)))
    return _ENTRY.pack(len(block), *checksums, *[0] * (_PARTS - len(checksums)))


def _part_size(size: int) -> int:
    return max(1, -(-size // _PARTS))


def _checksums(block: Block, part_size: int) -> list[int]:
    view = memoryview(block)
    return [
        zlib.crc32(view[at : at + part_size]) for at in range(0, len(view), part_size)
    ]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block is in a file, and what proves its parts."""

    start: int
    size: int
    checksums: Sequence[int]

    def parts_around(self, start: int, stop: int) -> tuple[int, int]:
        """Return where the parts begin and end that have some bytes of the block."""
        part = _part_size(self.size)
        return start // part * part, min(-(-stop // part) * part, self.size)

    def has_proven(self, start: int, found: bytes, size: int) -> bool:
        """Tell whether these are `size` bytes, the parts from `start` on."""
        first = start // _part_size(self.size)
        checksums = _checksums(found, _part_size(self.size))
        expected = self.checksums[first : first + len(checksums)]
        return len(found) == size and checksums == list(expected)


def _place_in(head: bytes, run: Run, index: int) -> _Place | None:
    """Return where a block is in a file of this head."""
    if len(head) < _head_size(run):
        return None
    if _HEADER.unpack_from(head) != (_MAGIC, run.content, run.first, run.count):
        return None
    entries = list(_ENTRY.iter_unpack(head[_HEADER.size :]))
    before = entries[: index - run.first]
    start = len(head) + sum(size for size, *_ in before)
    size, *checksums = entries[index - run.first]
    return _Place(start, size, checksums)


def _run_named(name: str) -> Run | None:
    content, _, place = name.partition(".")
    first, _, count = place.partition("+")
    if len(content) != 32:
        return None
    try:
        run = Run(bytes.fromhex(content), int(first, 16), int(count, 16))
    except ValueError:
        return None
    return run if 0 < run.count <= RUN_MAX else None


def _found(entry: "os.DirEntry[str]") -> FoundRun | None:
    run = _run_named(entry.name)
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    if run is None or status.st_size < _head_size(run):
        return None
    return FoundRun(run, status.st_size - _head_size(run), status.st_mtime_ns)
