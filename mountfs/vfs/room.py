"""Keeping the number of names in memory bounded.

The kernel keeps what it was told of a name while it has memory, and as long as that it
may come with the name's number, so that the node stays here. A `find` over a bucket of
ten million objects would take five gigabytes. So when there are too many, the kernel is
asked to forget the files that it was told of first: it answers with FORGET, and their
nodes go. They are looked up, or listed, anew when a program comes for them.

Directories stay (a shell may be in one), and so does whatever is open, was changed, or
has times that the store does not know.
"""

import trio

from mountfs.vfs.inodes import Node
from mountfs.vfs.volume import Outdated, Volume

NAMES_MAX = 1_000_000
LOOK_S, LOOK_MAX_S = 1.0, 60.0
"""How often the nodes are counted; seldom when those that are too many do not go, and
while there cannot be too many: each time wakes the processor, in every mount."""
NEW_PER_S = 100_000
"""No more names come in a second, by listings."""
KEPT_PART = 0.8
"""How much of the most is left when there were too many."""
AT_ONCE = 1000
"""So many nodes are looked at before anybody else has a turn."""


class Room:
    """Makes room when more than `names_max` nodes of a volume are in memory."""

    def __init__(self, volume: Volume, names_max: int = NAMES_MAX) -> None:
        self._volume = volume
        self._names_max = names_max
        self._hurry = trio.Event()

    def keep_at_most(self, names_max: int) -> None:
        """Make room for so many names from now on."""
        self._names_max = names_max
        self._hurry.set()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        pause_s = self._safe_s()
        while True:
            with trio.move_on_after(pause_s):
                await self._hurry.wait()
            self._hurry = trio.Event()
            was_in_vain = bool(await self.make()) and not await self._has_helped()
            pause_s = min(2 * pause_s, LOOK_MAX_S) if was_in_vain else self._safe_s()

    def _safe_s(self) -> float:
        """Return how long there cannot be too many names."""
        left = self._names_max - len(self._volume.inodes)
        return min(max(LOOK_S, left / NEW_PER_S), LOOK_MAX_S)

    async def _has_helped(self) -> bool:
        """Tell whether the kernel, given a moment, has forgotten enough."""
        await trio.sleep(LOOK_S)
        return len(self._volume.inodes) <= self._names_max

    async def make(self) -> int:
        """Ask the kernel to forget what is too much; return how many names that is."""
        if len(self._volume.inodes) <= self._names_max:
            return 0
        wanted = len(self._volume.inodes) - int(self._names_max * KEPT_PART)
        asked = 0
        for number, node in enumerate(self._volume.inodes):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if not _may_go(node):
                continue
            for each in node.names():
                # The channel is short, and emptied by a thread: this waits for it.
                await self._volume.outdated.send(Outdated(each.parent.inode, each.name))
            # Whoever holds it after all does not stand in the way of others next time.
            self._volume.inodes.put_last(node)
            asked += 1
            if asked >= wanted:
                break
        return asked


def _may_go(node: Node) -> bool:
    """Tell whether the kernel knows a file, and nothing is lost if it forgets it."""
    is_in_use = node.opens or node.pins or node.holds_changes
    return not (is_in_use or node.is_directory or node.parent is None) and bool(
        node.lookups
    )
