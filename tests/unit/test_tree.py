"""A directory that moves holds off changes below it, and waits for those under way."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mountfs.storage.types import ObjectKind
from mountfs.vfs.inodes import InodeTable, Node
from mountfs.vfs.tree import changing, moving


def tree() -> tuple[Node, Node, Node]:
    """Return the directories /a and /a/b, and /c."""
    table = InodeTable()
    a = table.add(table.root, b"a", "a", ObjectKind.DIRECTORY)
    b = table.add(a, b"b", "b", ObjectKind.DIRECTORY)
    c = table.add(table.root, b"c", "c", ObjectKind.DIRECTORY)
    return a, b, c


async def test_a_move_waits_for_changes_below_it() -> None:
    """No key is left behind under the old name by a change that had begun."""
    a, b, _ = tree()
    order: list[str] = []

    async def move() -> None:
        async with moving(a):
            order.append("moving")

    async with trio.open_nursery() as nursery, changing(b):
        nursery.start_soon(move)
        await wait_all_tasks_blocked()
        order.append("changed")

    assert order == ["changed", "moving"]


async def test_a_change_below_waits_for_the_move() -> None:
    """What begins during a move lands under the new name."""
    a, b, _ = tree()
    order: list[str] = []

    async def change() -> None:
        async with changing(b):
            order.append("changing")

    async with trio.open_nursery() as nursery, moving(a):
        nursery.start_soon(change)
        await wait_all_tasks_blocked()
        order.append("moved")

    assert order == ["moved", "changing"]


async def test_a_change_elsewhere_does_not_wait() -> None:
    """A slow move of one directory leaves the others alone."""
    a, _, c = tree()

    async with moving(a), changing(c):
        pass

    assert c.changes == 0


async def test_a_failed_move_lets_the_changes_go_on() -> None:
    """An error in a move does not hold off its directory for ever."""
    a, b, _ = tree()

    with pytest.raises(ZeroDivisionError):
        async with moving(a):
            _ = 1 / 0

    async with changing(b):
        assert a.changes == 1
