"""One file, directory or link that the kernel may know, in as little room as may be.

A node knows its parent and its component; its key is computed by walking up, so that
renaming a directory edits one node. Which nodes there are is the matter of
`mountfs.vfs.inodes`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NewType, TypeVar

import trio

from mountfs.cache.packed import group_in, pack, unpack
from mountfs.cache.shared import shared
from mountfs.storage.types import Attributes, Object, ObjectKind
from mountfs.vfs.filestate import Clean, FileState
from mountfs.vfs.numbers import Number

T = TypeVar("T")
Inode = NewType("Inode", int)

ROOT_INODE = Inode(1)


@dataclass(frozen=True, slots=True, eq=False)
class Alias:
    """One more name of a file, beside its first."""

    parent: "Node"
    name: bytes
    component: str
    is_shadowed: bool = False


class Home:
    """What the nodes of one table share."""

    __slots__ = ("derive", "loaded")

    def __init__(self) -> None:
        self.derive: Callable[[Object], Attributes] = _nothing_is_kept
        """Returns what programs see of an object whose attributes nobody changed."""
        self.loaded: dict[Node, None] = {}
        """The nodes whose `file` was asked for, in that order."""


def _nothing_is_kept(object: Object) -> Attributes:
    return object.attributes or Attributes()


class _Rarely(Generic[T]):
    """A field of a node that has its default but for a few nodes at a time.

    Those have a dictionary for all such fields, of 200 bytes.
    """

    def __init__(self, default: T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, node: "Node", owner: type) -> T:
        rare = node._rare
        return self._default if rare is None else rare.get(self._name, self._default)

    def __set__(self, node: "Node", value: T) -> None:
        rare = node._rare
        if value != self._default:
            if rare is None:
                rare = node._rare = {}
            rare[self._name] = value
        elif rare is not None:
            rare.pop(self._name, None)
            node._rare = rare or None


class Children:
    """The nodes in a directory, by name.

    A name is kept as text, which is the very text that the metadata cache has.
    """

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[bytes]:
        return map(_name_of, self._nodes)

    def __contains__(self, name: bytes) -> bool:
        return _text_of(name) in self._nodes

    def __getitem__(self, name: bytes) -> "Node":
        return self._nodes[_text_of(name)]

    def __setitem__(self, name: bytes, node: "Node") -> None:
        self._nodes[shared(_text_of(name))] = node

    def __delitem__(self, name: bytes) -> None:
        del self._nodes[_text_of(name)]

    def get(self, name: bytes) -> "Node | None":
        """Return the node of a name, if it has one."""
        return self._nodes.get(_text_of(name))

    def values(self) -> "Iterator[Node]":
        """Yield every node, once for each of its names here."""
        return iter(self._nodes.values())

    def items(self) -> "Iterator[tuple[bytes, Node]]":
        """Yield every name with its node."""
        return zip(self, self._nodes.values(), strict=True)


_NO_CHILDREN = Children()
"""Of all that is no directory. Nobody puts anything in."""
_NO_ATTRIBUTES = Attributes()


class Node:
    """One file, directory or link that the kernel may know.

    There may be a million of them, most of which were listed and never opened. So what
    can be made of the rest is made when it is asked for: `object` is kept packed, and
    `attributes` that follow from it and `file` of a file that nobody has opened not at
    all. Two looks at `object` may give two that are equal.

    `file` is there exactly for regular files. `object` is what the store last said of
    it (None while it is only here), `attributes` what programs see, every field of it
    set. `pins` counts the renames under way, in which the store is ahead of the name:
    meanwhile nobody asks it what the name means. `changes`, `quiet` and `barrier`
    belong to `mountfs.vfs.tree`. `parent`, `name`, `component` and `is_shadowed` are
    the first name; `has_left_its_name` says that a lost race gave it that name, and
    that the kernel has not been told of it since. `links` counts all names that the
    store knows, loaded here or not. Of a directory they are two and one for each
    directory in it (that one's `..`), or one as long as nobody knows what is in it.
    A node without `parent` that is not the root has lost its name: unlinked, or
    replaced by a foreign client.
    """

    # Eight are 96 bytes, and a ninth would be 16 more.
    __slots__ = (
        "_home",
        "_object",
        "_rare",
        "_text",
        "inode",
        "kind",
        "lookups",
        "parent",
    )

    children = _Rarely(_NO_CHILDREN)
    links = _Rarely(1)

    aliases = _Rarely[tuple[Alias, ...]](())
    changes = _Rarely(0)
    barrier = _Rarely[trio.Event | None](None)
    quiet = _Rarely[trio.Event | None](None)
    pins = _Rarely(0)
    has_left_its_name = _Rarely(False)
    is_shadowed = _Rarely(False)
    generation = _Rarely(0)
    opens = _Rarely(0)
    _attributes = _Rarely[Attributes | None](None)
    """Only if they do not follow from what is packed."""
    _file = _Rarely[FileState | None](None)
    _component = _Rarely[str | None](None)
    """Only if it is not what `name` says."""

    def __init__(
        self, inode: Inode, kind: ObjectKind, home: Home, generation: int = 0
    ) -> None:
        self._home = home
        self.inode = inode
        self.kind = kind
        self.parent: Node | None = None
        self._text = ""
        self._rare: dict[str, Any] | None = None
        if generation:
            self.generation = generation
        if kind is ObjectKind.DIRECTORY:
            self.children = Children()
        self._object: Object | bytes | tuple[str, bytes] | None = None
        self.lookups = 0

    def hand_out(self) -> None:
        """Count that the kernel is told the node, under a name that it has now."""
        self.lookups += 1
        if self._rare is not None and self.has_left_its_name:
            self.has_left_its_name = False

    @property
    def name(self) -> bytes:
        """The first name."""
        return _name_of(self._text)

    @name.setter
    def name(self, name: bytes) -> None:
        self._text = shared(_text_of(name))

    def attach(self, parent: "Node", name: bytes, component: str) -> None:
        """Get a first name, which is free."""
        text = shared(_text_of(name))
        siblings = parent.children._nodes
        assert text not in siblings, "the name must be free"
        siblings[text] = self
        self.parent, self._text = parent, text
        if self._rare is not None or component != text:
            self.component = component

    @property
    def component(self) -> str:
        """The last component of the key."""
        if self._rare is not None and (other := self._component) is not None:
            return other
        return self._text

    @component.setter
    def component(self, component: str) -> None:
        """Set the component that belongs to `name`."""
        self._component = None if component == self._text else component

    @property
    def object(self) -> Object | None:
        """What the store last said of it."""
        if isinstance(self._object, bytes):
            return unpack(self.key(), self._object)
        if isinstance(self._object, tuple):
            return unpack(*self._object)
        return self._object

    @object.setter
    def object(self, object: Object | None) -> None:
        """Set what the store said; what programs see of the node stays."""
        self.unpack()
        self._object = object

    @property
    def attributes(self) -> Attributes:
        """What programs see."""
        if (known := self._attributes) is not None:
            return known
        if isinstance(self._object, Object | None):
            return _NO_ATTRIBUTES  # it was just made
        packed = self._object if isinstance(self._object, bytes) else self._object[1]
        return self._home.derive(unpack("", packed))

    @attributes.setter
    def attributes(self, attributes: Attributes) -> None:
        self._attributes = attributes

    @property
    def group(self) -> str | None:
        """The id of the hard links it belongs to; `attributes` take longer to ask."""
        if (known := self._attributes) is not None:
            return known.group
        if isinstance(self._object, Object | None):
            return None
        return group_in(
            self._object if isinstance(self._object, bytes) else self._object[1]
        )

    @property
    def file(self) -> FileState | None:
        """The bytes of a regular file."""
        if self._file is None and self.kind is ObjectKind.FILE:
            known = self.object
            if known is not None:
                self.file = FileState(Clean(known))
        return self._file

    @file.setter
    def file(self, file: FileState | None) -> None:
        self._file = file
        if file is not None:
            self._home.loaded[self] = None

    @property
    def loaded_file(self) -> FileState | None:
        """As `file`, but None if nobody has asked for it yet: then nothing changed."""
        return self._file

    @property
    def holds_changes(self) -> bool:
        """Whether it is a file with bytes that the store does not have."""
        return self._file is not None and self._file.holds_changes

    def is_packed_as(self, object: Object) -> bool:
        """Tell whether nothing is new in an object, without a look at what is known."""
        return isinstance(self._object, bytes) and self._object == pack(object)

    def is_kept_as(self, packed: bytes) -> bool:
        """Tell whether the object is kept as these bytes."""
        return isinstance(self._object, bytes) and self._object == packed

    def is_just(self, packed: bytes) -> bool:
        """As `is_kept_as`, of what has one name as far as is known."""
        return self.is_kept_as(packed) and not self.aliases and self.group is None

    def begin_packed(self, object: Object, packed: bytes) -> bool:
        """Know an object from the beginning, in little room, if that can be."""
        if object.key != self.key():
            return False
        self._object, self._attributes = packed, None
        return True

    def pack(self, packed: bytes | None) -> None:
        """Keep the object in little room, until it is another.

        `packed` is what it is elsewhere, of the same content perhaps: then one will do.
        """
        known = self._object
        if not isinstance(known, Object) or self.aliases or self.opens:
            return
        if self.is_nameless or known.key != self.key():
            return
        attributes = self.attributes
        does_follow = attributes == self._home.derive(known)
        self._attributes = None if does_follow else attributes
        # The same may be packed in more than one way: with one for both it is seen at a
        # glance that nothing is new (`is_kept_as`).
        is_same = packed is not None and unpack(known.key, packed) == known
        self._object = packed if is_same else pack(known)

    def unpack(self) -> None:
        """Undo `pack`, before the key becomes another."""
        if isinstance(self._object, bytes | tuple):
            self._attributes, self._object = self.attributes, self.object

    def keep_key(self) -> None:
        """Know the object although the key will not be known; nothing changes it."""
        if isinstance(self._object, bytes):
            self._object = (self.key(), self._object)

    def seen(self) -> tuple[Attributes, int]:
        """Return attributes and size as programs see them."""
        # Without its key, which takes long to put together.
        packed = self._object
        known = unpack("", packed) if isinstance(packed, bytes) else self.object
        if self._rare is None and known is not None and known is not packed:
            attributes = self._home.derive(known)
        else:
            attributes = self.attributes
            if (file := self._file) is not None:
                return attributes, file.size
        has_size = self.kind in (ObjectKind.FILE, ObjectKind.LINK)
        return attributes, (known.size or 0) if known is not None and has_size else 0

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return self.kind is ObjectKind.DIRECTORY

    @property
    def number(self) -> Number:
        """The inode number, and which one of its place it was."""
        return Number(self.inode, self.generation)

    @property
    def is_nameless(self) -> bool:
        """Whether no path leads to the node (any more)."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node.inode != ROOT_INODE

    @property
    def is_lost(self) -> bool:
        """Whether a foreign client took its name, and nobody here."""
        return self.is_nameless and self._object is not None

    @property
    def is_only_here(self) -> bool:
        """Whether it, or a file below it, has bytes that the store lacks.

        Then it exists, whatever the store says.
        """
        return any(node.holds_changes for node in self.below())

    @property
    def is_stored(self) -> bool:
        """Whether the store has an object under this key, be it of older bytes.

        A large file may have been stored in part before its first commit.
        """
        if self._object is not None or self._file is None:
            return self._object is not None
        return self._file.is_stored_early

    def ancestors(self) -> "Iterator[Node]":
        """Yield the node itself and every directory above it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def names(self) -> "Iterator[Alias]":
        """Yield every name that is loaded here, the first one first."""
        if self.parent is not None:
            yield Alias(self.parent, self.name, self.component, self.is_shadowed)
        yield from self.aliases

    def above(self) -> "Iterator[Node]":
        """Yield the node itself and every directory above any of its names."""
        yield from self.ancestors()
        for alias in self.aliases:
            yield from alias.parent.ancestors()

    def key(self) -> str:
        """Return the key: of a directory with a slash at the end, of the root ""."""
        if (above := self.parent) is None:
            assert self.inode == ROOT_INODE, "a node without a name has no key"
            return ""
        key = self.component + "/" if self.is_directory else self.component
        while above.parent is not None:
            key = f"{above.component}/{key}"
            above = above.parent
        assert above.inode == ROOT_INODE, "a node without a name has no key"
        return key

    def key_at(self, parent: "Node", name: bytes) -> str:
        """Return the key that belongs to one of the names."""
        for each in self.names():
            if each.parent is parent and each.name == name:
                tail = "/" if self.is_directory else ""
                return parent.key() + each.component + tail
        raise AssertionError("the name leads to the node")

    def has_other_name(self, parent: "Node", name: bytes) -> bool:
        """Tell whether the node has a name, loaded here, besides this one."""
        return any(
            each.parent is not parent or each.name != name for each in self.names()
        )

    def count_directories(self, more: int) -> None:
        """Note that a directory has so many directories more, or less, in it."""
        if self.links > 1:
            self.links = max(2, self.links + more)

    def below(self) -> "Iterator[Node]":
        """Yield the node and every node in memory whose first name is under it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node._children_by_first_name())

    def _children_by_first_name(self) -> "Iterator[Node]":
        for text, child in self.children._nodes.items():
            if child.parent is self and child._text == text:
                yield child


def _text_of(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _name_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
