"""The attribute index in a file system: what it saves, and that it never lies.

Each mount has a cache of its own, so that all it knows comes from the store.
"""

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MemoryStore
from mountfs.cache.index_format import PREFIX, shard_key
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import Unreachable
from mountfs.storage.types import Attributes, Features, Metadata, ObjectKind
from mountfs.vfs.attributes import Change
from mountfs.vfs.inodes import Node
from tests.fakes.cache_stack import tiny_store
from tests.fakes.clocks import Clock, TickingClock
from tests.fakes.volume import CALLER, Scene, open_scene

FEATURES = dataclasses.replace(Features.for_mounts(), virtual_index=True)
TERSE = tiny_store(move=False, attributes=False, list_metadata=False)
FORGETFUL = dataclasses.replace(TERSE, dir_metadata=False)
MINUTE_NS = 60 * 10**9
"""By the clock of the store so much passes with each object."""
POSIX = Metadata(user={"mode": str(0o100640), "uid": "7"})
OTHER = Metadata(user={"mode": str(0o100600), "uid": "8"})


@dataclass
class World:
    """One store, and mounts of it."""

    directory: Path
    there: MemoryStore
    features: Features = FEATURES
    _count: int = field(default=0)

    @asynccontextmanager
    async def mount(self, *, ttl_s: float = 0.0) -> AsyncIterator[Scene]:
        """Mount with an empty cache."""
        self._count += 1
        directory = self.directory / str(self._count)
        async with open_scene(
            directory, there=self.there, features=self.features, ttl_s=ttl_s
        ) as scene:
            yield scene

    async def put_many(self, count: int, metadata: Metadata = POSIX) -> None:
        """Let another program make files."""
        for number in range(count):
            key = f"d/{number:03}"
            await self.there.write(key, BytesBody(b"x"), metadata=metadata)

    def index(self, directory: str = "d/") -> object | None:
        """Return what the store has as the index of a directory."""
        return self.there.bucket.entries.get(shard_key(directory, 0))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(
        tmp_path, MemoryStore(capabilities=TERSE, now_ns=TickingClock(MINUTE_NS))
    )


@pytest.fixture
def forgetful(tmp_path: Path) -> World:
    """A store that keeps no metadata of directories."""
    return World(
        tmp_path, MemoryStore(capabilities=FORGETFUL, now_ns=TickingClock(MINUTE_NS))
    )


def seen(nodes: dict[str, Node]) -> dict[str, int | None]:
    return {name: node.attributes.uid for name, node in nodes.items()}


def asked(scene: Scene) -> dict[str, int]:
    return dict(scene.store.asked)


# --- what it saves ------------------------------------------------------------------


async def test_second_mount_asks_for_no_object(world: World) -> None:
    """What one mount has learnt by a listing, the index tells all others."""
    await world.put_many(100)
    async with world.mount() as scene:
        first = seen(await scene.nodes("d"))
        assert asked(scene)["stat"] == 100

    async with world.mount() as scene:
        assert seen(await scene.nodes("d")) == first
        assert asked(scene) == {"list": 1, "read": 1}
    assert set(first.values()) == {7}


async def test_index_is_asked_for_while_its_directory_is_listed(world: World) -> None:
    """A first `ls -l` waits for both at once."""
    await world.put_many(10)
    async with world.mount() as scene:
        first = seen(await scene.nodes("d"))
    async with world.mount(ttl_s=60.0) as scene, trio.open_nursery() as nursery:
        await scene.lookup("d")
        scene.store.asked.clear()
        holds = [scene.store.hold("list"), scene.store.hold("read")]
        nursery.start_soon(scene.nodes, "d")
        with trio.fail_after(10):
            for hold in holds:
                await hold.reached.wait()
        asked_before = asked(scene)
        for hold in holds:
            hold.release()

        assert asked_before == {"list": 1, "read": 1}
        assert seen(await scene.nodes("d")) == first


async def test_index_that_cannot_be_had_ahead_is_asked_for_again(world: World) -> None:
    """It is needed later, if at all: nothing fails, and the listing says why."""
    await world.put_many(10)
    async with world.mount() as scene:
        first = seen(await scene.nodes("d"))
    async with world.mount(ttl_s=60.0) as scene:
        scene.store.refused["read"] = Unreachable("no route")
        assert len(await scene.nodes("d")) == 10
        assert scene.store.asked["stat"] >= 10
        del scene.store.refused["read"]
        assert seen(await scene.nodes("d")) == first


async def test_own_files_are_told_to_other_mounts(world: World) -> None:
    """Files, links, attributes that were changed, and names that were moved."""
    async with world.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.make("d/file", b"bytes")
        await scene.make("d/old", b"bytes")
        await scene.make("d/gone", b"bytes")
        directory = await scene.lookup("d")
        await scene.fs.namespace.symlink(directory, b"link", b"target", CALLER)
        node = await scene.lookup("d/file")
        await scene.fs.attributes.apply(node, Change(uid=12), is_echo=False)
        await scene.fs.renames.rename((directory, b"old"), (directory, b"new"), 0)
        await scene.fs.namespace.unlink(directory, b"gone")

    async with world.mount() as scene:
        nodes = await scene.nodes("d")
        assert asked(scene) == {"list": 1, "read": 1}
    assert seen(nodes) == {"file": 12, "link": 1000, "new": 1000}
    link = nodes["link"].object
    assert link is not None
    assert (link.kind, link.link_target) == (ObjectKind.LINK, "target")


async def test_known_entries_need_no_index(world: World) -> None:
    """Within one mount the index of a directory is asked for once."""
    await world.put_many(50)
    async with world.mount() as scene:
        await scene.nodes("d")
        await scene.nodes("d")
        assert asked(scene) == {"list": 1}


async def test_plain_objects_get_no_index(world: World) -> None:
    """Where nothing has attributes, nothing is written into somebody's bucket."""
    await world.put_many(50, Metadata())
    async with world.mount() as scene:
        await scene.nodes("d")

    assert not any(key.startswith(PREFIX) for key in world.there.bucket.entries)


async def test_without_the_gate_there_is_no_index(world: World) -> None:
    """Nobody reads or writes one."""
    world.features = Features.for_mounts()
    await world.put_many(5)
    async with world.mount() as scene:
        await scene.nodes("d")
        await scene.make("d/file", b"bytes")

    assert not any(key.startswith(PREFIX) for key in world.there.bucket.entries)


async def test_index_is_no_entry_of_any_directory(world: World) -> None:
    """It is hidden, and a directory with nothing but an index is empty."""
    async with world.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.make("d/file", b"bytes")
        await scene.make("file", b"bytes")
    async with world.mount() as scene:
        assert (await scene.nodes("")).keys() == {"d", "file"}
        assert asked(scene)["stat"] == 1  # the marker of `d`, and nothing else
        await scene.fs.namespace.unlink(await scene.lookup("d"), b"file")
        await scene.fs.namespace.rmdir(scene.root, b"d")

    assert world.index("d/") is None


# --- that it never lies -------------------------------------------------------------


async def overwrite(there: MemoryStore) -> None:
    await there.write("d/001", BytesBody(b"y"), metadata=OTHER)


async def chmod(there: MemoryStore) -> None:
    before = await there.stat("d/001")
    after = await there.set_metadata(before, OTHER)
    assert before.version is not None
    assert after.version is not None
    assert before.version.content == after.version.content


async def replace_by_a_copy(there: MemoryStore) -> None:
    await there.write("d/new", BytesBody(b"x"), metadata=OTHER)
    await there.delete("d/001")
    await there.copy("d/new", "d/001")
    await there.delete("d/new")


@pytest.mark.parametrize("change", [overwrite, chmod, replace_by_a_copy])
async def test_foreign_change_is_seen(
    world: World, change: Callable[[MemoryStore], object]
) -> None:
    """Other bytes, other metadata of the same bytes: only that entry is asked anew."""
    await world.put_many(50)
    async with world.mount() as scene:
        await scene.nodes("d")
    await change(world.there)  # type: ignore[misc]  # all of them are coroutines

    async with world.mount() as scene:
        found = seen(await scene.nodes("d"))
        assert asked(scene)["stat"] == 1
    assert found.pop("001") == 8
    assert set(found.values()) == {7}
    async with world.mount() as scene:
        assert seen(await scene.nodes("d"))["001"] == 8
        assert "stat" not in asked(scene), "the index was completed"


async def test_foreign_delete_is_seen(world: World) -> None:
    """The listing says what there is, the index only what it is like."""
    await world.put_many(50)
    async with world.mount() as scene:
        await scene.nodes("d")
    for number in range(40):
        await world.there.delete(f"d/{number:03}")

    async with world.mount() as scene:
        assert len(await scene.nodes("d")) == 10
        assert "stat" not in asked(scene)
    async with world.mount() as scene:
        await scene.nodes("d")
        assert scene.fs.volume.index is not None
        assert len(await scene.fs.volume.index.records("d/")) == 10


async def test_foreign_files_are_asked_for_and_told(world: World) -> None:
    """What the index lacks costs one request, once."""
    await world.put_many(20)
    async with world.mount() as scene:
        await scene.nodes("d")
    for number in range(50):
        await world.there.write(f"d/new{number}", BytesBody(b"x"), metadata=OTHER)

    async with world.mount() as scene:
        assert len(await scene.nodes("d")) == 70
        assert asked(scene)["stat"] == 50
    async with world.mount() as scene:
        await scene.nodes("d")
        assert "stat" not in asked(scene)


async def test_two_mounts_at_once_tell_of_both_their_files(world: World) -> None:
    """Mounts that write into one directory at the same time merge."""
    async with world.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
    async with (
        world.mount() as one,
        world.mount() as other,
        trio.open_nursery() as nursery,
    ):
        for number in range(20):
            nursery.start_soon(one.make, f"d/one{number}", b"bytes")
            nursery.start_soon(other.make, f"d/other{number}", b"bytes")

    async with world.mount() as scene:
        assert len(await scene.nodes("d")) == 40
        assert "stat" not in asked(scene)


async def test_mount_with_other_gates_asks_for_itself(world: World) -> None:
    """What a mount without extended attributes has read says nothing about them."""
    await world.put_many(5)
    async with world.mount() as scene:
        await scene.nodes("d")
    world.features = dataclasses.replace(FEATURES, virtual_xattr=True)

    async with world.mount() as scene:
        await scene.nodes("d")
        assert asked(scene)["stat"] == 5


async def test_index_that_cannot_be_read_costs_requests(world: World) -> None:
    """On a store that keeps metadata it is never needed."""
    await world.put_many(40)
    async with world.mount() as scene:
        await scene.nodes("d")
    async with world.mount() as scene:
        directory = await scene.lookup("d")
        scene.store.refused["read"] = Unreachable("away")
        opened = scene.fs.directories.open(directory)
        assert len(await scene.fs.directories.entries(opened, anew=True)) == 40
        assert scene.store.asked["stat"] >= 40
        scene.fs.directories.release(opened.handle)
        del scene.store.refused["read"]


# --- where nothing else keeps them ----------------------------------------------------


async def attributes_of(scene: Scene, path: str) -> Attributes:
    return (await scene.lookup(path)).attributes


async def test_directory_keeps_its_attributes(forgetful: World) -> None:
    """Mode, owner and times of a directory are those that it was given."""
    async with forgetful.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o700, CALLER)
        node = await scene.lookup("d")
        change = Change(uid=12, mtime_ns=5)
        await scene.fs.attributes.apply(node, change, is_echo=False)
        before = node.attributes

    async with forgetful.mount() as scene:
        assert await attributes_of(scene, "d") == before
        assert (await scene.nodes(""))["d"].attributes == before
    assert (before.mode, before.uid, before.mtime_ns) == (0o40700, 12, 5)


async def test_known_directory_and_its_attributes_are_asked_for_at_once(
    forgetful: World,
) -> None:
    """Whether it is still there, and what the index keeps of it: one round trip."""
    await forgetful.put_many(1)
    async with forgetful.mount(ttl_s=1.0) as scene, trio.open_nursery() as nursery:
        assert scene.fs.volume.index is not None
        clock = Clock()
        clock.now_s = scene.fs.volume.metadata.now_s() + 1.0
        scene.fs.volume.metadata._clock = scene.fs.volume.index._shards._clock = clock
        await scene.lookup("d")
        clock.now_s += 1.0
        scene.store.asked.clear()
        holds = [scene.store.hold("list"), scene.store.hold("read")]
        nursery.start_soon(scene.lookup, "d")
        with trio.fail_after(10):
            for hold in holds:
                await hold.reached.wait()
        for hold in holds:
            hold.release()
        await trio.testing.wait_all_tasks_blocked()
        asked_for_it = asked(scene)

        clock.now_s += 1.0
        scene.store.refused["read"] = Unreachable("no route")
        with pytest.raises(Unreachable):
            await scene.lookup("d")

    assert asked_for_it == {"list": 1, "read": 1}


async def test_attributes_of_a_directory_cost_one_write(forgetful: World) -> None:
    """mkdir(2) is the marker and the index, chmod(2) the index alone."""
    async with forgetful.mount(ttl_s=60) as scene:
        scene.store.asked.clear()
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o700, CALLER)
        assert asked(scene)["write"] == 2
        scene.store.asked.clear()
        node = await scene.lookup("d")
        await scene.fs.attributes.apply(node, Change(mode=0o711), is_echo=False)
        assert asked(scene) == {"write": 1}


async def test_directory_of_another_tool_takes_attributes(forgetful: World) -> None:
    """A directory that exists by its children needs no marker for that."""
    await forgetful.there.write("d/file", BytesBody(b"x"))
    async with forgetful.mount() as scene:
        node = await scene.lookup("d")
        assert node.attributes.mode == 0o40755
        await scene.fs.attributes.apply(node, Change(mode=0o711), is_echo=False)

    assert "d/" not in forgetful.there.bucket.entries
    async with forgetful.mount() as scene:
        assert (await attributes_of(scene, "d")).mode == 0o40711


async def test_directory_made_again_has_new_attributes(forgetful: World) -> None:
    """rmdir(2) forgets them."""
    async with forgetful.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o700, CALLER)
        await scene.fs.namespace.rmdir(scene.root, b"d")
    await forgetful.there.write("d/file", BytesBody(b"x"))

    async with forgetful.mount() as scene:
        assert (await attributes_of(scene, "d")).mode == 0o40755


async def test_renamed_directories_keep_their_attributes(forgetful: World) -> None:
    """The directory itself and all below it, those without a marker, too."""
    await forgetful.there.write("old/plain/file", BytesBody(b"x"))
    async with forgetful.mount() as scene:
        for path, mode in (("old", 0o701), ("old/plain", 0o702)):
            node = await scene.lookup(path)
            await scene.fs.attributes.apply(node, Change(mode=mode), is_echo=False)
        plain = await scene.lookup("old/plain")
        await scene.fs.namespace.mkdir(plain, b"sub", 0o703, CALLER)
        await scene.fs.namespace.mkdir(scene.root, b"to", 0o755, CALLER)
        to = await scene.lookup("to")
        await scene.fs.renames.rename((scene.root, b"old"), (to, b"new"), 0)

    async with forgetful.mount() as scene:
        modes = {
            path: (await attributes_of(scene, path)).mode
            for path in ("to/new", "to/new/plain", "to/new/plain/sub")
        }
        assert list(modes.values()) == [0o40701, 0o40702, 0o40703]
        assert scene.fs.volume.index is not None
        assert (await scene.fs.volume.index.records("")).keys() == {"to/"}
    assert forgetful.index("old/") is None
    assert forgetful.index("old/plain/") is None


async def test_rename_that_fails_leaves_the_attributes(forgetful: World) -> None:
    """What was carried over is taken back with the keys."""
    async with forgetful.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"old", 0o701, CALLER)
        await scene.make("old/file", b"x")
        scene.store.refused["delete_many"] = Unreachable("away")
        with pytest.raises(Unreachable):
            await scene.fs.renames.rename((scene.root, b"old"), (scene.root, b"new"), 0)
        scene.store.refused.clear()

    async with forgetful.mount() as scene:
        assert (await attributes_of(scene, "old")).mode == 0o40701


async def test_root_keeps_its_attributes(world: World, forgetful: World) -> None:
    """The root has no object on any store."""
    for each in (world, forgetful):
        async with each.mount() as scene:
            change = Change(mode=0o700, uid=12)
            await scene.fs.attributes.apply(scene.root, change, is_echo=False)
        async with each.mount() as scene:
            assert scene.root.attributes.mode == 0o40700
            assert scene.root.attributes.uid == 12
            assert await scene.nodes("") == {}


async def test_root_changed_by_another_mount_is_seen_by_a_listing(
    world: World,
) -> None:
    """A listing of the root brings its attributes up to date."""
    async with world.mount() as one, world.mount() as other:
        await other.fs.attributes.apply(other.root, Change(mode=0o711), is_echo=False)
        assert one.root.attributes.mode == 0o40755
        await one.nodes("")
        assert one.root.attributes.mode == 0o40711


async def test_failed_change_is_told(
    forgetful: World, caplog: pytest.LogCaptureFixture
) -> None:
    """chmod(2) of a directory returns when the store has it, and carries its error."""
    async with forgetful.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o700, CALLER)
        node = await scene.lookup("d")
        scene.store.refused["write"] = Unreachable("away")
        with pytest.raises(Unreachable):
            await scene.fs.attributes.apply(node, Change(mode=0o711), is_echo=False)
        assert node.attributes.mode == 0o40700
        with pytest.raises(Unreachable):
            await scene.fs.attributes.apply(
                scene.root, Change(mode=0o711), is_echo=False
            )
        scene.store.refused.clear()
    caplog.clear()


async def test_unknown_attributes_are_not_the_defaults(forgetful: World) -> None:
    """A directory that nobody may enter is not opened because the index is away."""
    async with forgetful.mount() as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o700, CALLER)
    async with forgetful.mount() as scene:
        scene.store.refused["read"] = Unreachable("away")
        with pytest.raises(Unreachable):
            await scene.lookup("d")
        scene.store.refused.clear()


async def test_changes_of_one_directory_share_a_write(forgetful: World) -> None:
    """`chmod *` of many directories at once is a few writes of one index."""
    async with forgetful.mount() as scene:
        for number in range(20):
            name = str(number).encode()
            await scene.fs.namespace.mkdir(scene.root, name, 0o700, CALLER)
        nodes = [await scene.lookup(str(number)) for number in range(20)]
        scene.store.asked.clear()
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(_chmod, scene, node)
        assert scene.store.asked["write"] <= 3


async def _chmod(scene: Scene, node: Node) -> None:
    await scene.fs.attributes.apply(node, Change(mode=0o711), is_echo=False)


async def test_lookup_of_a_directory_asks_for_the_index_once(forgetful: World) -> None:
    """Within the time to live one request tells of all directories of a directory."""
    for number in range(5):
        await forgetful.there.write(f"{number}/file", BytesBody(b"x"))
    async with forgetful.mount(ttl_s=60) as scene:
        scene.store.asked.clear()
        for number in range(5):
            await scene.lookup(str(number))
        assert scene.store.asked["read"] <= 1


async def test_missing_name_needs_no_index(forgetful: World) -> None:
    """Only what is there has attributes."""
    async with forgetful.mount() as scene:
        scene.store.asked.clear()
        assert await scene.fs.namespace.lookup(scene.root, b"missing") is None
        assert "read" not in scene.store.asked
