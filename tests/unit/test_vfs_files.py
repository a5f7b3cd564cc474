"""Open files, from the first byte to the last close."""

import os
from pathlib import Path

import pytest

from mountfs.storage.errors import Unreachable
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
