"""A whole file system in this process: everything of a mount but the kernel.

`Scene` calls what the handlers call, in their order. The store is in memory behind
`HeldStore`, unless another is given; `there` is what other programs see of it.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from mountfs.backends.memory import MemoryStore
from mountfs.cache.aliases import Aliases, AliasStorager
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.conflicts import Policy
from mountfs.cache.hooks import Hooks
from mountfs.cache.indexed import IndexedStorager, kinds_without_metadata
from mountfs.cache.journaled import Below, Journaled, open_queue
from mountfs.cache.learnt import Learnt
from mountfs.cache.ledger import Ledger
from mountfs.cache.localonly import LocalOnly
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.records import gates_of
from mountfs.cache.settling import Settling
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import NotFound
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Capabilities, Features, Object, ObjectKind
from mountfs.storage.virtual import VirtualStorager
from mountfs.vfs.attributes import Defaults, effective
from mountfs.vfs.files import OpenFile
from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.inodes import InodeTable, Node
from mountfs.vfs.localonly import LocalOnlyNames
from mountfs.vfs.names import Names
from mountfs.vfs.namespace import Caller
from mountfs.vfs.volume import Outdated, Volume
from tests.fakes.cache_stack import Stack, open_stack, tiny_store
from tests.fakes.held import HeldStore

CALLER = Caller(pid=0, uid=1000, gid=1000)
HANGS_S = 90.0
"""A test that takes longer hangs: less than pytest's own limit, which tells less."""


@dataclass(slots=True)
class Scene:
    """One file system, and the store under it from both sides."""

    fs: FileSystem
    store: HeldStore
    there: MemoryStore
    cache: Stack

    @property
    def root(self) -> Node:
        return self.fs.volume.inodes.root

    @property
    def journaled(self) -> Journaled:
        assert self.fs.volume.journaled is not None
        return self.fs.volume.journaled

    @property
    def ledger(self) -> Ledger:
        return self.journaled.ledger

    @property
    def settling(self) -> Settling:
        return self.journaled.settling

    async def begin(self) -> None:
        """Go on with what an earlier mount left, as a daemon does."""
        await self.cache.writeback.recover()
        await self.fs.recover()
        await self.fs.learning.learn_root()

    async def drain(self) -> bool:
        """Store what waits; tell whether all of it is stored."""
        return await self.journaled.drain.empty()

    async def put(self, key: str, content: bytes) -> None:
        """Put an object into the store, as another program does."""
        await self.there.write(key, BytesBody(content) if content else None)

    async def content(self, key: str) -> bytes | None:
        """Return what the store has under a key, if anything."""
        try:
            return (await self.there.read(key)).data
        except NotFound:
            return None

    async def keys(self) -> set[str]:
        """Return every key of the store."""
        return set(self.there.bucket.entries)

    async def lookup(self, path: str) -> Node:
        """Look up as the kernel does, step by step."""
        node = self.root
        for name in path.split("/"):
            found = await self.fs.namespace.lookup(node, name.encode())
            assert found is not None, f"{path} is not there"
            node = found
        node.hand_out()
        return node

    async def create(self, parent: Node, name: str, content: bytes = b"") -> OpenFile:
        """Create a file, and write to it."""
        namespace = self.fs.namespace
        node = await namespace.create(parent, name.encode(), 0o644, CALLER)
        node.hand_out()
        opened = self.fs.files.open_new(node, CALLER.pid)
        if content:
            await self.fs.files.write(opened, 0, content)
        return opened

    async def open(self, node: Node, flags: int = os.O_RDWR) -> OpenFile:
        return await self.fs.files.open(node, flags, CALLER.pid, CALLER.uid)

    async def close(self, opened: OpenFile) -> None:
        """Close as close(2) does; the handle goes even if that fails."""
        try:
            await self.fs.files.flush(opened)
        finally:
            await self.fs.files.release(opened)

    async def make(self, path: str, content: bytes) -> Node:
        """Create, write and close a file below a directory that is there."""
        folder, _, name = path.rpartition("/")
        parent = await self.lookup(folder) if folder else self.root
        opened = await self.create(parent, name, content)
        await self.close(opened)
        return opened.node

    async def see(self, path: str) -> bytes:
        """Look up, open, read and close."""
        opened = await self.open(await self.lookup(path), os.O_RDONLY)
        try:
            return bytes(await self.fs.files.read(opened, 0, 1 << 20))
        finally:
            await self.close(opened)

    async def nodes(self, path: str) -> dict[str, Node]:
        """List a directory as `ls -l` does, and count what the listing asks."""
        directories = self.fs.directories
        directory = await self.lookup(path) if path else self.root
        opened = directories.open(directory)
        self.store.asked.clear()
        entries = await directories.entries(opened, anew=True)
        nodes = [directories.node_of(directory, name, what) for name, what in entries]
        directories.release(opened.handle)
        return {node.name.decode(): node for node in nodes if node is not None}


@asynccontextmanager
async def open_scene(
    directory: Path,
    *,
    there: MemoryStore | None = None,
    store: Storager | None = None,
    capabilities: Capabilities | None = None,
    features: Features | None = None,
    ttl_s: float = 0.0,
    size_max: int = 1 << 20,
    conflict: Policy = Policy.COPY,
    journaled: bool = False,
    local_only: Sequence[str] = (),
    **sizes: int,
) -> AsyncIterator[Scene]:
    """Build a file system; the same directory and store again are the next mount.

    `journaled` is `--durability journal`, `local_only` the patterns of that option.
    With a `store` there is nothing in `there`. `sizes` are those of blocks and parts.
    """
    able = capabilities or tiny_store(move=False, attributes=False)
    there = there or MemoryStore(capabilities=able)
    held = HeldStore(there if store is None else store)
    virtual = VirtualStorager(held, features or Features.for_mounts())
    sending, receiving = trio.open_memory_channel[Outdated](100)
    aliases, names = Aliases(), Names(utf8_keys=False)
    async with (
        _open_index(virtual, ttl_s) as (plain, index),
        open_stack(
            AliasStorager(plain, aliases),
            directory,
            size_max=size_max,
            conflict=conflict,
            **sizes,
        ) as cache,
        _open_learnt(plain, directory) as learnt,
        AsyncExitStack() as stack,
    ):
        below = _below(plain, aliases, cache, index, learnt, ttl_s)
        hooks = Hooks()
        waiting: Journaled | None = None
        if journaled or await cache.journal.pending():
            waiting = await open_queue(
                stack,
                below,
                cache.writeback.incidents,
                hooks,
                takes_changes=journaled,
                tree_moved=index.renamed if index is not None else None,
                local_only=LocalOnly(LocalOnlyNames(local_only, names)),
            )
        volume = _volume(plain, below, waiting, index, learnt, names, sending)
        hooks.outdated = volume.outdate
        fs = FileSystem(volume, owner="test", outdated=receiving)
        scene = Scene(fs, held, there, cache)
        await scene.begin()
        with sending, receiving, trio.fail_after(HANGS_S):
            yield scene


def _below(
    store: Storager,
    aliases: Aliases,
    cache: Stack,
    index: AttributeIndex | None,
    learnt: Learnt | None,
    ttl_s: float,
) -> Below:
    changes = None if store.capabilities.list_metadata else index
    return Below(
        store=AliasStorager(store, aliases),
        aliases=aliases,
        journal=cache.journal,
        blocks=cache.blocks,
        writeback=cache.writeback,
        budget=cache.budget,
        metadata=MetadataCache(ttl_s=ttl_s, learnt=learnt, changes=changes),
    )


def _volume(
    store: Storager,
    below: Below,
    waiting: Journaled | None,
    index: AttributeIndex | None,
    learnt: Learnt | None,
    names: Names,
    outdated: trio.MemorySendChannel[Outdated],
) -> Volume:
    volume = Volume(
        store=store if waiting is None else waiting.store,
        journaled=waiting,
        metadata=below.metadata,
        learnt=learnt,
        index=index,
        blocks=below.blocks,
        writeback=below.writeback,
        journal=below.journal,
        defaults=Defaults(uid=0, gid=0),
        outdated=outdated,
        inodes=InodeTable(),
        names=names,
    )
    root = Object(key="", kind=ObjectKind.DIRECTORY)
    volume.inodes.root.attributes = effective(root, volume.defaults)
    return volume


@asynccontextmanager
async def _open_learnt(
    store: Storager, directory: Path
) -> AsyncIterator[Learnt | None]:
    if store.capabilities.list_metadata:
        yield None
        return
    path = directory / "cache" / "learnt.sqlite"
    async with await Learnt.open(path, gates_of(store.features)) as learnt:
        yield learnt


@asynccontextmanager
async def _open_index(
    store: Storager, ttl_s: float
) -> AsyncIterator[tuple[Storager, AttributeIndex | None]]:
    if not store.features.virtual_index:
        yield store, None
        return
    kinds = kinds_without_metadata(store.capabilities)
    gates = gates_of(store.features)
    async with AttributeIndex(store, gates, kinds, ttl_s=ttl_s) as index:
        yield IndexedStorager(store, index), index
