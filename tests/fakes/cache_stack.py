"""The cache over any store, with limits so small that every path is short."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio.testing

from mountfs.backends.memory import MEMORY_CAPABILITIES
from mountfs.cache.blocks import BlockCache
from mountfs.cache.budget import Budget
from mountfs.cache.conflicts import Policy
from mountfs.cache.journal import Journal
from mountfs.cache.spool import DISK_THREADS
from mountfs.cache.uploader import Sending
from mountfs.cache.writeback import WriteBack
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Capabilities, MultipartLimits

TINY_LIMITS = MultipartLimits(part_size_min=16, part_size_max=200, parts_max=200)
PUT_SIZE_MAX = 30
PART_SIZE = 16
BLOCK_SIZE = 16


async def settled() -> None:
    """Wait until nothing goes on, in the disk's threads either."""
    await trio.testing.wait_all_tasks_blocked()
    while DISK_THREADS.borrowed_tokens:
        await trio.testing.wait_all_tasks_blocked(0.001)


def tiny_store(**changes: Any) -> Capabilities:
    """Return the capabilities of a key store whose parts are a few bytes."""
    changed: dict[str, Any] = {
        "multipart": TINY_LIMITS,
        "append": False,
        "attributes": True,
    } | changes
    return replace(MEMORY_CAPABILITIES, **changed)


@dataclass(slots=True)
class Stack:
    """The parts of one cache."""

    store: Storager
    budget: Budget
    blocks: BlockCache
    journal: Journal
    writeback: WriteBack


@asynccontextmanager
async def open_stack(
    store: Storager,
    directory: Path,
    *,
    size_max: int = 1 << 20,
    put_size_max: int = PUT_SIZE_MAX,
    part_size: int = PART_SIZE,
    block_size: int = BLOCK_SIZE,
    conflict: Policy = Policy.FAIL,
) -> AsyncIterator[Stack]:
    """Open a cache below a directory; the same directory again is the next mount."""
    budget = Budget(size_max)
    async with (
        await Journal.open(directory / "state" / "journal.sqlite") as journal,
        BlockCache(
            store,
            directory / "cache",
            budget,
            block_size=block_size,
            fetch_size_max=4 * block_size,
            memory_max=8 * block_size,
        ) as blocks,
        WriteBack(
            store,
            blocks,
            journal,
            budget,
            directory / "state" / "spool",
            sending=Sending(put_size_max=put_size_max, part_size=part_size),
            conflict=conflict,
        ) as writeback,
    ):
        yield Stack(store, budget, blocks, journal, writeback)
