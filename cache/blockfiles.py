"""Cached blocks as files: one file for each, which proves itself when it is read.

A block is named by its content (a digest of key, content version and block size) and
its index, and carries both, its length and a checksum. A torn, foreign or damaged
file is therefore no block, whatever happened to the directory. Nothing is synced: a
lost block is fetched again. Everything here blocks; call it in a worker thread.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">8s16sQQI")
_MAGIC = b"mountfs1"
_SHARDS = 16


@dataclass(frozen=True, slots=True)
class BlockName:
    """Which block of which bytes."""

    content: bytes
    index: int


@dataclass(frozen=True, slots=True)
class FoundBlock:
    """A block file that was there when the directory was opened."""

    name: BlockName
    size: int
    used_ns: int


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

    def scan(self) -> list[FoundBlock]:
        """Make the directory ready; return what lies there, longest unused first."""
        found: list[FoundBlock] = []
        for shard in range(_SHARDS):
            path = self._directory / f"{shard:x}"
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.scandir(path) as entries:
                for entry in entries:
                    block = _found(entry)
                    if block is None:
                        self._remove(Path(entry.path))
                    else:
                        found.append(block)
        found.sort(key=lambda block: block.used_ns)
        return found

    def store_all(self, blocks: "Mapping[BlockName, bytes | memoryview]") -> None:
        """Write blocks. After an error some of them may be there."""
        for name, block in blocks.items():
            self.store(name, block)

    def store(self, name: BlockName, block: "bytes | memoryview") -> None:
        """Write one block; a crash in the midst leaves a file that is no block."""
        header = _HEADER.pack(
            _MAGIC, name.content, name.index, len(block), zlib.crc32(block)
        )
        path = self._path(name)
        try:
            file = path.open("wb", buffering=0)
        except FileNotFoundError:
            # Somebody deleted the directory, which is everybody's right.
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = path.open("wb", buffering=0)
        with file:
            written = os.writev(file.fileno(), [header, block])
            if written < len(header) + len(block):
                file.write(block[written - len(header) :])

    def load(self, name: BlockName) -> memoryview | None:
        """Return a block, or None if the file is gone or is not that block."""
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return None
        if len(content) < _HEADER.size:
            return None
        magic, digest, index, size, checksum = _HEADER.unpack_from(content)
        block = memoryview(content)[_HEADER.size :]
        if magic != _MAGIC or digest != name.content or index != name.index:
            return None
        if size != len(block) or checksum != zlib.crc32(block):
            return None
        return block

    def damaged(self) -> list[Path]:
        """Return the files that are no blocks, or not the ones they are named after."""
        found = []
        for path in sorted(self._directory.glob("?/*")):
            content, _, index = path.name.partition(".")
            try:
                name = BlockName(bytes.fromhex(content), int(index, 16))
            except ValueError:
                found.append(path)
                continue
            if path != self._path(name) or (self.load(name) is None and path.exists()):
                found.append(path)
        return found

    def remove(self, names: Iterable[BlockName]) -> None:
        """Delete blocks; those that are gone already do not matter."""
        for name in names:
            self._remove(self._path(name))

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

    def _path(self, name: BlockName) -> Path:
        shard = f"{name.content[0] >> 4:x}"
        return self._directory / shard / f"{name.content.hex()}.{name.index:x}"


def _found(entry: "os.DirEntry[str]") -> FoundBlock | None:
    content, dot, index = entry.name.partition(".")
    if len(content) != 32 or not dot:
        return None
    try:
        name = BlockName(bytes.fromhex(content), int(index, 16))
        status = entry.stat(follow_symlinks=False)
    except (ValueError, OSError):
        return None
    if status.st_size < _HEADER.size:
        return None
    return FoundBlock(name, status.st_size - _HEADER.size, status.st_mtime_ns)
