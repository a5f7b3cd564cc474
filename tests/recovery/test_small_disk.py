"""The disk of cache and state fills up, or fails, under a mount that is in use.

Programs get ENOSPC or succeed, what was acknowledged is right, and the daemon goes on
when there is room again.
"""

import errno
import hashlib
import os
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import Store
from tests.recovery.small_disk import SmallDisk

pytestmark = pytest.mark.fuse
both = pytest.mark.parametrize("durability", ["store", "journal"])
MIB = 1 << 20
LOST = r"^\S+ \S+ (WARNING|ERROR) |Traceback"
FULL = "No space left|is full|cannot be kept|is not stored|disk is full|fill the local"


def write(path: Path, content: bytes) -> int:
    """Write a file whole; return the errno with which that failed, or 0."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as error:
        return error.errno or errno.EIO
    code = 0
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        code = error.errno or errno.EIO
    try:
        os.close(descriptor)
    except OSError as error:
        code = code or error.errno or errno.EIO
    return code


@both
def test_a_disk_that_others_fill_costs_no_acknowledged_byte(
    small_disk: SmallDisk, mounter: Mounter, store: Store, durability: str
) -> None:
    """While the disk fills and empties, each write succeeds or is ENOSPC; what was
    acknowledged is in the store, and afterwards all goes as before.
    """
    mount = mounter(store, "--cache-size=48M", f"--durability={durability}")
    mount.announce(FULL)
    chance = random.Random(4)
    acknowledged: dict[str, str] = {}
    codes: list[int] = []
    with small_disk.filled_now_and_then(0.3):
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            name = f"file-{chance.randrange(20)}"
            content = chance.randbytes(chance.randrange(1, 4 * MIB))
            code = write(mount.path / name, content)
            codes.append(code)
            if code == 0:
                acknowledged[name] = digest(content)
            else:
                # Its old bytes or the new ones: neither was promised.
                acknowledged.pop(name, None)

    assert set(codes) <= {0, errno.ENOSPC}
    assert acknowledged
    assert small_disk.times_full > 2
    assert write(mount.path / "after", b"after") == 0
    assert {
        name: digest((mount.path / name).read_bytes()) for name in acknowledged
    } == (acknowledged)
    mount.unmount()
    assert {name: digest(store.there.read(name)) for name in acknowledged} == (
        acknowledged
    )
    assert store.there.read("after") == b"after"


def test_a_full_disk_stops_no_reader(
    small_disk: SmallDisk, mounter: Mounter, store: Store
) -> None:
    """With no room at all bytes are read from the store, again and again, and
    directories can be made; what needs a note on the disk first is ENOSPC.
    """
    content = random.Random(5).randbytes(8 * MIB)
    store.there.write("file", content)
    mount = mounter(store, "--cache-size=48M", "--ttl=0")
    mount.announce(FULL)
    small_disk.fill()

    for _ in range(2):
        assert read_anew(mount, "file") == content
    (mount.path / "d").mkdir()
    is_moved = renamed(mount.path / "file", mount.path / "d" / "moved")
    code = write(mount.path / "new", bytes(4 * MIB))
    small_disk.release()

    assert code == errno.ENOSPC
    assert store.there.read("d/moved" if is_moved else "file") == content
    assert write(mount.path / "new", bytes(4 * MIB)) == 0
    assert store.there.read("new") == bytes(4 * MIB)


def test_clean_bytes_make_room_for_others(
    small_disk: SmallDisk, mounter: Mounter, store: Store
) -> None:
    """Below the floor of free space the cache shrinks, though nobody asks for room."""
    store.there.write("file", bytes(24 * MIB))
    mount = mounter(store, "--cache-size=48M", "--min-free=8M")
    assert read_anew(mount, "file") == bytes(24 * MIB)
    deadline = time.monotonic() + 30
    while cached(mount) < 24 * MIB and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cached(mount) == 24 * MIB

    small_disk.fill(leave=2 * MIB)
    while small_disk.free() < 8 * MIB and time.monotonic() < deadline:
        time.sleep(0.05)

    # Blocks that came together, up to 8 MiB of them, go together.
    assert 8 * MIB <= small_disk.free() <= 16 * MIB
    assert cached(mount) < 24 * MIB
    assert read_anew(mount, "file") == bytes(24 * MIB)


@both
def test_a_disk_that_fails_stops_writers_and_no_reader(
    small_disk: SmallDisk, mounter: Mounter, store: Store, durability: str
) -> None:
    """When the disk takes no write any more, writing is an error and never a success
    that is none; reading goes on, and so does the daemon until it is unmounted.
    """
    content = random.Random(6).randbytes(4 * MIB)
    store.there.write("file", content)
    mount = mounter(store, "--cache-size=48M", "--ttl=0", f"--durability={durability}")
    assert write(mount.path / "before", b"before") == 0
    assert run_command("flush", str(mount.path)).returncode == 0

    small_disk.fail()
    code = write(mount.path / "new", bytes(MIB))
    found = read_anew(mount, "file")
    is_alive = mount.process.poll() is None
    done = run_command("umount", str(mount.path))
    ended = mount.process.wait(60)

    assert code in (errno.EROFS, errno.EIO)
    assert found == content
    assert is_alive
    assert (done.returncode, ended) == (0, 0), f"{done.stderr}\n{mount.log()}"
    assert store.there.read("before") == b"before"
    assert "new" not in store.there.listing()


@both
def test_what_the_disk_has_lost_unseen_is_never_stored(
    thin_disk: SmallDisk, mounter: Mounter, store: Store, durability: str
) -> None:
    """A disk takes bytes and loses them in the background. Neither a close nor an fsync
    succeeds then, not even the second one, and nothing of it comes to the store.
    """
    content = random.Random(8).randbytes(40 * MIB)
    store.there.write("file", b"as it was")
    mount = mounter(store, "--cache-size=52M", f"--durability={durability}")
    mount.announce(LOST)
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, content)
        thin_disk.write_back()
        codes = [synced(descriptor) for _ in range(2)]
    finally:
        with suppress(OSError):
            os.close(descriptor)

    assert set(codes) <= {errno.EIO, errno.ENOSPC}
    run_command("umount", str(mount.path))
    mount.process.wait(60)
    assert store.there.read("file") == b"as it was"


def synced(descriptor: int) -> int:
    """Sync a file; return the errno with which that failed, or 0."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def renamed(old: Path, new: Path) -> bool:
    """Rename a file; False if the disk was too full for the note that comes first."""
    code = 0
    try:
        old.rename(new)
    except OSError as error:
        code = error.errno or errno.EIO
    assert code in (0, errno.ENOSPC)
    return code == 0


def read_anew(mount: Mount, name: str) -> bytes:
    """Read a file without what the kernel has of it."""
    descriptor = os.open(mount.path / name, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        pieces = []
        while piece := os.read(descriptor, MIB):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def cached(mount: Mount) -> int:
    """Return how many bytes the cache has on the disk."""
    blocks = mount.cache_dir.glob("*/blocks/*/*")
    total = 0
    for block in blocks:
        try:
            total += block.stat().st_size // MIB * MIB
        except FileNotFoundError:
            continue
    return total


def digest(content: bytes) -> str:
    """Return what stands for some bytes."""
    return hashlib.sha256(content).hexdigest()
