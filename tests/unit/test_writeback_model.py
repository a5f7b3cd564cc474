"""Dirty files against a bytearray: whatever is done, the bytes are right."""

import os
import tempfile
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mountfs.backends.memory import MemoryStore
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.journal import Journal
from mountfs.storage.errors import QuotaExceeded, ServiceFailed, StoreError
from mountfs.storage.types import (
    ABSENT,
    NO_METADATA,
    Capabilities,
    Condition,
    Metadata,
    Object,
)
from tests.fakes.cache_stack import Stack, open_stack, tiny_store
from tests.fakes.faulty import Fault, FaultyStore

SIZE_MAX = 400

OFFSETS = st.integers(0, SIZE_MAX)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), OFFSETS, st.integers(1, 120)),
        st.tuples(st.just("append"), st.integers(1, 150), st.just(0)),
        st.tuples(st.just("append"), st.integers(50, 150), st.just(0)),
        st.tuples(st.just("read"), OFFSETS, st.integers(0, 150)),
        st.tuples(st.just("truncate"), OFFSETS, st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
        st.tuples(st.just("punch"), st.integers(1, 200), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
        st.tuples(st.just("rename"), st.just(0), st.just(0)),
        st.tuples(st.just("fault"), st.integers(0, 7), st.booleans()),
    ),
    min_size=1,
    max_size=20,
)
# A stream under way, some of it punched: what random steps alone rarely reach.
STREAMING = st.sampled_from(
    [
        [],
        [("append", 60, 0), ("punch", 30, 0)],
        [("append", 60, 0), ("append", 60, 0), ("punch", 200, 0)],
        [("append", 60, 0), ("write", 2, 3), ("append", 40, 0), ("punch", 200, 0)],
        [("append", 60, 0), ("fault", 1, 0), ("append", 90, 0), ("punch", 50, 0)],
        [("append", 60, 0), ("reopen", 0, 0), ("write", 30, 5), ("truncate", 50, 0)],
    ]
)
STORES = st.sampled_from(
    [
        tiny_store(),
        tiny_store(multipart_copy=False),
        tiny_store(multipart_copy=False, append=True),
        tiny_store(multipart=None, multipart_copy=False),
    ]
)
FAULTY_CALLS = (
    "write",
    "write_part",
    "copy_part",
    "complete_multipart",
    "create_multipart",
    "read",
    "abort_multipart",
    "stat",
)


class Machine:
    """One file through its life, beside a bytearray that is always right."""

    def __init__(self, stack: Stack, flat: MemoryStore, faulty: FaultyStore) -> None:
        self.stack = stack
        self.flat = flat
        self.faulty = faulty
        self.model = bytearray()
        self.key = "file"
        self.names = 0
        self.serial = 0
        self.stored: Object | None = None
        self.dirty: DirtyFile = stack.writeback.begin(self.key, None, condition=ABSENT)

    async def step(self, verb: str, first: int, second: int) -> None:
        self.serial += 1
        match verb:
            case "write":
                await self.write(first, second)
            case "append":
                await self.write(len(self.model), first)
            case "read":
                found = await self.stack.writeback.read(self.dirty, first, second)
                assert found == bytes(self.model[first : first + second])
            case "truncate":
                await self.stack.writeback.truncate(self.dirty, first)
                del self.model[first:]
                self.model.extend(bytes(first - len(self.model)))
            case "commit":
                await self.commit()
            case "punch":
                if self.dirty.stream is not None:
                    await self.dirty.stream.settle()
                await self.stack.writeback.reclaim(first)
            case "reopen":
                await self.commit()
                await self.stack.writeback.discard(self.dirty)
                self.dirty = self.stack.writeback.begin(self.key, self.stored)
                self.dirty.condition = self.condition()
            case "rename":
                await self.rename()
            case _:
                error = ServiceFailed("a fault", is_ambiguous=True)
                fault = Fault(FAULTY_CALLS[first], error, is_after=bool(second))
                self.faulty.script[:] = [fault]

    async def write(self, offset: int, size: int) -> None:
        if offset + size > 3 * SIZE_MAX:
            return
        piece = bytes((self.serial * 31 + i) % 255 + 1 for i in range(size))
        await self.stack.writeback.write(
            self.dirty, offset, piece, metadata=lambda: NO_METADATA
        )
        self.model.extend(bytes(max(0, offset - len(self.model))))
        self.model[offset : offset + size] = piece

    def condition(self) -> Condition:
        return self.stored.version if self.stored is not None else ABSENT

    async def commit(self) -> None:
        self.stored = await self.stack.writeback.commit(
            self.dirty,
            metadata=Metadata(user={"serial": str(self.serial)}),
            inherit=None,
            condition=self.condition(),
        )
        assert self.flat.bucket.entries[self.key].data == bytes(self.model)
        assert not self.dirty.is_changed
        assert not self.dirty.extents

    async def rename(self) -> None:
        self.names += 1
        key = f"file{self.names}"
        if self.dirty.base is not None:
            moved = await self.flat.copy(self.key, key)
            await self.flat.delete(self.key)
            self.stored = moved if self.stored is not None else None
            self.stack.writeback.rebase(self.dirty, moved)
            if self.stored is None:
                self.dirty.is_ahead = True
        await self.stack.writeback.retarget(self.dirty, key)
        self.key = key


async def run(
    steps: list[tuple[str, int, int]], capabilities: Capabilities, size_max: int
) -> None:
    flat = MemoryStore(capabilities=capabilities)
    faulty = FaultyStore(flat)
    with tempfile.TemporaryDirectory() as directory:
        async with open_stack(faulty, Path(directory), size_max=size_max) as stack:
            machine = Machine(stack, flat, faulty)
            for verb, first, second in steps:
                try:
                    await machine.step(verb, first, second)
                except QuotaExceeded:
                    assert size_max < 4000
                except StoreError:
                    assert any(step[0] == "fault" for step in steps)
            faulty.script.clear()
            budget = stack.budget
            found = await stack.writeback.read(machine.dirty, 0, 10 * SIZE_MAX)
            assert found == bytes(machine.model)
            if size_max >= 4000:
                await machine.commit()
            await stack.writeback.discard(machine.dirty)
            assert budget.dirty == 0
            assert not machine.dirty.spool.path.exists()
        leaks = ("create_multipart", "abort_multipart")
        if any(s[0] == "fault" and FAULTY_CALLS[s[1]] in leaks for s in steps):
            return
        journal_path = Path(directory) / "state" / "journal.sqlite"
        async with await Journal.open(journal_path) as journal:
            assert not await journal.uploads()
        if capabilities.multipart is not None:
            assert not await flat.list_uploads()


@settings(
    max_examples=100 if "AT_LENGTH" in os.environ else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(STREAMING, STEPS, STORES, st.sampled_from([300, 4000, 1 << 20]))
def test_a_dirty_file_is_what_was_done_to_it(
    begin: list[tuple[str, int, int]],
    steps: list[tuple[str, int, int]],
    capabilities: Capabilities,
    size_max: int,
) -> None:
    """Random writes, cuts, reads, commits, folds and faults never lose a byte."""
    trio.run(run, begin + steps, capabilities, size_max)
