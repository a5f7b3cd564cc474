"""Who may change names and keys while a directory moves.

A directory is moved key by key, so nothing below it may be created, committed or
removed meanwhile: it would land under the old name and stay behind. Changes therefore
announce themselves at every directory above them, and a move waits for those in
progress and holds off new ones, below that directory only.

No deadlock: a change never waits once it has announced itself, and the kernel lets
only one rename between directories run at a time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from mountfs.vfs.inodes import Node


class changing:  # noqa: N801  # it reads as a verb: `async with changing(node)`
    """Change something in these directories (or in these files themselves)."""

    __slots__ = ("_above", "_nodes")

    def __init__(self, *nodes: Node) -> None:
        self._nodes = nodes

    async def __aenter__(self) -> None:
        above = _above(self._nodes)
        while (barrier := _barrier_of(above)) is not None:
            await barrier.wait()
            above = _above(self._nodes)
        self._above = above
        for node in above:
            node.changes += 1

    async def __aexit__(self, *_: object) -> None:
        for node in self._above:
            node.changes -= 1
            if node.changes == 0 and node.quiet is not None:
                node.quiet.set()


@asynccontextmanager
async def moving(directory: Node) -> AsyncIterator[None]:
    """Hold off every change below a directory while its keys move."""
    barrier = trio.Event()
    directory.barrier = barrier
    try:
        while directory.changes > 0:
            directory.quiet = trio.Event()
            await directory.quiet.wait()
        yield
    finally:
        directory.quiet = None
        directory.barrier = None
        barrier.set()


def _above(nodes: tuple[Node, ...]) -> list[Node]:
    """Return the nodes and all directories above: no generators, it is asked often."""
    above: list[Node] = []
    for node in nodes:
        step: Node | None = node
        while step is not None:
            above.append(step)
            step = step.parent
        for alias in node.aliases:
            above += alias.parent.ancestors()
    return above


def _barrier_of(above: list[Node]) -> trio.Event | None:
    for step in above:
        if step.barrier is not None:
            return step.barrier
    return None
