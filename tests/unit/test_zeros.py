"""Holes of large files: what is sent of them, and what the store copies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.zeros import KEY, ZeroBody
from mountfs.storage.body import Body
from mountfs.storage.errors import NotFound, Unreachable
from mountfs.storage.types import (
    NO_METADATA,
    Capabilities,
    Condition,
    Metadata,
    MultipartLimits,
    Object,
    Part,
    Upload,
    Version,
)
from tests.fakes.cache_stack import Stack, open_stack, tiny_store
from tests.fakes.faulty import Fault, FaultyStore

GIB = 1 << 30
MIB = 1 << 20


class Sizes(MemoryStore):
    """Keeps no bytes, but how many were sent and copied: any number will do."""

    def __init__(self) -> None:
        limits = MultipartLimits(
            part_size_min=5 * MIB, part_size_max=5 * GIB, parts_max=10_000
        )
        super().__init__(
            capabilities=Capabilities(
                service="sizes", multipart=limits, multipart_copy=True, metadata=True
            )
        )
        self.sent = self.copied = 0
        self.parts: dict[int, int] = {}
        self.deleted: list[str] = []

    async def write(
        self,
        key: str,
        body: Body | None,
        *,
        size: int | None = None,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        assert body is not None
        self.sent += size or body.size
        return Object(key=key, size=size or body.size, version=Version("w"))

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        self.sent += body.size
        self.parts[index] = body.size
        return Part(index, body.size, "e")

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        assert source.key == KEY
        assert source.size is not None
        assert offset + size <= source.size
        self.copied += size
        self.parts[index] = size
        return Part(index, size, "e")

    async def complete_multipart(
        self, upload: Upload, parts: object, **_: object
    ) -> Object:
        return Object(
            key=upload.key, size=sum(self.parts.values()), version=Version("c")
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        self.deleted.append(key)


def no_metadata() -> Metadata:
    return NO_METADATA


async def commit(stack: Stack, dirty: DirtyFile) -> Object:
    return await stack.writeback.commit(
        dirty, metadata=NO_METADATA, inherit=None, condition=None
    )


async def test_a_hundred_gigabytes_of_hole_are_not_sent(tmp_path: Path) -> None:
    """Only what was written is, and one object of zeros; nothing of it lies here."""
    store = Sizes()
    async with open_stack(
        store, tmp_path, size_max=GIB, put_size_max=8 * MIB, part_size=8 * MIB
    ) as stack:
        dirty = stack.writeback.begin("file", None)
        await stack.writeback.truncate(dirty, 100 * GIB)
        for offset in (0, 50 * GIB, 100 * GIB - 5):
            await stack.writeback.write(dirty, offset, b"12345", metadata=no_metadata)
        read = await stack.writeback.read(dirty, 50 * GIB - 1, 7)
        await dirty.spool.sync()
        here = dirty.spool.path.stat().st_blocks * 512
        object = await commit(stack, dirty)

    assert read == b"\x0012345\x00"
    assert here < MIB
    assert object.size == 100 * GIB
    assert store.sent + store.copied == 100 * GIB + 16 * MIB
    assert store.sent <= 3 * 11 * MIB + 16 * MIB
    assert store.deleted == [KEY]


@asynccontextmanager
async def sparse(
    directory: Path, *faults: Fault, size: int = 200
) -> AsyncIterator[tuple[Stack, FaultyStore, MemoryStore]]:
    """A cache over a store of tiny parts, in which faults happen."""
    there = MemoryStore(capabilities=tiny_store())
    store = FaultyStore(there, *faults)
    async with open_stack(store, directory) as stack:
        yield stack, store, there


async def stored(stack: Stack, size: int, *writes: tuple[int, bytes]) -> Object:
    dirty = stack.writeback.begin("file", None)
    await stack.writeback.truncate(dirty, size)
    for offset, data in writes:
        await stack.writeback.write(dirty, offset, data, metadata=no_metadata)
    return await commit(stack, dirty)


async def test_holes_arrive_as_zeros(tmp_path: Path) -> None:
    """What another program reads is what was written, and zeros between."""
    async with sparse(tmp_path) as (stack, _store, there):
        await stored(stack, 500, (3, b"abc"), (250, b"def"))

        content = bytearray(500)
        content[3:6], content[250:253] = b"abc", b"def"
        assert (await there.read("file")).data == content
        with pytest.raises(NotFound):
            await there.stat(KEY)


async def test_few_holes_are_sent(tmp_path: Path) -> None:
    """An object of zeros would cost more requests than it saves."""
    async with sparse(tmp_path) as (stack, store, there):
        await stored(stack, 60, (0, b"x" * 40))

        assert (await there.read("file")).data == b"x" * 40 + bytes(20)
        assert "copy_part" not in store.calls


async def test_zeros_that_others_took_away_are_sent(tmp_path: Path) -> None:
    """A hole never becomes what somebody else has put there."""
    async with sparse(tmp_path) as (stack, _store, there):
        copy_part = there.copy_part

        async def without(
            upload: Upload, index: int, source: Object, offset: int, size: int
        ) -> Part:
            if index == 3:
                await there.write(KEY, ZeroBody(1))
            return await copy_part(upload, index, source, offset, size)

        there.copy_part = without  # type: ignore[method-assign]  # somebody meddles
        await stored(stack, 500, (3, b"abc"))

        content = bytearray(500)
        content[3:6] = b"abc"
        assert (await there.read("file")).data == content


async def test_what_fails_is_tried_again_with_new_zeros(tmp_path: Path) -> None:
    """The next commit goes on; nothing remains in the store but the file."""
    fault = Fault("copy_part", Unreachable("no route"), nth=2)
    async with sparse(tmp_path, fault) as (stack, _store, there):
        dirty = stack.writeback.begin("file", None)
        await stack.writeback.truncate(dirty, 500)
        with pytest.raises(Unreachable):
            await commit(stack, dirty)
        await commit(stack, dirty)

        assert (await there.read("file")).data == bytes(500)
        assert set(there.bucket.entries) == {"file"}


def test_zeros_can_be_read_again() -> None:
    """An SDK rewinds to send them once more."""
    reader = ZeroBody(10).open()

    assert reader.read() == bytes(10)
    assert reader.seek(4) == 4
    assert reader.read(100) == bytes(6)
    assert reader.read() == b""
