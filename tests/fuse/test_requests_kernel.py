"""What the kernel asks the daemon: what it knows by itself costs nothing at all."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.counting import Counted
from tests.fuse.mounting import Mount, run
from tests.fuse.processes import COMMAND
from tests.fuse.stores import S3Objects, Store

FILES = 300
MIB = 1 << 20


@pytest.fixture
def mount(mounter: Mounter) -> Mount:
    """A mount that tells of each request, and believes what it knows."""
    return mounter(Store("memory://"), "--ttl=3600", "--log-level=debug")


def asked(mount: Mount, act: Callable[[], object]) -> Counter[str]:
    """Return what the kernel asks for because of something, by handler."""
    os.statvfs(mount.path)
    before = len(mount.log())
    act()
    os.statvfs(mount.path)
    lines = re.findall(r"the kernel asks: (\w+)", mount.log()[before:])
    return Counter(name for name in lines if name not in {"statfs", "forget"})


def test_stat_of_what_is_known_asks_nobody(mount: Mount) -> None:
    """Eight thousand of them are answered by the kernel."""
    (mount.path / "d").mkdir()
    (mount.path / "d" / "f").write_bytes(b"x")

    def stat() -> None:
        for _ in range(8000):
            os.stat(mount.path / "d" / "f")

    stat()
    assert not asked(mount, stat)


def test_listing_many_is_few_requests(mount: Mount) -> None:
    """Entries come with their attributes, a page of memory full of them at a time."""
    directory = mount.path / "d"
    directory.mkdir()
    for number in range(FILES):
        (directory / f"{number:04}").write_bytes(b"x")

    def list_all() -> None:
        with os.scandir(directory) as entries:
            assert sum(entry.stat().st_size for entry in entries) == FILES

    list_all()
    known = asked(mount, list_all)

    assert known.pop("getattr", 0) <= 1  # the directory: reading it may set its atime
    assert set(known) == {"opendir", "readdir", "releasedir"}
    assert (known["opendir"], known["releasedir"]) == (1, 1)
    assert known["readdir"] <= FILES // 15


def test_reading_again_asks_for_no_bytes(mount: Mount) -> None:
    """The kernel keeps the pages of a file that did not change."""
    file = mount.path / "f"
    file.write_bytes(bytes(4 * MIB))
    run("cat", file)

    again = asked(mount, lambda: run("cat", file))

    assert again.pop("getattr", 0) <= 1  # reading it may have set its atime
    assert again == {"open": 1, "flush": 1, "release": 1}


def test_a_small_file_is_made_with_seven_requests(mount: Mount) -> None:
    """Each of them once; the directory's attributes are new after every create."""
    directory, count = mount.path / "d", 20
    directory.mkdir()

    def make() -> None:
        for number in range(count):
            (directory / f"{number}").write_bytes(b"x" * 100)

    counts = asked(mount, make)

    assert counts.pop("getxattr", 0) <= 1  # there are none, which it then knows
    always = {"lookup", "create", "write", "flush", "release"}
    assert always <= set(counts) <= always | {"getattr", "setattr"}
    assert max(counts.values()) <= count + 1


def test_small_writes_come_in_large_pieces(mount: Mount) -> None:
    """Four thousand writes of 4 KiB are 16 requests of a megabyte."""

    def write() -> None:
        run("dd", "if=/dev/zero", f"of={mount.path / 'f'}", "bs=4k", "count=4000")

    counts = asked(mount, write)

    assert counts["create"] == 1
    assert counts["write"] <= 32
    assert sum(counts.values()) - counts["write"] <= 12


def test_warming_is_a_request_a_file_in_the_background(
    counted: Counted, cold: tuple[Path, S3Objects]
) -> None:
    """No program waits for one, and reading the files then asks for no byte."""
    directory, there = cold
    for number in range(20):
        there.write(f"{number % 2}/{number}", b"x" * 100)
    there.write("large", bytes(20 * MIB))
    assert directory.is_dir()  # what the path is costs what any path costs

    with counted.requests() as asked:
        run(*COMMAND, "warm", directory)
    background = counted.shim.counts(reason="prefetch")
    with counted.requests() as read:
        run("cat", *sorted(each for each in directory.rglob("*") if each.is_file()))

    assert not asked
    assert background["ListObjectsV2"] == 3
    assert background["GetObject"] == 20 + 3  # 8 MiB at a time
    # A sample of what attributes there are, and of the markers of two directories.
    assert background["HeadObject"] <= 21 + 2
    assert set(background) == {"ListObjectsV2", "GetObject", "HeadObject"}
    assert "GetObject" not in read


def test_holes_are_copied_by_the_store(
    counted: Counted, counted_directory: Path
) -> None:
    """A large hole costs one object of zeros, and a copy for each part."""
    file = counted_directory / "f"

    with counted.requests() as asked, file.open("wb") as opened:
        opened.truncate(64 * MIB)
        opened.seek(20 * MIB)
        opened.write(b"here")

    assert asked == {
        "PutObject": 1,
        "CreateMultipartUpload": 1,
        "UploadPart": 1,
        "UploadPartCopy": 7,
        "CompleteMultipartUpload": 1,
        "DeleteObject": 1,
    }
    assert asked.sent("PutObject") + asked.sent("UploadPart") <= 17 * MIB
    content = counted.there(counted_directory).read("f")
    assert content == bytes(20 * MIB) + b"here" + bytes(44 * MIB - 4)


def test_mode_of_a_file_that_was_only_listed_is_a_head_more(
    counted: Counted, cold: tuple[Path, S3Objects]
) -> None:
    """What its headers say must not be lost."""
    directory, there = cold
    for number in range(40):
        there.write(f"{number:02}", b"x")
    os.listdir(directory)

    with counted.requests() as asked:
        (directory / "39").chmod(0o600)

    assert asked == {"HeadObject": 1, "CopyObject": 1}
