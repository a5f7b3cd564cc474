"""Bytes that the kernel gets unasked: they save requests, and replace nothing."""

import json
import mmap
import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import PlainFiles, Store

pytestmark = pytest.mark.parametrize("store", ["local"], indirect=True)

PAGE = 4096
FILES = 20
TTL_S = 0.05
TRIES = 4
HESITATION = """
import random, sys, time

if "mount" in sys.orig_argv:
    from mountfs.fuse import notifier
    store_all = notifier._store_all

    def hesitate(pushes):
        # Between the last look at a file and the push: there the race is.
        time.sleep(random.choice((0, 0.001, 0.003)))
        return store_all(pushes)

    notifier._store_all = hesitate
"""


def count(mount: Mount, what: str) -> int:
    """Return one of the counters of a mount."""
    told = json.loads(run_command("status", "--json", str(mount.path)).stdout)
    status = told[0] if isinstance(told, list) else told
    return int(status["activity"][what])


def test_next_files_are_read_without_asking(mounter: Mounter, store: Store) -> None:
    """The next files of a walk are in the page cache when the program comes.

    If it does not come too soon: a busy machine gets more than one try.
    """
    for folder in range(TRIES):
        for number in range(12):
            store.there.write(f"d{folder}/{number:02}", b"%02d" % number * PAGE)
    mount = mounter(store, "--ttl=60")
    tries: list[tuple[int, int]] = []
    for folder in range(TRIES):
        directory = mount.path / f"d{folder}"
        names = sorted(os.listdir(directory))
        pushed = count(mount, "pushed_bytes")
        for name in names[:2]:
            (directory / name).read_bytes()
        time.sleep(0.5)  # for what is under way behind the program
        asked = count(mount, "read_bytes")

        for name in names[2:]:
            assert (directory / name).read_bytes() == name.encode() * PAGE
        asked = count(mount, "read_bytes") - asked
        tries.append((asked, count(mount, "pushed_bytes") - pushed))
    assert any(
        asked <= 2 * 2 * PAGE and pushed >= 10 * 2 * PAGE for asked, pushed in tries
    ), tries


@pytest.mark.parametrize(
    "rounds",
    [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_push_never_replaces_what_a_program_wrote(
    mounter: Mounter,
    store: Store,
    rounds: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Programs write while the old bytes of the same files are on their way up."""
    chooser = random.Random(rounds)
    (tmp_path / "sitecustomize.py").write_text(HESITATION)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    mount = mounter(store, f"--ttl={TTL_S}", life_s=1800)
    directory = mount.path / "d"
    there = store.below("d")
    assert isinstance(there, PlainFiles)
    for batch in range(-(-rounds // (FILES - 2))):
        race_once(directory, there, batch, chooser)
    # Many meet a gate that is shut, as it should be; in each batch some do not.
    assert count(mount, "pushed_bytes") > rounds * PAGE // 8


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
        changes = {}

        def change_all(names: list[str]) -> None:
            for name in names:
                change = chooser.choice(CHANGES)
                offset = chooser.choice((0, PAGE))
                descriptor = change.open(directory / name, opened)
                content = change.make(descriptor, old[name], mine, offset)
                changes[name] = (descriptor, content)

        change_all(early)
        # The second file is what sets the walk, and so the pushes, going.
        assert (directory / names[1]).read_bytes() == old[names[1]]
        change_all(late)
        time.sleep(chooser.choice((0, 0.002, 0.01)))
        for descriptor, content in changes.values():
            assert os.pread(descriptor, 4 * PAGE, 0) == content
    for name, (_, content) in changes.items():
        assert there.read(name) == content


@dataclass(frozen=True, slots=True)
class Change:
    """A way to change a file of two pages that stays open."""

    make: Callable[[int, bytes, bytes, int], bytes]
    """Writes a page of ours, perhaps at an offset; returns what the file has then."""
    flags: int = 0
    size: int | None = None
    """To what the file is cut before it is opened, by its name."""

    def open(self, path: Path, opened: ExitStack) -> int:
        """Return a descriptor, which is closed at the end."""
        if self.size is not None:
            os.truncate(path, self.size)
        descriptor = os.open(path, os.O_RDWR | self.flags)
        opened.callback(os.close, descriptor)
        return descriptor


def write_page(descriptor: int, old: bytes, mine: bytes, offset: int) -> bytes:
    assert os.pwrite(descriptor, mine, offset) == PAGE
    return old[:offset] + mine + old[offset + PAGE :]


def write_mapped(descriptor: int, old: bytes, mine: bytes, offset: int) -> bytes:
    with mmap.mmap(descriptor, 2 * PAGE) as mapped:
        mapped[offset : offset + PAGE] = mine
    return old[:offset] + mine + old[offset + PAGE :]


def append(descriptor: int, old: bytes, mine: bytes, offset: int) -> bytes:
    assert os.write(descriptor, mine) == PAGE
    return old + mine


def write_anew(descriptor: int, old: bytes, mine: bytes, offset: int) -> bytes:
    assert os.write(descriptor, mine) == PAGE
    return mine


def write_what_was_cut(descriptor: int, old: bytes, mine: bytes, offset: int) -> bytes:
    assert os.pwrite(descriptor, mine, PAGE) == PAGE
    return old[:PAGE] + mine


CHANGES = (
    Change(write_page),
    Change(write_page),
    Change(write_mapped),
    Change(append, flags=os.O_APPEND),
    Change(write_anew, flags=os.O_TRUNC),
    Change(write_what_was_cut, size=PAGE),
)
