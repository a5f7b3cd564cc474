"""Where spooled bytes are, and what the disk under them can refuse."""

import ctypes
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache import spool as spool_module
from mountfs.cache.entry_text import INLINE_SIZE_MAX
from mountfs.cache.spool import (
    HELD,
    IN_MEMORY_MAX,
    PIECES_MAX,
    Spool,
    SpoolFailed,
    tell_of_failed_writes,
)
from mountfs.storage.errors import ObjectTooLarge, QuotaExceeded
from tests.fakes.forgetful_disk import ForgetfulDisk
from tests.fakes.volume import open_scene


async def test_size_that_no_disk_holds_is_too_large(tmp_path: Path) -> None:
    """A size beyond what the file system can count is EFBIG, not a failed disk."""
    spool = Spool(tmp_path, "spool")
    with pytest.raises(ObjectTooLarge):
        await spool.resize(1 << 62)
    await spool.remove()


async def test_bytes_where_no_disk_has_any_are_refused_at_once(tmp_path: Path) -> None:
    """In memory they would be taken in, and refused when nobody hears of it."""
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    with pytest.raises(ObjectTooLarge):
        await spool.write(1 << 62, b"far")
    assert await spool.read(0, 5) == b"bytes"
    await spool.remove()


async def test_small_file_is_in_memory_until_it_grows(tmp_path: Path) -> None:
    """The bytes are the same wherever they are."""
    spool = Spool(tmp_path, "spool")
    await spool.write(3, b"small")
    assert await spool.read(0, 10) == b"\0\0\0small\0\0"
    assert not spool.path.exists()

    await spool.write(1 << 20, b"far")
    assert await spool.read((1 << 20) - 1, 5) == b"\0far\0"
    assert not spool.path.exists()

    await spool.write(8, bytes(IN_MEMORY_MAX - 7))
    assert spool.path.read_bytes()[:8] == b"\0\0\0small"
    assert spool.path.read_bytes()[1 << 20 :] == b"far"
    assert await spool.read(0, 8) == b"\0\0\0small"
    assert await spool.read(1 << 20, 3) == b"far"
    await spool.remove()
    assert not spool.path.exists()


async def test_in_many_pieces_it_is_on_the_disk(tmp_path: Path) -> None:
    """Each costs as much again as a short one holds."""
    spool = Spool(tmp_path, "spool")
    for number in range(PIECES_MAX):
        await spool.write(3 * number, b"x")
    assert not spool.path.exists()

    await spool.write(3 * PIECES_MAX, b"x")
    assert spool.path.read_bytes() == b"x\0\0" * PIECES_MAX + b"x"
    await spool.remove()


async def test_a_cut_makes_no_file(tmp_path: Path) -> None:
    """However long what is left is: the disk may be full."""
    held = HELD.total
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"near")
    await spool.write(1 << 20, b"far")
    await spool.cut(IN_MEMORY_MAX + 1)
    assert not spool.path.exists()
    assert HELD.total == held + 4

    await spool.resize(2 << 20)
    assert spool.path.read_bytes() == b"near" + bytes((2 << 20) - 4)
    await spool.cut(3)
    assert spool.path.read_bytes() == b"nea"
    await spool.remove()


async def test_a_file_that_could_not_be_made_takes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are where they were."""
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", no_room)
        with pytest.raises(QuotaExceeded):
            await spool.write(5, bytes(IN_MEMORY_MAX))
    assert not spool.path.exists()
    assert await spool.read(0, 5) == b"bytes"
    await spool.remove()


def no_room(*_: object) -> int:
    """Stand in for a write to a disk that is full."""
    raise OSError(errno.ENOSPC, "no room")


async def test_length_that_was_only_noted_is_that_of_the_file(tmp_path: Path) -> None:
    """Who sends from the disk finds as many bytes as there are to be."""
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    await spool.resize(100)
    await spool.sync()
    assert spool.path.read_bytes() == b"bytes" + bytes(95)
    await spool.remove()


async def test_synced_file_is_on_the_disk(tmp_path: Path) -> None:
    """What must survive this process does."""
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    await spool.sync()
    await spool.close()

    again = Spool(tmp_path, "spool")
    assert await again.reopen(5)
    assert await again.read(0, 5) == b"bytes"
    await again.close()


CHANGES: dict[str, Callable[[Spool], Awaitable[None]]] = {
    "written": lambda spool: spool.write(0, b"x"),
    "resized": lambda spool: spool.resize(1),
    "punched": lambda spool: spool.punch(0, 1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_has_changed_is_synced_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Spool], Awaitable[None]],
) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    await spool.sync()
    await spool.sync()
    assert len(syncs) == 1

    await change(spool)
    await spool.sync()
    assert len(syncs) == 2

    await spool.write(0, b"y", and_sync=True)
    await spool.sync()
    assert len(syncs) == 3
    await spool.remove()


async def test_who_comes_while_a_sync_is_under_way_waits_for_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        begun.set()
        may_end.wait(10)

    monkeypatch.setattr(os, "fdatasync", slow)
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    told: list[bool] = []

    async def sync() -> None:
        await spool.sync()
        told.append(may_end.is_set())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync)
        assert await trio.to_thread.run_sync(begun.wait, 10)
        nursery.start_soon(sync)
        await trio.testing.wait_all_tasks_blocked()
        may_end.set()

    assert told == [True, True]
    await spool.remove()


class FullDisk:
    """Takes the first bytes of what is written, and has no room for the rest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self._write, self._room = os.pwrite, room
        monkeypatch.setattr(os, "pwrite", self.write)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        with data:  # as in C: the error holds on to nothing
            taken = bytes(data[: self._room])
        if not taken:
            raise OSError(errno.ENOSPC, "no room")
        done = self._write(fd, taken, offset)
        self._room -= done
        return done


async def test_nothing_of_a_write_that_failed_is_in_a_hole_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    await spool.sync()
    with monkeypatch.context() as patch:
        FullDisk(patch, room=2)
        with pytest.raises(QuotaExceeded):
            await spool.write(5, b"appended")

    await spool.resize(5)
    await spool.resize(20)
    assert await spool.read(0, 20) == b"bytes" + bytes(15)
    assert spool.path.read_bytes() == b"bytes" + bytes(15)
    await spool.remove()


async def test_nothing_of_a_copy_that_failed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the room that it took nor its descriptor."""
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"bytes")
    await spool.sync()
    opened = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        FullDisk(patch, room=2)
        with pytest.raises(QuotaExceeded):
            await spool.copy_to(tmp_path / "copy", 5)

    assert os.listdir(tmp_path) == ["spool"]
    assert len(os.listdir("/proc/self/fd")) == len(opened)
    await spool.remove()


async def test_nothing_of_a_way_to_the_disk_that_failed_is_in_a_hole_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in memory was cut since."""
    spool = Spool(tmp_path, "spool")
    await spool.write(0, b"long bytes")
    with monkeypatch.context() as patch:
        FullDisk(patch, room=8)
        with pytest.raises(QuotaExceeded):
            await spool.sync()

    await spool.resize(4)
    await spool.sync()
    await spool.resize(20)
    assert await spool.read(0, 20) == b"long" + bytes(16)
    await spool.remove()


@pytest.mark.parametrize("size", [0, 2, 5, 9])
async def test_cut_and_extended_in_memory_as_on_the_disk(
    tmp_path: Path, size: int
) -> None:
    """What is behind a cut is gone for good."""
    spool, other = Spool(tmp_path, "one"), Spool(tmp_path, "two")
    for each in (spool, other):
        await each.write(0, b"bytes")
    await other.sync()
    for each in (spool, other):
        await each.resize(size)
        await each.resize(9)
        await each.punch(1, 2)

    assert await spool.read(0, 12) == await other.read(0, 12)
    with spool.body(1, 4).open() as reader:
        assert reader.read() == await other.read(1, 4)
    for each in (spool, other):
        await each.remove()


async def test_emptied_in_memory_wherever_its_bytes_were(tmp_path: Path) -> None:
    """What was appended to a large file lies far from its start: that is no file."""
    before, spool = HELD.total, Spool(tmp_path)
    await spool.write(1 << 20, b"tail")
    await spool.resize(0)
    assert HELD.total == before
    assert not spool.path.exists()

    await spool.write(2, b"new")
    assert await spool.read(0, 8) == bytes(2) + b"new" + bytes(3)
    await spool.resize(5)
    await spool.sync()
    assert spool.path.read_bytes() == bytes(2) + b"new"
    await spool.remove()


async def test_memory_of_all_files_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is on the disk at once; what goes makes room."""
    monkeypatch.setattr(spool_module, "HELD_MAX", HELD.total + 8)
    before = HELD.total
    one, two = Spool(tmp_path, "one"), Spool(tmp_path, "two")
    await one.write(0, b"12345")
    await two.write(0, b"67890")
    assert two.path.exists()
    assert not one.path.exists()
    assert await two.read(0, 5) == b"67890"
    await one.remove()
    await two.remove()
    assert HELD.total == before


def test_what_is_in_memory_fits_into_a_row() -> None:
    """Else the journal would speak of bytes that no disk has."""
    assert IN_MEMORY_MAX <= INLINE_SIZE_MAX


@pytest.mark.parametrize("journaled", [False, True])
async def test_small_files_make_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journaled: bool
) -> None:
    """To make one costs no way to the disk but that of the journal."""
    calls: list[object] = []

    async def on_disk(call: Callable[..., object], *args: object) -> object:
        calls.append(call)
        return call(*args)

    monkeypatch.setattr(spool_module, "on_disk", on_disk)
    async with open_scene(tmp_path, journaled=journaled) as scene:
        await scene.make("file", b"bytes")
        await scene.fs.finish()
        assert await scene.content("file") == b"bytes"
        assert not calls


async def test_file_that_is_made_anew_gets_a_durable_name_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory is synced for each file that is made in it, and once for each."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    spool = Spool(tmp_path, "spool")
    counts: list[int] = []
    for _ in range(2):
        for _ in range(2):
            await spool.write(0, b"bytes")
            await spool.sync()
            counts.append(len(synced))
        await spool.remove()

    assert counts == [1, 1, 2, 2]


async def test_a_kernel_that_cannot_tell_of_failed_writes_is_made_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox that has no sync_file_range(2): that is no byte lost."""

    def refuse(*_: int) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1

    monkeypatch.setattr(
        spool_module._libc,
        "sync_file_range",
        refuse,
    )
    spool = Spool(tmp_path)
    await spool.write(0, bytes(IN_MEMORY_MAX + 1))
    assert await spool.read(0, 2) == bytes(2)
    await spool.check()
    assert not spool.is_lost

    disk = ForgetfulDisk(monkeypatch)
    monkeypatch.setattr(spool_module, "tell_of_failed_writes", tell_of_failed_writes)
    disk.fails = 1
    with pytest.raises(SpoolFailed):
        await spool.check()
    await spool.remove()
