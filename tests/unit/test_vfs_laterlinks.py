"""Second names of files that wait for the store, with durability=journal."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from mountfs.backends.memory import MemoryStore
from mountfs.cache import burst
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import Unreachable
from mountfs.storage.types import Features
from mountfs.vfs import laterlinks
from mountfs.vfs.attributes import Change
from mountfs.vfs.groups import Groups
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

FEATURES = replace(Features.for_mounts(), virtual_hard_link=True)


@pytest.fixture
def there() -> MemoryStore:
    return MemoryStore(capabilities=tiny_store(move=False, attributes=False))


@asynccontextmanager
async def mounted(path: Path, there: MemoryStore) -> AsyncIterator[Scene]:
    async with open_scene(
        path, there=there, features=FEATURES, ttl_s=60.0, journaled=True
    ) as scene:
        yield scene


async def linked(scene: Scene) -> None:
    """Make `temporary`, and give it the name `final` as well."""
    node = await scene.make("temporary", b"bytes")
    await scene.fs.namespace.link(node, scene.root, b"final")


async def check_record(there: MemoryStore, *keys: str) -> None:
    """Compare the one record of a store with what the store has of its names."""
    (group,) = await Groups(there, ttl_s=1.0).all()
    stored = [await there.stat(key) for key in keys]
    assert group.names == {
        each.key: each.version.content for each in stored if each.version is not None
    }


async def names(scene: Scene, path: str = "") -> dict[str, int]:
    """Return what a listing shows, and how many names each file says it has."""
    directories = scene.fs.directories
    directory = await scene.lookup(path) if path else scene.root
    opened = directories.open(directory)
    found: dict[str, int] = {}
    for name, what in await directories.entries(opened, anew=True):
        node = directories.node_of(directory, name, what)
        assert node is not None
        found[name.decode()] = node.links
    directories.release(opened.handle)
    return found


async def test_link_and_removal_of_the_first_name_is_one_file(
    tmp_path: Path, there: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `git` makes its objects: the store sees one PUT, under the last name."""
    # On a busy machine more than the usual time can lie between two of the calls.
    monkeypatch.setattr(burst, "QUIET_S", 60.0)
    monkeypatch.setattr(burst, "LONGEST_S", 60.0)
    async with mounted(tmp_path, there) as scene:
        scene.store.asked.clear()
        await linked(scene)
        await scene.fs.namespace.unlink(scene.root, b"temporary")
        await scene.fs.finish()

        assert await scene.keys() == {"final"}
        assert scene.store.asked["write"] == 1
        assert scene.store.asked["copy"] == scene.store.asked["delete"] == 0
        assert await names(scene) == {"final": 1}
        assert await scene.see("final") == b"bytes"


async def test_loss_of_the_first_name_is_one_transaction(
    tmp_path: Path, there: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file moves and the promise of its second name ends at once, or neither."""
    async with mounted(tmp_path, there) as scene:
        # What is stored meanwhile has transactions of its own.
        scene.store.refused = {"write": Unreachable("no request is to be sent")}
        await linked(scene)
        journal, works = scene.cache.journal, 0
        work = journal._work

        async def counted(each: Any) -> Any:
            nonlocal works
            works += 1
            return await work(each)

        monkeypatch.setattr(journal, "_work", counted)
        await scene.fs.namespace.unlink(scene.root, b"temporary")
        assert works == 1
        assert not await journal.later_links()
        scene.store.refused = {}


async def test_nothing_is_sent_before_a_link_returns(
    tmp_path: Path, there: MemoryStore
) -> None:
    """Nor before either name is removed."""
    async with mounted(tmp_path, there) as scene:
        scene.store.refused = dict.fromkeys(
            ("write", "copy", "read", "delete"), Unreachable("no request is to be sent")
        )
        await linked(scene)
        assert await names(scene) == {"temporary": 2, "final": 2}
        assert await scene.lookup("temporary") is await scene.lookup("final")
        await scene.fs.namespace.unlink(scene.root, b"temporary")
        assert await names(scene) == {"final": 1}
        scene.store.refused = {}


async def test_removal_of_the_second_name_leaves_the_first(
    tmp_path: Path, there: MemoryStore
) -> None:
    """As if it had never been linked."""
    async with mounted(tmp_path, there) as scene:
        await linked(scene)
        await scene.fs.namespace.unlink(scene.root, b"final")
        await scene.fs.finish()

        assert await scene.keys() == {"temporary"}
        assert await names(scene) == {"temporary": 1}


async def test_what_stays_becomes_a_group(tmp_path: Path, there: MemoryStore) -> None:
    """At the latest when somebody waits for the store."""
    async with mounted(tmp_path, there) as scene:
        await linked(scene)
        await scene.fs.flush("final")

        assert await scene.content("temporary") == await scene.content("final")
        assert any(key.startswith(".mountfs/links/") for key in await scene.keys())
        assert await names(scene) == {"temporary": 2, "final": 2}
        assert not await scene.cache.journal.later_links()


async def test_what_is_written_by_one_name_is_read_by_the_other(
    tmp_path: Path, there: MemoryStore
) -> None:
    """Before and after the store has both."""
    async with mounted(tmp_path, there) as scene:
        await linked(scene)
        opened = await scene.open(await scene.lookup("final"))
        await scene.fs.files.write(opened, 0, b"other")
        await scene.close(opened)
        assert await scene.see("temporary") == b"other"
        await scene.fs.finish()

        assert await scene.content("temporary") == b"other"
        assert await scene.content("final") == b"other"


async def test_crash_leaves_both_names(tmp_path: Path, there: MemoryStore) -> None:
    """The link had returned: the next mount makes it."""
    async with mounted(tmp_path, there) as scene:
        scene.store.refused = {"write": Unreachable("the store is away")}
        await linked(scene)

    async with mounted(tmp_path, there) as scene:
        assert await names(scene) == {"temporary": 2, "final": 2}
        assert await scene.lookup("temporary") is await scene.lookup("final")
        assert not await scene.cache.journal.later_links()
        assert not await scene.cache.journal.links()


async def test_crash_after_the_first_name_has_gone(
    tmp_path: Path, there: MemoryStore
) -> None:
    """Its row may still be there: it says nothing any more."""
    async with mounted(tmp_path, there) as scene:
        await linked(scene)
        await scene.fs.namespace.unlink(scene.root, b"temporary")
        await scene.cache.journal.begin_later_link("temporary", "final")

    async with mounted(tmp_path, there) as scene:
        assert await names(scene) == {"final": 1}
        assert not await scene.cache.journal.later_links()


@pytest.mark.parametrize("name", ["temporary", "final"])
async def test_rename_of_either_name(
    tmp_path: Path, there: MemoryStore, name: str
) -> None:
    """The other one goes on meaning the same file."""
    async with mounted(tmp_path, there) as scene:
        await linked(scene)
        ends = ((scene.root, name.encode()), (scene.root, b"moved"))
        await scene.fs.renames.rename(*ends, 0)

        (other,) = {"temporary", "final"} - {name}
        assert await names(scene) == {"moved": 2, other: 2}
        assert await scene.see("moved") == b"bytes"


async def test_directory_with_such_a_name_is_not_empty_and_moves(
    tmp_path: Path, there: MemoryStore
) -> None:
    """Although the store knows of nothing in it."""
    async with mounted(tmp_path, there) as scene:
        namespace = scene.fs.namespace
        directory = await namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        node = await scene.make("temporary", b"bytes")
        await namespace.link(node, directory, b"final")
        with pytest.raises(OSError, match="Errno 39"):
            await namespace.rmdir(scene.root, b"d")
        await scene.fs.renames.rename((scene.root, b"d"), (scene.root, b"e"), 0)

        assert await names(scene, "e") == {"final": 2}
        assert await scene.see("e/final") == b"bytes"


async def test_names_in_a_renamed_directory_stay_names_of_one_file(
    tmp_path: Path, there: MemoryStore
) -> None:
    """For every mount: the record speaks of versions that the store has given."""
    async with mounted(tmp_path, there) as scene:
        namespace, root = scene.fs.namespace, scene.root
        directory = await namespace.mkdir(root, b"d", 0o755, CALLER)
        await scene.put("other", b"other")
        await scene.close(await scene.create(directory, "first", b"bytes"))
        await namespace.link(await scene.lookup("d/first"), root, b"second")
        await scene.fs.renames.rename((root, b"d"), (root, b"e"), 0)
        assert await names(scene, "e") == {"first": 2}
        assert await scene.drain()
        assert await names(scene, "e") == {"first": 2}

    await check_record(there, "e/first", "second")
    async with mounted(tmp_path / "elsewhere", there) as scene:
        assert await names(scene, "e") == {"first": 2}
        opened = await scene.open(await scene.lookup("second"), os.O_WRONLY)
        await scene.fs.files.write(opened, 0, b"BY")
        await scene.close(opened)
        assert await scene.see("e/first") == b"BYtes"
        assert await scene.drain()
        await check_record(there, "e/first", "second")

    assert (await there.read("e/first")).data == b"BYtes"


@pytest.mark.parametrize("changed", ["first", "second"])
async def test_changes_of_such_a_file_are_recorded_as_stored(
    tmp_path: Path, there: MemoryStore, changed: str
) -> None:
    """Be it its attributes or its bytes, by either name."""
    async with mounted(tmp_path, there) as scene:
        await scene.make("first", b"bytes")
        assert await scene.drain()
        await scene.fs.namespace.link(
            await scene.lookup("first"), scene.root, b"second"
        )
        await scene.fs.later_links.settle_below(scene.root)
        await check_record(there, "first", "second")

        node = await scene.lookup(changed)
        await scene.fs.attributes.apply(node, Change(mode=0o640), is_echo=False)
        assert await scene.drain()
        await check_record(there, "first", "second")

        opened = await scene.open(await scene.lookup(changed), os.O_WRONLY)
        await scene.fs.files.write(opened, 0, b"BY")
        await scene.close(opened)
        assert await scene.drain()
        await check_record(there, "first", "second")
        assert await names(scene) == {"first": 2, "second": 2}

    for name in ("first", "second"):
        assert (await there.read(name)).data == b"BYtes"


async def test_directories_without_such_a_name_move_at_once(
    tmp_path: Path, there: MemoryStore
) -> None:
    """They need no store, which may be away."""
    async with mounted(tmp_path, there) as scene:
        root = scene.root
        for name in ("one", "two", "other"):
            await scene.fs.namespace.mkdir(root, name.encode(), 0o755, CALLER)
        node = await scene.make("one/a", b"bytes")
        await scene.fs.namespace.link(node, await scene.lookup("two"), b"b")
        scene.store.refused = dict.fromkeys(
            ("write", "copy", "make_dir", "delete"), Unreachable("the store is away")
        )
        await scene.fs.renames.rename((root, b"other"), (root, b"moved"), 0)
        for holder in (b"one", b"two"):
            with pytest.raises(Unreachable):
                await scene.fs.renames.rename((root, holder), (root, b"new"), 0)
        scene.store.refused = {}

        assert await names(scene, "one") == {"a": 2}
        assert await names(scene, "moved") == {}


async def test_foreign_file_under_the_second_name_wins(
    tmp_path: Path, there: MemoryStore
) -> None:
    """The bytes are under the first name; somebody is told."""
    async with mounted(tmp_path, there) as scene:
        await linked(scene)
        await there.write("final", BytesBody(b"foreign"))
        await scene.fs.later_links.settle_below(scene.root)

        assert await scene.content("final") == b"foreign"
        assert await scene.see("temporary") == b"bytes"
        assert len(list(scene.fs.volume.incidents)) == 1


async def test_store_that_is_away_at_the_next_mount_gets_the_name_later(
    tmp_path: Path, there: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount that finds the promise keeps it, as soon as it can."""
    monkeypatch.setattr(laterlinks, "RETRY_S", 0.01)
    await there.write("temporary", BytesBody(b"bytes"))
    async with mounted(tmp_path, there) as scene:
        await scene.cache.journal.begin_later_link("temporary", "final")
        later = scene.fs.later_links
        await later.load()
        hold = scene.store.hold("stat")
        hold.error = Unreachable("the store is away")
        hold.release()
        await later.recover()
        assert await scene.content("final") is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later.run)
            while await scene.cache.journal.later_links():  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

        assert await names(scene) == {"temporary": 2, "final": 2}


@pytest.mark.parametrize("is_back", [True, False])
async def test_first_name_stays_until_the_second_is_made(
    tmp_path: Path, there: MemoryStore, *, is_back: bool
) -> None:
    """Who removes it after a crash, before the store has the link, would lose both."""
    await there.write("temporary", BytesBody(b"bytes"))
    async with mounted(tmp_path, there) as scene:
        await scene.lookup("temporary")
        await scene.cache.journal.begin_later_link("temporary", "final")
        later = scene.fs.later_links
        await later.load()
        hold = scene.store.hold("stat")
        hold.error = Unreachable("the store is away")
        hold.release()
        await later.recover()
        if not is_back:
            scene.store.refused = {"copy": Unreachable("the store is away")}
        with pytest.raises((OSError, Unreachable)):  # ESTALE: the kernel asks again
            await scene.fs.namespace.unlink(scene.root, b"temporary")
        await there.stat("temporary")  # it is still there
        scene.store.refused = {}
        for _ in range(2):
            with suppress(OSError):
                await scene.fs.namespace.unlink(scene.root, b"temporary")
        assert await scene.drain()

        assert await scene.content("temporary") is None
        assert await scene.see("final") == b"bytes"
        assert await names(scene) == {"final": 1}


async def test_it_is_made_after_a_while(
    tmp_path: Path, there: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anybody who waits for it."""
    monkeypatch.setattr(laterlinks, "WAITS_S", 0.01)
    async with mounted(tmp_path, there) as scene, trio.open_nursery() as nursery:
        nursery.start_soon(scene.fs.later_links.run)
        await linked(scene)
        while scene.fs.later_links:  # noqa: ASYNC110 - there is none to wait for
            await trio.sleep(0.01)
        assert await scene.content("final") == b"bytes"
        nursery.cancel_scope.cancel()
