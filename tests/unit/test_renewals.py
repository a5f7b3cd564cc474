"""What is known of directories that are changed is renewed before it is too old."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.reason import Reason, current_reason
from mountfs.vfs import renewals
from mountfs.vfs.busy import CHANGES_MIN, CHANGES_WITHIN_S, PLACES_MAX, Busy
from mountfs.vfs.inodes import Node
from tests.fakes.cache_stack import tiny_store
from tests.fakes.clocks import Clock
from tests.fakes.volume import CALLER, Scene, open_scene

TTL_S = 1.0
TERSE = tiny_store(move=False, attributes=False, list_metadata=False)
SOON_S = renewals.PART * TTL_S


@asynccontextmanager
async def clocked(
    path: Path, *, page: int = 1000, ttl_s: float = TTL_S
) -> AsyncIterator[tuple[Scene, Clock]]:
    """Mount a store whose listings carry no metadata; time passes on demand."""
    clock = Clock()
    there = MemoryStore(capabilities=replace(TERSE, list_page_max=page))
    async with open_scene(path, there=there, ttl_s=ttl_s) as scene:
        scene.fs.volume.metadata._clock = clock
        yield scene, clock


def questions(scene: Scene) -> int:
    return scene.store.asked["stat"] + scene.store.asked["list"]


async def directory_with_files(scene: Scene, count: int = CHANGES_MIN) -> Node:
    """Make a directory, and files in it, as many as make it busy."""
    directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
    for number in range(count):
        await scene.close(await scene.create(directory, f"{number:03}", b"bytes"))
    return directory


async def test_nobody_waits_for_what_is_renewed_in_time(tmp_path: Path) -> None:
    """Neither for the directory, nor for its names, those that are not there too."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await directory_with_files(scene)
        clock.now_s += SOON_S
        await scene.fs.renewals.renew()
        clock.now_s += SOON_S
        scene.store.asked.clear()
        found = await scene.fs.namespace.lookup(scene.root, b"d")
        new = await scene.fs.namespace.lookup(directory, b"new")
        file = await scene.fs.namespace.lookup(directory, b"000")

        assert (found, new) == (directory, None)
        assert file is not None
        assert questions(scene) == 0


async def test_directories_on_the_way_are_renewed(tmp_path: Path) -> None:
    """The kernel asks for each of them, once a time to live."""
    async with clocked(tmp_path) as (scene, clock):
        above = await scene.fs.namespace.mkdir(scene.root, b"above", 0o755, CALLER)
        directory = await scene.fs.namespace.mkdir(above, b"d", 0o755, CALLER)
        for number in range(CHANGES_MIN):
            await scene.close(await scene.create(directory, f"{number}", b"bytes"))
        clock.now_s += SOON_S
        await scene.fs.renewals.renew()
        clock.now_s += SOON_S
        scene.store.asked.clear()

        assert await scene.lookup("above/d") is directory
        assert questions(scene) == 0


async def test_file_that_is_written_again_and_again(tmp_path: Path) -> None:
    """Its directory is renewed; the names in it are not listed for that."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await directory_with_files(scene, 1)
        scene.fs.volume.busy = Busy()
        for _ in range(CHANGES_MIN):
            opened = await scene.open(await scene.lookup("d/000"))
            await scene.fs.files.write(opened, 0, b"other")
            await scene.close(opened)
        clock.now_s += SOON_S
        scene.store.asked.clear()
        await scene.fs.renewals.renew()
        assert questions(scene) == 2, "a LIST of its keys, and a HEAD of its marker"
        clock.now_s += SOON_S
        scene.store.asked.clear()

        assert await scene.fs.namespace.lookup(scene.root, b"d") is directory
        assert questions(scene) == 0


async def test_what_is_good_for_long_enough_is_not_asked_for(tmp_path: Path) -> None:
    """A program may have had it renewed by then."""
    async with clocked(tmp_path) as (scene, _):
        await directory_with_files(scene)
        scene.store.asked.clear()
        await scene.fs.renewals.renew()

        assert questions(scene) == 0


async def test_directory_that_is_not_changed_is_not_asked_about(tmp_path: Path) -> None:
    """One change is none: who looks at it pays, and nobody else does."""
    async with clocked(tmp_path) as (scene, clock):
        await directory_with_files(scene, CHANGES_MIN - 1)
        clock.now_s += SOON_S
        scene.store.asked.clear()
        await scene.fs.renewals.renew()

        assert questions(scene) == 0


async def test_nothing_is_renewed_that_is_not_believed(tmp_path: Path) -> None:
    """With a time to live of nothing each program asks for itself."""
    async with clocked(tmp_path, ttl_s=0.0) as (scene, _):
        await directory_with_files(scene)
        scene.store.asked.clear()
        await scene.fs.renewals.renew()

        assert questions(scene) == 0


async def test_what_others_changed_is_seen_after_it(tmp_path: Path) -> None:
    """Nothing is older than it would be if programs had asked."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await directory_with_files(scene)
        await scene.there.write("d/001", BytesBody(b"other bytes"))
        await scene.there.write("d/new", BytesBody(b"new"))
        await scene.there.delete("d/002")
        clock.now_s += SOON_S
        await scene.fs.renewals.renew()
        clock.now_s += SOON_S

        assert await scene.see("d/001") == b"other bytes"
        assert await scene.see("d/new") == b"new"
        assert await scene.fs.namespace.lookup(directory, b"002") is None


async def test_page_that_is_worked_in_is_renewed(tmp_path: Path) -> None:
    """Of a large directory that one alone."""
    async with clocked(tmp_path, page=50) as (scene, clock):
        for number in range(200):
            await scene.there.write(f"d/{number:03}", BytesBody(b"bytes"))
        assert len(await scene.nodes("d")) == 200
        directory = await scene.lookup("d")
        for number in range(70):
            await scene.fs.namespace.unlink(directory, b"%03d" % number)
            clock.now_s += TTL_S / 20
        clock.now_s += SOON_S
        scene.store.asked.clear()
        await scene.fs.renewals.renew()
        assert scene.store.asked["list"] <= 2, "the page, and the directory itself"
        clock.now_s += SOON_S
        scene.store.asked.clear()
        assert await scene.fs.namespace.lookup(directory, b"072") is not None

        assert questions(scene) == 0


async def test_store_that_refuses_is_asked_by_programs(tmp_path: Path) -> None:
    """Who waits for an answer is told what is wrong; nobody else is."""
    async with clocked(tmp_path) as (scene, clock):
        directory = await directory_with_files(scene)
        clock.now_s += SOON_S
        scene.store.refused["list"] = InvalidRequest("no")
        await scene.fs.renewals.renew()
        clock.now_s += SOON_S

        assert await scene.fs.namespace.lookup(directory, b"000") is not None


async def test_it_waits_for_changes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """While nothing is changed it sleeps; then it renews, not as a program does."""
    assert autojump_clock is not None
    reasons: list[Reason] = []

    async def renew() -> None:
        reasons.append(current_reason())
        if len(reasons) == 2:
            raise ZeroDivisionError

    async with clocked(tmp_path) as (scene, _):
        scene.fs.renewals.renew = renew  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.fs.renewals.run)
            await wait_all_tasks_blocked()
            await directory_with_files(scene)
            assert not reasons
            await trio.sleep(TTL_S)
            assert reasons == [Reason.REVALIDATE]
            await trio.sleep(10 * TTL_S)
            assert len(reasons) == 1
            nursery.cancel_scope.cancel()


async def test_bug_in_it_costs_no_mount(
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told in the log, and programs ask for themselves."""
    assert autojump_clock is not None

    async def renew() -> None:
        raise ZeroDivisionError

    async with clocked(tmp_path) as (scene, _):
        scene.fs.renewals.renew = renew  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.fs.renewals.run)
            await wait_all_tasks_blocked()
            await directory_with_files(scene)
            await trio.sleep(TTL_S)
            nursery.cancel_scope.cancel()

    assert "a bug in mountfs" in caplog.text
    caplog.clear()


async def test_busy_directories_are_told_newest_first() -> None:
    """Those with changes enough, the last of them not long ago."""
    clock = Clock()
    busy = Busy(clock)
    for prefix in ("a/", "b/", "c/"):
        for _ in range(CHANGES_MIN):
            busy.note(prefix)
        clock.now_s += CHANGES_WITHIN_S / 4
    busy.note("d/")

    assert busy.newest(10, CHANGES_WITHIN_S / 2) == ["c/", "b/"]
    assert busy.newest(2, CHANGES_WITHIN_S) == ["c/"], "of the two that were last"


async def test_busy_directories_are_not_remembered_without_end() -> None:
    """The newest are."""
    busy = Busy()
    for number in range(PLACES_MAX + 1):
        for _ in range(CHANGES_MIN):
            busy.note(f"{number}/")

    assert "0/" not in busy
    assert "1/" in busy
    assert 5 not in busy
