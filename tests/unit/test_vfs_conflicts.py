"""Lost races in a whole file system: names, handles and hard links afterwards."""

import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mountfs.storage.types import Features
from tests.fakes.volume import CALLER, Scene, open_scene


async def copy_of(scene: Scene, name: str) -> str:
    """Return the key of the one conflict copy of a file."""
    (key,) = [key for key in await scene.keys() if key.startswith(f"{name} (conflict ")]
    return key


async def test_a_handle_goes_on_with_the_copy(tmp_path: Path) -> None:
    """Two commits of one handle after a lost race are one copy, which grows."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.create(scene.root, "file", b"ours")
        await scene.put("file", b"theirs")
        await scene.fs.files.fsync(opened.node)
        await scene.fs.files.write(opened, 4, b", more")
        await scene.close(opened)

        key = await copy_of(scene, "file")
        assert await scene.content(key) == b"ours, more"
        assert await scene.see("file") == b"theirs"
        assert await scene.see(key) == b"ours, more"
        assert opened.node.key() == key
        assert set(await scene.nodes("")) == {"file", key}


async def test_the_kernel_is_told_of_the_name(tmp_path: Path) -> None:
    """It is to forget what it has of the name, whose node is another now."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.create(scene.root, "file", b"ours")
        await scene.put("file", b"theirs")
        await scene.close(opened)

        told = scene.fs.outdated.receive_nowait()
        assert (told.parent, told.name) == (scene.root.inode, b"file")
        assert await scene.lookup("file") is not opened.node


async def test_a_name_that_the_kernel_still_has_leads_to_no_copy(
    tmp_path: Path,
) -> None:
    """Whoever opens it at once is told to look it up; the copy has its own name."""
    async with open_scene(tmp_path) as scene:
        opened = await scene.create(scene.root, "file", b"ours")
        await scene.put("file", b"theirs")
        await scene.close(opened)

        with pytest.raises(OSError, match=r".") as caught:
            await scene.open(opened.node)
        assert caught.value.errno == errno.ESTALE
        assert await scene.lookup(await copy_of(scene, "file")) is opened.node
        await scene.close(await scene.open(opened.node))


async def test_a_file_of_several_names_leaves_them(tmp_path: Path) -> None:
    """The copy is a file of one name; the others keep what was stored last."""
    async with open_scene(tmp_path, features=Features.all()) as scene:
        node = await scene.make("one", b"common")
        await scene.fs.namespace.link(node, scene.root, b"two")
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"ours")
        await scene.put("one", b"theirs")
        await scene.close(opened)

        key = await copy_of(scene, "one")
        assert await scene.see("one") == b"theirs"
        assert await scene.see("two") == b"common"
        assert await scene.see(key) == b"ourson"
        copy = await scene.there.stat(key)
        assert copy.metadata is not None
        assert not any("group" in name or "link" in name for name in copy.metadata.user)
        assert await scene.lookup("two") is not node


@pytest.mark.parametrize("deed", ["unlink", "rename", "link"])
async def test_a_name_that_goes_over_to_another_file_is_looked_up_again(
    tmp_path: Path, deed: str
) -> None:
    """A call on the name finds out that it lost: ESTALE, and the kernel asks anew."""
    async with open_scene(tmp_path, features=Features.all()) as scene:
        node = await scene.make("one", b"common")
        await scene.fs.namespace.link(node, scene.root, b"two")
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"ours")
        await scene.put("one", b"theirs")

        new = (scene.root, b"three")
        deeds: dict[str, Callable[[], Awaitable[object]]] = {
            "unlink": lambda: scene.fs.namespace.unlink(scene.root, b"one"),
            "rename": lambda: scene.fs.renames.rename((scene.root, b"one"), new, 0),
            "link": lambda: scene.fs.namespace.link(node, *new),
        }
        with pytest.raises(OSError, match=r".") as caught:
            await deeds[deed]()

        assert caught.value.errno == errno.ESTALE
        assert await scene.see("one") == b"theirs"
        assert await scene.content(await copy_of(scene, "one")) == b"ourson"
        await scene.close(opened)


async def test_a_copy_lands_beside_a_file_whose_name_was_lost_before(
    tmp_path: Path,
) -> None:
    """A lookup has found the other's file already; ours is committed late."""
    async with open_scene(tmp_path) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        opened = await scene.open(await scene.make("d/file", b"common"))
        await scene.put("d/file", b"theirs")
        assert await scene.see("d/file") == b"theirs"
        assert opened.node.is_lost
        await scene.fs.files.write(opened, 0, b"ours")
        await scene.close(opened)

        key = await copy_of(scene, "d/file")
        assert await scene.see(key) == b"ourson"
        assert not opened.node.is_lost
