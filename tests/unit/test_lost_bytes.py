"""The local disk fails to keep bytes, and would not say so twice: nobody believes it.

After a sync that failed the kernel takes what it could not write for written, and the
next sync succeeds.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.cache.incidents import IncidentKind
from mountfs.cache.spool import Spool, SpoolFailed
from mountfs.fuse.errnos import errno_of
from mountfs.storage.errors import ServiceFailed
from mountfs.storage.types import MultipartLimits
from tests.fakes.forgetful_disk import ForgetfulDisk, forgetful_disk
from tests.fakes.volume import Scene, open_scene

__all__ = ["forgetful_disk"]

LARGE = bytes(range(256)) * 600
"""Too large for a row of the journal."""


# --- one file -----------------------------------------------------------------------


async def test_no_later_sync_makes_good_what_failed(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    spool = Spool(tmp_path)
    await spool.write(0, b"bytes")
    forgetful_disk.fails = 1
    with pytest.raises(SpoolFailed):
        await spool.sync()

    assert spool.is_lost
    with pytest.raises(SpoolFailed):
        await spool.sync()
    with pytest.raises(SpoolFailed):
        await spool.write(5, b"more", and_sync=True)
    with pytest.raises(SpoolFailed):
        await spool.read(0, 5)
    with pytest.raises(SpoolFailed):
        spool.body(0, 5)
    with pytest.raises(SpoolFailed):
        await spool.copy_to(tmp_path / "copy", 5)
    assert not (tmp_path / "copy").exists()
    await spool.remove()


async def test_what_was_synced_before_is_as_good_as_it_was(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """And what is written anew behind it can be synced."""
    spool = Spool(tmp_path)
    await spool.write(0, b"first")
    await spool.sync()
    forgetful_disk.fails = 1
    with pytest.raises(SpoolFailed):
        await spool.write(5, b"second", and_sync=True)

    assert await spool.read(0, 5) == b"first"
    with spool.body(0, 5).open() as reader:
        assert reader.read() == b"first"
    with pytest.raises(SpoolFailed):
        await spool.read(0, 6)
    await spool.resize(5)
    await spool.write(5, b"third", and_sync=True)
    await spool.sync()
    assert await spool.read(0, 10) == b"firstthird"
    await spool.remove()


@pytest.mark.parametrize("change", ["write", "resize", "punch"])
async def test_a_change_of_what_was_synced_is_lost_from_where_it_began(
    tmp_path: Path, forgetful_disk: ForgetfulDisk, change: str
) -> None:
    spool = Spool(tmp_path)
    await spool.write(0, b"0123456789")
    await spool.sync()
    if change == "write":
        await spool.write(4, b"x")
    elif change == "resize":
        await spool.resize(4)
        await spool.resize(20)
    else:
        await spool.punch(4, 6)
    forgetful_disk.fails = 1
    with pytest.raises(SpoolFailed):
        await spool.sync()

    assert await spool.read(0, 4) == b"0123"
    with pytest.raises(SpoolFailed):
        await spool.read(0, 5)
    await spool.remove()


async def test_of_two_who_wait_none_is_told_that_bytes_are_safe(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """The kernel tells only one of them."""
    spool = Spool(tmp_path)
    await spool.write(0, b"bytes")
    forgetful_disk.fails, hold = 1, forgetful_disk.hold()
    failed: list[SpoolFailed] = []

    async def sync() -> None:
        with pytest.raises(SpoolFailed) as told:
            await spool.sync()
        failed.append(told.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync)
        await hold.reached()
        nursery.start_soon(sync)
        await trio.testing.wait_all_tasks_blocked()
        hold.release()

    assert len(failed) == 2
    await spool.remove()


async def test_a_file_whose_name_was_not_synced_is_lost_whole(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """Cut to nothing as well; only a file of another name is another matter."""
    spool = Spool(tmp_path)
    await spool.write(0, b"bytes")
    forgetful_disk.fails_names = 1
    with pytest.raises(SpoolFailed):
        await spool.sync()
    with pytest.raises(SpoolFailed):
        await spool.sync()
    await spool.resize(0)
    with pytest.raises(SpoolFailed):
        await spool.sync()

    await spool.remove()
    await spool.write(0, b"bytes")
    await spool.sync()
    assert await spool.read(0, 5) == b"bytes"
    await spool.remove()


async def test_what_a_row_names_is_as_it_was_after_a_failed_append(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """In the next mount, too, which finds the file."""
    spool = Spool(tmp_path)
    await spool.write(0, b"first")
    await spool.sync()
    await spool.close()
    later = Spool(tmp_path, spool.name)
    assert await later.reopen(5)
    await later.write(5, b"second")
    forgetful_disk.fails = 1
    with pytest.raises(SpoolFailed):
        await later.sync()

    assert await later.read(0, 5) == b"first"
    await later.remove()


async def test_what_the_kernel_could_not_write_in_the_background_is_not_read(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """It tells that once, and gives other bytes from then on."""
    spool = Spool(tmp_path)
    await spool.write(0, b"first")
    await spool.sync()
    await spool.write(5, b"second")
    await spool.check()
    forgetful_disk.looks_until_failure = 1

    with pytest.raises(SpoolFailed):
        await spool.read(3, 8)
    with pytest.raises(SpoolFailed):
        await spool.check()
    with pytest.raises(SpoolFailed):
        await spool.sync()
    assert await spool.read(0, 5) == b"first"
    await spool.remove()


async def test_a_sync_under_way_tells_of_the_background_itself(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """Who asks meanwhile does not take that from it: it would succeed."""
    spool = Spool(tmp_path)
    await spool.write(0, b"bytes")
    hold = forgetful_disk.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spool.sync)
        await hold.reached()
        forgetful_disk.looks_until_failure = 1
        assert await spool.read(0, 5) == b"bytes"
        nursery.start_soon(spool.check)
        await trio.testing.wait_all_tasks_blocked()
        hold.release()
    assert forgetful_disk.looks_until_failure == 1
    await spool.remove()


async def test_who_asks_during_a_sync_that_fails_is_told(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """A close asks so, after its bytes were sent: they may not have been the right."""
    spool = Spool(tmp_path)
    await spool.write(0, b"bytes")
    forgetful_disk.fails, hold = 1, forgetful_disk.hold()

    async def fail(ask: Callable[[], Awaitable[None]]) -> None:
        with pytest.raises(SpoolFailed):
            await ask()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail, spool.sync)
        await hold.reached()
        nursery.start_soon(fail, spool.check)
        await trio.testing.wait_all_tasks_blocked()
        hold.release()
    await spool.remove()


# --- a mount ------------------------------------------------------------------------


async def test_bytes_that_the_disk_has_lost_are_never_acknowledged(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """Neither by the next fsync, nor by the last close; the store keeps what it has."""
    async with open_mount(tmp_path, journaled=True) as scene:
        await scene.put("file", b"as it was")
        opened = await scene.open(await scene.lookup("file"), os.O_RDWR)
        await scene.fs.files.write(opened, 0, LARGE)
        forgetful_disk.fails = 1
        for _ in range(2):
            with pytest.raises(SpoolFailed) as told:
                await scene.fs.files.fsync_open(opened)
            assert errno_of(told.value) == errno.EIO
        with pytest.raises(SpoolFailed):
            await scene.close(opened)

        assert await scene.drain()
        assert await scene.content("file") == b"as it was"
        assert await scene.see("file") == b"as it was"
        assert kinds(scene) == [IncidentKind.REFUSED]
        assert not scene.cache.writeback.pending()


async def test_a_file_that_was_lost_can_be_written_anew(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    async with open_mount(tmp_path, journaled=True) as scene:
        opened = await scene.create(scene.root, "file", LARGE)
        forgetful_disk.fails = 1
        with pytest.raises(SpoolFailed):
            await scene.fs.files.fsync_open(opened)
        await scene.fs.files.truncate(opened.node, 0)
        await scene.fs.files.write(opened, 0, LARGE)
        await scene.close(opened)

        assert await scene.drain()
        assert await scene.content("file") == LARGE


async def test_a_failed_append_costs_nothing_that_was_acknowledged(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """Both states use one spool file; the next fsync writes the new bytes anew."""
    async with open_mount(tmp_path, journaled=True) as scene:
        hold = scene.store.hold("write")
        await scene.make("file", LARGE)
        opened = await scene.open(await scene.lookup("file"), os.O_RDWR)
        await scene.fs.files.write(opened, len(LARGE), b"appended")
        forgetful_disk.fails = 1
        with pytest.raises(SpoolFailed):
            await scene.fs.files.fsync_open(opened)
        await scene.fs.files.fsync_open(opened)
        hold.release()
        await scene.close(opened)

        assert await scene.drain()
        assert await scene.content("file") == LARGE + b"appended"


async def test_what_can_be_kept_nowhere_does_not_stay_under_its_name(
    tmp_path: Path, forgetful_disk: ForgetfulDisk
) -> None:
    """The store refuses a file, and the disk loses it: no next mount stores zeros."""
    async with open_mount(tmp_path, journaled=False) as scene:
        opened = await scene.create(scene.root, "file", LARGE)
        scene.store.refused["write"] = ServiceFailed("down")
        forgetful_disk.fails = 1
        with pytest.raises(ServiceFailed):
            await scene.close(opened)

        assert await scene.cache.journal.failed() == ()
        with pytest.raises(AssertionError):
            await scene.lookup("file")
        assert IncidentKind.REFUSED in kinds(scene)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("part_size", [1 << 20, 40_000])
async def test_no_other_bytes_are_stored_than_were_written(
    tmp_path: Path, forgetful_disk: ForgetfulDisk, part_size: int, times: int
) -> None:
    """The disk loses some in the background: before they are sent, or meanwhile. Then
    the close is EIO, and never a success; the store has what it had, or all of it.
    """
    limits = MultipartLimits(part_size_min=1000, part_size_max=1 << 20, parts_max=200)
    there = MemoryStore(capabilities=replace(MEMORY_CAPABILITIES, multipart=limits))
    async with open_mount(
        tmp_path, journaled=False, there=there, part_size=part_size
    ) as scene:
        await scene.put("file", b"as it was")
        opened = await scene.open(await scene.lookup("file"), os.O_RDWR | os.O_TRUNC)
        await scene.fs.files.write(opened, 0, LARGE)
        forgetful_disk.looks_until_failure = times
        code = 0
        try:
            await scene.close(opened)
        except SpoolFailed as error:
            code = errno_of(error)

        assert code == errno.EIO or times > 1
        stored = await scene.content("file")
        assert stored in {b"as it was", LARGE}
        assert code == errno.EIO or stored == LARGE


@pytest.mark.parametrize("is_last", [False, True])
async def test_what_is_lost_while_it_is_sent_replaces_nothing(
    tmp_path: Path, forgetful_disk: ForgetfulDisk, *, is_last: bool
) -> None:
    """The request that sends it ends before its last byte, however late that shows; if
    the disk loses something after that, the store has the right bytes.
    """
    async with open_mount(tmp_path, journaled=False) as scene:
        await scene.put("file", b"as it was")
        opened = await scene.open(await scene.lookup("file"), os.O_RDWR | os.O_TRUNC)
        await scene.fs.files.write(opened, 0, LARGE)
        hold = scene.store.hold("write", is_after=is_last)
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                if is_last:
                    await scene.close(opened)
                else:
                    with pytest.raises(SpoolFailed):
                        await scene.close(opened)

            nursery.start_soon(close)
            await hold.reached.wait()
            forgetful_disk.looks_until_failure = 1
            hold.release()

        stored = await scene.content("file")
        assert stored == (LARGE if is_last else b"as it was")


def open_mount(
    directory: Path,
    *,
    journaled: bool,
    there: MemoryStore | None = None,
    part_size: int = 1 << 20,
) -> AbstractAsyncContextManager[Scene]:
    """Build a file system that sends a file as one request, or in some parts."""
    return open_scene(
        directory,
        there=there or MemoryStore(),
        journaled=journaled,
        put_size_max=part_size,
        part_size=part_size,
        block_size=1 << 16,
    )


def kinds(scene: Scene) -> list[IncidentKind]:
    """Return what the mount has to tell."""
    return [each.kind for each in scene.cache.writeback.incidents]
