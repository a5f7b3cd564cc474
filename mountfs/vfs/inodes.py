"""Inodes: what the kernel knows of us, and how a node leads to a key.

A node knows its parent and its component; its key is computed by walking up, so that
renaming a directory edits one node. A file may have several names (hard links): the
first is the one that leads to its key, the others are aliases. A node lives while the
kernel remembers it (lookup count), while it is open, or while it has children; some
live on a while because they know times that the store does not (`keep`). While it lives
its number is never given to another node: the kernel would take the one for the other.
Which number that is, is up to `mountfs.vfs.numbers`.

No I/O. Everything runs on the trio thread; each method is atomic.
"""

import errno
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from mountfs.storage.types import ObjectKind
from mountfs.vfs.errors import fail
from mountfs.vfs.node import ROOT_INODE, Alias, Home, Inode, Node
from mountfs.vfs.numbers import Numbers, Place, place_of, place_of_group

__all__ = ["ROOT_INODE", "Alias", "Inode", "InodeTable", "Node"]

KEPT_MAX = 4096
"""So many nodes are kept for their times alone."""


class InodeTable:
    """All nodes, by number."""

    def __init__(self, numbers: Numbers | None = None) -> None:
        self.home = Home()
        self.root = Node(ROOT_INODE, ObjectKind.DIRECTORY, self.home)
        self.root.lookups = 1
        self._nodes: dict[Inode, Node] = {ROOT_INODE: self.root}
        self._groups: dict[str, Node] = {}
        self._kept: OrderedDict[Node, None] = OrderedDict()
        self._numbers = numbers if numbers is not None else Numbers()

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def loaded(self) -> "list[Node]":
        """Return the files that anybody has asked for: no other can be changed."""
        return list(self.home.loaded)

    def get(self, inode: int) -> Node:
        """Return the node of a number that the kernel gave us. Raises ESTALE."""
        node = self._nodes.get(Inode(inode))
        if node is None:
            fail(errno.ESTALE, f"inode {inode} is not known")
        return node

    def find(self, inode: Inode) -> Node | None:
        """Return the node of a number, if it is in memory."""
        return self._nodes.get(inode)

    def add(
        self,
        parent: Node,
        name: bytes,
        component: str,
        kind: ObjectKind,
        *,
        is_shadowed: bool = False,
        group: str | None = None,
    ) -> Node:
        """Make a new node under a name that has none.

        `group` is the id of the hard links that it belongs to, if there are any.
        """
        place = _place(parent, name, kind) if group is None else place_of_group(group)
        number = self._numbers.assign(place, self._nodes.__contains__)
        node = Node(Inode(number.inode), kind, self.home, number.generation)
        if is_shadowed:
            node.is_shadowed = True
        self._nodes[node.inode] = node
        node.attach(parent, name, component)
        return node

    def group(self, id: str) -> Node | None:
        """Return the file of a group of hard links, if it is in memory."""
        return self._groups.get(id)

    def join_group(self, node: Node, id: str) -> None:
        """Note that all names of a group mean this node, and so have its number."""
        if self._groups.get(id) is not node:
            self._groups[id] = node
            self._numbers.keep_if_new(place_of_group(id), node.number)

    def retire_group(self, node: Node) -> None:
        """Note that the last name of a file has gone, also of one with several."""
        id = node.group
        if id is not None:
            self._numbers.retire(node.number, place_of_group(id))

    def add_name(self, node: Node, parent: Node, name: bytes, component: str) -> None:
        """Give a file one more name; its first, if it has none."""
        self._free_name(parent, name)
        if node.parent is None:
            node.attach(parent, name, component)
            node.is_shadowed = False
            return
        parent.children[name] = node
        node.aliases = (*node.aliases, Alias(parent, name, component))

    def detach_name(self, parent: Node, name: bytes) -> None:
        """Take one name from whatever has it; a file may have others.

        If it was the first, the next one becomes the first, and the file has another
        key: whoever calls points what is known of it there.
        """
        node = parent.children.get(name)
        if node is None:
            return
        _unpack_below(node)
        lost = _name_of(node, parent, name)
        del parent.children[name]
        self._drop_name(node, parent, name)
        self._retire_if_nameless(node, lost)
        self._collect(parent)
        self._collect(node)

    def detach(self, node: Node) -> None:
        """Take all names from a node; it lives on while somebody holds it."""
        _unpack_below(node)
        names = list(node.names())
        for each in names:
            if each.parent.children.get(each.name) is node:
                del each.parent.children[each.name]
        node.parent, node.aliases = None, ()
        for each in names:
            self._retire_if_nameless(node, each)
            self._collect(each.parent)
        self._collect(node)

    def move(
        self,
        old: tuple[Node, bytes],
        parent: Node,
        name: bytes,
        component: str,
    ) -> None:
        """Give a name's node another in its place; who had that one loses it."""
        old_parent, old_name = old
        node = old_parent.children[old_name]
        _unpack_below(node)
        if parent.children.get(name) is not node:
            self._free_name(parent, name)
        before, after = _name_of(node, *old), Alias(parent, name, component)
        del old_parent.children[old_name]
        self._replace_name(node, old, after)
        self._move_number(node, before, after)
        self._collect(old_parent)

    def exchange(self, one: tuple[Node, bytes], other: tuple[Node, bytes]) -> None:
        """Let the nodes of two names change places."""
        nodes = [parent.children[name] for parent, name in (one, other)]
        names = [
            _name_of(node, *end) for node, end in zip(nodes, (one, other), strict=True)
        ]
        if nodes[0] is nodes[1]:
            return
        for node in nodes:
            _unpack_below(node)
        self._replace_name(nodes[0], one, names[1])
        self._replace_name(nodes[1], other, names[0])
        self._move_number(nodes[0], *names)
        self._move_number(nodes[1], *reversed(names))

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
                self._collect(node)

    def forget(self, inode: int, count: int) -> None:
        """Take back lookups that the kernel forgot."""
        node = self._nodes.get(Inode(inode))
        if node is not None:
            node.lookups = max(0, node.lookups - count)
            self._collect(node)

    def hold(self, node: Node) -> None:
        """Keep a node in memory, as an open handle does, until its `release`."""
        node.opens += 1

    def put_last(self, node: Node) -> None:
        """Let a node come last when all are gone through."""
        if self._nodes.pop(node.inode, None) is not None:
            self._nodes[node.inode] = node

    def keep(self, node: Node) -> None:
        """Keep a node that knows times which the store does not.

        The kernel may forget it whenever it wants memory; times do not go back then.
        Only the last ones are kept.
        """
        self._kept[node] = None
        self._kept.move_to_end(node)
        if len(self._kept) > KEPT_MAX:
            oldest, _ = self._kept.popitem(last=False)
            self._collect(oldest)

    def release(self, node: Node) -> None:
        """Take back one open handle."""
        node.opens -= 1
        self._collect(node)

    def drop_if_unused(self, node: Node) -> None:
        """Forget a node that was made and then not handed to the kernel."""
        self._collect(node)

    def _replace_name(self, node: Node, old: tuple[Node, bytes], new: Alias) -> None:
        """Put one name of a node in the place of another, in its list as well."""
        new.parent.children[new.name] = node
        if node.parent is old[0] and node.name == old[1]:
            node.parent, node.name = new.parent, new.name
            node.component, node.is_shadowed = new.component, new.is_shadowed
            return
        node.aliases = tuple(
            new if each.parent is old[0] and each.name == old[1] else each
            for each in node.aliases
        )

    def _move_number(self, node: Node, old: Alias, new: Alias) -> None:
        # The names of a group have the number of the group, wherever they are.
        if not self._has_group(node):
            places = [_place(each.parent, each.name, node.kind) for each in (old, new)]
            self._numbers.move(node.number, *places)

    def _retire_if_nameless(self, node: Node, lost: Alias) -> None:
        # A file with several names has perhaps some that are not in memory.
        if node.parent is None and not self._has_group(node):
            place = _place(lost.parent, lost.name, node.kind)
            self._numbers.retire(node.number, place)

    def _has_group(self, node: Node) -> bool:
        id = node.group
        return id is not None and self._groups.get(id) is node

    def _free_name(self, parent: Node, name: bytes) -> None:
        if name in parent.children:
            self.detach_name(parent, name)

    def _drop_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Take a name out of a node's own list; its next one becomes the first."""
        if node.parent is not parent or node.name != name:
            node.aliases = tuple(
                each
                for each in node.aliases
                if each.parent is not parent or each.name != name
            )
            return
        node.parent = None
        if node.aliases:
            first, *others = node.aliases
            node.parent, node.name = first.parent, first.name
            node.component, node.is_shadowed = first.component, first.is_shadowed
            node.aliases = tuple(others)

    def _collect(self, node: Node) -> None:
        """Drop a node that nobody holds, and then its parents likewise."""
        current: Node | None = node
        while current is not None and self._is_unused(current):
            parent = current.parent
            for each in current.names():
                if each.parent.children.get(each.name) is current:
                    del each.parent.children[each.name]
            aliases = current.aliases
            current.keep_key()
            current.parent, current.aliases = None, ()
            self._nodes.pop(current.inode, None)
            self._kept.pop(current, None)
            self.home.loaded.pop(current, None)
            id = current.group
            if id is not None and self._groups.get(id) is current:
                del self._groups[id]
            for alias in aliases:
                self._collect(alias.parent)
            current = parent

    def _is_unused(self, node: Node) -> bool:
        if node.inode == ROOT_INODE or node.lookups or node.opens or node.children:
            return False
        if node.pins or (node in self._kept and not node.is_nameless):
            return False
        # Bytes that are not in the store yet keep their node: it leads to their key.
        return not node.holds_changes


def _unpack_below(top: Node) -> None:
    """Unpack what lies under a name, before that means something else."""
    for node in top.below():
        node.unpack()


def _place(parent: Node, name: bytes, kind: ObjectKind) -> Place:
    is_directory = kind is ObjectKind.DIRECTORY
    return place_of(parent.inode, name, is_directory=is_directory)


def _name_of(node: Node, parent: Node, name: bytes) -> Alias:
    return next(
        each for each in node.names() if each.parent is parent and each.name == name
    )
