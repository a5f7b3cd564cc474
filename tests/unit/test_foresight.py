"""`rm -r` of a large directory: its names are asked for before it comes to them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import StoreError
from mountfs.storage.reason import Reason, current_reason
from mountfs.vfs.inodes import Node
from tests.fakes.cache_stack import tiny_store
from tests.fakes.clocks import Clock
from tests.fakes.volume import Scene, open_scene

COUNT = 240
TTL_S = 1.0
STEP_S = TTL_S / 500


@asynccontextmanager
async def listed(path: Path) -> AsyncIterator[tuple[Scene, Clock, list[Node]]]:
    """Mount a store with a large directory, listed for longer than it is believed.

    Its files come in the order of their numbers.
    """
    able = tiny_store(move=False, attributes=False, list_metadata=False)
    there = MemoryStore(capabilities=replace(able, list_page_max=10))
    for number in range(COUNT):
        await there.write(f"d/{number:04}", BytesBody(b"x"))
    clock = Clock()
    async with (
        open_scene(path, there=there, ttl_s=TTL_S, journaled=True) as scene,
        trio.open_nursery() as nursery,
    ):
        scene.fs.volume.metadata._clock = clock
        scene.ledger.now_s = Clock()  # nothing is looked at because it is late
        scene.fs.foresight._names_min = 100
        nursery.start_soon(scene.fs.foresight.run)
        nodes = (await scene.nodes("d")).values()
        for node in nodes:
            node.hand_out()
        clock.now_s += 10 * TTL_S
        scene.store.asked.clear()
        yield scene, clock, sorted(nodes, key=lambda each: each.inode)
        nursery.cancel_scope.cancel()


async def remove(scene: Scene, clock: Clock, nodes: list[Node]) -> int:
    """Remove files as the kernel does; return how often an answer was waited for."""
    waited = 0
    directory = await scene.lookup("d")
    for node in nodes:
        name = node.name
        entry = scene.fs.volume.new_entry(directory, name)
        waited += not scene.fs.resolver.knows(directory, entry)
        assert await scene.fs.namespace.lookup(directory, name) is node
        await scene.fs.namespace.unlink(directory, name)
        scene.fs.volume.inodes.forget(node.inode, 1)
        clock.now_s += STEP_S
        await trio.testing.wait_all_tasks_blocked()
    return waited


async def test_names_are_asked_for_before_a_program_comes_to_them(
    tmp_path: Path,
) -> None:
    """Once each; no page is listed for a few of its names."""
    async with listed(tmp_path) as (scene, clock, nodes):
        waited = await remove(scene, clock, nodes)

        assert waited <= 14
        assert scene.store.asked["stat"] <= COUNT + 14
        assert scene.store.asked["list"] <= 4
        assert await scene.drain()
        assert {key for key in await scene.keys() if key != "d/"} == set()


async def test_another_order_is_asked_for_as_ever(tmp_path: Path) -> None:
    """Nothing is asked for that nobody comes to."""
    async with listed(tmp_path) as (scene, clock, nodes):
        await remove(scene, clock, sorted(nodes, key=lambda each: each.name)[:80])

        assert scene.store.asked["stat"] <= 20
        assert scene.store.asked["list"] <= 20


async def test_what_others_change_is_seen_as_before(tmp_path: Path) -> None:
    """An answer that came ahead is no older than any that is believed."""
    async with listed(tmp_path) as (scene, clock, nodes):
        await remove(scene, clock, nodes[:40])
        gone, changed = (each.key() for each in nodes[220:222])
        await scene.there.delete(gone)
        await scene.put(changed, b"longer")

        await remove(scene, clock, nodes[40:220])

        directory = await scene.lookup("d")
        assert await scene.fs.namespace.lookup(directory, nodes[220].name) is None
        assert await scene.see(changed) == b"longer"


async def test_what_cannot_be_asked_ahead_is_asked_by_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which waits then, and is told what is wrong."""
    async with listed(tmp_path) as (scene, clock, nodes):
        ask = scene.fs.resolver._ask_file

        async def refuse_ahead(key: str) -> object:
            if current_reason() is Reason.REVALIDATE:
                raise StoreError("not now", key=key)
            return await ask(key)

        monkeypatch.setattr(scene.fs.resolver, "_ask_file", refuse_ahead)

        assert await remove(scene, clock, nodes[:40]) >= 30


async def test_a_directory_that_goes_meanwhile_makes_no_removal_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client has removed it, and somebody here has looked it up since."""
    async with listed(tmp_path) as (scene, _clock, nodes):
        directory = await scene.lookup("d")
        remove_file = scene.fs.namespace.remove_file

        async def remove_late(node: Node, parent: Node, name: bytes) -> None:
            await remove_file(node, parent, name)
            scene.fs.volume.inodes.detach(directory)

        monkeypatch.setattr(scene.fs.namespace, "remove_file", remove_late)
        await scene.fs.namespace.unlink(directory, nodes[0].name)

        assert directory.is_nameless


async def test_nothing_is_asked_ahead_that_would_not_be_believed(
    tmp_path: Path,
) -> None:
    """As when a mount is told to believe nothing any more."""
    async with listed(tmp_path) as (scene, clock, nodes):
        await remove(scene, clock, nodes[:40])
        scene.fs.volume.believe_for(0.0)
        scene.store.asked.clear()

        await remove(scene, clock, nodes[40:220])

        assert scene.store.asked["stat"] == 2 * 180  # to find it, and to remove it
