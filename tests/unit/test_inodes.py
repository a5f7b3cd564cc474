"""Nodes and their names: one, several, exchanged, gone."""

import pytest

from mountfs.storage.types import ObjectKind
from mountfs.vfs import inodes
from mountfs.vfs.inodes import InodeTable, Node


@pytest.fixture
def table() -> InodeTable:
    return InodeTable()


def file_at(table: InodeTable, parent: Node, name: bytes) -> Node:
    node = table.add(parent, name, name.decode(), ObjectKind.FILE)
    node.lookups = 1
    return node


def directory_at(table: InodeTable, parent: Node, name: bytes) -> Node:
    node = table.add(parent, name, name.decode(), ObjectKind.DIRECTORY)
    node.lookups = 1
    return node


def test_second_name_leads_to_the_same_node(table: InodeTable) -> None:
    """A hard link is found under both names; the first one is its key."""
    node = file_at(table, table.root, b"a")
    below = directory_at(table, table.root, b"d")

    table.add_name(node, below, b"b", "b")

    assert below.children[b"b"] is node is table.root.children[b"a"]
    assert node.key() == "a"
    assert [each.name for each in node.names()] == [b"a", b"b"]
    assert below in node.above()


def test_next_name_becomes_the_first(table: InodeTable) -> None:
    """When the first name goes, the file has the key of the next one."""
    node = file_at(table, table.root, b"a")
    table.add_name(node, table.root, b"b", "b")

    table.detach_name(table.root, b"a")

    assert node.key() == "b"
    assert not node.is_nameless
    assert b"a" not in table.root.children


def test_node_without_names_is_nameless(table: InodeTable) -> None:
    """The last name that goes leaves the node to those who hold it."""
    node = file_at(table, table.root, b"a")
    table.add_name(node, table.root, b"b", "b")

    table.detach(node)

    assert node.is_nameless
    assert not table.root.children
    assert table.get(node.inode) is node


def test_alias_moves_by_its_own_name(table: InodeTable) -> None:
    """Renaming the second name leaves the first, and the key, alone."""
    node = file_at(table, table.root, b"a")
    table.add_name(node, table.root, b"b", "b")

    table.move((table.root, b"b"), table.root, b"c", "c")

    assert node.key() == "a"
    assert sorted(table.root.children) == [b"a", b"c"]


def test_move_takes_the_name_of_who_is_there(table: InodeTable) -> None:
    """Only the name that is overwritten is lost; a hard link keeps its others."""
    node = file_at(table, table.root, b"a")
    victim = file_at(table, table.root, b"v")
    table.add_name(victim, table.root, b"w", "w")

    table.move((table.root, b"a"), table.root, b"v", "v")

    assert dict(table.root.children.items()) == {b"v": node, b"w": victim}
    assert victim.key() == "w"


def test_names_change_places(table: InodeTable) -> None:
    """After an exchange each node has the other's name, and its children come along."""
    file = file_at(table, table.root, b"f")
    directory = directory_at(table, table.root, b"d")
    child = file_at(table, directory, b"c")

    table.exchange((table.root, b"f"), (table.root, b"d"))

    assert file.key() == "d"
    assert child.key() == "f/c"


def test_tree_is_walked_by_first_names(table: InodeTable) -> None:
    """A file of two names is met once, where its key is."""
    directory = directory_at(table, table.root, b"d")
    node = file_at(table, table.root, b"a")
    table.add_name(node, directory, b"b", "b")

    assert list(directory.below()) == [directory]
    assert set(table.root.below()) == {table.root, directory, node}


def test_forgotten_node_leaves_no_name_behind(table: InodeTable) -> None:
    """The kernel's last forget drops a file, all its names, and empty parents."""
    directory = directory_at(table, table.root, b"d")
    node = file_at(table, table.root, b"a")
    table.add_name(node, directory, b"b", "b")
    table.forget(directory.inode, 1)

    table.forget(node.inode, 1)

    assert len(table) == 1
    assert not table.root.children


def test_node_is_kept_for_its_times_until_others_are(
    table: InodeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel forgets a file, and its times stay: those of the last ones."""
    monkeypatch.setattr(inodes, "KEPT_MAX", 2)
    names = (b"a", b"b", b"c")
    for name in names:
        node = file_at(table, table.root, name)
        table.keep(node)
        table.forget(node.inode, 1)

    assert list(table.root.children) == [b"b", b"c"]


def test_node_without_names_is_not_kept(table: InodeTable) -> None:
    """Nobody asks for the times of what is removed."""
    node = file_at(table, table.root, b"a")
    table.keep(node)

    table.detach(node)
    table.forget(node.inode, 1)

    with pytest.raises(OSError, match="is not known"):
        table.get(node.inode)
