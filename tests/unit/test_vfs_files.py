"""Open files, from the first byte to the last close."""

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.storage.errors import PermissionDenied, QuotaExceeded, Unreachable
from mountfs.storage.types import Features
from tests.fakes.volume import open_scene


async def test_file_stored_early_is_begun_anew(tmp_path: Path) -> None:
    """O_TRUNC on a file of which we stored a part to make room is no conflict."""
    async with open_scene(tmp_path, size_max=400) as scene:
        opened = await scene.create(scene.root, "file")
        for offset in range(0, 1200, 20):
            await scene.fs.files.write(opened, offset, bytes(20))
        assert len(await scene.fs.files.read(opened, 0, 10)) == 10
        assert await scene.content("file") is not None

        other = await scene.open(opened.node, os.O_RDWR | os.O_TRUNC)
        await scene.fs.files.write(other, 0, b"new")
        await scene.close(other)
        await scene.close(opened)

        assert await scene.content("file") == b"new"


async def test_file_is_begun_anew_after_a_failed_close(tmp_path: Path) -> None:
    """The next program that truncates and writes the file succeeds."""
    async with open_scene(tmp_path) as scene:
        await scene.make("file", b"old")
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 0, b"failed")
        scene.store.refused["write"] = Unreachable("away")
        with pytest.raises(Unreachable):
            await scene.close(opened)
        scene.store.refused.clear()

        again = await scene.open(opened.node, os.O_WRONLY | os.O_TRUNC)
        await scene.fs.files.write(again, 0, b"new")
        await scene.close(again)

        assert await scene.content("file") == b"new"
        assert scene.cache.writeback.pending() == ()


async def test_change_that_came_to_nothing_is_forgotten(tmp_path: Path) -> None:
    """A file that was cut to its own size is as before: foreign changes show."""
    features = Features(virtual_dir=True)
    async with open_scene(tmp_path, features=features) as scene:
        await scene.put("file", b"old")
        node = await scene.lookup("file")
        await scene.fs.files.truncate(node, 3)
        opened = await scene.open(node)
        await scene.fs.files.truncate(node, 3)
        await scene.close(opened)

        await scene.put("file", b"foreign")

        assert await scene.see("file") == b"foreign"


async def test_unlinked_file_does_not_come_back_by_a_lost_reply(
    tmp_path: Path,
) -> None:
    """A new file whose commit failed may be in the store; its unlink looks to that."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.create(scene.root, "file", b"bytes")
        hold = scene.store.hold("write", is_after=True)
        hold.error = Unreachable("away")
        hold.release()
        with pytest.raises(Unreachable):
            await scene.close(opened)
        assert await scene.content("file") == b"bytes"

        await scene.fs.namespace.unlink(scene.root, b"file")

        assert await scene.keys() == set()


async def test_one_file_that_cannot_be_stored_does_not_cost_others(
    tmp_path: Path,
) -> None:
    """At the end every file is tried, and each that fails is kept."""
    async with open_scene(tmp_path) as scene:
        for name in ("a", "b", "c"):
            await scene.create(scene.root, name, b"bytes")
        hold = scene.store.hold("write")
        hold.error = RuntimeError("a bug")
        hold.release()
        refused = scene.store.hold("write")
        refused.error = PermissionDenied("no")
        refused.release()

        await scene.fs.finish()

        assert await scene.keys() == {"c"}
        assert {file.key for file in scene.cache.writeback.pending()} == {"a", "b"}


async def test_file_replaced_during_its_last_close_leaves_nothing(
    tmp_path: Path,
) -> None:
    """Bytes that were kept for the last reader go with it, whenever it goes."""
    async with open_scene(tmp_path) as scene:
        node = await scene.make("file", b"old")
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"new")
        async with trio.open_nursery() as nursery:
            hold = scene.store.hold("write")
            nursery.start_soon(scene.fs.files.release, opened)
            await hold.reached.wait()
            nursery.start_soon(scene.fs.namespace.unlink, scene.root, b"file")
            await trio.testing.wait_all_tasks_blocked()
            hold.release()

        assert await scene.keys() == set()
        assert scene.cache.writeback.pending() == ()
        assert scene.cache.budget.dirty == 0


async def test_cache_directory_that_breaks_is_no_cache(tmp_path: Path) -> None:
    """Blocks that can be neither written nor removed are read from the store."""
    async with open_scene(tmp_path) as scene:
        await scene.put("file", bytes(range(100)))
        blocks = tmp_path / "cache" / "blocks"
        shutil.rmtree(blocks)
        blocks.write_bytes(b"in the way")

        assert await scene.see("file") == bytes(range(100))


async def test_file_whose_write_was_refused_is_not_stored(tmp_path: Path) -> None:
    """A program that was told ENOSPC leaves no object with holes, and no new one."""
    async with open_scene(tmp_path, size_max=110) as scene:
        await scene.put("old", b"good")
        opened = [
            await scene.create(scene.root, f"full{i}", bytes(19)) for i in range(5)
        ]
        changed = await scene.open(await scene.lookup("old"))
        new = await scene.create(scene.root, "new")
        for file in (changed, new):
            with pytest.raises(QuotaExceeded):
                await scene.fs.files.write(file, 0, bytes(50))
            await scene.fs.files.write(file, 0, b"rest")

        for file in (changed, new):  # no flush: the kernel's own error ends close(2)
            await scene.fs.files.release(file)

        assert await scene.content("old") == b"good"
        assert await scene.content("new") is None
        assert await scene.see("old") == b"good"
        for file in opened:
            await scene.close(file)
        assert await scene.content("full4") == bytes(19)
        assert scene.cache.writeback.pending() == ()


async def test_no_close_stores_a_gap_where_bytes_were_refused(tmp_path: Path) -> None:
    """One copy of the descriptor was told, and the next is closed: neither zeros nor
    older bytes count for what was written there, until it is written anew, or cut.
    """
    async with open_scene(tmp_path, size_max=110) as scene:
        await scene.put("old", b"as it was before")
        full = [await scene.create(scene.root, f"full{i}", bytes(19)) for i in range(5)]
        changed = await scene.open(await scene.lookup("old"))
        new = await scene.create(scene.root, "new", b"begin")
        for file in (changed, new):
            with pytest.raises(QuotaExceeded):
                await scene.fs.files.write(file, 5, bytes(50))
            await scene.fs.files.write(file, 8, b"end")
            for _ in range(2):
                with pytest.raises(QuotaExceeded):
                    await scene.fs.files.flush(file)
        assert await scene.content("old") == b"as it was before"
        assert await scene.content("new") is None

        await scene.fs.files.write(new, 5, b", a")
        await scene.close(new)
        await scene.fs.files.truncate(changed.node, 5)
        await scene.close(changed)

        assert await scene.content("new") == b"begin, aend"
        assert await scene.content("old") == b"as it"
        for file in full:
            await scene.close(file)


async def test_no_later_close_stores_a_gap_either(tmp_path: Path) -> None:
    """What ends before the refused bytes is stored; what is written behind them, by who
    was not told, is not. Whoever opens the file anew knows where it ends.
    """
    async with open_scene(tmp_path, size_max=110) as scene:
        full = [await scene.create(scene.root, f"full{i}", bytes(19)) for i in range(5)]
        opened = await scene.create(scene.root, "new", b"begin")
        with pytest.raises(QuotaExceeded):
            await scene.fs.files.write(opened, 5, bytes(50))
        await scene.fs.files.flush(opened)  # of a copy, which the kernel told
        await scene.fs.files.write(opened, 8, b"end")
        with pytest.raises(QuotaExceeded):
            await scene.fs.files.flush(opened)
        await scene.fs.files.truncate(opened.node, 5)
        with pytest.raises(QuotaExceeded):
            await scene.fs.files.write(opened, 5, bytes(50))
        await scene.close(opened)
        assert await scene.content("new") == b"begin"

        opened = await scene.open(await scene.lookup("new"))
        await scene.fs.files.write(opened, 8, b"end")
        await scene.close(opened)

        assert await scene.content("new") == b"begin\0\0\0end"
        for file in full:
            await scene.close(file)


async def test_what_is_whole_after_a_refusal_is_stored_without_a_close(
    tmp_path: Path,
) -> None:
    """Bytes of a mapping come after the last close, and the gap is behind the end."""
    async with open_scene(tmp_path, size_max=110) as scene:
        full = [await scene.create(scene.root, f"full{i}", bytes(19)) for i in range(5)]
        inside = await scene.create(scene.root, "inside", b"begin")
        behind = await scene.create(scene.root, "behind", b"begin")
        for opened, offset in ((inside, 0), (behind, 8)):
            with pytest.raises(QuotaExceeded):
                await scene.fs.files.write(opened, 5, bytes(50))
            await scene.fs.files.flush(opened)
            await scene.fs.files.write(opened, offset, b"B")
            await scene.fs.files.release(opened)

        assert await scene.content("inside") == b"Begin"
        assert await scene.content("behind") == b"begin"
        assert scene.cache.writeback.pending() != ()  # the full ones
        for file in full:
            await scene.close(file)
        assert scene.cache.writeback.pending() == ()


async def test_file_is_stored_after_the_refusal_was_seen(tmp_path: Path) -> None:
    """A program that was told, and then closes or syncs on purpose, gets its way."""
    async with open_scene(tmp_path, size_max=100) as scene:
        full = [await scene.create(scene.root, f"full{i}", bytes(19)) for i in range(5)]
        opened = await scene.create(scene.root, "new")
        with pytest.raises(QuotaExceeded):
            await scene.fs.files.write(opened, 0, bytes(50))
        await scene.fs.files.write(opened, 0, b"less")

        await scene.close(opened)

        assert await scene.content("new") == b"less"
        for file in full:
            await scene.close(file)
