"""Blocks that are here: in memory, and on the disk as far as the budget has room.

Blocks in demand stay in memory, because a program reads a block in many small pieces
and each load from the disk checks it whole. Those that were not used for longest go
first, from either; from the disk with those that came with them (a run). Who fetches
blocks, and whether they are right, is not known here.

Runs may overlap, since a block can come from two sides at once (a reader fetches it
while a writer offers it). Invariants: what the budget counts as clean is on the disk,
or about to be; a run on the disk is where at least one of its blocks is looked for.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

import trio

from mountfs.cache.activity import Activity
from mountfs.cache.ahead import AheadLedger
from mountfs.cache.blockfiles import Block, BlockFiles, BlockName, Run, runs_in
from mountfs.cache.budget import Budget
from mountfs.cache.spool import on_disk


class Shelf:
    """What is kept of the blocks of a cache."""

    def __init__(
        self,
        files: BlockFiles,
        budget: Budget,
        ledger: AheadLedger,
        *,
        memory_max: int,
        is_coming: Callable[[BlockName], bool],
        activity: Activity | None = None,
    ) -> None:
        """`is_coming` tells whether a fetch still holds a block."""
        self._files = files
        self._budget = budget
        self._ledger = ledger
        self._memory_max = memory_max
        self._is_coming = is_coming
        self._activity = activity if activity is not None else Activity()
        self._memory: OrderedDict[BlockName, Block] = OrderedDict()
        self._memory_size = 0
        self._disk: OrderedDict[Run, int] = OrderedDict()
        self._runs: dict[bytes, dict[int, Run]] = {}
        """Of each content: which run on the disk a block is in."""

    def __contains__(self, name: BlockName) -> bool:
        return name in self._memory or self._run_of(name) is not None

    def indexes(self, content: bytes) -> set[int]:
        """Return which blocks of some bytes are here."""
        found = {name.index for name in self._memory if name.content == content}
        return found | self._runs.get(content, {}).keys()

    @property
    def in_memory(self) -> Iterable[Block]:
        """The blocks in memory."""
        return self._memory.values()

    async def open(self) -> None:
        """Find what earlier mounts have kept, and evict what is too much."""
        for found in await on_disk(self._files.scan):
            self._budget.force_clean(found.size)
            await self._note(found.run, found.size)
        self._budget.register_clean(self)
        over = self._budget.clean + self._budget.dirty - self._budget.size_max
        if over > 0:
            await self.reclaim(over)

    def touch(self, name: BlockName) -> bool:
        """Note that a block is in demand; tell whether it is on the disk."""
        run = self._run_of(name)
        if run is not None:
            self._disk.move_to_end(run)
        return run is not None

    def give_way(self, name: BlockName) -> None:
        """Note that a block was read, after all before it: others are wanted more.

        Its buffer goes as a whole, so that is meant when the last block of it is read.
        """
        block = self._memory.get(name)
        after = self._memory.get(BlockName(name.content, name.index + 1))
        if block is None or _is_shared(block, after):
            return
        for each in list(self._sharing(name)):
            self._memory.move_to_end(each, last=False)

    async def look_up(self, name: BlockName) -> Block | None:
        """Return a block, or None if it is not here, or damaged."""
        block = self._memory.get(name)
        if block is not None:
            self._memory.move_to_end(name)
            self.touch(name)
            return block
        run = self._run_of(name)
        if run is None:
            return None
        self._disk.move_to_end(run)
        block = await on_disk(self._files.load, run, name.index)
        if block is None:
            if run in self._disk:
                await self._remove([run], self._unnote(run))
            return None
        self.remember(name, block)
        return block

    async def look_into(self, name: BlockName, offset: int, size: int) -> Block | None:
        """Return some bytes of a block that the disk alone has; None if not so.

        No more of the block is loaded, or put into memory.
        """
        run = self._run_of(name)
        if run is None or name in self._memory:
            return None
        self._disk.move_to_end(run)
        return await on_disk(self._files.load_part, run, name.index, offset, size)

    async def keep(
        self, blocks: Mapping[BlockName, Block], *, may_evict: bool = True
    ) -> None:
        """Keep blocks in memory, and on the disk if there is room."""
        # On their way to the disk they count as clean, and yet nobody can evict them.
        with self._budget.freeing():
            await self._keep(blocks, may_evict=may_evict)

    async def _keep(
        self, blocks: Mapping[BlockName, Block], *, may_evict: bool
    ) -> None:
        reserved: dict[BlockName, Block] = {}
        for name, block in blocks.items():
            self.remember(name, block)
            if self._run_of(name) is None and await self._budget.reserve_clean(
                len(block), may_evict=may_evict
            ):
                reserved[name] = block
        if not reserved:
            return
        runs = runs_in(reserved)
        try:
            with trio.CancelScope(shield=True):
                await on_disk(self._files.store_all, runs)
        except OSError:
            # A cache that cannot be written is a slow cache, not a broken mount.
            await self._remove(runs, sum(map(len, reserved.values())))
            return
        for run, parts in runs.items():
            size = sum(map(len, parts))
            if run in self._disk:
                self._budget.release_clean(size)  # somebody was faster
            else:
                await self._note(run, size)

    def remember(self, name: BlockName, block: Block) -> None:
        """Keep a block in memory; those that were not used for longest make room."""
        self._drop_from_memory(name)
        self._memory[name] = block
        self._memory_size += len(block)
        while self._memory_size > self._memory_max:
            oldest = next(iter(self._memory))
            # As long as one view of a buffer is here, all of the buffer is.
            for each in list(self._sharing(oldest)):
                self._drop_from_memory(each)

    async def reclaim(self, size: int) -> int:
        """Evict the blocks that were not used for longest; return the bytes freed."""
        runs: list[Run] = []
        freed = 0
        while freed < size and self._disk:
            run = next(iter(self._disk))
            freed += self._unnote(run)
            runs.append(run)
        if runs:
            self._activity.evicted_blocks += sum(run.count for run in runs)
            self._activity.evicted_bytes += freed
            await self._remove(runs, freed)
        return freed

    def forget(self, content: bytes) -> Callable[[], Awaitable[None]] | None:
        """Forget all blocks of some bytes; return what removes them, if there are any.

        That is to be called, and awaited, at once.
        """
        for name in [name for name in self._memory if name.content == content]:
            self._drop_from_memory(name)
        runs = set(self._runs.get(content, {}).values())
        size = sum([self._unnote(run) for run in runs])
        return (lambda: self._remove(runs, size)) if runs else None

    async def _remove(self, runs: Iterable[Run], size: int) -> None:
        with self._budget.freeing():
            with trio.CancelScope(shield=True):  # the room is free only when it is
                await on_disk(self._files.remove, list(runs))
            self._budget.release_clean(size)

    def _run_of(self, name: BlockName) -> Run | None:
        runs = self._runs.get(name.content)
        return None if runs is None else runs.get(name.index)

    async def _note(self, run: Run, size: int) -> None:
        """Note what is on the disk; what nobody would look into any more is removed."""
        self._disk[run] = size
        runs = self._runs.setdefault(run.content, {})
        before = {runs[index] for index in run.indexes if index in runs}
        runs.update(dict.fromkeys(run.indexes, run))
        replaced = before.difference(
            *([runs.get(i) for i in b.indexes] for b in before)
        )
        if replaced:
            await self._remove(replaced, sum([self._unnote(old) for old in replaced]))

    def _unnote(self, run: Run) -> int:
        size = self._disk.pop(run)
        runs = self._runs[run.content]
        for index in run.indexes:
            if runs.get(index) != run:
                continue  # it is in another one that came later
            del runs[index]
            name = BlockName(run.content, index)
            if name not in self._memory:
                self._ledger.note_gone(name)
        if not runs:
            del self._runs[run.content]
        return size

    def _sharing(self, name: BlockName) -> Iterator[BlockName]:
        """Yield a block in memory, and its neighbours that came with it."""
        yield name
        block = self._memory[name]
        for step in (-1, 1):
            beside = BlockName(name.content, name.index + step)
            while _is_shared(block, self._memory.get(beside)):
                yield beside
                beside = BlockName(name.content, beside.index + step)

    def _drop_from_memory(self, name: BlockName) -> None:
        block = self._memory.pop(name, None)
        if block is not None:
            self._memory_size -= len(block)
            if self._run_of(name) is None and not self._is_coming(name):
                self._ledger.note_gone(name)


def _is_shared(block: Block, other: Block | None) -> bool:
    """Tell whether two blocks are views of one buffer."""
    if isinstance(block, memoryview) and isinstance(other, memoryview):
        return block.obj is other.obj
    return False
