"""Completing a listing: what is asked for, and what is known from an earlier mount."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.storage.types import Attributes, Metadata
from mountfs.vfs.attributes import Change
from mountfs.vfs.learning import SAMPLE_SIZE
from tests.fakes.cache_stack import tiny_store
from tests.fakes.clocks import TickingClock
from tests.fakes.volume import CALLER, Scene, open_scene

MINUTE_NS = 60 * 10**9
"""By the clock of the store so much passes with each object."""
POSIX = Metadata(user={"mode": str(0o100640), "uid": "7"})
TERSE = tiny_store(move=False, attributes=False, list_metadata=False)


@pytest.fixture
def there() -> MemoryStore:
    return MemoryStore(capabilities=TERSE, now_ns=TickingClock(MINUTE_NS))


@asynccontextmanager
async def mounted(directory: Path, there: MemoryStore) -> AsyncIterator[Scene]:
    async with open_scene(directory, there=there) as scene:
        yield scene


async def put_many(there: MemoryStore, count: int, metadata: Metadata) -> None:
    for number in range(count):
        await there.write(f"d/{number:03}", BytesBody(b"x"), metadata=metadata)


async def listed(scene: Scene) -> dict[str, Attributes]:
    """List `d`; return the attributes that programs see."""
    found = await scene.nodes("d")
    return {name: node.attributes for name, node in found.items()}


def heads(scene: Scene) -> int:
    return scene.store.asked["stat"]


async def test_next_mount_with_the_same_cache_asks_nothing(
    tmp_path: Path, there: MemoryStore
) -> None:
    """What was learnt of an object holds for as long as the object stays as it is."""
    await put_many(there, 100, POSIX)
    async with mounted(tmp_path, there) as scene:
        await listed(scene)
        assert heads(scene) == 100

    async with mounted(tmp_path, there) as scene:
        found = await listed(scene)
        assert heads(scene) == 0
    assert {each.uid for each in found.values()} == {7}


async def test_mount_with_another_cache_asks_anew(
    tmp_path: Path, there: MemoryStore
) -> None:
    """The cache may be deleted at any time."""
    await put_many(there, 40, POSIX)
    async with mounted(tmp_path / "one", there) as scene:
        await listed(scene)
    async with mounted(tmp_path / "two", there) as scene:
        await listed(scene)
        assert heads(scene) == 40


async def test_what_changed_since_is_asked_for(
    tmp_path: Path, there: MemoryStore
) -> None:
    """New bytes, other metadata of the same bytes, and new names; nothing else."""
    await put_many(there, 50, POSIX)
    async with mounted(tmp_path, there) as scene:
        await listed(scene)
    other = Metadata(user={"mode": str(0o100600)})
    await there.write("d/001", BytesBody(b"other"), metadata=other)
    await there.set_metadata(await there.stat("d/002"), other)
    await there.write("d/new", BytesBody(b"new"), metadata=other)

    async with mounted(tmp_path, there) as scene:
        found = await listed(scene)
        assert heads(scene) == 3
    changed = {name for name, each in found.items() if each.mode == 0o100600}
    assert changed == {"001", "002", "new"}


async def test_own_files_need_not_be_asked_for(
    tmp_path: Path, there: MemoryStore
) -> None:
    """The answer to a write is as good as that to a question."""
    await there.write("d/", None)
    async with mounted(tmp_path, there) as scene:
        for number in range(5):
            await scene.make(f"d/{number}", b"bytes")

    async with mounted(tmp_path, there) as scene:
        found = await listed(scene)
        assert heads(scene) == 0
    assert {each.uid for each in found.values()} == {1000}


async def test_directory_without_attributes_is_sampled_once(
    tmp_path: Path, there: MemoryStore
) -> None:
    """Plain objects cost one sample, whoever lists them and however often."""
    await put_many(there, 100, Metadata())
    async with mounted(tmp_path, there) as scene:
        await listed(scene)
        assert heads(scene) == SAMPLE_SIZE
        await listed(scene)
        assert heads(scene) == 0

    async with mounted(tmp_path, there) as scene:
        await listed(scene)
        assert heads(scene) == 0


async def test_what_is_newer_than_the_sample_is_sampled(
    tmp_path: Path, there: MemoryStore
) -> None:
    """The first object with attributes in a plain directory makes it another one."""
    await put_many(there, 100, Metadata())
    async with mounted(tmp_path, there) as scene:
        await listed(scene)
    await there.write("d/plain", BytesBody(b"x"))

    async with mounted(tmp_path, there) as scene:
        await listed(scene)
        assert heads(scene) == 1
        await there.write("d/posix", BytesBody(b"x"), metadata=POSIX)
        found = await listed(scene)
        assert heads(scene) == 102 - SAMPLE_SIZE - 1
    assert found["posix"].uid == 7


async def test_own_directory_among_plain_ones_keeps_its_mode(
    tmp_path: Path, there: MemoryStore
) -> None:
    """A listing does not tell of markers, so one known to have attributes is asked."""
    await put_many(there, 60, Metadata())
    for number in range(40):
        await there.write(f"d/a{number}/file", BytesBody(b"x"))
    async with mounted(tmp_path, there) as scene:
        await listed(scene)
        directory = await scene.lookup("d")
        await scene.fs.namespace.mkdir(directory, b"own", 0o700, CALLER)
        found = await listed(scene)
        assert found["own"].mode == 0o40700
    async with mounted(tmp_path, there) as scene:
        assert (await listed(scene))["own"].mode == 0o40700


async def test_change_of_attributes_known_from_the_disk_keeps_the_rest(
    tmp_path: Path, there: MemoryStore
) -> None:
    """The local disk keeps attributes only, so what is not ours is asked for first."""
    foreign = Metadata(user={**POSIX.user, "foreign": "kept"}, pairs={"expires": "0"})
    await put_many(there, 1, foreign)
    async with mounted(tmp_path, there) as scene:
        await listed(scene)
    async with mounted(tmp_path, there) as scene:
        node = (await scene.nodes("d"))["000"]
        assert heads(scene) == 0
        await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
        assert heads(scene) == 1

    kept = there.bucket.entries["d/000"].metadata
    assert (kept.user["foreign"], kept.pairs) == ("kept", {"expires": "0"})


async def test_own_change_while_the_disk_is_asked_wins(
    tmp_path: Path, there: MemoryStore
) -> None:
    """What the disk says of a listing does not undo what was learnt meanwhile."""
    await put_many(there, 1, POSIX)
    async with mounted(tmp_path, there) as scene:
        await listed(scene)
    async with mounted(tmp_path, there) as scene:
        metadata = scene.fs.volume.metadata
        [entry] = metadata.put_listing(
            metadata.begin_listing("d/"), (await there.list("d/")).objects
        )
        asked_at = metadata.moment("d/000")
        newer = metadata.put(await there.write("d/000", BytesBody(b"newer")))

        assert metadata.complete(entry, asked_at) == newer
        assert metadata.last_known("d/000") == newer
