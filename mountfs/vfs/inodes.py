"""Inodes: what the kernel knows of us, and how a node leads to a key.

A node knows its parent and its component; its key is computed by walking up, so that
renaming a directory edits one node. A node lives while the kernel remembers it (lookup
count), while it is open, or while it has children. Its number is never given to another
node: the kernel would take the one for the other.

No I/O. Everything runs on the trio thread; each method is atomic.
"""

import errno
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NewType

import trio

from mountfs.storage.types import Attributes, Object, ObjectKind
from mountfs.vfs.errors import fail
from mountfs.vfs.filestate import FileState

Inode = NewType("Inode", int)

ROOT_INODE = Inode(1)


class Node:
    """One file, directory or link that the kernel may know.

    `file` is there exactly for regular files. `object` is what the store last said of
    it (None while it is only here), `attributes` what programs see, every field of it
    set. `pins` counts the renames under way, in which the store is ahead of the name:
    meanwhile nobody asks it what the name means. `changes`, `quiet` and `barrier`
    belong to `mountfs.vfs.tree`. A node without `parent` that is not the root has lost
    its name: unlinked, or replaced by a foreign client.
    """

    __slots__ = (
        "attributes",
        "barrier",
        "changes",
        "children",
        "component",
        "file",
        "inode",
        "is_shadowed",
        "kind",
        "lookups",
        "name",
        "object",
        "opens",
        "parent",
        "pins",
        "quiet",
    )

    def __init__(self, inode: Inode, kind: ObjectKind) -> None:
        self.inode = inode
        self.kind = kind
        self.parent: Node | None = None
        self.name = b""
        self.component = ""
        self.is_shadowed = False
        self.children: dict[bytes, Node] = {}
        self.object: Object | None = None
        self.attributes = Attributes()
        self.file: FileState | None = None
        self.changes = 0
        self.barrier: trio.Event | None = None
        self.quiet: trio.Event | None = None
        self.lookups = 0
        self.opens = 0
        self.pins = 0

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return self.kind is ObjectKind.DIRECTORY

    @property
    def is_nameless(self) -> bool:
        """Whether no path leads to the node (any more)."""
        *_, top = self.ancestors()
        return top.inode != ROOT_INODE

    @property
    def is_lost(self) -> bool:
        """Whether a foreign client took its name, and nobody here."""
        return self.is_nameless and self.object is not None

    @property
    def is_only_here(self) -> bool:
        """Whether it, or a file below it, has bytes that the store lacks.

        Then it exists, whatever the store says.
        """
        return any(
            node.file is not None and node.file.holds_changes for node in self.below()
        )

    @property
    def is_stored(self) -> bool:
        """Whether the store has an object under this key, be it of older bytes.

        A large file may have been stored in part before its first commit.
        """
        if self.object is not None or self.file is None:
            return self.object is not None
        return self.file.is_stored_early

    def ancestors(self) -> "Iterator[Node]":
        """Yield the node itself and every directory above it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def key(self) -> str:
        """Return the key: of a directory with a slash at the end, of the root ""."""
        assert not self.is_nameless, "a node without a name has no key"
        components = [node.component for node in self.ancestors()][:-1]
        path = "/".join(reversed(components))
        return path + "/" if self.is_directory and components else path

    def below(self) -> "Iterator[Node]":
        """Yield the node and every node under it that is in memory."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())


class InodeTable:
    """All nodes, by number."""

    def __init__(self) -> None:
        self.root = Node(ROOT_INODE, ObjectKind.DIRECTORY)
        self.root.lookups = 1
        self._nodes: dict[Inode, Node] = {ROOT_INODE: self.root}
        self._numbers = itertools.count(ROOT_INODE + 1)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def get(self, inode: int) -> Node:
        """Return the node of a number that the kernel gave us. Raises ESTALE."""
        node = self._nodes.get(Inode(inode))
        if node is None:
            fail(errno.ESTALE, f"inode {inode} is not known")
        return node

    def add(
        self,
        parent: Node,
        name: bytes,
        component: str,
        kind: ObjectKind,
        *,
        is_shadowed: bool = False,
    ) -> Node:
        """Make a new node under a name that has none."""
        node = Node(Inode(next(self._numbers)), kind)
        node.is_shadowed = is_shadowed
        self._nodes[node.inode] = node
        self._attach(node, parent, name, component)
        return node

    def detach(self, node: Node) -> None:
        """Take the name from a node; it lives on while somebody holds it."""
        parent = node.parent
        if parent is None:
            return
        if parent.children.get(node.name) is node:
            del parent.children[node.name]
        node.parent = None
        self._collect(parent)
        self._collect(node)

    def move(self, node: Node, parent: Node, name: bytes, component: str) -> None:
        """Give a node another name; whatever was found under it meanwhile loses it."""
        found = parent.children.get(name)
        if found is not None and found is not node:
            self.detach(found)
        old_parent = node.parent
        if old_parent is not None:
            del old_parent.children[node.name]
        self._attach(node, parent, name, component)
        node.is_shadowed = False
        if old_parent is not None:
            self._collect(old_parent)

    @contextmanager
    def pinned(self, *nodes: Node) -> Iterator[None]:
        """Let names mean these nodes, whatever the store says for now."""
        for node in nodes:
            node.pins += 1
        try:
            yield
        finally:
            for node in nodes:
                node.pins -= 1

    def forget(self, inode: int, count: int) -> None:
        """Take back lookups that the kernel forgot."""
        node = self._nodes.get(Inode(inode))
        if node is not None:
            node.lookups = max(0, node.lookups - count)
            self._collect(node)

    def release(self, node: Node) -> None:
        """Take back one open handle."""
        node.opens -= 1
        self._collect(node)

    def drop_if_unused(self, node: Node) -> None:
        """Forget a node that was made and then not handed to the kernel."""
        self._collect(node)

    def _attach(self, node: Node, parent: Node, name: bytes, component: str) -> None:
        assert name not in parent.children, "the name must be free"
        node.parent, node.name, node.component = parent, name, component
        parent.children[name] = node

    def _collect(self, node: Node) -> None:
        """Drop a node that nobody holds, and then its parents likewise."""
        current: Node | None = node
        while current is not None and self._is_unused(current):
            parent = current.parent
            if parent is not None and parent.children.get(current.name) is current:
                del parent.children[current.name]
            current.parent = None
            self._nodes.pop(current.inode, None)
            current = parent

    def _is_unused(self, node: Node) -> bool:
        if node.inode == ROOT_INODE or node.lookups or node.opens or node.children:
            return False
        # Bytes that are not in the store yet keep their node: it leads to their key.
        return node.file is None or not node.file.holds_changes
