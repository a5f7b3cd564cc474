"""chmod, chown and setuid bits: who may change what, and what it changes besides."""

import os
import stat
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
from tests.fuse.posix.kinds import KINDS, WITH_MODE, make
from tests.fuse.posix.place import Place

pytestmark = needs_root

MEMBER = Who(ALICE.uid, ALICE.gid, (TEAM,))
OTHER_TEAM = 62_200
BITS = (0o4755, 0o2755, 0o6755, 0o6711, 0o2644, 0o6666, 0o7777, 0o0644)


def of_alice(kind: str, mode: int | None = None, gid: int = ALICE.gid) -> list[Call]:
    """Make `f`, ALICE's. chown(2) may take bits away: the mode is set after it."""
    given = [make(kind, "f"), call("lchown", "f", ALICE.uid, gid)]
    return [*given, call("chmod", "f", mode)] if mode is not None else given


def mode_changes() -> Iterator[Case]:
    modes = (0o000, 0o111, 0o421, 0o1755, 0o4711, 0o2755, 0o6777, 0o7777)
    for kind in WITH_MODE:
        steps: list[tuple[Call, str]] = []
        for mode in modes:
            for who in (ROOT, ALICE):
                steps += [
                    (call("chmod", "f", mode).by(who), OK),
                    (call("look", "f", "kind mode"), f"{kind} {mode:04o}"),
                ]
            steps.append((call("chmod", "f", 0).by(BOB), "EPERM"))
            steps.append((call("look", "f", "mode"), f"{mode:04o}"))
        steps.append((call("changes", "f", "chmod", "f", 0o640), "f:c"))
        yield case(f"modes of a {kind}", of_alice(kind), *steps)


def setgid_of_foreign_groups() -> Iterator[Case]:
    """Who is not in the file's group cannot give it S_ISGID."""
    for kind in WITH_MODE:
        for who, gid, kept in (
            (ALICE, ALICE.gid, True),
            (ALICE, TEAM, False),
            (MEMBER, TEAM, True),
            (ROOT, TEAM, True),
        ):
            mode = 0o2755 if kept else 0o0755
            yield case(
                f"S_ISGID on a {kind} of {gid} by {who}",
                of_alice(kind, gid=gid),
                (call("chmod", "f", 0o2755).by(who), OK),
                (call("look", "f", "mode"), f"{mode:04o}"),
            )


def modes_through_links() -> Iterator[Case]:
    yield case(
        "chmod of a link",
        [make("file", "target"), make("link", "l"), call("chmod", "l", 0o640)],
        (call("look", "target", "mode"), "0640"),
        (call("look", "l", "mode"), "0777"),
        (call("changes", "target", "chmod", "l", 0o600), "target:c"),
    )
    yield case(
        "chown of a link",
        [make("file", "target"), make("link", "l"), call("chown", "l", 7, 8)],
        (call("look", "target", "uid gid"), "7 8"),
        (call("look", "l", "uid gid"), "0 0"),
        (call("lchown", "l", 9, 10), OK),
        (call("look", "target", "uid gid"), "7 8"),
        (call("look", "l", "uid gid"), "9 10"),
        (call("changes", "target l", "lchown", "l", 11, 12), "target: l:c"),
    )


def owner_changes() -> Iterator[Case]:
    """Owners give their files only to groups that they are in."""
    team = Who(ALICE.uid, ALICE.gid, (TEAM, OTHER_TEAM))
    rows: list[tuple[Who, int, int, str]] = [
        (ROOT, BOB.uid, BOB.gid, OK),
        (ROOT, -1, TEAM, OK),
        (ROOT, BOB.uid, -1, OK),
        (ALICE, ALICE.uid, ALICE.gid, OK),
        (ALICE, -1, ALICE.gid, OK),
        (ALICE, -1, TEAM, "EPERM"),
        (ALICE, BOB.uid, -1, "EPERM"),
        (ALICE, BOB.uid, ALICE.gid, "EPERM"),
        (ALICE, ROOT.uid, -1, "EPERM"),
        (team, -1, TEAM, OK),
        (team, ALICE.uid, OTHER_TEAM, OK),
        (team, -1, BOB.gid, "EPERM"),
        (BOB, BOB.uid, BOB.gid, "EPERM"),
        (BOB, -1, BOB.gid, "EPERM"),
        (BOB, ALICE.uid, ALICE.gid, "EPERM"),
        (BOB, -1, -1, OK),
    ]
    for kind in KINDS:
        for who, uid, gid, answer in rows:
            after = (ALICE.uid, ALICE.gid)
            if answer == OK:
                after = (
                    uid if uid != -1 else ALICE.uid,
                    gid if gid != -1 else ALICE.gid,
                )
            yield case(
                f"owner of a {kind} to {uid}:{gid} by {who}",
                of_alice(kind),
                (call("lchown", "f", uid, gid).by(who), answer),
                (call("look", "f", "kind uid gid"), f"{kind} {after[0]} {after[1]}"),
            )
        yield case(
            f"ctime of a {kind} that changes its owner",
            of_alice(kind),
            (call("changes", "f", "lchown", "f", BOB.uid, BOB.gid), "f:c"),
        )


def _without_rights(mode: int) -> int:
    """Take off what a change by somebody without rights takes off."""
    after = mode & ~stat.S_ISUID
    return after & ~stat.S_ISGID if mode & stat.S_IXGRP else after


def bits_after_chown() -> Iterator[Case]:
    for kind in WITH_MODE:
        for mode in BITS:
            for who, gid in ((ROOT, BOB.gid), (MEMBER, TEAM)):
                after = mode if kind == "dir" else _without_rights(mode)
                yield case(
                    f"chown of a {kind} 0{mode:o} by {who}",
                    of_alice(kind, mode),
                    (call("chown", "f", -1, gid).by(who), OK),
                    (call("look", "f", "mode gid"), f"{after:04o} {gid}"),
                )


def bits_after_writing() -> Iterator[Case]:
    writers = {
        "write": call("write_to", "f", "x"),
        "append": call("write_to", "f", "x", os.O_APPEND),
        "truncate": call("truncate", "f", 1),
        "open with O_TRUNC": call("write_to", "f", "", os.O_TRUNC),
    }
    for name, made in writers.items():
        for mode in (0o4777, 0o2777, 0o6777, 0o6776, 0o1777):
            for who in (BOB, ROOT):
                after = mode if who == ROOT else _without_rights(mode)
                yield case(
                    f"{name} to 0{mode:o} by {who}",
                    [call("fill", "f", "bytes"), call("chmod", "f", mode)],
                    (made.by(who), OK),
                    (call("look", "f", "mode"), f"{after:04o}"),
                )


TABLES: dict[str, tuple[Callable[[], Iterator[Case]], int]] = {
    "modes": (mode_changes, 6),
    "S_ISGID": (setgid_of_foreign_groups, 24),
    "through links": (modes_through_links, 2),
    "owners": (owner_changes, 24),
    "bits after chown": (bits_after_chown, 24),
    "bits after writing": (bits_after_writing, 24),
}


@pytest.mark.parametrize("table", TABLES)
def test_attributes_change_for_whom_they_may(place: Place, table: str) -> None:
    """Modes and owners are changed by whom POSIX lets, and nothing else with them."""
    cases, count = TABLES[table]
    place.check(sample(list(cases()), count))
