"""Who may do what: mode bits by user, group, other groups and root; sticky bits."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import (
    ALICE,
    BOB,
    OK,
    ROOT,
    TEAM,
    Call,
    Case,
    Who,
    call,
    case,
    sample,
)
from tests.fuse.posix.kinds import KINDS, make, remove
from tests.fuse.posix.place import Place

pytestmark = needs_root

Table = Callable[[], Iterator[Case]]

READ, WRITE, SEARCH = 4, 2, 1
# The file is ALICE's and TEAM's: the shift of the bits that count for each.
CLASSES: dict[Who, int] = {
    ALICE: 6,
    Who(BOB.uid, TEAM): 3,
    Who(BOB.uid, BOB.gid, (62_777, TEAM)): 3,
    Who(ALICE.uid, TEAM, (TEAM,)): 6,
    BOB: 0,
}
MODES = [
    (bits << shift) | ((~bits & 7) << other)
    for shift in (6, 3, 0)
    for other in {6, 3, 0} - {shift}
    for bits in range(8)
]


def _granted(who: Who, mode: int, wanted: int) -> str:
    bits = mode >> CLASSES[who] & 7
    return OK if bits & wanted == wanted else "EACCES"


def files() -> Iterator[Case]:
    for mode in MODES:
        steps: list[tuple[Call, str]] = []
        for who in CLASSES:
            steps += [
                (call("open", "f", os.O_RDONLY).by(who), _granted(who, mode, READ)),
                (call("open", "f", os.O_WRONLY).by(who), _granted(who, mode, WRITE)),
                (call("open", "f", os.O_RDWR).by(who), _granted(who, mode, 6)),
                (call("truncate", "f", 0).by(who), _granted(who, mode, WRITE)),
                (call("touch", "f").by(who), _touched(who, mode)),
            ]
        steps.append((call("open", "f", os.O_RDWR), OK))
        given = [make("file", "f", mode), call("chown", "f", ALICE.uid, TEAM)]
        yield case(f"file 0{mode:03o}", given, *steps)


def _touched(who: Who, mode: int) -> str:
    """The owner always sets times to now, the others with leave to write."""
    return OK if who.uid == ALICE.uid else _granted(who, mode, WRITE)


def directories() -> Iterator[Case]:
    for mode in MODES:
        steps: list[tuple[Call, str]] = []
        for who in CLASSES:
            may_list, may_search = (
                _granted(who, mode, READ),
                _granted(who, mode, SEARCH),
            )
            may_change = _granted(who, mode, WRITE | SEARCH)
            steps += [
                (call("list", "d").by(who), "in" if may_list == OK else may_list),
                (call("enter", "d").by(who), may_search),
                (
                    call("look", "d/in", "kind").by(who),
                    "file" if may_search == OK else may_search,
                ),
                (call("create", "d/new").by(who), may_change),
            ]
            if may_change == OK:
                steps.append((call("unlink", "d/new").by(who), OK))
        steps += [(call("list", "d"), "in"), (call("create", "d/new"), OK)]
        given = [
            call("mkdir", "d", 0o755),
            make("file", "d/in"),
            call("chown", "d", ALICE.uid, TEAM),
            call("chmod", "d", mode),
        ]
        yield case(f"directory 0{mode:03o}", given, *steps)


def _may_take(who: Who, directory: Who, file: Who) -> bool:
    """In a sticky directory: its owner, the owner of what lies in it, and root."""
    return who == ROOT or who.uid in {directory.uid, file.uid}


# --- sticky directories: owner of the directory x of the file x who x kind ----------


def _sticky(owner: Who, kind: str, file_owner: Who, name: str = "f") -> list[Call]:
    return [
        call("mkdir", "d", 0o755),
        call("chown", "d", owner.uid, owner.gid),
        call("chmod", "d", 0o1777),
        make(kind, f"d/{name}"),
        call("lchown", f"d/{name}", file_owner.uid, file_owner.gid),
    ]


def removals() -> Iterator[Case]:
    for kind in KINDS:
        for owner in (ROOT, ALICE, BOB):
            for file_owner in (ROOT, ALICE, BOB):
                for who in (ROOT, ALICE):
                    answer = OK if _may_take(who, owner, file_owner) else "EPERM"
                    yield case(
                        f"sticky of {owner}, a {kind} of {file_owner}",
                        _sticky(owner, kind, file_owner),
                        (remove(kind, "d/f").by(who), answer),
                    )


def renames_out() -> Iterator[Case]:
    for kind in KINDS:
        for owner in (ROOT, ALICE, BOB):
            for file_owner in (ROOT, ALICE, BOB):
                may = _may_take(ALICE, owner, file_owner)
                # A directory that moves gets another `..`: it must be writable.
                if may and kind == "dir" and file_owner != ALICE:
                    answer = "EACCES"
                else:
                    answer = OK if may else "EPERM"
                yield case(
                    f"out of the sticky of {owner}, a {kind} of {file_owner}",
                    [
                        *_sticky(owner, kind, file_owner),
                        call("mkdir", "to", 0o755),
                        call("chmod", "to", 0o777),
                    ],
                    (call("rename", "d/f", "to/f").by(ALICE), answer),
                )
                within = OK if may else "EPERM"
                yield case(
                    f"within the sticky of {owner}, a {kind} of {file_owner}",
                    _sticky(owner, kind, file_owner),
                    (call("rename", "d/f", "d/g").by(ALICE), within),
                )


def renames_over() -> Iterator[Case]:
    for kind in KINDS:
        for owner in (ROOT, ALICE, BOB):
            for file_owner in (ROOT, ALICE, BOB):
                may = _may_take(ALICE, owner, file_owner)
                source = "dir" if kind == "dir" else "file"
                yield case(
                    f"in the sticky of {owner} over a {kind} of {file_owner}",
                    [
                        *_sticky(owner, kind, file_owner),
                        call("mkdir", "from", 0o755),
                        call("chmod", "from", 0o777),
                        make(source, "from/f"),
                        call("chown", "from/f", ALICE.uid, ALICE.gid),
                    ],
                    (
                        call("rename", "from/f", "d/f").by(ALICE),
                        OK if may else "EPERM",
                    ),
                )


@pytest.mark.parametrize("table", [files, directories], ids=["files", "directories"])
def test_mode_bits_of_one_class_count(place: Place, table: Table) -> None:
    """The owner's, the group's or the others' bits decide, never two of them."""
    place.check(sample(list(table()), 12))


@pytest.mark.parametrize(
    "table",
    [removals, renames_out, renames_over],
    ids=["removals", "renames out", "renames over"],
)
def test_sticky_directory_keeps_what_others_own(place: Place, table: Table) -> None:
    """From a sticky directory only owners take away, and root."""
    place.check(sample(list(table()), 24))
