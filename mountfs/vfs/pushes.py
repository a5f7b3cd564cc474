"""Bytes for the kernel's page cache before a program asks for them, and their gate.

A push over a page that a program has written and the kernel has not sent yet replaces
the program's bytes, and nobody can look and then push without a gap in between. So
nothing is pushed to a file that is open for writing; whoever opens it for writing, or
changes its size, waits for a push under way before the kernel gets its answer, and none
begins meanwhile. Of a file that is not open for writing the kernel has sent everything:
its last RELEASE comes after its last WRITE, memory maps included.

What is pushed is the whole of a small file, of the version that its node stands for; a
foreign change gets another node, and so another inode. The node is kept while a push is
under way: its number must not come to mean another file.

Who speaks to the kernel takes pushes from a channel: first `begin`, then the push
itself in a thread of its own, then `end`. If many wait, a push is dropped: a program
that wants the bytes finds them in the block cache.
"""

from dataclasses import dataclass

import trio

from mountfs.storage.types import Object
from mountfs.vfs.inodes import InodeTable, Node

SIZE_MAX = 256 << 10
"""A larger file is read in few requests anyway."""
WAITING_MAX = 64


@dataclass(slots=True, eq=False)
class Push:
    """All bytes of one version of a file, for one inode."""

    inodes: InodeTable
    node: Node
    object: Object
    data: bytes

    def begin(self) -> bool:
        """Close the gate, if the bytes are still right and nobody may change them."""
        node = self.node
        if not node.lookups or node.is_nameless or (file := node.file) is None:
            return False
        if not file.begin_push(self.object):
            return False
        node.lookups += 1
        return True

    def end(self) -> None:
        """Open the gate again."""
        assert self.node.file is not None
        self.node.file.end_push()
        self.inodes.forget(self.node.inode, 1)


class Pushes:
    """The way of pushes from the file system to who speaks to the kernel."""

    def __init__(self, inodes: InodeTable) -> None:
        self._inodes = inodes
        self._sending, self.receiving = trio.open_memory_channel[Push](WAITING_MAX)

    def offer(self, node: Node, object: Object, data: bytes) -> None:
        """Push a file that was just fetched whole, if it is small and few wait."""
        if not 0 < len(data) <= SIZE_MAX or len(data) != object.size:
            return
        try:
            self._sending.send_nowait(Push(self._inodes, node, object, data))
        except (trio.WouldBlock, trio.BrokenResourceError):
            return
