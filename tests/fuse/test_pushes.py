"""Bytes that the kernel gets unasked: they save requests, and replace nothing."""

import json
import os
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import PlainFiles, Store

pytestmark = pytest.mark.parametrize("store", ["local"], indirect=True)

PAGE = 4096
FILES = 20
TTL_S = 0.05


def count(mount: Mount, what: str) -> int:
    """Return one of the counters of a mount."""
    told = json.loads(run_command("status", "--json", str(mount.path)).stdout)
    status = told[0] if isinstance(told, list) else told
    return int(status["activity"][what])


def test_next_files_are_read_without_asking(mounter: Mounter, store: Store) -> None:
    """The next files of a walk are in the page cache when the program comes."""
    for number in range(12):
        store.there.write(f"d/{number:02}", b"%02d" % number * PAGE)
    mount = mounter(store, "--ttl=60")
    directory = mount.path / "d"
    names = sorted(os.listdir(directory))
    for name in names[:2]:
        (directory / name).read_bytes()
    time.sleep(0.5)  # for what is under way behind the program
    before = count(mount, "read_bytes")

    for name in names[2:]:
        assert (directory / name).read_bytes() == name.encode() * PAGE
    assert count(mount, "read_bytes") - before <= 2 * 2 * PAGE
    assert count(mount, "pushed_bytes") >= 10 * 2 * PAGE


@pytest.mark.parametrize(
    "rounds",
    [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_push_never_replaces_what_a_program_wrote(
    mounter: Mounter, store: Store, rounds: int
) -> None:
    """Programs write while the old bytes of the same files are on their way up."""
    chooser = random.Random(rounds)
    mount = mounter(store, f"--ttl={TTL_S}", life_s=900)
    directory = mount.path / "d"
    there = store.below("d")
    assert isinstance(there, PlainFiles)
    for batch in range(-(-rounds // (FILES - 2))):
        race_once(directory, there, batch, chooser)
    # Most come too late for a gate that is shut, as it should be; not all.
    assert count(mount, "pushed_bytes") > 0


def race_once(
    directory: Path, there: PlainFiles, batch: int, chooser: random.Random
) -> None:
    """Replace all files, start a walk, and write to the files that it comes to."""
    names = [f"{number:02}" for number in range(FILES)]
    old = {name: os.urandom(8) * (2 * PAGE // 8) for name in names}
    for name, content in old.items():
        there.write(name, content)
    time.sleep(TTL_S)
    with os.scandir(directory) as entries:
        assert sorted(entry.name for entry in entries) == names
    mine = b"%08d" % batch * (PAGE // 8)
    late = chooser.sample(names[2:], FILES - 2)
    early = [late.pop() for _ in range(chooser.randrange(FILES - 2))]
    assert (directory / names[0]).read_bytes() == old[names[0]]
    with ExitStack() as opened:
        files = [write_page(directory, name, mine, chooser, opened) for name in early]
        # The second file is what sets the walk, and so the pushes, going.
        assert (directory / names[1]).read_bytes() == old[names[1]]
        files += [write_page(directory, name, mine, chooser, opened) for name in late]
        time.sleep(chooser.choice((0, 0.002, 0.01)))
        expected = {}
        for name, (descriptor, offset) in zip([*early, *late], files, strict=True):
            before, behind = old[name][:offset], old[name][offset + PAGE :]
            expected[name] = before + mine + behind
            assert os.pread(descriptor, 2 * PAGE, 0) == expected[name]
    for name, content in expected.items():
        assert there.read(name) == content


def write_page(
    directory: Path, name: str, mine: bytes, chooser: random.Random, opened: ExitStack
) -> tuple[int, int]:
    """Write one page of a file that stays open; return its descriptor and where."""
    descriptor = os.open(directory / name, os.O_RDWR)
    opened.callback(os.close, descriptor)
    offset = chooser.choice((0, PAGE))
    assert os.pwrite(descriptor, mine, offset) == PAGE
    return descriptor, offset
