"""Many threads and processes in one mount."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuse.marks import on_shared_stores
from tests.fuse.mounting import run
from tests.fuse.stores import OtherSide, objects_of

MIB = 1 << 20


@on_shared_stores
def test_threads_write_different_files(directory: Path, there: OtherSide) -> None:
    """Sixteen writers at a time, each its own file: every byte arrives."""
    contents = {
        f"file-{n}": random.Random(n).randbytes(n * 20_011 % MIB) for n in range(64)
    }

    def write(name: str) -> None:
        with (directory / name).open("wb") as file:
            for begin in range(0, len(contents[name]), 10_000):
                file.write(contents[name][begin : begin + 10_000])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, contents))

    assert objects_of(there) == contents
    with ThreadPoolExecutor(16) as pool:
        read = pool.map(lambda name: (directory / name).read_bytes(), contents)
    assert list(read) == list(contents.values())


def test_threads_write_one_file(directory: Path) -> None:
    """Writers of different ranges of one file do not disturb each other."""
    content = random.Random(1).randbytes(8 * MIB)
    descriptor = os.open(directory / "file", os.O_RDWR | os.O_CREAT)

    def write(begin: int) -> None:
        os.pwrite(descriptor, content[begin : begin + 100_000], begin)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(0, len(content), 100_000)))
    os.close(descriptor)

    assert (directory / "file").read_bytes() == content


def test_readers_while_a_file_is_committed_again_and_again(directory: Path) -> None:
    """Readers always see one of the versions that were renamed into place, whole."""
    versions = [bytes([number]) * 300_000 for number in range(10)]
    (directory / "file").write_bytes(versions[0])

    def read(_: int) -> bool:
        return (directory / "file").read_bytes() in versions

    def replace() -> None:
        for version in versions[1:]:
            (directory / "new").write_bytes(version)
            (directory / "new").rename(directory / "file")

    with ThreadPoolExecutor(5) as pool:
        writing = pool.submit(replace)
        whole = list(pool.map(read, range(60)))
        writing.result()

    assert all(whole)
    assert (directory / "file").read_bytes() == versions[-1]


def test_threads_make_and_remove_names(directory: Path) -> None:
    """Making, renaming and removing in one directory from many threads."""

    def work(number: int) -> None:
        name = directory / f"f{number}"
        name.write_bytes(b"%d" % number)
        name.rename(directory / f"g{number}")
        if number % 2:
            (directory / f"g{number}").unlink()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(120)))

    expected = {f"g{number}" for number in range(0, 120, 2)}
    assert {path.name for path in directory.iterdir()} == expected


def test_processes_write_at_the_same_time(directory: Path, tmp_path: Path) -> None:
    """`xargs -P` with eight copies at a time leaves eight whole files each time."""
    (tmp_path / "source").write_bytes(random.Random(2).randbytes(700_001))
    command = f'seq 40 | xargs -P 8 -I N cp "{tmp_path}/source" "{directory}/N"'

    run("sh", "-c", command)

    expected = (tmp_path / "source").read_bytes()
    assert all(path.read_bytes() == expected for path in directory.iterdir())
    assert len(list(directory.iterdir())) == 40
