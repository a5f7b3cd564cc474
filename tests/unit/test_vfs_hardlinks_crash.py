"""A crash before and after every request of every change of a hard link.

The journal is taken as it lies on the disk at that moment; what the dying process
still does to it is not part of the next mount.
"""

import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.vfs import groups
from mountfs.vfs.attributes import Change
from tests.fakes.held import Crash
from tests.fakes.volume import Scene
from tests.unit.test_vfs_hardlinks import link, scene_at

OLD, NEW = b"old bytes", b"new"
REQUESTS_MAX = 12
"""More than any of the changes needs."""


async def write(scene: Scene) -> None:
    opened = await scene.open(await scene.lookup("b"))
    await scene.fs.files.truncate(opened.node, 0)
    await scene.fs.files.write(opened, 0, NEW)
    await scene.close(opened)


async def change_mode(scene: Scene) -> None:
    node = await scene.lookup("b")
    await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)


async def make_a_name(scene: Scene) -> None:
    await link(scene, "a", "c")


async def remove_a_name(scene: Scene) -> None:
    await scene.fs.namespace.unlink(scene.root, b"a")


async def rename_a_name(scene: Scene) -> None:
    await scene.fs.renames.rename((scene.root, b"a"), (scene.root, b"c"), 0)


async def rename_over_a_name(scene: Scene) -> None:
    await scene.fs.renames.rename((scene.root, b"other"), (scene.root, b"a"), 0)


CHANGES: list[Callable[[Scene], Awaitable[None]]] = [
    write,
    change_mode,
    make_a_name,
    remove_a_name,
    rename_a_name,
    rename_over_a_name,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
async def test_names_agree_after_a_crash(
    tmp_path: Path, change: Callable[[Scene], Awaitable[None]], is_after: bool
) -> None:
    """Whichever request it was: the names have the same whole bytes and attributes,
    and the record lists just them.
    """
    for number in range(REQUESTS_MAX):
        base = tmp_path / str(number)
        there = await die_at(base, change, number, is_after=is_after)
        if there is None:
            assert number > 1, "nothing was cut short"
            return
        async with scene_at(base / "next", there) as scene:
            await check(scene)
    pytest.fail("the change sends more requests than this test follows")


async def die_at(
    base: Path,
    change: Callable[[Scene], Awaitable[None]],
    number: int,
    *,
    is_after: bool,
) -> MemoryStore | None:
    """Make a change and die at its n-th request; None if it was done before."""
    async with scene_at(base / "first", ttl_s=3600) as scene:
        await scene.make("a", OLD)
        await link(scene, "a", "b")
        await scene.make("other", b"another file")
        scene.store.at_death = lambda: keep_state(base)
        scene.store.dies_at = (number, is_after)
        with contextlib.suppress(Crash):
            await change(scene)
        is_dead, scene.store.dies_at = scene.store.is_dead, None
        return scene.there if is_dead else None


def keep_state(base: Path) -> None:
    """Copy what lies in the state directory at the moment of death."""
    shutil.copytree(base / "first" / "state", base / "next" / "state")


async def check(scene: Scene) -> None:
    """See that every name of the group is what the others are."""
    records = [key for key in await scene.keys() if key.startswith(groups.FOLDER)]
    marked = {
        key
        for key in await scene.keys()
        if "mountfs-link" in (await metadata_of(scene, key))
    }
    assert len(records) == 1
    content = await scene.content(records[0])
    assert content is not None
    names = groups.decode(content, records[0])
    assert set(names) == set(marked), json.dumps(sorted(names))
    found = {await scene.content(key) for key in names}
    assert found in ({OLD}, {NEW})
    modes = {(await metadata_of(scene, key))["mode"] for key in names}
    assert len(modes) == 1
    nodes = {(await scene.lookup(key)).inode for key in names}
    assert len(nodes) == 1
    assert (await scene.lookup(next(iter(names)))).links == len(names)


async def metadata_of(scene: Scene, key: str) -> dict[str, str]:
    stored = (await scene.there.stat(key)).metadata
    return dict(stored.user) if stored is not None else {}
