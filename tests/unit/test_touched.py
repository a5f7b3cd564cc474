"""Times of directories, on their way to the store in the background."""

import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mountfs.storage.errors import Unreachable
from mountfs.storage.reason import Reason, current_reason
from mountfs.storage.types import ObjectKind
from mountfs.vfs.inodes import InodeTable, Node
from mountfs.vfs.touched import AT_ONCE, INTERVAL_S, Touched


def directories(inodes: InodeTable, count: int) -> list[Node]:
    """Return directories that only the kernel holds."""
    made = []
    for number in range(count):
        name = f"d{number}"
        node = inodes.add(inodes.root, name.encode(), name, ObjectKind.DIRECTORY)
        node.lookups = 1
        made.append(node)
    return made


async def _stored(_: Node) -> None:
    await trio.lowlevel.checkpoint()


async def _never(_: Node) -> None:
    await trio.sleep_forever()


async def test_many_changes_are_stored_once(autojump_clock: MockClock) -> None:
    """Changes within the interval go together, and for the reason they have."""
    inodes = InodeTable()
    (directory,) = directories(inodes, 1)
    touched = Touched(inodes)
    stored: list[tuple[float, Reason]] = []

    async def store(node: Node) -> None:
        assert node is directory
        stored.append((trio.current_time(), current_reason()))

    start_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(touched.run, store)
        for _ in range(25):
            touched.note(directory)
            await trio.sleep(INTERVAL_S / 10)
        await trio.sleep(INTERVAL_S)
        nursery.cancel_scope.cancel()

    assert len(stored) == 3
    assert {reason for _, reason in stored} == {Reason.BACKGROUND}
    assert stored[0][0] - start_s == pytest.approx(INTERVAL_S)
    assert len(touched) == 0


async def test_waiting_directory_outlives_the_kernels_memory() -> None:
    """A directory is held until its times are stored, and then let go."""
    inodes = InodeTable()
    (directory,) = directories(inodes, 1)
    touched = Touched(inodes)
    touched.note(directory)
    inodes.forget(directory.inode, 1)
    assert directory in list(inodes)

    await touched.flush(_stored)

    assert directory not in list(inodes)


async def test_change_while_its_times_are_sent_is_sent_again() -> None:
    """What changes during the request waits for the next one."""
    inodes = InodeTable()
    (directory,) = directories(inodes, 1)
    touched = Touched(inodes)
    stored = []

    async def store(node: Node) -> None:
        stored.append(node)
        if len(stored) == 1:
            touched.note(node)
        await trio.lowlevel.checkpoint()

    touched.note(directory)
    await touched.flush(store)
    waiting = len(touched)
    await touched.flush(store)

    assert waiting == 1
    assert stored == [directory, directory]
    assert len(touched) == 0


async def test_number_of_waiting_directories_is_bounded() -> None:
    """What does not fit is not held, and not stored."""
    inodes = InodeTable()
    touched = Touched(inodes, waiting_max=2)
    made = directories(inodes, 3)

    for node in made:
        touched.note(node)

    assert len(touched) == 2
    assert made[2].opens == 0


async def test_requests_at_the_same_time_are_bounded() -> None:
    """However many wait, only a few are sent at once."""
    inodes = InodeTable()
    touched = Touched(inodes)
    under_way = 0
    most = 0

    async def store(_: Node) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.testing.wait_all_tasks_blocked()
        under_way -= 1

    for node in directories(inodes, 3 * AT_ONCE):
        touched.note(node)
    await touched.flush(store)

    assert most == AT_ONCE


@pytest.mark.parametrize("error", [Unreachable("gone"), OSError("no"), ValueError("x")])
async def test_failure_is_logged_and_no_more(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """A store that refuses the times of one directory gets those of the others."""
    caplog.set_level(logging.INFO, logger="mountfs")
    inodes = InodeTable()
    touched = Touched(inodes)
    bad, good = directories(inodes, 2)
    stored = []

    async def store(node: Node) -> None:
        await trio.lowlevel.checkpoint()
        if node is bad:
            raise error
        stored.append(node)

    touched.note(bad)
    touched.note(good)
    await touched.flush(store)

    assert stored == [good]
    assert len(touched) == 0
    assert "are not stored" in caplog.text


async def test_what_was_cancelled_still_waits() -> None:
    """An unmount in the midst of it leaves the rest to the last flush."""
    inodes = InodeTable()
    touched = Touched(inodes)
    (directory,) = directories(inodes, 1)
    touched.note(directory)

    with trio.move_on_after(0):
        await touched.flush(_never)

    assert len(touched) == 1
