"""unlink, rmdir and link: what goes, what stays, and how many names are left."""

from collections.abc import Callable, Iterator
from os import O_RDWR

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import OK, Call, Case, call, case
from tests.fuse.posix.kinds import KINDS, NOT_DIRECTORIES, make, remove
from tests.fuse.posix.place import Place

pytestmark = needs_root


def unlinks() -> Iterator[Case]:
    for kind in NOT_DIRECTORIES:
        yield case(
            f"a {kind}",
            [make(kind, "f")],
            (call("rmdir", "f"), "ENOTDIR"),
            (call("unlink", "f/"), "ENOTDIR"),
            (call("unlink", "f"), OK),
            (call("look", "f", "kind"), "ENOENT"),
            (call("unlink", "f"), "ENOENT"),
            (call("list", "."), ""),
        )
    yield case(
        "a directory",
        [make("dir", "d")],
        (call("unlink", "d"), "EISDIR"),
        (call("unlink", "d/."), "EISDIR"),
        (call("unlink", "d/.."), "EISDIR"),
        (call("look", "d", "kind"), "dir"),
    )
    yield case(
        "a link goes, its target stays",
        [make("file", "target"), make("link", "l"), call("unlink", "l")],
        (call("list", "."), "target"),
    )
    yield case(
        "an open file stays until its descriptor goes",
        [call("fill", "f", "bytes"), call("hold", "a", "f", O_RDWR)],
        (call("unlink", "f"), OK),
        (call("through", "a", "look", "nlink size"), "0 5"),
        (call("through", "a", "read"), "bytes"),
        (call("through", "a", "write", "more"), OK),
        (call("through", "a", "truncate", 2), OK),
        (call("through", "a", "chmod", 0o600), OK),
        (call("through", "a", "look", "nlink size mode"), "0 2 0600"),
        (call("create", "f"), OK),
        (call("through", "a", "look", "nlink"), "0"),
    )


def rmdirs() -> Iterator[Case]:
    for kind in KINDS:
        yield case(
            f"a directory with a {kind}",
            [call("mkdir", "d", 0o755), make(kind, "d/n")],
            (call("rmdir", "d"), "ENOTEMPTY"),
            (remove(kind, "d/n"), OK),
            (call("rmdir", "d"), OK),
            (call("rmdir", "d"), "ENOENT"),
            (call("look", "d", "kind"), "ENOENT"),
        )
    yield case(
        "dots and slashes",
        [call("mkdir", "d", 0o755), call("mkdir", "d/e", 0o755)],
        (call("rmdir", "d/e/."), "EINVAL"),
        (call("rmdir", "d/e/.."), "ENOTEMPTY"),
        (call("rmdir", "."), "EINVAL"),
        (call("rmdir", "d/e/"), OK),
        (call("mkdir", "d/", 0o755), "EEXIST"),
        (call("mkdir", "d/.", 0o755), "EEXIST"),
        (call("mkdir", "d/..", 0o755), "EEXIST"),
        (call("mkdir", "d/f/", 0o755), OK),
        (call("create", "d/g/"), "EISDIR"),
        (call("symlink", "d", "l"), OK),
        (call("rmdir", "l"), "ENOTDIR"),
        (call("rmdir", "l/"), "ENOTDIR"),
    )
    yield case(
        "a directory that somebody is in",
        [call("mkdir", "d", 0o755), call("hold", "d", "d", 0)],
        (call("rmdir", "d"), OK),
        (call("through", "d", "look", "nlink"), "0"),
        (call("look", "d", "kind"), "ENOENT"),
        (call("mkdir", "d", 0o755), OK),
        (call("create", "d/f"), OK),
    )


def links() -> Iterator[Case]:
    for kind in NOT_DIRECTORIES:
        seen = "kind nlink mode uid gid"
        mode = "0777" if kind == "link" else "0640"
        change = [] if kind == "link" else [call("chmod", "l", 0o640)]
        yield case(
            f"names of a {kind}",
            [make(kind, "f"), call("mkdir", "d", 0o755), call("link", "f", "l")],
            (call("is_same", "f", "l"), "same"),
            (call("lchown", "l", 3, 4), OK),
            *((each, OK) for each in change),
            (call("look", "f", seen), f"{kind} 2 {mode} 3 4"),
            (call("link", "l", "d/m"), OK),
            (call("look", "d/m", seen), f"{kind} 3 {mode} 3 4"),
            (call("is_same", "f", "d/m"), "same"),
            (call("unlink", "f"), OK),
            (call("look", "l", seen), f"{kind} 2 {mode} 3 4"),
            (call("rename", "l", "f"), OK),
            (call("rename", "f", "d/m"), OK),
            (call("list", "."), "d f"),
            (call("unlink", "d/m"), OK),
            (call("look", "f", seen), f"{kind} 1 {mode} 3 4"),
        )
    yield case(
        "the bytes of a file with two names",
        [call("fill", "f", "bytes"), call("link", "f", "l")],
        (call("write_to", "l", "BY"), OK),
        (call("content", "f"), "BYtes"),
        (call("truncate", "f", 3), OK),
        (call("content", "l"), "BYt"),
        (call("look", "l", "size nlink"), "3 2"),
        (call("unlink", "f"), OK),
        (call("content", "l"), "BYt"),
    )


def links_that_are_none() -> Iterator[Case]:
    yield case(
        "a directory",
        [call("mkdir", "d", 0o755), make("file", "f")],
        (call("link", "d", "l"), "EPERM"),
        (call("link", "f", "d"), "EEXIST"),
        (call("link", "f", "f"), "EEXIST"),
        (call("link", "f", "f/x"), "ENOTDIR"),
        (call("link", "f", "none/x"), "ENOENT"),
        (call("link", "none", "l"), "ENOENT"),
    )
    yield case(
        "a link is linked itself, or what it leads to",
        [make("file", "target"), make("link", "l")],
        (call("link", "l", "a"), OK),
        (call("look", "a", "kind nlink"), "link 2"),
        (call("link", "l", "b", 1), OK),
        (call("look", "b", "kind nlink"), "file 2"),
        (call("is_same", "b", "target"), "same"),
    )


def link_counts_of_directories() -> Iterator[Case]:
    given: list[Call] = [call("mkdir", "d", 0o755), call("mkdir", "e", 0o755)]
    links = "nlink"
    yield case(
        "subdirectories count, files do not",
        given,
        (call("look", "d", links), "2"),
        (call("mkdir", "d/a", 0o755), OK),
        (call("mkdir", "d/b", 0o755), OK),
        (call("create", "d/f"), OK),
        (call("look", "d", links), "4"),
        (call("rename", "d/a", "e/a"), OK),
        (call("look", "d", links), "3"),
        (call("look", "e", links), "3"),
        (call("rename", "d/b", "e/a"), OK),
        (call("look", "d", links), "2"),
        (call("look", "e", links), "3"),
        (call("rmdir", "e/a"), OK),
        (call("look", "e", links), "2"),
    )


TABLES: dict[str, Callable[[], Iterator[Case]]] = {
    "unlink": unlinks,
    "rmdir": rmdirs,
    "link": links,
    "no link": links_that_are_none,
    "directories": link_counts_of_directories,
}


@pytest.mark.parametrize("table", TABLES)
def test_names_come_and_go_one_by_one(place: Place, table: str) -> None:
    """A file lives as long as it has names or is open; a directory must be empty."""
    place.check(list(TABLES[table]()))
