"""Two mounts of one store write the same names: no update is lost in silence.

What close has acknowledged is in the file or in a conflict copy beside it; with
`--conflict=fail` it is in the file, and the others were told ESTALE.
"""

import errno
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount
from tests.fuse.stores import Store
from tests.recovery.ledger import files_in
from tests.recovery.load import DURABILITIES, leave
from tests.recovery.program import MIB, opened, put

AT_LENGTH = "AT_LENGTH" in os.environ
UPDATES = 300 if AT_LENGTH else 50
"""By each of the two."""
NAMES = ("one", "two", "three")
WARNINGS = r"^\S+ \S+ (WARNING|ERROR) "
pytestmark = [pytest.mark.fuse, pytest.mark.timeout(3600 if AT_LENGTH else 300)]


Told = tuple[set[bytes], int]
"""Which lines were acknowledged, and how many were refused."""


def two_mounts(
    mounter: Mounter, store: Store, durability: str, conflict: str
) -> list[Mount]:
    """Mount the store twice, each with directories of its own."""
    mounts = [
        mounter(
            store,
            f"--durability={durability}",
            f"--conflict={conflict}",
            "--ttl=0",
            at=name,
        )
        for name in ("left", "right")
    ]
    for mount in mounts:
        mount.announce(WARNINGS)
    return mounts


def add_line(path: Path, line: bytes, chooser: random.Random) -> None:
    """Add a line to what is there: at the end, or by writing all of it anew."""
    if chooser.random() < 0.5:
        with opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as descriptor:
            assert os.write(descriptor, line) == len(line)
    else:
        with opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
            content = os.pread(descriptor, MIB, 0) + line
            put(descriptor, content, 0)


def updates(mount: Mount, name: str, seed: int) -> Told:
    """Add lines to the files; return those that were acknowledged, and how many were
    refused.
    """
    chooser = random.Random(seed)
    acknowledged: set[bytes] = set()
    refused = 0
    for number in range(UPDATES):
        line = b"%s %d %s\n" % (
            name.encode(),
            number,
            chooser.randbytes(8).hex().encode(),
        )
        try:
            add_line(mount.path / chooser.choice(NAMES), line, chooser)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            refused += 1
        else:
            acknowledged.add(line)
        if number % 50 == 0:
            mount.watch()
    return acknowledged, refused


def at_once(deeds: list[Callable[[], Told]]) -> list[Told]:
    """Run both at the same time."""
    with ThreadPoolExecutor(len(deeds)) as pool:
        return [each.result(3000) for each in [pool.submit(deed) for deed in deeds]]


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("conflict", ["copy", "fail"])
def test_every_acknowledged_update_survives(
    mounter: Mounter, store: Store, durability: str, conflict: str
) -> None:
    """Each update adds a line to what the file has; two programs do so as fast as they
    can.
    """
    mounts = two_mounts(mounter, store, durability, conflict)

    told = at_once(
        [
            lambda: updates(mounts[0], "left", seed=1),
            lambda: updates(mounts[1], "right", seed=2),
        ]
    )
    codes = [leave(mount) for mount in mounts]

    found = files_in(store.there)
    found = {k: v for k, v in found.items() if not k.startswith(".mountfs/")}
    lines = {line for content in found.values() for line in content.splitlines(True)}
    for (acknowledged, refused), code in zip(told, codes, strict=True):
        if conflict == "fail" and durability == "journal" and code:
            continue  # what lost came too late for close, and is kept and told of
        assert acknowledged - lines == set(), f"{codes}, {refused} refused"
    refused = sum(each for _, each in told) + sum(codes)
    copies = {key for key in found if key not in NAMES}
    assert all(" (conflict " in key for key in copies)
    assert copies or refused, "they never met"
    assert conflict == "copy" or not copies


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(3000, id="small"),
        pytest.param(9 * MIB, id="large", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "old"])
def test_who_opened_the_same_version_is_not_forgotten(
    mounter: Mounter, store: Store, durability: str, size: int, is_new: bool
) -> None:
    """Both open a file, or make it, both write it, both close it: the bytes of both are
    there in the end, whole.
    """
    mounts = two_mounts(mounter, store, durability, "copy")
    contents = [random.Random(number).randbytes(size) for number in range(2)]
    if not is_new:
        store.there.write("file", random.Random(2).randbytes(size))

    flags = os.O_RDWR | os.O_CREAT
    with (
        opened(mounts[0].path / "file", flags) as first,
        opened(mounts[1].path / "file", flags) as second,
    ):
        put(second, contents[1], 0)
        put(first, contents[0], 0)
    for mount in mounts:
        leave(mount)

    found = files_in(store.there)
    found = {k: v for k, v in found.items() if not k.startswith(".mountfs/")}
    assert sorted(found.values()) == sorted(contents)
    assert [key for key in found if " (conflict " not in key] == ["file"]
