"""Many names: what each of them costs, in memory and in looks at the others."""

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mountfs.cache.packed import unpack
from mountfs.vfs.attributes import stat_of
from mountfs.vfs.inodes import Node
from tests.fakes.synthetic import SyntheticStore
from tests.fakes.volume import Scene, open_scene

FILES = 4_000
NODE_SIZE_MAX = 380
"""Bytes: a million of them, with what the store said, are less than 400 MiB."""

RESIDENT_SIZE_MAX = 450
"""Of which one in six is room for what another machine does otherwise."""
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A file system over directories of many files."""
    async with open_scene(tmp_path, there=SyntheticStore(3, FILES), ttl_s=60) as scene:
        yield scene


async def walked(scene: Scene, name: str, count: int = FILES) -> list[Node]:
    """List a directory as `ls -l` does, so that the kernel knows its first entries."""
    directory = await scene.lookup(name)
    opened = scene.fs.directories.open(directory)
    found: list[Node] = []
    for entry, what in (await scene.fs.directories.entries(opened, anew=True))[:count]:
        node = scene.fs.directories.node_of(directory, entry, what)
        assert node is not None
        assert stat_of(node).size == 1000
        node.lookups += 1
        found.append(node)
    scene.fs.directories.release(opened.handle)
    return found


async def test_a_name_that_was_listed_takes_little_memory(scene: Scene) -> None:
    """Inode, attributes, and all that the store said."""
    await walked(scene, "d000000")
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await walked(scene, "d000001")
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (after - before) / FILES < NODE_SIZE_MAX


def test_a_known_name_takes_little_of_the_machine() -> None:
    """As the system counts: with what Python keeps for later, and cannot use."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.fakes.known_names", "50"],
        check=True,
        capture_output=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        timeout=120,
    )

    assert float(done.stdout) < RESIDENT_SIZE_MAX


async def test_names_that_are_listed_again_take_no_more(scene: Scene) -> None:
    """What the store said is kept once, be it listed as often as you like."""
    first = await walked(scene, "d000000", 100)
    kept = [node._object for node in first]
    scene.fs.volume.metadata.expire("d000000/f000000")
    again = await walked(scene, "d000000", 100)

    assert again == first
    assert all(isinstance(each, bytes) for each in kept)
    assert [node._object for node in again] == kept


async def test_a_name_is_kept_once(scene: Scene) -> None:
    """By its node, by the node of its directory, and by what the store said.

    But for the few that another one took the place of meanwhile.
    """
    found = await walked(scene, "d000000", 100)
    scene.fs.volume.metadata.expire("d000000/f000000")
    await walked(scene, "d000000", 100)

    directory = scene.fs.volume.metadata._directories.get("d000000/")
    assert directory is not None
    kept = {id(name) for name in directory.names}
    assert found[0].parent is not None
    listed = {id(text) for text in found[0].parent.children._nodes}
    shared = {id(node._text) for node in found} & listed & kept
    assert len(shared) > 80


async def test_what_is_forgotten_leaves_nothing(scene: Scene) -> None:
    """The kernel forgets under memory pressure, many at once."""
    before = len(scene.fs.volume.inodes)
    found = await walked(scene, "d000000", 1000)
    directory = found[0].parent
    for node in found:
        scene.fs.volume.inodes.forget(node.inode, 1)
    assert directory is not None
    scene.fs.volume.inodes.forget(directory.inode, 1)

    assert len(scene.fs.volume.inodes) == before
    assert scene.fs.volume.inodes.loaded() == []
    assert found[5].object is not None
    assert found[5].object.key == "d000000/f000005"  # whoever still holds it knows it


async def test_only_files_in_use_are_looked_at_for_changes(scene: Scene) -> None:
    """`status` and `flush` of a mount cost what changed, not what is known."""
    found = await walked(scene, "d000000", 1000)
    opened = await scene.create(scene.root, "new", b"1")

    assert scene.fs.volume.inodes.loaded() == [opened.node]
    assert list(scene.fs.uncommitted()) == [opened.node]
    file = found[3].file
    assert file is not None
    assert found[3].file is file  # one state for all of its handles
    assert scene.fs.volume.inodes.loaded() == [opened.node, found[3]]
    await scene.close(opened)


async def test_what_a_name_has_stays_when_its_directory_has_another(
    scene: Scene,
) -> None:
    """The key is made of the name, unless the name is about to change."""
    node = (await walked(scene, "d000000", 1))[0]
    before, seen = node.object, stat_of(node)
    assert before is not None
    assert node.parent is not None
    inodes = scene.fs.volume.inodes

    inodes.move((inodes.root, b"d000000"), inodes.root, b"moved", "moved")

    assert node.key() == "moved/f000000"
    assert node.object == before
    assert stat_of(node) == seen
    inodes.detach(node)
    assert node.object == before


async def test_attributes_that_were_set_are_kept(scene: Scene) -> None:
    """Only what follows from the object is made of it anew."""
    node = (await walked(scene, "d000000", 1))[0]
    kept = scene.fs.volume.metadata.packed(node.key())
    node.attributes = replace(node.attributes, atime_ns=5)
    node.object = node.object
    node.pack(kept)

    assert node.attributes.atime_ns == 5


async def test_forgetting_a_moved_directory_walks_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename costs what lies below it."""
    await walked(scene, "d000000", 1)
    await walked(scene, "d000001", 1)
    unpacked: list[str] = []

    def counted(key: str, packed: bytes) -> Any:
        unpacked.append(key)
        return unpack(key, packed)

    monkeypatch.setattr("mountfs.vfs.node.unpack", counted)
    inodes = scene.fs.volume.inodes
    inodes.move((inodes.root, b"d000000"), inodes.root, b"moved", "moved")
    scene.fs.volume.metadata.forget_below("d000000/")

    assert all(key.startswith("d000000/") for key in unpacked if key)
    assert len(unpacked) <= 4  # the directory and one file
    assert len(scene.fs.volume.metadata) > FILES
