"""Changing attributes while other things go on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MemoryStore
from mountfs.cache.metadata import MetadataCache
from mountfs.storage.types import Features
from mountfs.storage.virtual import VirtualStorager
from mountfs.vfs.attributes import Change, Defaults
from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.inodes import InodeTable, Node
from mountfs.vfs.names import Names
from mountfs.vfs.namespace import Caller
from mountfs.vfs.tree import moving
from mountfs.vfs.volume import Outdated, Volume
from tests.fakes.cache_stack import open_stack, tiny_store

ME = Caller(pid=0, uid=1, gid=2)


@pytest.fixture
async def filesystem(tmp_path: Path) -> AsyncIterator[FileSystem]:
    """A file system over a memory store that keeps attributes."""
    memory = MemoryStore(capabilities=tiny_store())
    store = VirtualStorager(memory, Features(virtual_dir=True))
    sending, receiving = trio.open_memory_channel[Outdated](10)
    async with open_stack(store, tmp_path) as stack, sending, receiving:
        volume = Volume(
            store=store,
            metadata=MetadataCache(ttl_s=60),
            blocks=stack.blocks,
            writeback=stack.writeback,
            journal=stack.journal,
            defaults=Defaults(uid=1, gid=2),
            outdated=sending,
            inodes=InodeTable(),
            names=Names(utf8_keys=False),
        )
        yield FileSystem(volume, "owner", receiving)


async def closed_and_dirty_file(filesystem: FileSystem) -> tuple[Node, Node]:
    """Return a directory and a file in it that nobody writes and nobody stored."""
    root = filesystem.volume.inodes.root
    directory = await filesystem.namespace.mkdir(root, b"d", 0o755, ME)
    file = await filesystem.namespace.create(directory, b"f", 0o644, ME)
    return directory, file


async def test_chmod_of_an_unsaved_file_while_its_directory_moves(
    filesystem: FileSystem,
) -> None:
    """A rename that begins in the midst waits for the chmod, and not it for that."""
    directory, file = await closed_and_dirty_file(filesystem)
    assert file.file is not None
    is_moved = trio.Event()

    async def move() -> None:
        async with moving(directory):
            is_moved.set()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, file.file.lock:
            change = Change(mode=0o600)
            nursery.start_soon(_apply, filesystem, file, change)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(move)
            await trio.testing.wait_all_tasks_blocked()

    assert is_moved.is_set()
    stored = await filesystem.volume.store.stat("d/f")
    assert stored.attributes is not None
    assert (stored.attributes.mode or 0) & 0o777 == 0o600


async def _apply(filesystem: FileSystem, node: Node, change: Change) -> None:
    await filesystem.attributes.apply(node, change, is_echo=False)
