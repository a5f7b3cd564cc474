"""What a dirty file reads as: the bytes of its spool over those of its base.

Nothing is changed here but by `fold`, where bytes are wanted that lie only in an upload
which is still open.
"""

from collections.abc import Awaitable, Callable

from mountfs.cache.blocks import BlockCache
from mountfs.cache.dirty import DirtyFile
from mountfs.storage.errors import NotFound, VersionChanged


class DirtyReads:
    """Reads dirty files. Reads come at any time, whoever changes the file."""

    def __init__(
        self, blocks: BlockCache, fold: Callable[[DirtyFile], Awaitable[None]]
    ) -> None:
        """`fold` makes an open upload the base of its file."""
        self._blocks = blocks
        self._fold = fold

    async def read(self, dirty: DirtyFile, offset: int, size: int) -> bytes:
        """Return the file's bytes as they are now, cut at its size.

        Raises `VersionChanged` or `NotFound` if bytes of the base are needed and the
        store does not have that version any more.
        """
        while True:
            end = min(offset + size, dirty.size)
            if offset >= end:
                return b""
            stream = dirty.stream
            if stream is not None and stream.punched.overlaps(offset, end):
                await self._fold_for_read(dirty, offset, end)
                continue
            base = dirty.base
            try:
                return await self._assemble(dirty, offset, end)
            except (NotFound, VersionChanged):
                # A commit or a rename may be putting another object under the file
                # just now: the store knows it before we do.
                async with dirty.changing:
                    if dirty.base is base:
                        raise

    async def _fold_for_read(self, dirty: DirtyFile, start: int, end: int) -> None:
        async with dirty.changing:
            stream = dirty.stream
            if stream is not None and stream.punched.overlaps(start, end):
                await self._fold(dirty)

    async def _assemble(self, dirty: DirtyFile, start: int, end: int) -> bytes:
        """Put the bytes together from spool and base, as of this moment."""
        spooled = dirty.extents.within(start, end)
        gaps = dirty.extents.gaps(start, max(start, min(end, dirty.base_size)))
        base, spool = dirty.base, dirty.spool
        if spooled == [(start, end)]:
            with dirty.readers.reading():
                return await spool.read(start, end - start)
        whole = bytearray(end - start)
        with dirty.readers.reading():
            for first, last in spooled:
                piece = await spool.read(first, last - first)
                whole[first - start : last - start] = piece
        for first, last in gaps:
            assert base is not None
            piece = await self._blocks.read(base, first, last - first)
            whole[first - start : last - start] = piece
        return bytes(whole)
