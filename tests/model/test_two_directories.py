"""The same operations in a mount and on tmpfs: everything visible stays the same."""

import functools
import operator
import os
import stat
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    get_state_machine_test,
    initialize,
    precondition,
    rule,
)

from tests.model.choices import NAMES, free, held, new, settled, slots, some
from tests.model.hand import Deed
from tests.model.search import IS_LONG, TIME_S, search, seeds
from tests.model.twins import TTL_S, Ground, Look, Twins

EXAMPLES = 6
STEPS = 25
REMOUNTS_MAX = 2
REMOUNT_CHANCE = 3 if IS_LONG else 8
"""A remount takes longer than all else together: one in so many is done."""
WAITS_MAX = 3

Person = tuple[int, tuple[int, ...]]
PEOPLE: tuple[Person, ...] = ((1001, (1001,)), (1002, (1002, 1001)))


def deed(verb: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Deed]:
    """Draw a deed of one kind."""
    return st.tuples(st.just(verb), *arguments)


targets = st.one_of(free, free, st.just("nowhere"), st.just("x" * 300))
modes = st.sampled_from((0o644, 0o755, 0o600, 0o777, 0o700, 0, 0o1777, 0o2775, 0o6755))
xattr_names = st.sampled_from(("user.a", "user.b", "trusted.c"))
values = st.sampled_from((b"", b"x", bytes(range(256)), b"v" * 3000))
umasks = st.sampled_from((0o022, 0, 0o007))
"""None takes the group's execute bit, without which the kernel leaves S_ISGID to a FUSE
file that another writes to."""
sizes = st.sampled_from((1, 10, 0, 100, 4096, 5000, 131_072, 200_000))
offsets = st.sampled_from((0, 1, 10, 100, 4095, 4096, 8192, 130_000, 300_000))
fills = st.integers(1, 250)
owners = st.sampled_from(
    ((-1, 0), (1001, -1), (-1, 1001), (0, 0), (1001, 1002), (1002, 1001), (1002, -1))
)
"""Never both -1: the kernel asks a FUSE mount for nothing then, not even permission."""
access_modes = st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
open_flags = st.builds(
    lambda access, *flags: access | functools.reduce(operator.or_, flags, 0),
    access_modes,
    st.sampled_from((0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_DIRECTORY)),
    st.sampled_from((0, os.O_TRUNC)),
    st.sampled_from((0, os.O_APPEND)),
    st.sampled_from((0, 0, os.O_NOFOLLOW)),
)
moments = st.sampled_from((0, 1, 10**9 + 123_456_789, 1_500_000_000_000_000_001, -1))
times = st.sampled_from(("set", "now", "mtime alone"))
special_modes = st.sampled_from(
    tuple(
        kind | mode
        for kind in (
            stat.S_IFIFO,
            stat.S_IFSOCK,
            stat.S_IFCHR,
            stat.S_IFBLK,
            stat.S_IFREG,
        )
        for mode in (0o644, 0o600)
    )
)
flags = st.sampled_from((0, 0, 0, 1, 2))
made = st.just(os.O_CREAT | os.O_RDWR)

on_names = st.one_of(
    deed("mkdir", new, modes),
    deed("mkdir", new, modes),
    deed("rmdir", some("directory")),
    deed("unlink", some("file")),
    deed("unlink", some("any")),
    deed("rename", some(), new, flags),
    deed("rename", some("file"), some("file"), flags),
    deed("rename", some("directory"), some("directory"), flags),
    deed("link", some("file"), new, st.booleans()),
    deed("link", some("file"), new, st.booleans()),
    deed("symlink", targets, new),
    deed("open", slots, new, made, modes),
    deed("mknod", new, special_modes, st.sampled_from((0, 240)), st.integers(0, 300)),
)
on_attributes = st.one_of(
    deed("truncate", some("file"), sizes),
    deed("chmod", some(), modes),
    st.builds(
        lambda path, owner, follow: ("chown", path, *owner, follow),
        some(),
        owners,
        st.booleans(),
    ),
    deed("utimens", some(), times, moments, st.booleans()),
    deed("umask", umasks),
    deed("setxattr", some(), xattr_names, values, st.sampled_from((0, 0, 1, 2))),
    deed("setxattr", some("file"), xattr_names, values, st.just(0)),
    deed("removexattr", some(), xattr_names),
)
looking = st.one_of(
    deed("readlink", some("link")),
    deed("stat", some("link")),
    deed("listdir", some("directory")),
    deed("getxattr", some(), xattr_names),
    deed("access", some(), st.integers(0, 7)),
    deed("list_slot", held),
    deed("read", held, sizes),
    deed("pread", held, offsets, sizes),
)
opening = st.one_of(
    deed("open", slots, new, made, modes),
    deed("open", slots, some("file"), open_flags, modes),
    deed("open", slots, some("file"), open_flags, modes),
    deed("open", slots, some("directory"), st.just(os.O_DIRECTORY), modes),
    deed("dup", held, slots),
)
on_files = st.one_of(
    deed("pwrite", held, offsets, sizes, fills),
    deed("pwrite", held, offsets, sizes, fills),
    deed("write", held, sizes, fills),
    deed("ftruncate", held, offsets),
    deed("fsync", held),
    deed("close", held),
    deed("copy_range", held, held, sizes, offsets),
    deed(
        "map_write",
        held,
        offsets,
        sizes,
        fills,
        st.sampled_from(("unmap", "sync", "close first")),
    ),
    deed("fchmod", held, modes),
    st.builds(lambda slot, owner: ("fchown", slot, *owner), held, owners),
    deed("futimens", held, moments, moments),
    deed("make_in_slot", held, st.sampled_from(NAMES), modes),
)
anything = st.one_of(on_names, on_names, on_attributes, looking, opening, on_files)
some_things: list[Deed] = [
    ("mkdir", "a", 0o777),
    ("mkdir", "a/b", 0o755),
    ("open", 0, "a/a", os.O_CREAT | os.O_RDWR, 0o644),
    ("pwrite", 0, 0, 100, 7),
    ("open", 1, "b", os.O_CREAT | os.O_RDWR, 0o666),
    ("pwrite", 1, 0, 5000, 8),
    ("close", 1),
]
more_things: list[Deed] = [
    *some_things,
    ("link", "b", "a/b/c", False),
    ("symlink", "a", "c"),
    ("mkdir", "a/c", 0o2775),
    ("chown", "a/c", 1001, 1002, False),
]
beginnings = st.sampled_from((some_things, more_things, more_things, []))


class Directories(RuleBasedStateMachine):
    """Draws the deeds."""

    def __init__(self, ground: Ground, plain: Path) -> None:
        super().__init__()
        self.ground = ground
        self.plain = plain
        self.remounts = 0
        self.waits = 0
        self.twins: Twins | None = None

    def teardown(self) -> None:
        """Compare once more, in depth, and clear up."""
        if self.twins is not None and not self.twins.has_failed:
            self.twins.finish()

    @initialize(is_deep=st.booleans(), lookup_first=st.booleans(), begin=beginnings)
    def begin(self, is_deep: bool, lookup_first: bool, begin: list[Deed]) -> None:
        """Enter a new directory, with something in it."""
        self.twins = Twins(self.ground, self.plain, Look(is_deep, lookup_first))
        for deed in begin:
            self.do(*deed)

    def do(self, *deed: object) -> None:
        """Do a deed in both."""
        assert self.twins is not None
        self.twins.do(*settled(deed, self.twins.known))

    def may_remount(self) -> bool:
        """Tell whether there may be a remount: they take long."""
        return self.ground.offer.can_remount and self.remounts < REMOUNTS_MAX

    # Few rules, since an example does without some of them.

    @rule(deed=on_names)
    def change_names(self, deed: Deed) -> None:
        self.do(*deed)

    @rule(deed=on_attributes)
    def change_attributes(self, deed: Deed) -> None:
        self.do(*deed)

    @rule(deed=looking)
    def look(self, deed: Deed) -> None:
        self.do(*deed)

    @rule(deed=opening)
    def open(self, deed: Deed) -> None:
        self.do(*deed)

    @rule(deed=on_files)
    def change_files(self, deed: Deed) -> None:
        self.do(*deed)

    @rule(deed=anything)
    def do_anything(self, deed: Deed) -> None:
        self.do(*deed)

    @rule(slot=slots, path=new, mode=modes, size=sizes, fill=fills)
    def make(self, slot: int, path: object, mode: int, size: int, fill: int) -> None:
        self.do("open", slot, path, os.O_CREAT | os.O_RDWR, mode)
        self.do("pwrite", slot, 0, size, fill)

    @rule(path=some("directory"), count=st.integers(0, 3), deed=on_names)
    def list_while(self, path: object, count: int, deed: Deed) -> None:
        self.do("list_while", path, count, deed)

    @rule(person=st.sampled_from(PEOPLE), deed=anything)
    def as_somebody(self, person: Person, deed: Deed) -> None:
        self.do("as", *person, deed)

    @precondition(lambda self: self.waits < WAITS_MAX)
    @rule(verb=st.sampled_from(("wait", "wait", "wait", "forget")))
    def let_be(self, verb: str) -> None:
        self.waits += 1
        self.do(verb, *([2.5 * TTL_S] if verb == "wait" else []))

    @precondition(may_remount)
    @rule(is_cold=st.booleans(), chance=st.integers(1, REMOUNT_CHANCE))
    def remount(self, is_cold: bool, chance: int) -> None:
        if chance > 1:
            return
        self.remounts += 1
        self.do("remount cold" if is_cold else "remount")


@pytest.mark.timeout(TIME_S)
def test_a_mount_and_tmpfs_show_the_same(ground: Ground, plain: Path) -> None:
    """Whatever is done to both: names, attributes, bytes, errors, through remounts."""

    def machine() -> Directories:
        return Directories(ground, plain)

    for seed in seeds():
        sys.stdout.write(f"seed {seed}\n")
        test = get_state_machine_test(machine, settings=search(EXAMPLES, STEPS))  # type: ignore[arg-type]
        hypothesis.seed(seed)(test)()
