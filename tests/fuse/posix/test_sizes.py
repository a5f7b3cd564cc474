"""truncate, ftruncate, posix_fallocate: sizes, zeros, and what has no size."""

from collections.abc import Callable, Iterator
from os import O_RDWR

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.posix.calls import OK, Call, Case, call, case
from tests.fuse.posix.kinds import make
from tests.fuse.posix.place import Place

pytestmark = needs_root

BIG = 1 << 20


def sizes() -> Iterator[Case]:
    ways: dict[str, Callable[[int], Call]] = {
        "truncate": lambda size: call("truncate", "f", size),
        "ftruncate": lambda size: call("through", "a", "truncate", size),
    }
    for name, way in ways.items():
        given = [call("fill", "f", "0123456789"), call("hold", "a", "f", O_RDWR)]
        yield case(
            name,
            given,
            (way(4), OK),
            (call("content", "f"), "0123"),
            (way(4), OK),
            (way(8), OK),
            (call("content", "f"), "0123" + "\\x00" * 4),
            (way(0), OK),
            (call("look", "f", "size"), "0"),
            (way(BIG), OK),
            (call("look", "f", "size"), str(BIG)),
            (way(-1), "EINVAL"),
            (way(3), OK),
            (call("through", "a", "look", "size"), "3"),
            (call("let_go", "a"), OK),
            (call("content", "f"), "\\x00" * 3),
        )


def no_sizes() -> Iterator[Case]:
    rows = {"dir": "EISDIR", "fifo": "EINVAL", "chr": "EINVAL", "blk": "EINVAL"}
    for kind, wanted in rows.items():
        yield case(f"a {kind}", [make(kind, "f")], (call("truncate", "f", 0), wanted))
    yield case(
        "through a link",
        [call("fill", "target", "bytes"), make("link", "l")],
        (call("truncate", "l", 2), OK),
        (call("content", "target"), "by"),
    )


def room() -> Iterator[Case]:
    """posix_fallocate(3) gives room, with zeros; it never cuts."""
    yield case(
        "room",
        [call("fill", "f", "bytes"), call("hold", "a", "f", O_RDWR)],
        (call("through", "a", "allocate", 0, 3), OK),
        (call("content", "f"), "bytes"),
        (call("through", "a", "allocate", 3, 4), OK),
        (call("content", "f"), "bytes\\x00\\x00"),
        (call("through", "a", "allocate", 100_000, 1), OK),
        (call("look", "f", "size"), "100001"),
        (call("through", "a", "allocate", 0, 0), "EINVAL"),
        (call("through", "a", "allocate", -1, 1), "EINVAL"),
    )


@pytest.mark.parametrize("table", [sizes, no_sizes, room])
def test_size_is_what_was_asked_for(
    place: Place, table: Callable[[], Iterator[Case]]
) -> None:
    """Files are cut and filled with zeros to any size; nothing else has one."""
    place.check(list(table()))
