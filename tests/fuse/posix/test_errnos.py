"""Errno by cause: the same cause, given to every call that takes a path."""

from collections.abc import Callable, Iterator

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import ALICE, BOB, OK, Call, Case, call, case, sample
from tests.fuse.posix.kinds import NOT_DIRECTORIES, make, makers
from tests.fuse.posix.place import Place

pytestmark = needs_root

RDONLY = 0
NO_KEY_LIMIT = ("tmpfs", "memory", "local")

# What is there already and named by the calls below: `file`, `dir`.
GIVEN = [make("file", "file"), make("dir", "dir")]


def changers(path: str) -> dict[str, Call]:
    """Every call that follows a path to something and changes or reads it."""
    return {
        "stat": call("look", path, "kind", 1),
        "open": call("open", path, RDONLY),
        "chdir": call("enter", path),
        "chmod": call("chmod", path, 0o644),
        "chown": call("chown", path, ALICE.uid, ALICE.gid),
        "truncate": call("truncate", path, 1),
        "utimensat": call("utimens", path, "1.5", "now"),
    }


def takers(path: str) -> dict[str, Call]:
    """Every call on a name itself, links not followed."""
    return {
        "lstat": call("look", path, "kind"),
        "readlink": call("readlink", path),
        "lchown": call("lchown", path, ALICE.uid, ALICE.gid),
        "lutimens": call("utimens", path, "1.5", "now", 0),
        "unlink": call("unlink", path),
        "rmdir": call("rmdir", path),
        "rename from": call("rename", path, "new"),
        "link from": call("link", path, "new"),
    }


def givers(path: str) -> dict[str, Call]:
    """Every call that gives something a new name."""
    return {
        **makers(path),
        "rename to": call("rename", "file", path),
        "rename dir to": call("rename", "dir", path),
        "link to": call("link", "file", path),
    }


def everything(path: str) -> dict[str, Call]:
    return {**changers(path), **takers(path), **givers(path)}


def each(
    cause: str, path: str, answer: str, *given: Call, calls: dict[str, Call]
) -> Iterator[Case]:
    for name, made in calls.items():
        yield case(f"{cause}, {name}", [*GIVEN, *given], (made, answer))


def components_that_are_no_directories() -> Iterator[Case]:
    for kind in NOT_DIRECTORIES:
        given = [make(kind, "way")]
        if kind == "link":
            given.append(make("file", "target"))
        calls = everything("way/name")
        yield from each(f"below a {kind}", "way", "ENOTDIR", *given, calls=calls)


def components_that_are_missing() -> Iterator[Case]:
    calls = everything("missing/name")
    yield from each("a component is missing", "", "ENOENT", calls=calls)
    given = make("link", "broken")
    calls = everything("broken/name")
    yield from each("a link leads nowhere", "", "ENOENT", given, calls=calls)


def names_that_are_missing() -> Iterator[Case]:
    calls = {**changers("missing"), **takers("missing")}
    yield from each("the name is missing", "", "ENOENT", calls=calls)
    yield from each("the path is empty", "", "ENOENT", calls=_named(everything("")))
    given = make("link", "broken")
    yield from each("a broken link", "", "ENOENT", given, calls=changers("broken"))


def _named(calls: dict[str, Call]) -> dict[str, Call]:
    """Leave out bind(2), for which no path is a name without a place."""
    return {name: made for name, made in calls.items() if name != "bind"}


def closed_directories() -> Iterator[Case]:
    """No search on the way, or no write where a name comes or goes."""
    given = [
        call("mkdir", "way", 0o755),
        make("file", "way/name"),
        call("chown", "way/name", ALICE.uid, ALICE.gid),
        call("mkdir", "open", 0o755),
        call("chown", "open", ALICE.uid, ALICE.gid),
        make("file", "open/file"),
        call("chown", "open/file", ALICE.uid, ALICE.gid),
        call("chown", "way", ALICE.uid, ALICE.gid),
    ]
    for mode in (0o600, 0o077, 0o000):
        shut = call("chmod", "way", mode)
        for name, made in {**changers("way/name"), **takers("way/name")}.items():
            yield case(
                f"no search in 0{mode:o}, {name}",
                [*given, shut],
                (_from_open(made).by(ALICE), "EACCES"),
            )
        for name, made in _givers_from_open("way/new").items():
            yield case(
                f"no search in 0{mode:o}, {name}",
                [*given, shut],
                (made.by(ALICE), "EACCES"),
            )
    shut = call("chmod", "way", 0o555)
    for name, made in _givers_from_open("way/new").items():
        yield case(
            f"no write in 0555, {name}", [*given, shut], (made.by(ALICE), "EACCES")
        )
    for made in (call("unlink", "way/name"), call("rename", "way/name", "open/x")):
        yield case("no write in 0555", [*given, shut], (made.by(ALICE), "EACCES"))


def _from_open(made: Call) -> Call:
    """Let the other path of a call of two be one that ALICE may write to."""
    if made.name in {"rename", "link"}:
        return call(made.name, made.args[0], "open/new")
    return made


def _givers_from_open(path: str) -> dict[str, Call]:
    calls = {
        name: made for name, made in makers(path).items() if not name.startswith("mkn")
    }
    return {
        **calls,
        "rename to": call("rename", "open/file", path),
        "link to": call("link", "open/file", path),
    }


def loops() -> Iterator[Case]:
    given = (call("symlink", "b", "a"), call("symlink", "a", "b"))
    yield from each("a loop on the way", "", "ELOOP", *given, calls=everything("a/n"))
    yield from each("a loop at the end", "", "ELOOP", *given, calls=changers("a"))
    itself = call("symlink", "me/me", "me")
    yield from each("a link to below itself", "", "ELOOP", itself, calls=changers("me"))
    # Linux follows 40 links and no more.
    chain = [call("symlink", f"l{number}", f"l{number + 1}") for number in range(41)]
    yield case(
        "forty links",
        [make("file", "l0"), *chain],
        (call("look", "l40", "kind", 1), "file"),
        (call("look", "l41", "kind", 1), "ELOOP"),
    )


def long_components() -> Iterator[Case]:
    too_long = "n" * 256
    yield from each("256 bytes", "", "ENAMETOOLONG", calls=_named(everything(too_long)))
    yield from each(
        "256 bytes on the way",
        "",
        "ENAMETOOLONG",
        calls=_named(everything(f"{too_long}/name")),
    )
    longest = "n" * 255
    for name, made in _named(givers(longest)).items():
        back = call("rename", longest, "back")
        yield case(f"255 bytes, {name}", GIVEN, (made, OK), (back, OK))


def long_paths() -> Iterator[Case]:
    """Fifteen names of 255 bytes, and one more: 4095 bytes with the slashes."""
    given = [*GIVEN, call("chain", "d" * 255, 15)]
    directory = "/".join(["d" * 255] * 15)
    longest = f"{directory}/{'n' * 255}"
    assert len(longest) == 4095
    without_bind = _named(givers(longest))
    for name, made in without_bind.items():
        back = call("rename", longest, "back")
        yield case(f"4095 bytes, {name}", given, (made, OK), (back, OK))
    for name, made in _named({**changers(longest), **takers(longest)}).items():
        if name not in {"chdir", "rmdir", "readlink"}:
            there = make("file", longest)
            answer = "file" if name.endswith("stat") else OK
            yield case(f"4095 bytes, {name}", [*given, there], (made, answer))
    for name, made in _named(everything(f"{directory}//{'n' * 255}")).items():
        yield case(f"4096 bytes, {name}", given, (made, "ENAMETOOLONG"))
    target = "t" * 4095
    yield case(
        "a target of 4095 bytes",
        [call("symlink", target, "link")],
        (call("readlink", "link"), target),
        (call("symlink", target + "t", "other"), "ENAMETOOLONG"),
        (call("symlink", "", "other"), "ENOENT"),
    )


def bad_addresses() -> Iterator[Case]:
    one_path: dict[str, tuple[int, ...]] = {
        "chdir": (),
        "chmod": (0o644,),
        "chown": (0, 0),
        "lchown": (0, 0),
        "mkdir": (0o755,),
        "mkfifo": (0o644,),
        "open": (RDONLY,),
        "rmdir": (),
        "truncate": (0,),
        "unlink": (),
        "link": (),
        "rename": (),
        "symlink": (),
    }
    for name, args in one_path.items():
        yield case(
            f"{name} of nothing", [], (call("bad_address", name, *args), "EFAULT")
        )
    for name in ("link", "rename", "symlink"):
        yield case(
            f"{name} to nothing",
            [make("file", "file")],
            (call("half_bad_address", name, "file"), "EFAULT"),
        )


def not_the_owner() -> Iterator[Case]:
    """EPERM: only the owner changes modes, owners and set times."""
    calls = {
        "chmod": call("chmod", "file", 0o644),
        "chown to oneself": call("chown", "file", BOB.uid, BOB.gid),
        "chgrp to one's own": call("chown", "file", -1, BOB.gid),
        "utimensat": call("utimens", "file", "1.0", "2.0"),
    }
    given = [make("file", "file", 0o666), call("chown", "file", ALICE.uid, ALICE.gid)]
    for name, made in calls.items():
        yield case(f"{name} by another", given, (made.by(BOB), "EPERM"))


TABLES: dict[str, Callable[[], Iterator[Case]]] = {
    "ENOTDIR on the way": components_that_are_no_directories,
    "ENOENT on the way": components_that_are_missing,
    "ENOENT at the end": names_that_are_missing,
    "EACCES": closed_directories,
    "ELOOP": loops,
    "ENAMETOOLONG": long_components,
    "EFAULT": bad_addresses,
    "EPERM": not_the_owner,
}


@pytest.mark.parametrize("table", TABLES)
def test_each_cause_has_its_errno(place: Place, table: str) -> None:
    """Whatever call meets a cause, its errno is the one that POSIX names."""
    place.check(sample(list(TABLES[table]()), 50))


@pytest.mark.parametrize("posix_place", NO_KEY_LIMIT, indirect=True)
def test_path_has_at_most_4095_bytes(place: Place) -> None:
    """Where keys may be as long, the longest path that a call can name works."""
    place.check(sample(list(long_paths()), 15))
