"""Programs at random on files that stay here and files that do not, over many mounts.

What is seen must be what was written. All that is to be stored can be; then the store
has every file whose name does not match, nothing that is gone, and nothing of a file
that was new under a name that matches, and has had no other.
"""

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mountfs.backends.local import open_local
from mountfs.backends.memory import MemoryStore
from mountfs.cache import promised
from mountfs.vfs.inodes import Node
from mountfs.vfs.rename import EXCHANGE
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

FOLDERS = ("d", "e", "f")
NAMES = ("a", "b", "a.tmp", "b.tmp")
STEPS = 40
PUT_SIZE_MAX = 30
"""Larger ones are sent in parts."""
MOUNTS = 3
SEEDS = range(100 if "AT_LENGTH" in os.environ else 3)


def is_local(path: str) -> bool:
    return path.endswith(".tmp")


class Programs:
    """What was written, and which of it the store cannot have."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.files: dict[str, bytes] = {}
        self.folders: set[str] = set()
        self.unsent: set[str] = set()

    async def step(self, scene: Scene) -> None:
        deeds = {
            self.write: 5,
            self.edit: 4,
            self.rename: 6,
            self.exchange: 2,
            self.exchange_folders: 1,
            self.want_room: 1,
            self.unlink: 3,
            self.make_folder: 2,
            self.rename_folder: 2,
            self.remove_folder: 1,
        }
        (deed,) = self.random.choices([*deeds], [*deeds.values()])
        await deed(scene)

    def _path(self) -> str:
        folder = self.random.choice(["", *sorted(self.folders)])
        return f"{folder}/{self.random.choice(NAMES)}".removeprefix("/")

    def _known(self) -> str:
        return self.random.choice(sorted(self.files))

    async def _end(self, scene: Scene, path: str) -> tuple[Node, bytes]:
        folder, _, name = path.rpartition("/")
        parent = await scene.lookup(folder) if folder else scene.root
        return parent, name.encode()

    def _is_free(self, scene: Scene, path: str, keys: set[str]) -> bool:
        """Tell whether the store has nothing of a name, and is not to have either."""
        entries = scene.ledger.table.at(path)
        return path not in keys and all(each.is_local_only for each in entries)

    async def write(self, scene: Scene) -> None:
        path, content = self._path(), self.random.randbytes(self.random.randrange(60))
        if path in self.files:
            await self._remove(scene, path)
        if is_local(path) and self._is_free(scene, path, await stored(scene)):
            self.unsent.add(path)
        await scene.make(path, content)
        self.files[path] = content

    async def edit(self, scene: Scene) -> None:
        if not self.files:
            return
        path, offset = self._known(), self.random.randrange(40)
        piece = self.random.randbytes(5)
        opened = await scene.open(await scene.lookup(path))
        await scene.fs.files.write(opened, offset, piece)
        await scene.close(opened)
        whole = self.files[path].ljust(offset, b"\0")
        self.files[path] = whole[:offset] + piece + whole[offset + 5 :]

    async def rename(self, scene: Scene) -> None:
        if not self.files:
            return
        source, target = self._known(), self._path()
        if source == target:
            return
        is_free = self._is_free(scene, target, await stored(scene))
        ends = await self._end(scene, source), await self._end(scene, target)
        await scene.fs.renames.rename(*ends, 0)
        self.files[target] = self.files.pop(source)
        was_unsent = source in self.unsent
        self.unsent -= {source, target}
        if was_unsent and is_free and is_local(target):
            self.unsent.add(target)

    async def exchange(self, scene: Scene) -> None:
        if len(self.files) < 2:
            return
        one, two = self.random.sample(sorted(self.files), 2)
        ends = await self._end(scene, one), await self._end(scene, two)
        await scene.fs.renames.rename(*ends, EXCHANGE)
        self.files[one], self.files[two] = self.files[two], self.files[one]
        if not {one, two} <= self.unsent:
            self.unsent -= {one, two}

    async def exchange_folders(self, scene: Scene) -> None:
        if len(self.folders) < 2:
            return
        one, two = self.random.sample(sorted(self.folders), 2)
        root = scene.root
        ends = (root, one.encode()), (root, two.encode())
        await scene.fs.renames.rename(*ends, EXCHANGE)
        self.files = {
            _moved(_moved(_moved(k, one, "-"), two, one), "-", two): v
            for k, v in self.files.items()
        }
        # What the store had in one of them is there under the names of the other.
        self.unsent = {
            each for each in self.unsent if each.split("/")[0] not in {one, two}
        }

    async def want_room(self, scene: Scene) -> None:
        """Have the oldest one stored, as a full cache does."""
        before = {each.key for each in scene.ledger.table if each.is_local_only}
        await scene.settling.store_local_only(1)
        after = {each.key for each in scene.ledger.table if each.is_local_only}
        self.unsent -= before - after

    async def unlink(self, scene: Scene) -> None:
        if self.files:
            await self._remove(scene, self._known())

    async def _remove(self, scene: Scene, path: str) -> None:
        await scene.fs.namespace.unlink(*await self._end(scene, path))
        del self.files[path]
        self.unsent.discard(path)

    async def make_folder(self, scene: Scene) -> None:
        name = self.random.choice(FOLDERS)
        if name not in self.folders:
            await scene.fs.namespace.mkdir(scene.root, name.encode(), 0o755, CALLER)
            self.folders.add(name)

    async def rename_folder(self, scene: Scene) -> None:
        target = self.random.choice(FOLDERS)
        if not self.folders or target in self.folders:
            return
        source = self.random.choice(sorted(self.folders))
        root = scene.root
        ends = (root, source.encode()), (root, target.encode())
        await scene.fs.renames.rename(*ends, 0)
        self.folders ^= {source, target}
        self.files = {_moved(k, source, target): v for k, v in self.files.items()}
        self.unsent = {_moved(each, source, target) for each in self.unsent}

    async def remove_folder(self, scene: Scene) -> None:
        if not self.folders:
            return
        name = self.random.choice(sorted(self.folders))
        if any(path.startswith(f"{name}/") for path in self.files):
            with pytest.raises(OSError, match="not empty"):
                await scene.fs.namespace.rmdir(scene.root, name.encode())
        else:
            await scene.fs.namespace.rmdir(scene.root, name.encode())
            self.folders.remove(name)

    async def check(self, scene: Scene) -> None:
        """Compare what is seen, and what is stored when that is all of it."""
        assert await scene.drain()
        keys = await stored(scene)
        assert keys <= self.files.keys()
        assert {path for path in self.files if not is_local(path)} <= keys
        assert keys.isdisjoint(self.unsent)
        for path, content in self.files.items():
            assert await scene.see(path) == content, path
            if path in keys:
                assert (await scene.store.read(path)).data == content, path
        staying = {each.key for each in scene.ledger.table if each.is_local_only}
        assert staying == self.files.keys() - keys


def _moved(path: str, source: str, target: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{target if folder == source else folder}{slash}{name}"


async def stored(scene: Scene) -> set[str]:
    """Return the keys of the files that the store has."""
    found: set[str] = set()
    folders = [""]
    while folders:
        page = await scene.store.list(folders.pop())
        for object in page.objects:
            kind = folders.append if object.key.endswith("/") else found.add
            kind(object.key)
    return found


@asynccontextmanager
async def mounted(
    path: Path, there: MemoryStore | None, *patterns: str
) -> AsyncIterator[Scene]:
    """Mount a store in memory, or one that moves directories by itself."""
    store = None
    if there is None:
        (path / "bucket").mkdir(exist_ok=True)
        store = open_local(f"file://{path / 'bucket'}", {})
    async with open_scene(
        path,
        there=there,
        store=store,
        journaled=True,
        local_only=patterns,
        put_size_max=PUT_SIZE_MAX,
    ) as scene:
        yield scene


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
async def test_programs_at_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, is_native: bool
) -> None:
    """Each mount dies, and the next one goes on; the last one has no patterns."""
    monkeypatch.setattr(promised, "MERGE_SIZE_MAX", 20)
    programs = Programs(seed)
    there = None
    if not is_native:
        there = MemoryStore(capabilities=tiny_store(move=False, attributes=False))
    for _ in range(MOUNTS):
        async with mounted(tmp_path, there, "*.tmp") as scene:
            for step in range(STEPS):
                await programs.step(scene)
                if step % 20 == 10:
                    await programs.check(scene)
        # It has died; the next one has all of it.
        async with mounted(tmp_path, there, "*.tmp") as scene:
            await programs.check(scene)
    async with mounted(tmp_path, there) as scene:
        programs.unsent.clear()
        await programs.check(scene)
        assert await stored(scene) == programs.files.keys()
