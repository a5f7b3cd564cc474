"""Keys whose parts are too long for a name: shown in short form, and usable by it."""

import errno
from pathlib import Path

import pytest

from mountfs.vfs.names import Names
from tests.fakes.volume import CALLER, Scene, open_scene

LONG = "n" * 300
SHORT = Names(utf8_keys=False).name(LONG).decode()
SHADOWED = Names(utf8_keys=False).name(LONG, is_shadowed=True).decode()


async def names_in(scene: Scene, path: str = "") -> list[str]:
    """List a directory as the kernel does, without looking anything up."""
    node = await scene.lookup(path) if path else scene.root
    opened = scene.fs.directories.open(node)
    entries = await scene.fs.directories.entries(opened, anew=True)
    scene.fs.directories.release(opened.handle)
    return [name.decode() for name, _ in entries]


async def test_long_key_is_found_by_its_short_name_without_a_listing_before(
    tmp_path: Path,
) -> None:
    """A name that nobody listed is looked for in its directory once."""
    async with open_scene(tmp_path, ttl_s=60) as scene:
        await scene.put(f"d/{LONG}", b"bytes")
        directory = await scene.lookup("d")
        before = scene.store.asked["list"]

        assert await scene.see(f"d/{SHORT}") == b"bytes"
        listings = scene.store.asked["list"] - before
        assert await scene.see(f"d/{SHORT}") == b"bytes"

        assert scene.store.asked["list"] - before == listings
        assert await scene.fs.namespace.lookup(directory, SHORT.encode()) is not None


async def test_short_name_of_nothing_is_absent(tmp_path: Path) -> None:
    """Without a key of this digest there is no such name."""
    async with open_scene(tmp_path) as scene:
        await scene.put("d/other", b"bytes")
        directory = await scene.lookup("d")

        assert await scene.fs.namespace.lookup(directory, SHORT.encode()) is None


async def test_long_file_is_edited_and_removed_by_its_short_name(
    tmp_path: Path,
) -> None:
    """What is written goes to the long key, and so does the removal."""
    async with open_scene(tmp_path) as scene:
        await scene.put(LONG, b"old bytes")
        assert await names_in(scene) == [SHORT]

        opened = await scene.open(await scene.lookup(SHORT))
        await scene.fs.files.write(opened, 0, b"NEW")
        await scene.close(opened)
        changed = await scene.content(LONG)
        await scene.fs.namespace.unlink(scene.root, SHORT.encode())

        assert changed == b"NEW bytes"
        assert await scene.keys() == set()


async def test_long_file_is_renamed_to_an_ordinary_name(tmp_path: Path) -> None:
    """A program can give it a name that everybody can say."""
    async with open_scene(tmp_path) as scene:
        await scene.put(LONG, b"bytes")

        await scene.fs.renames.rename(
            (scene.root, SHORT.encode()), (scene.root, b"plain"), 0
        )

        assert await scene.keys() == {"plain"}
        assert await scene.see("plain") == b"bytes"


async def test_long_directory_is_entered_and_renamed(tmp_path: Path) -> None:
    """What is below it is reached by its short name, and moves along."""
    async with open_scene(tmp_path) as scene:
        await scene.put(f"{LONG}/{LONG}", b"bytes")
        await scene.make(f"{SHORT}/new", b"new")
        there = await scene.keys()

        assert await names_in(scene, SHORT) == [SHORT, "new"]
        assert await scene.see(f"{SHORT}/{SHORT}") == b"bytes"
        await scene.fs.renames.rename(
            (scene.root, SHORT.encode()), (scene.root, b"d"), 0
        )

        assert there == {f"{LONG}/{LONG}", f"{LONG}/new"}
        assert await names_in(scene, "d") == [SHORT, "new"]


async def test_long_file_beside_a_directory_of_its_name(tmp_path: Path) -> None:
    """Both are shown; the file in the form of shadowed files."""
    async with open_scene(tmp_path) as scene:
        await scene.put(LONG, b"the file")
        await scene.put(f"{LONG}/child", b"the child")

        assert await scene.see(SHADOWED) == b"the file"
        assert await scene.see(f"{SHORT}/child") == b"the child"
        assert await names_in(scene) == [SHADOWED, SHORT]


async def test_nothing_is_made_under_a_name_in_short_form(tmp_path: Path) -> None:
    """It stands for another key, so it is reserved."""
    async with open_scene(tmp_path) as scene:
        for deed in (scene.fs.namespace.create, scene.fs.namespace.mkdir):
            with pytest.raises(OSError, match="reserved") as caught:
                await deed(scene.root, SHORT.encode(), 0o644, CALLER)
            assert caught.value.errno == errno.EPERM

        assert await scene.keys() == set()
