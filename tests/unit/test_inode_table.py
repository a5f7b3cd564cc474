"""Numbers of files and directories that come, go and change places."""

import os
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from mountfs.storage.types import Attributes, ObjectKind
from mountfs.vfs.inodes import InodeTable, Node
from mountfs.vfs.numbers import Number, Numbers, Place, place_of


class Recorder:
    """What a mount would keep for the next one."""

    def __init__(self) -> None:
        self.kept: dict[Place, Number] = {}

    def note(self, place: Place, number: Number | None) -> None:
        if number is None:
            del self.kept[place]
        else:
            self.kept[place] = number


def test_last_name_of_a_group_takes_its_number_along() -> None:
    """Nothing is kept for a file with several names when the last one has gone."""
    recorder = Recorder()
    table = InodeTable(Numbers(note=recorder.note))
    node = table.add(table.root, b"a", "a", ObjectKind.FILE)
    node.lookups = 1
    node.attributes = Attributes(group="id")
    table.join_group(node, "id")
    kept = dict(recorder.kept)

    table.retire_group(node)
    table.detach_name(table.root, b"a")
    again = table.add(table.root, b"a", "a", ObjectKind.FILE)

    assert list(kept.values()) == [node.number]
    assert again.inode != node.inode
    assert set(recorder.kept.values()) == {again.number}


NAMES = st.sampled_from([b"a", b"b", b"c"])


class Table(RuleBasedStateMachine):
    """Files and directories come, go and change places; mounts end and begin.

    `expected` has the number of every path, as it was given first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.table = InodeTable(Numbers(note=self.recorder.note))
        self.expected: dict[tuple[bytes, ...], int] = {}
        self.seen: set[int] = set()

    def directories(self) -> list[tuple[bytes, ...]]:
        return [(), *(path for path in self.expected if self.node(path).is_directory)]

    def node(self, path: tuple[bytes, ...]) -> Node:
        node = self.table.root
        for name in path:
            node = node.children[name]
        return node

    def below(self, path: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
        return [each for each in self.expected if each[: len(path)] == path]

    def add(self, path: tuple[bytes, ...], kind: ObjectKind) -> Node:
        parent = self.node(path[:-1])
        node = self.table.add(parent, path[-1], path[-1].decode(), kind)
        node.lookups = 1
        return node

    @rule(number=st.integers(0, 20), name=NAMES, is_directory=st.booleans())
    def make(self, number: int, name: bytes, *, is_directory: bool) -> None:
        places = self.directories()
        path = (*places[number % len(places)], name)
        if path in self.expected or len(path) > 3:
            return
        kind = ObjectKind.DIRECTORY if is_directory else ObjectKind.FILE
        node = self.add(path, kind)
        assert node.inode not in self.seen, "the number of another file"
        self.seen.add(node.inode)
        self.expected[path] = node.inode

    @precondition(lambda self: self.expected)
    @rule(number=st.integers(0, 100), is_open=st.booleans())
    def remove(self, number: int, *, is_open: bool) -> None:
        path = list(self.expected)[number % len(self.expected)]
        if len(self.below(path)) > 1:
            return
        node = self.node(path)
        node.opens += is_open
        self.table.detach(node)
        self.table.forget(node.inode, 1)
        del self.expected[path]

    @precondition(lambda self: self.expected)
    @rule(number=st.integers(0, 100), to=st.integers(0, 20), name=NAMES)
    def rename(self, number: int, to: int, name: bytes) -> None:
        old = list(self.expected)[number % len(self.expected)]
        places = self.directories()
        new = (*places[to % len(places)], name)
        if new[: len(old)] == old or len(self.below(new)) > 1:
            return
        parent = self.node(new[:-1])
        victim = parent.children.get(name)
        self.table.move((self.node(old[:-1]), old[-1]), parent, name, name.decode())
        if victim is not None:
            self.table.forget(victim.inode, 1)
            del self.expected[new]
        for path in self.below(old):
            self.expected[new + path[len(old) :]] = self.expected.pop(path)

    @precondition(lambda self: len(self.expected) > 1)
    @rule(one=st.integers(0, 100), two=st.integers(0, 100))
    def exchange(self, one: int, two: int) -> None:
        paths = list(self.expected)
        first, second = paths[one % len(paths)], paths[two % len(paths)]
        if first[: len(second)] == second or second[: len(first)] == first:
            return
        ends = [(self.node(path[:-1]), path[-1]) for path in (first, second)]
        self.table.exchange(*ends)
        moved = {
            new + path[len(old) :]: self.expected.pop(path)
            for old, new in ((first, second), (second, first))
            for path in self.below(old)
        }
        self.expected |= moved

    @precondition(lambda self: self.expected)
    @rule(number=st.integers(0, 100))
    def forget(self, number: int) -> None:
        """Let the kernel forget a name, and look it up again."""
        path = list(self.expected)[number % len(self.expected)]
        if len(self.below(path)) > 1:
            return
        node = self.node(path)
        self.table.forget(node.inode, 1)
        assert node not in list(self.table)
        self.add(path, node.kind)

    @rule(is_kept=st.booleans(), order=st.randoms())
    def remount(self, order: random.Random, *, is_kept: bool) -> None:
        kinds = {path: self.node(path).kind for path in self.expected}
        kept = self.recorder.kept if is_kept else {}
        fresh = Recorder()
        fresh.kept = dict(kept)
        self.recorder = fresh
        self.table = InodeTable(Numbers(kept, note=fresh.note))
        paths = list(kinds)
        order.shuffle(paths)
        for path in sorted(paths, key=len):
            self.add(path, kinds[path])
        # A removed file is forgotten: its number may be given again.
        self.seen = {node.inode for node in self.table}
        if not is_kept:
            # Nothing is known of the past: each has the number of its place.
            self.expected = {path: self.default(path, kinds) for path in paths}

    def default(
        self, path: tuple[bytes, ...], kinds: dict[tuple[bytes, ...], ObjectKind]
    ) -> int:
        number = 1
        for end in range(1, len(path) + 1):
            is_directory = kinds[path[:end]] is ObjectKind.DIRECTORY
            number = place_of(number, path[end - 1], is_directory=is_directory)
        return number

    @invariant()
    def files_have_the_numbers_that_they_had(self) -> None:
        found = {path: self.node(path).inode for path in self.expected}
        assert found == self.expected
        assert len(set(found.values())) == len(found)

    @invariant()
    def what_is_kept_is_what_is_known(self) -> None:
        assert len(self.recorder.kept) == len(self.table._numbers)


TestTable = Table.TestCase
TestTable.settings = settings(
    max_examples=150 if "AT_LENGTH" in os.environ else 50,
    stateful_step_count=30,
    deadline=None,
)
