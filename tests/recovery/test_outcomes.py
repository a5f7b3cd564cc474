"""What becomes of a mount in each sort of trouble, as docs/explanation/durability.md
says: its end by signals, too little memory, and clocks that jump.

Full and failing disks are in `test_small_disk`, crashes at single points elsewhere.
"""

import errno
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import Store

pytestmark = pytest.mark.fuse
local = pytest.mark.parametrize("store", ["local"], indirect=True)
both = pytest.mark.parametrize("durability", ["store", "journal"])
MIB = 1 << 20
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
YEAR_NS = 365 * 86400 * 10**9


def written(mount: Mount) -> dict[str, bytes]:
    """Write files, in a directory as well, rename one; return what was acknowledged."""
    (mount.path / "d").mkdir()
    expected = {}
    for number in range(12):
        name = f"d/file-{number}" if number % 2 else f"file-{number}"
        content = os.urandom(number * 20_000)
        (mount.path / name).write_bytes(content)
        expected[name] = content
    (mount.path / "file-2").rename(mount.path / "d" / "moved")
    expected["d/moved"] = expected.pop("file-2")
    return expected


def stored(store: Store, names: dict[str, bytes]) -> dict[str, bytes]:
    """Return what the store has under these names."""
    there = store.there
    keys = there.listing()
    return {name: there.read(name) for name in names if name in keys}


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_stores_everything(
    mounter: Mounter, store: Store, number: signal.Signals, durability: str
) -> None:
    """The daemon detaches, sends what was acknowledged and ends with 0."""
    mount = mounter(store, f"--durability={durability}")
    expected = written(mount)

    assert mount.end(number) == 0

    assert stored(store, expected) == expected


@both
def test_an_unmount_stores_everything(
    mounter: Mounter, store: Store, durability: str
) -> None:
    """`mountfs umount` returns 0 when the store has what was acknowledged."""
    mount = mounter(store, f"--durability={durability}")
    expected = written(mount)

    done = run_command("umount", str(mount.path))

    assert (done.returncode, done.stderr) == (0, "")
    assert stored(store, expected) == expected
    assert mount.process.wait(60) == 0


@both
def test_a_killed_daemon_loses_nothing_acknowledged(
    mounter: Mounter, store: Store, durability: str
) -> None:
    """After SIGKILL, which the kernel sends as well when memory ends, the next mount
    has everything that was acknowledged, and the store after a flush.
    """
    mount = mounter(store, f"--durability={durability}")
    expected = written(mount)
    assert mount.end(signal.SIGKILL) == -signal.SIGKILL

    again = mounter(store, f"--durability={durability}")
    again.announce("cleaning up")
    found = {name: (again.path / name).read_bytes() for name in expected}
    done = run_command("flush", str(again.path))

    assert found == expected
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(store, expected) == expected
    assert "file-2" not in store.there.listing()


@both
@local
def test_too_little_memory_costs_nothing_acknowledged(
    mounter: Mounter, store: Store, durability: str
) -> None:
    """While the daemon gets no memory calls fail, or it ends as if it was killed; what
    succeeded is right, in the next mount if there must be one.
    """
    mount = mounter(store, f"--durability={durability}")
    mount.announce(r".")
    pid = mount.process.pid
    (mount.path / "before").write_bytes(bytes(8 * MIB))
    acknowledged: dict[str, bytes] = {}
    unlimited = resource.prlimit(pid, resource.RLIMIT_AS)
    limit = memory_of(pid) + 6 * MIB
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, unlimited[1]))
    codes: set[int] = set()

    def load(number: int) -> None:
        for step in range(4):
            path, content = mount.path / f"file-{number}-{step}", os.urandom(3 * MIB)
            code = attempt(partial(path.write_bytes, content))
            codes.add(code)
            if code == 0:
                acknowledged[path.name] = content

    threads = [threading.Thread(target=load, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if mount.process.poll() is None:
        resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
    mount.kill()
    again = mounter(store, f"--durability={durability}")
    again.announce(r".")

    assert codes <= {0, errno.EIO, errno.ENOMEM, errno.ESTALE, *DEAD}
    found = {name: (again.path / name).read_bytes() for name in acknowledged}
    assert found == acknowledged
    assert (again.path / "before").read_bytes() == bytes(8 * MIB)
    (again.path / "after").write_bytes(b"after")
    run_command("flush", str(again.path))
    assert store.there.read("after") == b"after"
    assert stored(store, acknowledged) == acknowledged


CLOCK = """
import os, time
def _moved(real, unit):
    def now(*arguments):
        with open(os.environ["MOUNTFS_TEST_CLOCK"]) as file:
            jump_ns = int(file.read() or 0)
        found = real(*arguments)
        is_realtime = not arguments or arguments[0] in (0, 5)
        return found + (jump_ns * unit if is_realtime else 0)
    return now
time.time = _moved(time.time, 1e-9)
time.time_ns = _moved(time.time_ns, 1)
time.clock_gettime = _moved(time.clock_gettime, 1e-9)
time.clock_gettime_ns = _moved(time.clock_gettime_ns, 1)
"""


class JumpingClock:
    """The clock of the daemons that a test starts."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def jump(self, years: int) -> None:
        """Let it go wrong by so many years from now on."""
        new = self._place.with_suffix(".new")
        new.write_text(str(years * YEAR_NS))
        new.rename(self._place)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    """A clock that tests move, for daemons started from now on."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK)
    made = JumpingClock(tmp_path / "clock")
    made.jump(0)
    paths = [str(tmp_path / "site"), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", ":".join(paths))
    monkeypatch.setenv("MOUNTFS_TEST_CLOCK", str(tmp_path / "clock"))
    return made


@both
@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_jumps_costs_nothing_but_times(
    mounter: Mounter, store: Store, clock: JumpingClock, years: int, durability: str
) -> None:
    """Bytes and names are right, answers of the store get old as before, and files have
    the times that the clock showed; a mount after the clock was mended goes on.
    """
    mount = mounter(store, f"--durability={durability}", "--ttl=200ms")
    expected = written(mount)
    (mount.path / "foreign").write_bytes(b"first")
    clock.jump(years)
    descriptor = os.open(mount.path / "file-4", os.O_RDWR)
    os.write(descriptor, b"edited")
    os.ftruncate(descriptor, 6)
    os.close(descriptor)
    expected["file-4"] = b"edited"
    (mount.path / "late").mkdir()
    (mount.path / "late" / "new").write_bytes(b"new")
    expected["late/new"] = b"new"
    made_ns = (mount.path / "late").stat().st_mtime_ns
    assert run_command("flush", str(mount.path)).returncode == 0
    store.there.write("foreign", b"second")
    seen = wait_until(lambda: (mount.path / "foreign").read_bytes() == b"second")
    mount.unmount()
    clock.jump(0)
    again = mounter(store, f"--durability={durability}", "--ttl=0")

    assert seen
    assert abs(made_ns - time.time_ns() - years * YEAR_NS) < 3600 * 10**9
    assert {name: (again.path / name).read_bytes() for name in expected} == expected
    assert stored(store, expected) == expected


def wait_until(is_true: Callable[[], bool], seconds: float = 20) -> bool:
    """Ask again and again; return whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def attempt(deed: Callable[[], object]) -> int:
    """Do something; return the errno with which it failed, or 0."""
    try:
        deed()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def memory_of(pid: int) -> int:
    """Return the size of a process's address space."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()
