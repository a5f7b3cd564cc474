"""Foreign clients change what is in use here."""

import errno
import os
from pathlib import Path

import pytest

from mountfs.cache.conflicts import Policy
from tests.fakes.volume import open_scene


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_directory_with_unstored_files_stays(
    tmp_path: Path, is_replaced: bool
) -> None:
    """A directory that others emptied or replaced is there while files wait in it."""
    async with open_scene(tmp_path) as scene:
        await scene.put("folder/below/old", b"x")
        below = await scene.lookup("folder/below")
        opened = await scene.create(below, "new", b"mine")
        await scene.there.delete("folder/below/old")
        if is_replaced:
            await scene.put("folder", b"a file")

        assert await scene.lookup("folder/below") is below
        await scene.close(opened)

        assert await scene.content("folder/below/new") == b"mine"


async def test_nothing_is_made_in_a_directory_that_is_gone(tmp_path: Path) -> None:
    """A program in a directory that others removed gets ENOENT; nothing lands above."""
    async with open_scene(tmp_path) as scene:
        await scene.put("folder/below/old", b"x")
        below = await scene.lookup("folder/below")
        await scene.there.delete("folder/below/old")
        assert await scene.fs.namespace.lookup(scene.root, b"folder") is None

        with pytest.raises(OSError, match="No such") as caught:
            await scene.create(below, "new", b"mine")

        assert caught.value.errno == errno.ENOENT
        assert await scene.keys() == set()


async def test_bytes_for_a_replaced_file_are_kept_and_not_stored(
    tmp_path: Path,
) -> None:
    """The kernel may bring bytes after the file was replaced: close refuses them."""
    async with open_scene(tmp_path, conflict=Policy.FAIL) as scene:
        await scene.put("file", b"old")
        opened = await scene.open(await scene.lookup("file"))
        await scene.put("file", b"foreign")
        await scene.lookup("file")

        assert await scene.fs.files.read(opened, 0, 0) == b""
        await scene.fs.files.write(opened, 0, b"mine")
        for refused in (
            scene.fs.files.fsync(opened.node),
            scene.fs.files.flush(opened),
            scene.fs.files.truncate(opened.node, 1),
        ):
            with pytest.raises(OSError, match="foreign") as caught:
                await refused
            assert caught.value.errno == errno.ESTALE
        await scene.fs.files.release(opened)

        (kept,) = scene.fs.volume.writeback.pending()
        assert (kept.key, kept.size) == ("file", 4)
        assert await scene.content("file") == b"foreign"


@pytest.mark.parametrize("is_removed", [False, True])
async def test_open_believes_what_a_listing_has_told_since(
    tmp_path: Path, is_removed: bool
) -> None:
    """The kernel still has the name; it looks again, instead of a read that fails."""
    async with open_scene(tmp_path, ttl_s=3600.0) as scene:
        await scene.put("d/file", b"old")
        node = await scene.lookup("d/file")
        if is_removed:
            await scene.there.delete("d/file")
        else:
            await scene.put("d/file", b"foreign")
        # Nobody tells the kernel: a walk is ahead of it, or names are made beside.
        metadata = scene.fs.volume.metadata
        page = await scene.there.list("d/")
        metadata.put_listing(metadata.begin_listing("d/"), page.objects)

        with pytest.raises(OSError, match="foreign") as caught:
            await scene.open(node, os.O_RDONLY)

        assert caught.value.errno == errno.ESTALE
        found = await scene.fs.namespace.lookup(await scene.lookup("d"), b"file")
        assert (found is None) == is_removed
        if not is_removed:
            assert await scene.see("d/file") == b"foreign"
