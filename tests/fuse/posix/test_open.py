"""open(2): every kind of file under every set of flags, and what is written through."""

from collections.abc import Callable, Iterator
from itertools import product
from os import (
    O_APPEND,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
)

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import ALICE, OK, Call, Case, call, case, sample
from tests.fuse.posix.kinds import make
from tests.fuse.posix.place import Place

pytestmark = needs_root

ACCESS = {"read": O_RDONLY, "write": O_WRONLY, "both": O_RDWR}
FLAGS = {
    "O_CREAT": O_CREAT,
    "O_EXCL": O_EXCL,
    "O_TRUNC": O_TRUNC,
    "O_NOFOLLOW": O_NOFOLLOW,
    "O_DIRECTORY": O_DIRECTORY,
}
# What `name` is: the calls that make it, and what it leads to if it is a link.
NAMES: dict[str, tuple[list[Call], str]] = {
    "missing": ([], "missing"),
    "file": ([call("fill", "name", "bytes")], "file"),
    "dir": ([make("dir", "name")], "dir"),
    "socket": ([make("socket", "name")], "socket"),
    "fifo": ([make("fifo", "name")], "fifo"),
    "link to a file": (
        [call("fill", "target", "bytes"), make("link", "name")],
        "file",
    ),
    "link to a dir": ([make("dir", "target"), make("link", "name")], "dir"),
    "link to nothing": ([make("link", "name")], "missing"),
    "link to itself": ([call("symlink", "name", "name")], "loop"),
}


def answer(name: str, access: int, flags: int) -> str:
    """Tell what open(2) does with such a name."""
    is_link, kind = name.startswith("link"), NAMES[name][1]
    if flags & O_CREAT and flags & O_EXCL and name != "missing":
        return "EEXIST"
    if is_link and flags & O_NOFOLLOW:
        return "ENOTDIR" if flags & O_DIRECTORY else "ELOOP"
    if kind == "loop":
        return "ELOOP"
    if kind == "missing":
        return OK if flags & O_CREAT else "ENOENT"
    if kind == "dir":
        is_changed = access != O_RDONLY or flags & (O_TRUNC | O_CREAT)
        return "EISDIR" if is_changed else OK
    if flags & O_DIRECTORY:
        return "ENOTDIR"
    if kind == "socket" or (kind == "fifo" and access == O_WRONLY):
        return "ENXIO"  # nobody reads from the pipe, and we do not wait
    return OK


def flag_sets() -> Iterator[tuple[str, int]]:
    for chosen in product((False, True), repeat=len(FLAGS)):
        names = [name for name, on in zip(FLAGS, chosen, strict=True) if on]
        flags = sum(FLAGS[name] for name in names)
        # Kernels differ: a directory to be made, a file to be made that is not made.
        if flags & O_DIRECTORY and flags & (O_CREAT | O_TRUNC):
            continue
        if flags & O_EXCL and not flags & O_CREAT:
            continue
        yield "|".join(names), flags


def opens() -> Iterator[Case]:
    for name, (given, _) in NAMES.items():
        for access_name, access in ACCESS.items():
            for flag_names, flags in flag_sets():
                wanted = answer(name, access, flags)
                made = call("open", "name", access | flags | O_NONBLOCK)
                yield case(
                    f"{name}, {access_name} {flag_names}",
                    given,
                    (made, wanted),
                    *_content(name, flags, wanted),
                )


def _content(name: str, flags: int, wanted: str) -> Iterator[tuple[Call, str]]:
    if NAMES[name][1] == "file":
        is_cut = wanted == OK and flags & O_TRUNC
        path = "target" if name.startswith("link") else "name"
        yield call("content", path), "" if is_cut else "bytes"


def open_descriptors() -> Iterator[Case]:
    given = [call("fill", "f", "0123456789")]
    write = ("through", "a", "write")
    yield case(
        "O_APPEND writes at the end, wherever the descriptor stands",
        [*given, call("hold", "a", "f", O_RDWR | O_APPEND)],
        (call("through", "a", "seek", 2), OK),
        (call(*write, "ab"), OK),
        (call("through", "a", "seek", 0), OK),
        (call("through", "a", "read"), "0123456789ab"),
        (call("content", "f"), "0123456789ab"),
    )
    yield case(
        "two descriptors append behind each other",
        [
            *given,
            call("hold", "a", "f", O_WRONLY | O_APPEND),
            call("hold", "b", "f", O_WRONLY | O_APPEND),
        ],
        (call(*write, "a"), OK),
        (call("through", "b", "write", "b"), OK),
        (call(*write, "c"), OK),
        (call("content", "f"), "0123456789abc"),
    )
    yield case(
        "O_TRUNC cuts under an open descriptor",
        [*given, call("hold", "a", "f", O_RDWR)],
        (call("open", "f", O_WRONLY | O_TRUNC), OK),
        (call("through", "a", "look", "size"), "0"),
        (call("through", "a", "read"), ""),
        (call("through", "a", "seek", 3), OK),
        (call(*write, "x"), OK),
        (call("content", "f"), "\\x00\\x00\\x00x"),
    )
    yield case(
        "a descriptor to read does not write, nor the reverse",
        [*given, call("hold", "a", "f", O_RDONLY), call("hold", "b", "f", O_WRONLY)],
        (call(*write, "x"), "EBADF"),
        (call("through", "b", "read"), "EBADF"),
        (call("through", "a", "truncate", 1), "EINVAL"),
        (call("through", "a", "allocate", 0, 1), "EBADF"),
        (call("through", "b", "truncate", 1), OK),
    )
    yield case(
        "a new file without a mode is still written by its maker",
        [],
        (call("hold", "a", "f", O_WRONLY | O_CREAT | O_EXCL, 0), OK),
        (call(*write, "bytes"), OK),
        (call("let_go", "a"), OK),
        (call("look", "f", "mode size"), "0000 5"),
        (call("open", "f", O_RDONLY).by(ALICE), "EACCES"),
        (call("content", "f"), "bytes"),
    )
    yield case(
        "chmod does not close what is open",
        [*given, call("hold", "a", "f", O_RDWR), call("chmod", "f", 0)],
        (call(*write, "x"), OK),
        (call("through", "a", "chmod", 0o600), OK),
        (call("through", "a", "chown", 5, 6), OK),
        (call("look", "f", "mode uid gid"), "0600 5 6"),
    )


def pipes_and_programs() -> Iterator[Case]:
    yield case(
        "a pipe carries bytes",
        [
            make("fifo", "p"),
            call("hold", "r", "p", O_RDONLY | O_NONBLOCK),
            call("hold", "w", "p", O_WRONLY | O_NONBLOCK),
        ],
        (call("through", "w", "write", "bytes"), OK),
        (call("through", "r", "read"), "bytes"),
        (call("let_go", "w"), OK),
        (call("through", "r", "read"), ""),
    )
    yield case(
        "a program that runs cannot be written to",
        [call("copy_program", "p"), call("run", "./p", "60")],
        (call("open", "p", O_WRONLY), "ETXTBSY"),
        (call("open", "p", O_RDWR | O_TRUNC), "ETXTBSY"),
        (call("truncate", "p", 1), "ETXTBSY"),
        (call("open", "p", O_RDONLY), OK),
        (call("unlink", "p"), OK),
    )
    yield case(
        "a program that is written to cannot be run",
        [call("copy_program", "p"), call("hold", "w", "p", O_WRONLY)],
        (call("run", "./p", "60"), "ETXTBSY"),
    )
    yield case(
        "a program needs a bit to be run",
        [call("copy_program", "p"), call("chmod", "p", 0o644)],
        (call("run", "./p", "60"), "EACCES"),
        (call("chmod", "p", 0o100), OK),
        (call("run", "./p", "60"), OK),
    )
    # Another file system is in the way of rename and link.
    yield case(
        "to another file system",
        [make("file", "f")],
        (call("rename", "f", "/proc/sys/new"), "EXDEV"),
        (call("link", "/proc/self/status", "l"), "EXDEV"),
    )


def test_open_of_each_kind_under_each_flag(place: Place) -> None:
    """Kind and flags decide what open(2) finds, makes, empties or refuses."""
    place.check(sample(list(opens()), 80))


@pytest.mark.parametrize("table", [open_descriptors, pipes_and_programs])
def test_what_is_open_stays_open(
    place: Place, table: Callable[[], Iterator[Case]]
) -> None:
    """A descriptor does what it was opened for, whatever becomes of the name."""
    place.check(list(table()))
