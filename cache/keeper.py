"""Bringing blocks to the disk behind those who read them, and in their way as little.

Requests for bytes go first, then programs that take what those brought, and the disk
last. So large blocks wait in memory for a pause, up to a number of bytes, above which
the oldest go to the disk at once. A disk that hangs costs nobody more than a moment:
from then on blocks are kept in memory alone. Small objects are collected for a moment,
since a hop to a thread for each would take as long as sending it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from mountfs.cache.blockfiles import Block, BlockName
from mountfs.cache.shelf import Shelf

_POLITE_S = 0.25
_PAUSE_S = 0.03
"""So long the disk lets requests go first, and then programs take what they brought."""
POLITE_MAX = 32 << 20
"""So many bytes wait for that at most: they are held in memory, and who fetches more
would have to wait for them before long.
"""
_SMALL = 128 << 10
_LARGE = 2 << 20
"""With less than that nobody is in the way."""
KEEP_WAIT_S = 1.0
"""How long a read waits for room, or for the disk, at most."""
GATHER_S = 0.1
"""So long small objects wait for others; meanwhile they are here all the same."""
GATHERED_MAX = 4 << 20
"""How many bytes of small objects wait for the disk at most, and as many go there."""
_LATE_MAX = 4
"""So many writes to a disk that hangs are waited for in the background."""


@dataclass(slots=True)
class _Keeping:
    """Blocks on their way to the disk."""

    blocks: Mapping[BlockName, Block]
    done: trio.Event = field(default_factory=trio.Event)
    is_late: bool = False


class Keeper:
    """The way of blocks to a shelf, in a nursery that its owner opens."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._late = 0
        self._large_keeps = trio.Semaphore(2)
        self._under_way = 0
        self._is_quiet = trio.Event()
        self._polite: OrderedDict[trio.CancelScope, int] = OrderedDict()
        """The sizes of what waits for a pause, the oldest first."""
        self._polite_size = 0
        self._gathered: dict[BlockName, Block] = {}
        self._gathered_size = 0
        self._on_the_way: dict[BlockName, Block] = {}
        self._offered: set[BlockName] = set()
        """For which of those that were gathered nothing is to be evicted."""
        self._is_gathering = False
        self.nursery: trio.Nursery | None = None

    # --- what waits for the disk --------------------------------------------------

    def __contains__(self, name: BlockName) -> bool:
        return name in self._gathered or name in self._on_the_way

    def get(self, name: BlockName) -> Block | None:
        """Return a block that was gathered and is not on the shelf's disk yet."""
        return self._gathered.get(name) or self._on_the_way.get(name)

    def indexes(self, content: bytes) -> set[int]:
        """Return which blocks of some bytes were gathered."""
        names = (*self._gathered, *self._on_the_way)
        return {name.index for name in names if name.content == content}

    def forget(self, content: bytes) -> None:
        """Drop what was gathered of some bytes."""
        for name in [name for name in self._gathered if name.content == content]:
            self._gathered_size -= len(self._gathered.pop(name))
            self._offered.discard(name)
        for name in [name for name in self._on_the_way if name.content == content]:
            del self._on_the_way[name]

    # --- keeping --------------------------------------------------------------------

    def offer(self, blocks: Mapping[BlockName, Block]) -> None:
        """Keep the blocks of a small object, on the disk before long if there is room.

        Nothing is evicted for them.
        """
        if self._gather(blocks):
            self._offered |= blocks.keys()

    async def keep_with_others(self, blocks: Mapping[BlockName, Block]) -> None:
        """As `keep_behind`, of what no program waits for: if small, with others."""
        if sum(map(len, blocks.values())) > _SMALL or not self._gather(blocks):
            await self.keep_behind(blocks)

    def _gather(self, blocks: Mapping[BlockName, Block]) -> bool:
        """Keep small blocks in memory, and before long on the disk; tell if so."""
        assert self.nursery is not None
        for name, block in blocks.items():
            self._shelf.remember(name, block)
        size = sum(map(len, blocks.values()))
        if not size or self._gathered_size + size > GATHERED_MAX:
            return False  # the disk is slow
        self._gathered |= blocks
        self._gathered_size += size
        if not self._is_gathering:
            self._is_gathering = True
            self.nursery.start_soon(self._keep_soon)
        return True

    async def _keep_soon(self) -> None:
        try:
            while self._gathered:
                await trio.sleep(GATHER_S)
                await self.keep_gathered()
        finally:
            self._is_gathering = False

    async def keep_gathered(self) -> None:
        """Keep now what was gathered."""
        blocks, self._gathered, self._gathered_size = self._gathered, {}, 0
        offered, self._offered = self._offered, set()
        self._on_the_way = blocks
        try:
            fetched = {n: block for n, block in blocks.items() if n not in offered}
            await self._shelf.keep(fetched)
            rest = {n: block for n, block in blocks.items() if n in offered}
            await self._shelf.keep(rest, may_evict=False)
        finally:
            self._on_the_way = {}

    async def keep_behind(self, blocks: Mapping[BlockName, Block]) -> None:
        """Keep blocks; return when they are, or when the disk is slow.

        Whoever calls holds a slot for requests, or a program that waits. A disk that
        hangs may take a moment of that and no more; while it does, blocks are kept in
        memory alone.
        """
        if self._late >= _LATE_MAX:
            for name, block in blocks.items():
                self._shelf.remember(name, block)
            return
        assert self.nursery is not None
        keeping = _Keeping(blocks)
        self.nursery.start_soon(self._keep_all, keeping)
        with trio.move_on_after(KEEP_WAIT_S) as scope:
            await keeping.done.wait()
        if scope.cancelled_caught and not keeping.done.is_set():
            keeping.is_late = True
            self._late += 1

    async def _keep_all(self, keeping: _Keeping) -> None:
        try:
            for name, block in keeping.blocks.items():
                self._shelf.remember(name, block)
            size = sum(map(len, keeping.blocks.values()))
            if size < _LARGE:
                await self._shelf.keep(keeping.blocks)
                return
            await self._wait_for_a_pause(size)
            async with self._large_keeps:
                await self._shelf.keep(keeping.blocks)
        finally:
            keeping.done.set()
            self._late -= keeping.is_late

    # --- giving way -----------------------------------------------------------------

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Let large blocks wait while the body, a request for bytes, is under way."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._is_quiet.set()
                self._is_quiet = trio.Event()

    async def _wait_for_a_pause(self, size: int) -> None:
        with trio.move_on_after(_POLITE_S) as scope:
            self._polite[scope] = size
            self._polite_size += size
            self._end_politeness()
            try:
                await trio.sleep(_PAUSE_S)
                while self._under_way:
                    await self._is_quiet.wait()
                    await trio.sleep(_PAUSE_S)
            finally:
                self._polite_size -= self._polite.pop(scope, 0)

    def _end_politeness(self) -> None:
        """Let the oldest wait no longer while too much does."""
        while self._polite_size > POLITE_MAX:
            scope, size = self._polite.popitem(last=False)
            self._polite_size -= size
            scope.cancel()
