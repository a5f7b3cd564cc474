"""Files that stay here, when their directories are moved and removed.

The store is a directory of this host, which moves directories by itself, where nothing
else is said. Whoever leaves a scene without draining it dies.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mountfs.backends.local import open_local
from mountfs.storage.errors import StoreError
from mountfs.vfs.rename import EXCHANGE
from tests.fakes.volume import Scene, open_scene
from tests.unit.test_local_only import (
    PATTERNS,
    die_at_the_move,
    mkdir,
    mounted,
    on_disk,
    staying,
)
from tests.unit.test_vfs_journaled import rename, sent


async def make_directory(scene: Scene) -> None:
    """Make one with a file that stays here and one that does not, and store that."""
    await mkdir(scene, "d")
    await scene.make("d/a.tmp", b"bytes")
    await scene.make("d/b", b"real")
    assert await scene.drain()


def there(path: Path) -> set[str]:
    """Return what the store has."""
    bucket = path / "bucket"
    return {str(each.relative_to(bucket)) for each in bucket.rglob("*")}


@pytest.mark.parametrize("durability", ["journal", "store"])
@pytest.mark.parametrize("is_moved", [False, True])
async def test_a_move_that_a_crash_cut_short_is_finished_without_the_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_moved: bool, durability: str
) -> None:
    """Nothing is stored where the directory was: it could not be moved there then."""
    died = tmp_path / "died"

    async with on_disk(tmp_path) as scene:
        await make_directory(scene)
        die_at_the_move(scene, monkeypatch, tmp_path, died, is_moved=is_moved)
        await rename(scene, "d", "e")
    store = open_local(f"file://{died / 'bucket'}", {})
    is_journaled = durability == "journal"
    async with open_scene(died, store=store, journaled=is_journaled) as later:
        assert await later.drain()
        assert there(died) == {"e", "e/a.tmp", "e/b"}
        assert await later.see("e/a.tmp") == b"bytes"
        assert not await later.cache.journal.renames()


async def test_want_of_room_waits_for_a_move_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has stored is stored where the directory is then."""
    async with on_disk(tmp_path) as scene, trio.open_nursery() as nursery:
        await make_directory(scene)
        move = scene.store.move

        async def moving(*details: Any, **options: Any) -> Any:
            moved = await move(*details, **options)
            nursery.start_soon(scene.settling.store_local_only, 5)
            await trio.testing.wait_all_tasks_blocked()
            return moved

        monkeypatch.setattr(scene.store, "move", moving)
        await rename(scene, "d", "e")
        assert await scene.see("e/a.tmp") == b"bytes"
        await scene.settling.settle_name("e/a.tmp")
        assert there(tmp_path) == {"e", "e/a.tmp", "e/b"}


async def test_what_is_released_before_a_move_is_moved_by_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for while the move waited for something else."""
    async with on_disk(tmp_path) as scene, trio.open_nursery() as nursery:
        await make_directory(scene)
        settle = scene.settling.settle_entries
        has_begun: list[bool] = []

        async def settling(waiting: Any) -> None:
            waiting = list(waiting)
            await settle(waiting)
            if not (has_begun or waiting):
                has_begun.append(True)
                nursery.start_soon(scene.settling.store_local_only, 5)
                hold = scene.store.hold("write")
                await hold.reached.wait()
                nursery.start_soon(_release_later, hold)

        monkeypatch.setattr(scene.settling, "settle_entries", settling)
        await rename(scene, "d", "e")
        assert await scene.see("e/a.tmp") == b"bytes"
        assert there(tmp_path) == {"e", "e/a.tmp", "e/b"}


async def _release_later(hold: Any) -> None:
    await trio.testing.wait_all_tasks_blocked()
    hold.release()


async def test_a_move_that_the_store_refuses_leaves_all_where_it_was(
    tmp_path: Path,
) -> None:
    async with on_disk(tmp_path) as scene:
        await make_directory(scene)
        scene.store.refused["move"] = StoreError("not now")
        with pytest.raises(StoreError):
            await rename(scene, "d", "e")
        assert await scene.see("d/a.tmp") == b"bytes"
        assert staying(scene) == ["d/a.tmp"]
        assert not await scene.cache.journal.renames()


async def test_it_outlives_its_directory_if_somebody_else_removes_that(
    tmp_path: Path,
) -> None:
    """It is found, moved and stored as before, and a directory comes with it."""
    async with on_disk(tmp_path) as scene:
        await mkdir(scene, "d")
        await scene.make("d/a.tmp", b"bytes")
        await scene.make("d/b.tmp", b"more")
        assert await scene.drain()
        (tmp_path / "bucket" / "d").rmdir()

        assert set(await scene.nodes("")) == {"d"}
        assert await scene.see("d/a.tmp") == b"bytes"
        await rename(scene, "d", "e")
        assert await scene.see("e/a.tmp") == b"bytes"
        directory = await scene.lookup("e")
        await scene.fs.renames.rename((directory, b"a.tmp"), (directory, b"a"), 0)
        assert await scene.drain()
        assert there(tmp_path) == {"e", "e/a"}
        assert staying(scene) == ["e/b.tmp"]


async def test_it_is_removed_with_a_directory_that_somebody_else_has_removed(
    tmp_path: Path,
) -> None:
    async with on_disk(tmp_path) as scene:
        await mkdir(scene, "d")
        await scene.make("d/a.tmp", b"bytes")
        assert await scene.drain()
        (tmp_path / "bucket" / "d").rmdir()
        await scene.fs.namespace.unlink(await scene.lookup("d"), b"a.tmp")
        assert set(await scene.nodes("")) == set()
        assert await scene.drain()
        assert not len(scene.ledger.table)


async def test_one_transaction_moves_what_the_store_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is journaled besides, which a crash would have carried out once more."""
    async with mounted(tmp_path) as scene:
        await make_directory(scene)
        with monkeypatch.context() as patch:
            patch.delattr(type(scene.cache.journal), "begin_rename")
            await rename(scene, "d", "e")
        assert await scene.see("e/a.tmp") == b"bytes"


async def test_two_that_change_places_stay(tmp_path: Path) -> None:
    async with mounted(tmp_path) as scene:
        await scene.make("a.tmp", b"a")
        await scene.make("b.tmp", b"b")
        await rename(scene, "a.tmp", "b.tmp", EXCHANGE)
        assert await scene.drain()
        assert await scene.see("a.tmp") == b"b"
        assert await scene.see("b.tmp") == b"a"
        assert sorted(staying(scene)) == ["a.tmp", "b.tmp"]
        assert sent(scene.store) == {}


@pytest.mark.parametrize("is_native", [False, True])
async def test_they_stay_where_two_directories_change_places(
    tmp_path: Path, is_native: bool
) -> None:
    async with on_disk(tmp_path) if is_native else mounted(tmp_path) as scene:
        for name in ("d", "e"):
            await mkdir(scene, name)
            await scene.make(f"{name}/a.tmp", name.encode())
        await rename(scene, "d", "e", EXCHANGE)
        assert await scene.drain()
        assert await scene.see("d/a.tmp") == b"e"
        assert await scene.see("e/a.tmp") == b"d"
        assert sorted(staying(scene)) == ["d/a.tmp", "e/a.tmp"]


async def seen(scene: Scene, path: str = "") -> dict[str, bytes]:
    """Return the content of all files at and below a directory."""
    found: dict[str, bytes] = {}
    for name, node in (await scene.nodes(path)).items():
        key = f"{path}/{name}".removeprefix("/")
        if node.is_directory:
            found |= await seen(scene, key)
        else:
            found[key] = await scene.see(key)
    return found


class Deaths:
    """Copies of the state directory and the store, each as a process left them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.paths: list[Path] = []

    def die(self) -> None:
        """Take a copy; the journal is between two transactions."""
        path = self._path / f"died-{len(self.paths)}"
        for name in ("state", "bucket"):
            shutil.copytree(self._path / name, path / name)
        self.paths.append(path)

    def around(self, request: Callable[..., Any]) -> Callable[..., Any]:
        """Die before a request, and after it."""

        async def call(*details: Any, **options: Any) -> Any:
            self.die()
            answer = await request(*details, **options)
            self.die()
            return answer

        return call


@pytest.mark.parametrize("is_kept", [True, False])
async def test_an_exchange_is_finished_wherever_a_crash_has_cut_it_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    """Nothing of it is done twice: the second time it would be to another directory."""
    deaths = Deaths(tmp_path)
    async with on_disk(tmp_path) as scene:
        for name in ("d", "e"):
            await mkdir(scene, name)
            await scene.make(f"{name}/a.tmp", name.encode())
            await scene.make(f"{name}/{name}", b"real")
        assert await scene.drain()
        journal = scene.cache.journal
        for each, call in ((scene.store, "move"), (journal, "change_pending")):
            monkeypatch.setattr(each, call, deaths.around(getattr(each, call)))
        await rename(scene, "d", "e", EXCHANGE)
    assert len(deaths.paths) == 12
    patterns = PATTERNS if is_kept else ("none",)
    for path in deaths.paths:
        async with on_disk(path, *patterns) as later:
            assert await later.drain()
            assert await seen(later) == {
                "d/a.tmp": b"e",
                "d/e": b"real",
                "e/a.tmp": b"d",
                "e/d": b"real",
            }
            assert len(staying(later)) == (2 if is_kept else 0)
            assert not await later.cache.journal.renames()
