"""What a new name is like: kind, mode, owner, links, times, and what it does to its
directory. And who may not make one.
"""

import stat
from collections.abc import Iterator

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import ALICE, OK, ROOT, TEAM, Call, Case, Who, call, case
from tests.fuse.posix.kinds import KINDS, SPECIAL, make, makers, remove
from tests.fuse.posix.place import Place

pytestmark = needs_root

UMASKS = (0o000, 0o022, 0o077, 0o137, 0o777)
MODES = (0o755, 0o151, 0o345, 0o6555, 0o1777, 0o7777)
KIND_OF = {
    "open": "file",
    "mkdir": "dir",
    "mkfifo": "fifo",
    "mknod chr": "chr",
    "mknod blk": "blk",
    "symlink": "link",
    "bind": "socket",
}


def with_mode(path: str, mode: int) -> dict[str, Call]:
    return {
        "file": call("create", path, mode),
        "dir": call("mkdir", path, mode),
        "fifo": call("mkfifo", path, mode),
        "chr": call("mknod", path, "chr", mode),
        "blk": call("mknod", path, "blk", mode),
    }


def modes() -> Iterator[Case]:
    """mkdir(2) has no setuid and setgid bits; all else keeps what the umask leaves."""
    for umask in UMASKS:
        for mode in MODES:
            steps: list[tuple[Call, str]] = []
            for kind, made in with_mode("new", mode).items():
                kept = mode & ~umask & (0o1777 if kind == "dir" else 0o7777)
                steps += [
                    (made, OK),
                    (
                        call("look", "new", "kind mode uid gid"),
                        f"{kind} {kept:04o} 0 0",
                    ),
                    (remove(kind, "new"), OK),
                ]
            title = f"mode 0{mode:o}, umask 0{umask:o}"
            yield case(title, [call("umask", umask)], *steps)


def fresh_things() -> Iterator[Case]:
    for name, made in makers("d/new").items():
        kind = KIND_OF[name]
        links = 2 if kind == "dir" else 1
        watched = call("changes", "d", made.name, *made.args)
        parent_links = 3 if kind == "dir" else 2
        seen = call("look", "d/new", "kind nlink")
        yield case(
            f"a new {kind}",
            [call("mkdir", "d", 0o755)],
            (watched, "d:mc"),
            (seen, f"{kind} {links}"),
            (call("look", "d", "nlink"), str(parent_links)),
            (call("changes", "d", remove(kind, "").name, "d/new"), "d:mc"),
            (seen, "ENOENT"),
            (call("look", "d", "nlink"), "2"),
            (call("list", "d"), ""),
        )
        args = [arg for arg in made.args if arg not in ("target", "d/new")]
        yield case(
            f"times of a new {kind}",
            [call("mkdir", "d", 0o755)],
            (call("born", made.name, "d/new", *args), "now"),
        )
    yield case("an empty file", [make("file", "f")], (call("look", "f", "size"), "0"))
    yield case(
        "a link", [make("link", "l")], (call("look", "l", "size mode"), "6 0777")
    )
    for kind, device in (("chr", "1:7"), ("blk", "7:2")):
        yield case(
            f"the device of a {kind}",
            [make(kind, "dev")],
            (call("look", "dev", "rdev"), device),
        )


def owners() -> Iterator[Case]:
    """The maker's, but in a directory with S_ISGID the directory's group."""
    member = Who(ALICE.uid, ALICE.gid, (TEAM,))
    for who in (ROOT, ALICE, member):
        for directory_mode, gid in ((0o777, who.gid), (0o2777, TEAM)):
            steps: list[tuple[Call, str]] = []
            for name, made in makers("d/new").items():
                if name.startswith("mknod") and who != ROOT:
                    continue
                kind = KIND_OF[name]
                steps += [
                    (made.by(who), OK),
                    (call("look", "d/new", "uid gid"), f"{who.uid} {gid}"),
                ]
                if kind == "dir":
                    bit = stat.S_ISGID if directory_mode & stat.S_ISGID else 0
                    steps.append((call("look", "d/new", "mode"), f"{0o755 | bit:04o}"))
                steps.append((remove(kind, "d/new"), OK))
            yield case(
                f"made by {who} in 0{directory_mode:o}",
                [
                    call("mkdir", "d", 0o755),
                    call("chown", "d", 0, TEAM),
                    call("chmod", "d", directory_mode),
                ],
                *steps,
            )


def setgid_files() -> Iterator[Case]:
    """Who is not in a group makes no programs that run as it."""
    for groups, mode in (((), 0o0775), ((TEAM,), 0o2775)):
        yield case(
            f"a setgid file by one of the groups {groups}",
            [
                call("mkdir", "d", 0o755),
                call("chown", "d", 0, TEAM),
                call("chmod", "d", 0o2777),
                call("umask", 0),
            ],
            (call("create", "d/f", 0o2775).by(Who(ALICE.uid, ALICE.gid, groups)), OK),
            (call("look", "d/f", "mode gid"), f"{mode:04o} {TEAM}"),
        )


def names_that_are_taken() -> Iterator[Case]:
    for kind in KINDS:
        steps = [(made, "EEXIST") for name, made in makers("name").items()]
        at_bind = list(makers("name")).index("bind")
        steps[at_bind] = (steps[at_bind][0], "EADDRINUSE")
        steps += [
            (call("link", "other", "name"), "EEXIST"),
            (call("rename", "other", "name", 1), "EEXIST"),
            (call("look", "name", "kind"), kind),
        ]
        given = [make(kind, "name"), make("file", "other")]
        yield case(f"a {kind} has the name", given, *steps)


def devices_of_others() -> Iterator[Case]:
    """Only root makes devices; the others may make pipes and sockets."""
    for kind in SPECIAL:
        is_device = kind in {"chr", "blk"}
        yield case(
            f"a {kind} by a user",
            [call("mkdir", "d", 0o755), call("chmod", "d", 0o777)],
            (make(kind, "d/new").by(ALICE), "EPERM" if is_device else OK),
        )


TABLES = {
    "modes": modes,
    "fresh": fresh_things,
    "owners": owners,
    "setgid": setgid_files,
    "taken": names_that_are_taken,
    "devices": devices_of_others,
}


@pytest.mark.parametrize("table", TABLES)
def test_new_name_is_what_its_call_says(place: Place, table: str) -> None:
    """Kind, mode, owner, links and times of a new name follow from its call."""
    place.check(list(TABLES[table]()))
