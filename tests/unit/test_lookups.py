"""A name that means what it meant: found at once, and when that must not be."""

from pathlib import Path

import pytest

from mountfs.storage.types import Object
from mountfs.vfs.attributes import Change
from mountfs.vfs.inodes import Node
from mountfs.vfs.volume import Volume
from tests.fakes.volume import Scene, open_scene


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the names whose objects were looked into."""
    names: list[bytes] = []
    attach = Volume.attach

    def note(
        volume: Volume,
        parent: Node,
        name: bytes,
        object: Object,
        *,
        packed: bytes | None = None,
    ) -> Node:
        names.append(name)
        return attach(volume, parent, name, object, packed=packed)

    monkeypatch.setattr(Volume, "attach", note)
    return names


async def looked_up(scene: Scene, name: str) -> Node | None:
    return await scene.fs.namespace.lookup(scene.root, name.encode())


async def test_a_name_is_looked_into_once(
    tmp_path: Path, attached: list[bytes]
) -> None:
    """What is known of it is just what its node has."""
    async with open_scene(tmp_path, ttl_s=60.0) as scene:
        await scene.put("file", b"bytes")
        first = await looked_up(scene, "file")
        attached.clear()

        assert await looked_up(scene, "file") is first
        assert attached == []


async def test_what_was_changed_here_or_elsewhere_is_looked_into(
    tmp_path: Path, attached: list[bytes]
) -> None:
    """An answer that is another than the node's, and one that is not known."""
    async with open_scene(tmp_path, ttl_s=60.0) as scene:
        await scene.put("file", b"bytes")
        node = await scene.lookup("file")
        scene.fs.volume.metadata.expire("file")
        await scene.put("file", b"longer bytes")
        attached.clear()

        found = await looked_up(scene, "file")
        assert found is not None
        assert found is not node
        assert attached == [b"file"]
        await scene.fs.attributes.apply(found, Change(mode=0o600), is_echo=False)
        assert await looked_up(scene, "file") is found
        assert found.attributes.mode == 0o100600


async def test_a_directory_of_the_same_name_comes_first(tmp_path: Path) -> None:
    """A file that somebody has shadowed since is not found by its name."""
    async with open_scene(tmp_path, ttl_s=60.0) as scene:
        await scene.put("name", b"bytes")
        node = await looked_up(scene, "name")
        await scene.put("name/below", b"bytes")
        scene.fs.volume.metadata.expire("name/")
        await scene.nodes("")

        found = await looked_up(scene, "name")
        assert found is not node
        assert found is not None
        assert found.is_directory
