"""Which times move, by which call, and who may set them."""

from collections.abc import Callable, Iterator
from os import O_APPEND, O_CREAT, O_TRUNC, O_WRONLY

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import ALICE, BOB, OK, ROOT, Call, Case, Who, call, case
from tests.fuse.posix.kinds import KINDS, NOT_DIRECTORIES, make, remove
from tests.fuse.posix.place import Place

pytestmark = needs_root


def files() -> Iterator[Case]:
    rows: dict[str, tuple[str, str, tuple[str | int, ...], str]] = {
        "a longer size": ("f", "truncate", ("f", 9), "f:mc"),
        "a shorter size": ("f", "truncate", ("f", 1), "f:mc"),
        "writing": ("f", "write_to", ("f", "xy"), "f:mc"),
        "appending": ("f", "write_to", ("f", "xy", O_APPEND), "f:mc"),
        "open with O_TRUNC": ("f", "open", ("f", O_WRONLY | O_TRUNC), "f:mc"),
        "open with O_CREAT": ("f d", "open", ("f", O_WRONLY | O_CREAT), "f: d:"),
        "open to write": ("f", "open", ("f", O_WRONLY), "f:"),
        "chmod": ("f", "chmod", ("f", 0o600), "f:c"),
        "chown": ("f", "chown", ("f", 1, 2), "f:c"),
        "utimensat": ("f", "utimens", ("f", "7.0", "8.0"), "f:amc"),
        "utimensat of the atime": ("f", "utimens", ("f", "7.0", "omit"), "f:ac"),
        "utimensat of the mtime": ("f", "utimens", ("f", "omit", "7.0"), "f:mc"),
        "utimensat of nothing": ("f", "utimens", ("f", "omit", "omit"), "f:"),
        "touch": ("f", "touch", ("f",), "f:amc"),
        "link": ("f d", "link", ("f", "d/l"), "f:c d:mc"),
        "rename": ("f>d/g d", "rename", ("f", "d/g"), "d/g:c d:mc"),
        "stat": ("f d", "look", ("f", "kind"), "f: d:"),
    }
    for title, (watched, name, args, moved) in rows.items():
        yield case(
            title,
            [call("fill", "f", "bytes"), call("mkdir", "d", 0o755)],
            (call("changes", watched, name, *args), moved),
        )


def directories() -> Iterator[Case]:
    """A directory's times are those of its entries; nothing below moves them."""
    for kind in KINDS:
        yield case(
            f"a {kind} comes and goes",
            [call("mkdir", "d", 0o755), call("mkdir", "e", 0o755)],
            (call("changes", "d .", "make", kind, "d/n"), "d:mc .:"),
            (call("changes", "d e", "rename", "d/n", "d/m"), "d:mc e:"),
            (call("changes", "d e", "rename", "d/m", "e/n"), "d:mc e:mc"),
            (call("changes", "d e", remove(kind, "").name, "e/n"), "d: e:mc"),
        )
    yield case(
        "something below changes",
        [call("mkdir", "d", 0o755), make("file", "d/f")],
        (call("changes", "d", "write_to", "d/f", "x"), "d:"),
        (call("changes", "d", "chmod", "d/f", 0o600), "d:"),
        (call("changes", "d", "chmod", "d", 0o700), "d:c"),
    )


def several_names() -> Iterator[Case]:
    for kind in NOT_DIRECTORIES:
        yield case(
            f"names of a {kind}",
            [make(kind, "f"), call("mkdir", "d", 0o755), make("file", "x")],
            (call("changes", "f", "link", "f", "l"), "f:c"),
            (call("changes", "f", "link", "f", "d/l"), "f:c"),
            (call("changes", "f", "unlink", "l"), "f:c"),
            (call("changes", "f d", "rename", "x", "d/l"), "f:c d:mc"),
        )


def failures() -> Iterator[Case]:
    """What fails moves nothing."""
    rows = {
        "chmod": (call("chmod", "f", 0o777), "EPERM"),
        "chown": (call("chown", "f", BOB.uid, -1), "EPERM"),
        "utimensat": (call("utimens", "f", "1.0", "2.0"), "EPERM"),
        "truncate": (call("truncate", "f", 0), "EACCES"),
        "unlink": (call("unlink", "d/in"), "EACCES"),
        "rename": (call("rename", "d/in", "d/new"), "EACCES"),
        "mkdir": (call("mkdir", "d/new", 0o755), "EACCES"),
        "rmdir": (call("rmdir", "d"), "EACCES"),
    }
    for name, (made, answer) in rows.items():
        for path in ("f", "d", "d/in"):
            yield case(
                f"{path} after {name}",
                [
                    call("fill", "f", "bytes"),
                    call("mkdir", "d", 0o755),
                    make("file", "d/in"),
                    call("utimens", path, "5.5", "6.5"),
                ],
                (made.by(BOB), answer),
                (
                    call("look", path, "atime mtime"),
                    "5.500000000 6.500000000",
                ),
            )


def values() -> Iterator[Case]:
    """Nanoseconds, before 1970 and far beyond 2038."""
    for kind in KINDS:
        steps: list[tuple[Call, str]] = []
        for value in (
            "0.000000001",
            "1700000000.123456789",
            "2147483648.999999999",
            "4294967296.000000005",
            "-1000.500000000",
        ):
            steps += [
                (call("utimens", "f", value, value, 0), OK),
                (call("look", "f", "atime mtime"), f"{value} {value}"),
            ]
        yield case(f"times of a {kind}", [make(kind, "f")], *steps)
    yield case(
        "of a link, and through it",
        [make("file", "target"), make("link", "l")],
        (call("utimens", "l", "3.0", "4.0"), OK),
        (call("look", "target", "atime mtime"), "3.000000000 4.000000000"),
        (call("utimens", "l", "5.0", "6.0", 0), OK),
        (call("look", "target", "atime mtime"), "3.000000000 4.000000000"),
        (call("look", "l", "atime mtime"), "5.000000000 6.000000000"),
    )
    for bad in ("0.1000000000", "0.9999999999"):
        yield case(
            "more than a second's nanoseconds",
            [make("file", "f")],
            (call("utimens", "f", bad, "0.0"), "EINVAL"),
            (call("utimens", "f", "0.0", bad), "EINVAL"),
        )


def rights() -> Iterator[Case]:
    """Times of one's choice are the owner's; now is for whoever may write."""
    calls = {
        "a null pointer": (call("touch", "f"), True),
        "now and now": (call("utimens", "f", "now", "now"), True),
        "now and omit": (call("utimens", "f", "now", "omit"), False),
        "omit and now": (call("utimens", "f", "omit", "now"), False),
        "set": (call("utimens", "f", "1.0", "2.0"), False),
        "set and omit": (call("utimens", "f", "1.0", "omit"), False),
        "set and now": (call("utimens", "f", "1.0", "now"), False),
    }
    for kind in (each for each in KINDS if each != "link"):
        for mode in (0o644, 0o666):
            may_write = mode == 0o666
            steps: list[tuple[Call, str]] = []
            for made, is_now in calls.values():
                refused = "EACCES" if is_now else "EPERM"
                steps += [
                    (made, OK),
                    (made.by(ALICE), OK),
                    (made.by(BOB), OK if is_now and may_write else refused),
                ]
            steps.append((call("utimens", "f", "omit", "omit").by(BOB), OK))
            yield case(f"a {kind} 0{mode:o}", _of(ALICE, kind, mode), *steps)


def _of(who: Who, kind: str, mode: int) -> list[Call]:
    assert who != ROOT
    return [make(kind, "f", mode), call("chown", "f", who.uid, who.gid)]


TABLES: dict[str, Callable[[], Iterator[Case]]] = {
    "files": files,
    "directories": directories,
    "several names": several_names,
    "failures": failures,
    "values": values,
    "rights": rights,
}


@pytest.mark.parametrize("table", TABLES)
def test_times_move_as_the_calls_say(place: Place, table: str) -> None:
    """Each call moves the times that POSIX says, for whom it says, and no others."""
    place.check(list(TABLES[table]()))
