"""rename(2) and renameat2(2): each kind over each, and what must not be."""

from collections.abc import Callable, Iterator
from os import O_RDONLY

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import ALICE, OK, Call, Case, call, case, sample
from tests.fuse.posix.kinds import KINDS, make
from tests.fuse.posix.place import Place

pytestmark = needs_root

NOREPLACE, EXCHANGE = 1, 2
THINGS = (*KINDS, "full dir", "nothing")


def thing(kind: str, path: str) -> list[Call]:
    if kind == "nothing":
        return []
    if kind == "full dir":
        return [call("mkdir", path, 0o755), make("file", f"{path}/in")]
    return [make(kind, path)]


def _kind(thing: str) -> str:
    return "dir" if thing == "full dir" else thing


def answer(old: str, new: str, flags: int) -> str:
    if old == "nothing":
        return "ENOENT"
    if flags & EXCHANGE:
        return "ENOENT" if new == "nothing" else OK
    if new == "nothing":
        return OK
    if flags & NOREPLACE:
        return "EEXIST"
    if _kind(old) == "dir" and _kind(new) != "dir":
        return "ENOTDIR"
    if _kind(old) != "dir" and _kind(new) == "dir":
        return "EISDIR"
    return "ENOTEMPTY" if new == "full dir" else OK


def over_each_other() -> Iterator[Case]:
    for flags in (0, NOREPLACE, EXCHANGE):
        for old in THINGS:
            for new in THINGS:
                for names in (("old", "new"), ("a/old", "b/new")):
                    yield _over(old, new, flags, names)


def _over(old: str, new: str, flags: int, names: tuple[str, str]) -> Case:
    first, second = names
    wanted = answer(old, new, flags)
    before, after = (old, new), (old, new)
    if wanted == OK:
        after = (new if flags & EXCHANGE else "nothing", old)
    looks: list[tuple[Call, str]] = []
    for path, found in zip(names, after, strict=True):
        seen = "ENOENT" if found == "nothing" else _kind(found)
        looks.append((call("look", path, "kind"), seen))
        if _kind(found) == "dir":
            inside = "in" if found == "full dir" else ""
            looks.append((call("list", path), inside))
    return case(
        f"{before[0]} over {before[1]}, flags {flags}, {first} to {second}",
        [
            call("mkdir", "a", 0o755),
            call("mkdir", "b", 0o755),
            *thing(old, first),
            *thing(new, second),
        ],
        (call("rename", first, second, flags), wanted),
        *looks,
    )


def what_moves_along() -> Iterator[Case]:
    seen = "kind mode uid gid nlink"
    for kind in KINDS:
        given = [make(kind, "f"), call("lchown", "f", 5, 6), call("mkdir", "d", 0o755)]
        mode = "0777" if kind == "link" else "0755" if kind == "dir" else "0644"
        links = 2 if kind == "dir" else 1
        yield case(
            f"attributes of a {kind}",
            [*given, call("utimens", "f", "3.5", "4.5", 0)],
            (call("rename", "f", "d/g"), OK),
            (call("look", "d/g", seen), f"{kind} {mode} 5 6 {links}"),
            (call("look", "d/g", "atime mtime"), "3.500000000 4.500000000"),
            (call("look", "f", "kind"), "ENOENT"),
            (call("rename", "d/g", "d/g"), OK),
            (call("look", "d/g", "kind"), kind),
        )
    yield case(
        "a tree",
        [
            call("mkdir", "t", 0o755),
            call("mkdir", "t/u", 0o700),
            call("fill", "t/u/f", "bytes"),
            call("symlink", "u/f", "t/l"),
            call("mkdir", "d", 0o755),
            call("hold", "open", "t/u/f", O_RDONLY),
        ],
        (call("rename", "t", "d/t"), OK),
        (call("list", "."), "d"),
        (call("list", "d/t"), "l u"),
        (call("content", "d/t/l"), "bytes"),
        (call("look", "d/t/u", "mode"), "0700"),
        (call("through", "open", "read"), "bytes"),
    )
    yield case(
        "what is replaced stays open",
        [
            call("fill", "old", "old"),
            call("fill", "new", "new"),
            call("hold", "open", "new", O_RDONLY),
        ],
        (call("rename", "old", "new"), OK),
        (call("content", "new"), "old"),
        (call("through", "open", "read"), "new"),
        (call("through", "open", "look", "nlink"), "0"),
    )
    yield case(
        "two names of one file",
        [make("file", "f"), call("link", "f", "l")],
        (call("rename", "f", "l"), OK),
        (call("list", "."), "f l"),
        (call("rename", "f", "l", NOREPLACE), "EEXIST"),
    )


def what_must_not_be() -> Iterator[Case]:
    given = [
        call("mkdir", "d", 0o755),
        call("mkdir", "d/e", 0o755),
        make("file", "f"),
        call("symlink", "d", "l"),
    ]
    rows: dict[str, tuple[Call, str]] = {
        "into itself": (call("rename", "d", "d/x"), "EINVAL"),
        "below itself": (call("rename", "d", "d/e/x"), "EINVAL"),
        "into itself by a link": (call("rename", "d", "l/x"), "EINVAL"),
        "over its parent": (call("rename", "d/e", "d"), "ENOTEMPTY"),
        "an exchange with its parent": (
            call("rename", "d/e", "d", EXCHANGE),
            "EINVAL",
        ),
        "an exchange with its child": (call("rename", "d", "d/e", EXCHANGE), "EINVAL"),
        "a dot": (call("rename", "d/.", "x"), "EBUSY"),
        "two dots": (call("rename", "d/..", "x"), "EBUSY"),
        "to a dot": (call("rename", "d", "d/e/."), "EBUSY"),
        "to two dots": (call("rename", "f", "d/.."), "EBUSY"),
        "a file with a slash": (call("rename", "f/", "x"), "ENOTDIR"),
        "a file to a slash": (call("rename", "f", "x/"), "ENOTDIR"),
        "a directory to a slash": (call("rename", "d", "x/"), OK),
        "flags that contradict": (call("rename", "f", "x", 3), "EINVAL"),
        "flags that nobody knows": (call("rename", "f", "x", 64), "EINVAL"),
    }
    for title, (made, wanted) in rows.items():
        yield case(title, given, (made, wanted), (call("look", "f", "kind"), "file"))


def directories_of_others() -> Iterator[Case]:
    """A directory that gets another parent must be writable: its `..` changes."""
    for mode, wanted in ((0o755, "EACCES"), (0o777, OK)):
        yield case(
            f"a directory 0{mode:o} of another to another parent",
            [
                call("mkdir", "a", 0o755),
                call("mkdir", "b", 0o755),
                call("chmod", "a", 0o777),
                call("chmod", "b", 0o777),
                call("mkdir", "a/d", 0o755),
                call("chmod", "a/d", mode),
            ],
            (call("rename", "a/d", "a/e").by(ALICE), OK),
            (call("rename", "a/e", "b/e").by(ALICE), wanted),
        )


TABLES: dict[str, Callable[[], Iterator[Case]]] = {
    "moves along": what_moves_along,
    "must not be": what_must_not_be,
    "of others": directories_of_others,
}


def test_each_kind_is_renamed_over_each(place: Place) -> None:
    """Kinds, contents and flags decide whether one name takes the other's place."""
    place.check(sample(list(over_each_other()), 60))


@pytest.mark.parametrize("table", TABLES)
def test_rename_keeps_the_rules(place: Place, table: str) -> None:
    """What is renamed moves whole, and nothing moves where it must not."""
    place.check(list(TABLES[table]()))
