"""Special files over a store that other programs write to as well."""

import errno
import stat
from pathlib import Path

import pytest

from mountfs.storage.errors import AlreadyExists
from mountfs.storage.types import Features, Metadata, ObjectKind
from mountfs.vfs.attributes import Change
from tests.fakes.volume import CALLER, Scene, open_scene

FEATURES = Features.all()
FIFO = stat.S_IFIFO | 0o600
SOCKET = stat.S_IFSOCK | 0o600


async def mknod(scene: Scene, name: str, mode: int) -> None:
    node = await scene.fs.namespace.mknod(scene.root, name.encode(), mode, 0, CALLER)
    node.lookups += 1


async def test_special_file_is_one_write(tmp_path: Path) -> None:
    """It is in the store when it is made, and its bytes are none."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        await scene.fs.namespace.lookup(scene.root, b"fifo")
        scene.store.asked.clear()

        await mknod(scene, "fifo", FIFO)

        assert scene.store.asked == {"write": 1}
        assert await scene.content("fifo") == b""


async def test_foreign_change_of_its_type_makes_another_file(tmp_path: Path) -> None:
    """The kernel lets no inode change its type, so the name gets a new one."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        await mknod(scene, "it", FIFO)
        before = await scene.lookup("it")
        user = {"mode": str(SOCKET)}
        await scene.there.write("it", None, metadata=Metadata(user=user))

        after = await scene.lookup("it")

        assert after.inode != before.inode
        assert after.attributes.mode == SOCKET


async def test_foreign_change_of_its_owner_keeps_the_file(tmp_path: Path) -> None:
    """Whatever leaves the type alone is a change of the same file."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        await mknod(scene, "it", FIFO)
        before = await scene.lookup("it")
        user = {"mode": str(FIFO), "uid": "4711"}
        await scene.there.write("it", None, metadata=Metadata(user=user))

        after = await scene.lookup("it")

        assert after is before
        assert after.attributes.uid == 4711


async def test_losing_a_race_for_the_name_is_eexist(tmp_path: Path) -> None:
    """Whoever is first at the store has the name, also among hosts."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        await scene.fs.namespace.lookup(scene.root, b"fifo")
        await scene.put("fifo", b"theirs")

        with pytest.raises(FileExistsError):
            await mknod(scene, "fifo", FIFO)

        assert await scene.see("fifo") == b"theirs"


async def test_refused_special_file_is_not_there(tmp_path: Path) -> None:
    """If the store does not take it, no name is left behind."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        scene.store.refused["write"] = AlreadyExists("no")
        with pytest.raises(FileExistsError):
            await mknod(scene, "fifo", FIFO)
        scene.store.refused.clear()

        assert await scene.fs.namespace.lookup(scene.root, b"fifo") is None


async def test_changing_the_mode_leaves_the_type(tmp_path: Path) -> None:
    """In the store as well, where the mode alone says what the object is."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        await mknod(scene, "fifo", FIFO)
        node = await scene.lookup("fifo")

        await scene.fs.attributes.apply(node, Change(mode=0o640), is_echo=False)

        stored = await scene.there.stat("fifo")
        assert stored.metadata is not None
        assert stored.metadata.user["mode"] == str(stat.S_IFIFO | 0o640)


async def test_opening_one_by_mistake_makes_the_kernel_look_again(
    tmp_path: Path,
) -> None:
    """The kernel opens special files by itself; who asks us took it for another."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        await mknod(scene, "fifo", FIFO)

        with pytest.raises(OSError, match="Stale") as caught:
            await scene.open(await scene.lookup("fifo"))

        assert caught.value.errno == errno.ESTALE


async def test_without_a_place_for_attributes_there_are_none(tmp_path: Path) -> None:
    """A store that cannot say what an object is has no special files."""
    features = Features.for_mounts()
    async with open_scene(tmp_path, features=features) as scene:
        with pytest.raises(PermissionError):
            await mknod(scene, "fifo", FIFO)
        await mknod(scene, "file", stat.S_IFREG | 0o600)

        assert await scene.keys() == {"file"}
        assert (await scene.lookup("file")).kind is ObjectKind.FILE
