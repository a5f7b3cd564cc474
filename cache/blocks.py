"""Clean bytes: fetched from the store, kept on the local disk, never stale.

A block belongs to one content version, so it is right for as long as it is kept;
what becomes of a name is not known here. Fetched blocks are answered from memory at
once and written to the disk behind the reader; blocks in demand stay in memory as
well (`memory_max` bytes), because a program reads a block in many small pieces and
each load from the disk checks it whole.

Invariants: a block is fetched by one task at a time and everybody else who wants it
waits for that one; a fetch is pinned to the content version, so two versions never
mix; fetches in flight, memory and disk are all bounded. Fetches run in the cache's
own nursery: a reader that goes away takes nothing from the others.
"""

import logging
from collections import deque
from collections.abc import Iterable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from mountfs.cache.activity import Activity
from mountfs.cache.ahead import AheadLedger
from mountfs.cache.blockfiles import Block, BlockFiles, BlockName
from mountfs.cache.blocknames import BlockNames
from mountfs.cache.budget import Budget
from mountfs.cache.directory import DirectoryLock
from mountfs.cache.extents import Extents, Range
from mountfs.cache.fetch import Fetch, Front, Requests, runs_of
from mountfs.cache.keeper import KEEP_WAIT_S, Keeper
from mountfs.cache.lanes import Lanes, Place
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.pace import Pace
from mountfs.cache.readahead import WHOLE_SHARE, ReadStream
from mountfs.cache.shelf import Shelf
from mountfs.cache.tokens import is_token
from mountfs.storage.errors import StoreError, Unreachable
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, because, current_reason
from mountfs.storage.types import Content, Object

log = logging.getLogger(__name__)

_AHEAD_BYTES_MAX = 48 << 20
"""So many bytes are on their way at once that no program waits for."""
_UNKEPT_MAX = 64 << 20
"""So many bytes have come and are not on the disk yet; then fetching waits for it."""
_WIDE_MAX = 64 << 20
"""So far ahead of a program that seems to read all of a file are we at once."""
_WIDE_S = 1.0
"""Unless one connection takes so long for it: then for what that brings."""
_CONNECTIONS = 4
"""Several connections bring so much more than one, at least, if the line allows."""
_FIRST_STEPS = (1, 1, 2, 2, 4, 4)
"""How many blocks the first requests for a wide window have: the smaller ones are here
first, and a program takes their bytes while the others come."""
_FEW = 8
"""A read of one in so many bytes of a block, or less, is one of a few bytes."""


class BlockCache:
    """Blocks of objects, in memory and on the local disk, fetched when missing."""

    def __init__(
        self,
        store: Storager,
        directory: Path,
        budget: Budget,
        *,
        block_size: int = 1 << 20,
        fetch_size_max: int = 8 << 20,
        fetches_max: int = 48,
        memory_max: int = 64 << 20,
        activity: Activity | None = None,
    ) -> None:
        self.activity = activity if activity is not None else Activity()
        self._store = store
        self._directory = directory
        self._budget = budget
        self._block_size = block_size
        self._blocks_per_fetch = max(1, fetch_size_max // block_size)
        # A reader that waits must find a place, so reading ahead never takes them all.
        self._lanes = Lanes(
            fetches_max, reserve=fetches_max // 4, ahead_bytes_max=_AHEAD_BYTES_MAX
        )
        self._ahead_max = 4 * fetches_max
        self._memory_max = memory_max
        self._pace = Pace()
        self._requests = Requests(self._pace, block_size)
        self.ledger = AheadLedger(self.activity)
        """What was fetched ahead of programs, and what became of it."""
        self.front: Front | None = None
        """Who has bytes that the store does not have yet."""
        self.metadata: MetadataCache | None = None
        """Who is told that an object is still the same when its bytes come."""
        self._ahead = 0
        self._begun: deque[tuple[Fetch, dict[BlockName, int]]] = deque()
        self._is_beginning = False
        self._unkept = 0
        self._names = BlockNames(block_size)
        self._fetches: dict[BlockName, Fetch] = {}
        self._shelf = Shelf(
            BlockFiles(directory / "blocks"),
            budget,
            self.ledger,
            memory_max=memory_max,
            is_coming=self._is_coming,
            activity=self.activity,
        )
        self._keeper = Keeper(self._shelf)
        self._nursery: trio.Nursery | None = None
        self._stack = AsyncExitStack()

    @property
    def size_max(self) -> int:
        """How many bytes are kept here at most, those of others included."""
        return self._budget.size_max

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(DirectoryLock(self._directory))
            await self._shelf.open()
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            self._keeper.nursery = self._nursery
            if self._budget.floor is not None:
                self._nursery.start_soon(self._budget.floor.watch, self._shelf)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        with trio.CancelScope(shield=True), trio.move_on_after(KEEP_WAIT_S):
            await self._keeper.keep_gathered()
        self._nursery.cancel_scope.cancel()
        await self._stack.aclose()
        self._nursery = None

    async def read(
        self,
        object: Object,
        offset: int,
        size: int,
        *,
        stream: ReadStream | None = None,
    ) -> bytes:
        """Return bytes of exactly this content version, cut at the object's size.

        Raises `VersionChanged` or `NotFound` when they are not here and the store
        has another version or none.
        """
        found = await self.view(object, offset, size, stream=stream)
        return found if isinstance(found, bytes) else bytes(found)

    async def view(
        self,
        object: Object,
        offset: int,
        size: int,
        *,
        stream: ReadStream | None = None,
    ) -> Block:
        """As `read`, but without a copy where the bytes are those of one block."""
        if object.version is None or object.size is None:
            content = await self._store.read(object.key, offset, size)
            return content.data
        if self.front is not None and self.front.holds(object.version):
            content = await self.front.read(
                object.key, offset, size, version=object.version
            )
            return content.data
        end = min(offset + size, object.size)
        if offset >= end:
            return b""
        if stream is not None:
            self._run_ahead(object, offset, end, stream)
        first, last = offset // self._block_size, (end - 1) // self._block_size
        if first == last and stream is not None and not stream.window:
            found = await self._look_into(object, offset, end)
            if found is not None:
                return found
        blocks = await self._blocks(object, first, last)
        if stream is not None and stream.window:
            # The kernel has it now; what lies ahead of the program is to stay.
            for index in range(first, end // self._block_size):
                self._shelf.give_way(self._names.of(object, index))
        start = offset - first * self._block_size
        if len(blocks) == 1:
            return memoryview(blocks[0])[start : start + end - offset]
        return memoryview(b"".join(blocks))[start : start + end - offset]

    async def warm(self, object: Object, offset: int, size: int) -> int:
        """Have bytes here as if they had just been read; return how many were fetched.

        Raises what `read` raises. Nothing is loaded from the disk.
        """
        if object.version is None or object.size is None:
            return 0
        if self.front is not None and self.front.holds(object.version):
            return 0
        end = min(offset + size, object.size)
        missing: list[int] = []
        waiting: list[tuple[int, Fetch]] = []
        for index in range(offset // self._block_size, -(-end // self._block_size)):
            name = self._names.of(object, index)
            if self._shelf.touch(name) or name in self._keeper:
                continue
            if (fetch := self._fetches.get(name)) is not None:
                waiting.append((index, fetch))
            else:
                missing.append(index)  # of memory alone as well: that is not kept
        waiting.extend(self._start_fetches(object, missing, is_ahead=False))
        for index, fetch in waiting:
            await self._wait_for(object, index, fetch)
        return sum(self._size_of(object, index) for index in missing)

    async def fetch_ahead(self, object: Object, size: int) -> Content | None:
        """Bring the first bytes of an object here before anybody wants them.

        Returns what the store answered, or None if it was not asked, or has failed.
        """
        if object.version is None or self.is_cached(object, 0, size):
            return None
        assert object.size is not None
        end = min(size, object.size)
        indexes = range(-(-end // self._block_size))
        missing = self._missing(object, indexes)
        started = self._start_fetches(object, missing, is_ahead=True)
        for _, fetch in started:
            await fetch.done.wait()
        fetches = [fetch for _, fetch in started]
        answer = fetches[0].answer
        if answer is None or any(fetch.error is not None for fetch in fetches):
            log.debug("%r was not fetched ahead: %s", object.key, fetches[0].error)
            return None
        found = {i: fetch.blocks[i] for i, fetch in started}
        is_all = len(found) == len(indexes)
        return Content(answer, b"".join(found[i] for i in indexes) if is_all else b"")

    def note_used(self, object: Object, size: int) -> None:
        """Note that a program wants the first bytes, though perhaps not from here."""
        if object.version is not None:
            for index in range(-(-size // self._block_size)):
                self.ledger.note_used(self._names.of(object, index))

    async def open(self, key: str) -> Object:
        """Return the newest object under a key, and keep its first block.

        One request, whatever the size. Raises what `Storager.read` raises.
        """
        source = self._store if self.front is None else self.front
        content = await source.read(key, 0, self._block_size)
        if is_token(content.object.version):
            return content.object  # it is here already
        if content.object.version is not None and content.data:
            await self._keeper.keep_behind(
                {self._names.of(content.object, 0): content.data}
            )
        return content.object

    async def put(self, object: Object, offset: int, data: bytes) -> None:
        """Offer bytes of an object; whole blocks of them are kept if there is room.

        Nothing is evicted for them.
        """
        await self._shelf.keep(self._blocks_of(object, offset, data), may_evict=False)

    def put_small(self, object: Object, data: bytes) -> None:
        """As `put`, for all bytes of a small object: they are on the disk before long.

        Many small files are written one after the other, and a thread for each would
        take as long as sending it.
        """
        self._keeper.offer(self._blocks_of(object, 0, data))

    def _blocks_of(
        self, object: Object, offset: int, data: bytes
    ) -> dict[BlockName, Block]:
        """Return the whole blocks among bytes of an object."""
        blocks = dict[BlockName, Block]()
        if object.version is None or object.size is None:
            return blocks
        end, whole = offset + len(data), memoryview(data)
        content = self._names.content(object)
        for index in range(-(-offset // self._block_size), -(-end // self._block_size)):
            start = index * self._block_size
            stop = min(start + self._block_size, object.size)
            if start < stop <= end:
                name = BlockName(content, index)
                blocks[name] = whole[start - offset : stop - offset]
        return blocks

    def want(self, object: Object, ranges: Iterable[Range]) -> None:
        """Ask for bytes that will be read in a moment, with few requests at once."""
        if object.version is None or object.size is None:
            return
        if self.front is not None and self.front.holds(object.version):
            return
        size = self._block_size
        indexes = sorted(
            {
                index
                for start, end in ranges
                for index in range(start // size, -(-min(end, object.size) // size))
            }
        )
        self._start_fetches(object, self._missing(object, indexes), is_ahead=False)

    def rekey(self, old: Object, new: Object) -> None:
        """Note that the same bytes have another key or version now."""
        self._names.rekey(old, new)

    def forget(self, object: Object) -> None:
        """Drop all blocks of a content version."""
        if object.version is None or self._nursery is None:
            return
        content = self._names.forget(object)
        self._keeper.forget(content)
        remove = self._shelf.forget(content)
        if remove is not None:
            self._nursery.start_soon(remove)

    def is_cached(self, object: Object, offset: int, size: int) -> bool:
        """Tell whether bytes are here, so that reading them asks nobody."""
        if object.version is None or object.size is None:
            return False
        if self.front is not None and self.front.holds(object.version):
            return True
        end = min(offset + size, object.size)
        if offset >= end:
            return True
        indexes = range(offset // self._block_size, -(-end // self._block_size))
        return not self._missing(object, indexes)

    def cached_ranges(self, object: Object) -> Extents:
        """Return which bytes are here; those on their way are not."""
        if object.version is None or not object.size:
            return Extents()
        if self.front is not None and self.front.holds(object.version):
            return Extents([(0, object.size)])
        content, size = self._names.content(object), self._block_size
        return Extents(
            (index * size, min((index + 1) * size, object.size))
            for index in sorted(
                self._shelf.indexes(content) | self._keeper.indexes(content)
            )
            if index * size < object.size
        )

    # Reading.

    async def _look_into(self, object: Object, offset: int, end: int) -> Block | None:
        """Return a few bytes for a program that jumps, if the disk alone has them.

        In a file that has no room in memory, all of their block would mostly be pushed
        out again before anybody wants more of it.
        """
        assert object.size is not None
        is_few = (end - offset) * _FEW <= self._block_size
        name = self._names.of(object, offset // self._block_size)
        if not is_few or object.size <= self._memory_max or self._is_coming(name):
            return None
        start = offset % self._block_size
        found = await self._shelf.look_into(name, start, end - offset)
        if found is not None:
            self.ledger.note_used(name)
            self.activity.block_hits += 1
        return found

    async def _blocks(self, object: Object, first: int, last: int) -> list[Block]:
        """Return consecutive blocks, from memory, the disk or the store."""
        found: dict[int, Block] = {}
        for index in range(first, last + 1):
            name = self._names.of(object, index)
            self.ledger.note_used(name)
            block = self._keeper.get(name) or await self._shelf.look_up(name)
            if block is not None and len(block) == self._size_of(object, index):
                found[index] = block
        self.activity.block_hits += len(found)
        self.activity.block_misses += last + 1 - first - len(found)
        # No await from here to the start of the fetches: nobody else starts the same.
        waiting: list[tuple[int, Fetch]] = []
        missing: list[int] = []
        for index in range(first, last + 1):
            fetch = self._fetches.get(self._names.of(object, index))
            if index in found:
                continue
            if fetch is not None:
                waiting.append((index, fetch))
            else:
                missing.append(index)
        waiting.extend(self._start_fetches(object, missing, is_ahead=False))
        for _, fetch in waiting:
            self._lanes.hurry(fetch.place)
        for index, fetch in waiting:
            found[index] = await self._wait_for(object, index, fetch)
        return [found[index] for index in range(first, last + 1)]

    async def _wait_for(self, object: Object, index: int, fetch: Fetch) -> Block:
        await fetch.done.wait()
        if fetch.error is not None and fetch.is_ahead:
            # Nobody asked for what was read ahead: ask for it now, in earnest.
            blocks = await self._blocks(object, index, index)
            return blocks[0]
        if fetch.error is not None:
            raise fetch.error
        return fetch.blocks[index]

    # Fetching.

    def _run_ahead(
        self, object: Object, offset: int, end: int, stream: ReadStream
    ) -> None:
        """Note a read, and fetch what its program will want next, if that shows."""
        is_first = not stream.window
        ahead = stream.advance(offset, end - offset, wide=self._wide(object))
        if ahead is not None:
            self.want(object, [(offset, end)])
            steps = _FIRST_STEPS if is_first else ()
            self._fetch_ahead(object, *ahead, steps=steps)
        elif not stream.window:
            self._read_around(object, offset, end, stream)

    def _wide(self, object: Object) -> int:
        """Return how far to run ahead of who seems to read all of an object."""
        assert object.size is not None
        if self.ledger.is_wasteful:
            return 0
        told = self._pace.size_within(_WIDE_S)
        wide = _WIDE_MAX if told is None else min(_WIDE_MAX, told)
        return min(wide, self._budget.size_max // 4)

    def _fetch_ahead(
        self, object: Object, start: int, end: int, *, steps: tuple[int, ...] = ()
    ) -> None:
        assert object.size is not None
        last = -(-min(end, object.size) // self._block_size)
        missing = self._missing(object, range(start // self._block_size, last))
        if self._ahead < self._ahead_max:
            is_wide = len(missing) > sum(steps)
            self._start_fetches(
                object, missing, is_ahead=True, steps=steps if is_wide else ()
            )

    def _read_around(
        self, object: Object, offset: int, end: int, stream: ReadStream
    ) -> None:
        """Fetch what a read that jumped wants, and its surroundings behind that."""
        assert object.size is not None
        if self.is_cached(object, offset, end - offset):
            stream.note_found()
            return
        # What would push other bytes out for the sake of a guess stays away.
        if object.size > self._budget.size_max // 2 or self.ledger.is_wasteful:
            return
        widest = self._blocks_per_fetch * self._block_size
        width = self._block_size
        while width * 2 <= min(widest, self._pace.free_size()):
            width *= 2
        share = WHOLE_SHARE
        if self._pace.is_known:
            share = _CONNECTIONS * self._pace.free_size()
        is_too_large = object.size > self._budget.size_max // 4
        whole = 0 if is_too_large or self.ledger.is_unproven else object.size
        around = stream.around(offset, width, size=whole, share=share)
        if around is None:
            return
        self.want(object, [(offset, end)])
        self._fetch_ahead(object, *around)

    def _missing(self, object: Object, indexes: Iterable[int]) -> list[int]:
        content = self._names.content(object)
        return [i for i in indexes if not self._is_here(BlockName(content, i))]

    def _is_coming(self, name: BlockName) -> bool:
        return name in self._fetches or name in self._keeper

    def _is_here(self, name: BlockName) -> bool:
        return name in self._shelf or name in self._keeper or name in self._fetches

    def _start_fetches(
        self,
        object: Object,
        missing: list[int],
        *,
        is_ahead: bool,
        steps: tuple[int, ...] = (),
    ) -> list[tuple[int, Fetch]]:
        """Start as few requests as the size limit allows; return who brings what.

        `steps` are smaller limits for the first ones.
        """
        reason = Reason.PREFETCH if is_ahead else current_reason()
        assert self._nursery is not None
        started: list[tuple[int, Fetch]] = []
        content = self._names.content(object)
        for first, count in runs_of(missing, self._blocks_per_fetch, steps):
            size = sum(self._size_of(object, first + i) for i in range(count))
            fetch = Fetch(object, first, count, Place(size, is_ahead), reason)
            # With the names as they are now: the object may get others meanwhile.
            names = {BlockName(content, first + i): first + i for i in range(count)}
            for name, index in names.items():
                self._fetches[name] = fetch
                started.append((index, fetch))
                if is_ahead:
                    self.ledger.note_fetched(name, self._size_of(object, index))
            self._ahead += is_ahead
            self._lanes.queue(fetch.place)
            self._begun.append((fetch, names))
        if self._begun and not self._is_beginning:
            self._is_beginning = True
            self._nursery.start_soon(self._run_begun)
        return started

    async def _run_begun(self) -> None:
        """Let fetches begin in this order, in which they will be read.

        Those of small objects, of which there are many, need no turn of the loop each.
        """
        assert self._nursery is not None
        while self._begun:
            fetch, names = self._begun.popleft()
            self._nursery.start_soon(self._run_fetch, fetch, names)
            if fetch.place.size < self._block_size:
                continue
            with trio.CancelScope(shield=True):  # each of them must end by itself
                await trio.lowlevel.checkpoint()
        self._is_beginning = False

    async def _run_fetch(self, fetch: Fetch, names: dict[BlockName, int]) -> None:
        with ExitStack() as place:
            place.callback(self._lanes.leave, fetch.place)
            await self._bring(fetch, names)
            if fetch.error is not None:
                return
            # Until a block is on the disk, its fetch is where it is found.
            blocks = {name: fetch.blocks[index] for name, index in names.items()}
            if self._unkept < _UNKEPT_MAX:
                place.close()
            self._unkept += fetch.place.size
            try:
                if fetch.is_ahead:
                    await self._keeper.keep_with_others(blocks)
                else:
                    await self._keeper.keep_behind(blocks)
            finally:
                self._unkept -= fetch.place.size
            for name in names:
                del self._fetches[name]

    async def _bring(self, fetch: Fetch, names: dict[BlockName, int]) -> None:
        """Send the request of a fetch and note its outcome."""
        try:
            await self._lanes.wait(fetch.place)
            with self._keeper.giving_way(), because(fetch.reason):
                source = self._store if self.front is None else self.front
                fetch.blocks = await self._requests.send(fetch, source, self.metadata)
        except StoreError as error:
            fetch.error = error
        except Exception as error:
            log.exception("a fetch of %r failed in an unforeseen way", names)
            fetch.error = error
        finally:
            if not fetch.blocks and fetch.error is None:
                fetch.error = Unreachable("the cache is being closed")
            self._ahead -= fetch.is_ahead
            if fetch.error is not None:
                for name in names:
                    self.ledger.note_failed(name)
                    del self._fetches[name]  # whoever comes now asks again
            fetch.done.set()

    def _size_of(self, object: Object, index: int) -> int:
        assert object.size is not None
        return min(self._block_size, object.size - index * self._block_size)
