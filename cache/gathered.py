"""All bytes of a small file, put together in memory to be sent.

What the spool lacks of such a file comes from the base. To bring it into the spool
would be ten ways into a thread for an append, to make a file on the disk for as long
as the request takes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mountfs.cache.blocks import BlockCache
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.plan import PutWhole
from mountfs.cache.spool import HELD

GATHERED_MAX = 1 << 20
"""So large a file is put together in memory, if only parts of it were written."""


@asynccontextmanager
async def gathered(
    plan: PutWhole, dirty: DirtyFile, blocks: BlockCache
) -> AsyncIterator[bytes | None]:
    """Give the body all bytes of a file of which the spool has a part, in memory.

    None if that is not so, or if the spools and others like this have all the memory
    there is for them: then what is missing goes into the spool.
    """
    is_meant = plan.fills and plan.size <= GATHERED_MAX and not dirty.spool.is_on_disk
    if not is_meant or not HELD.take(plan.size):
        yield None
        return
    try:
        yield await _joined(plan, dirty, blocks)
    finally:
        HELD.give_back(plan.size)


async def _joined(plan: PutWhole, dirty: DirtyFile, blocks: BlockCache) -> bytes:
    assert dirty.base is not None
    whole = memoryview(bytearray(plan.size))
    for start, end in plan.fills:
        piece = await blocks.view(dirty.base, start, end - start)
        whole[start : start + len(piece)] = piece
    for start, end in dirty.extents:
        whole[start:end] = await dirty.spool.read(start, end - start)
    return bytes(whole)
