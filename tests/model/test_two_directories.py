"""The same operations in a mount and on tmpfs: everything visible stays the same.

By default a sample with a fixed seed. AT_LENGTH=1 takes many more examples, and
MODEL_MINUTES=60 as many as fit, one seed after another; each seed is printed.
"""

import functools
import itertools
import operator
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    get_state_machine_test,
    initialize,
    precondition,
    rule,
)

from tests.model.hand import Deed
from tests.model.twins import NAMES, TTL_S, Ground, Look, Twins

MINUTES = float(os.environ.get("MODEL_MINUTES", "0"))
SEED = int(os.environ.get("MODEL_SEED", "20260101"))
IS_LONG = "AT_LENGTH" in os.environ
EXAMPLES = 25
STEPS = 25
SLOTS = 3
REMOUNTS_MAX = 2
FORGET_CHANCE = 5
REMOUNT_CHANCE = 3 if MINUTES or IS_LONG else 8
"""A remount takes longer than all else together: one in so many is done."""
WAITS_MAX = 3

Person = tuple[int, tuple[int, ...]]
PEOPLE: tuple[Person, ...] = ((1001, (1001,)), (1002, (1002, 1001)))


def deed(verb: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Deed]:
    """Draw a deed of one kind."""
    return st.tuples(st.just(verb), *arguments)


names = st.sampled_from(NAMES)
below = st.builds("{}/{}".format, names, names)
deep = st.builds("{}/{}".format, below, names)
paths = st.one_of(names, names, names, below, below, deep)
targets = st.one_of(paths, st.just("nowhere"), st.just("x" * 300))
slots = st.integers(0, SLOTS - 1)
modes = st.sampled_from((0o644, 0o755, 0o600, 0o777, 0o700, 0, 0o1777, 0o2775, 0o6755))
sizes = st.sampled_from((1, 10, 0, 100, 4096, 5000, 131_072, 200_000))
offsets = st.sampled_from((0, 1, 10, 100, 4095, 4096, 8192, 130_000, 300_000))
fills = st.integers(1, 250)
uids = st.sampled_from((-1, 0, 1001, 1002))
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
flags = st.sampled_from((0, 0, 0, 1, 2))
made = st.just(os.O_CREAT | os.O_RDWR)

on_names = st.one_of(
    deed("mkdir", paths, modes),
    deed("mkdir", paths, modes),
    deed("rmdir", paths),
    deed("unlink", paths),
    deed("rename", paths, paths, flags),
    deed("rename", paths, paths, flags),
    deed("link", paths, paths, st.booleans()),
    deed("symlink", targets, paths),
    deed("open", slots, paths, made, modes),
)
on_attributes = st.one_of(
    deed("truncate", paths, sizes),
    deed("chmod", paths, modes),
    deed("chown", paths, uids, uids, st.booleans()),
    deed("utimens", paths, times, moments, st.booleans()),
)
looking = st.one_of(
    deed("readlink", paths),
    deed("stat", paths),
    deed("listdir", paths),
    deed("access", paths, st.integers(0, 7)),
    deed("list_slot", slots),
    deed("read", slots, sizes),
    deed("pread", slots, offsets, sizes),
)
opening = st.one_of(
    deed("open", slots, paths, made, modes),
    deed("open", slots, paths, open_flags, modes),
    deed("open", slots, paths, open_flags, modes),
    deed("dup", slots, slots),
)
on_files = st.one_of(
    deed("pwrite", slots, offsets, sizes, fills),
    deed("pwrite", slots, offsets, sizes, fills),
    deed("write", slots, sizes, fills),
    deed("ftruncate", slots, offsets),
    deed("fsync", slots),
    deed("close", slots),
    deed("copy_range", slots, slots, sizes, offsets),
    deed(
        "map_write",
        slots,
        offsets,
        sizes,
        fills,
        st.sampled_from(("unmap", "sync", "close first")),
    ),
    deed("fchmod", slots, modes),
    deed("fchown", slots, uids, uids),
    deed("futimens", slots, moments, moments),
    deed("make_in_slot", slots, names, modes),
)
anything = st.one_of(on_names, on_names, on_attributes, looking, opening, on_files)
beginnings: st.SearchStrategy[list[Deed]] = st.sampled_from(
    (
        [],
        [("mkdir", "a", 0o755)],
        [("mkdir", "a", 0o777), ("mkdir", "a/a", 0o755), ("mkdir", "b", 0o777)],
        [
            ("mkdir", "a", 0o755),
            ("mkdir", "a/b", 0o755),
            ("open", 0, "a/a", os.O_CREAT | os.O_RDWR, 0o644),
            ("pwrite", 0, 0, 100, 7),
            ("open", 1, "b", os.O_CREAT | os.O_RDWR, 0o666),
            ("pwrite", 1, 0, 5000, 8),
            ("close", 1),
        ],
    )
)


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
        self.twins.do(*deed)

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

    @rule(slot=slots, path=paths, mode=modes, size=sizes, fill=fills)
    def make(self, slot: int, path: str, mode: int, size: int, fill: int) -> None:
        self.do("open", slot, path, os.O_CREAT | os.O_RDWR, mode)
        self.do("pwrite", slot, 0, size, fill)

    @rule(path=paths, count=st.integers(0, 3), deed=on_names)
    def list_while(self, path: str, count: int, deed: Deed) -> None:
        self.do("list_while", path, count, deed)

    @rule(person=st.sampled_from(PEOPLE), deed=anything)
    def as_somebody(self, person: Person, deed: Deed) -> None:
        self.do("as", *person, deed)

    @rule(mask=st.sampled_from((0o022, 0, 0o077)))
    def umask(self, mask: int) -> None:
        self.do("umask", mask)

    @precondition(lambda self: self.waits < WAITS_MAX)
    @rule()
    def wait_beyond_the_ttl(self) -> None:
        self.waits += 1
        self.do("wait", 2.5 * TTL_S)

    @rule(chance=st.integers(1, FORGET_CHANCE))
    def forget(self, chance: int) -> None:
        if chance == 1:
            self.do("forget")

    @precondition(may_remount)
    @rule(is_cold=st.booleans(), chance=st.integers(1, REMOUNT_CHANCE))
    def remount(self, is_cold: bool, chance: int) -> None:
        if chance > 1:
            return
        self.remounts += 1
        self.do("remount cold" if is_cold else "remount")


def seeds() -> Iterator[int]:
    """Yield the seed; if there is time, the next ones until it is over."""
    ends_at = time.monotonic() + 60 * MINUTES
    for seed in itertools.count(SEED):
        yield seed
        if time.monotonic() > ends_at:
            return


def search_of() -> settings:
    """Return how far to look with one seed."""
    return settings(
        max_examples=100 if MINUTES else 400 if IS_LONG else EXAMPLES,
        stateful_step_count=60 if MINUTES or IS_LONG else STEPS,
        derandomize=False,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )


@pytest.mark.timeout(3600 + 120 * MINUTES if MINUTES or IS_LONG else 300)
def test_a_mount_and_tmpfs_show_the_same(ground: Ground, plain: Path) -> None:
    """Whatever is done to both: names, attributes, bytes, errors, through remounts."""

    def machine() -> Directories:
        return Directories(ground, plain)

    for seed in seeds():
        sys.stdout.write(f"seed {seed}\n")
        search = search_of()
        test = get_state_machine_test(machine, settings=search)  # type: ignore[arg-type]
        hypothesis.seed(seed)(test)()
