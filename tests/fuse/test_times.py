"""atime, mtime and ctime: what moves them, what leaves them, what is kept."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mountfs.vfs.volume import kernel_now_ns
from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root
from tests.fuse.mounting import Mount, run_python
from tests.fuse.stores import Store

NOBODY = 65534
OLD_NS = 5 * 10**9
YEAR_1700_NS = -8_520_336_000 * 10**9 + 1
YEAR_2500_NS = 16_725_225_600 * 10**9 + 999_999_998

Act = Callable[[Path], object]


def later(path: Path, before: os.stat_result, field: str) -> bool:
    """Tell whether a time of a file has moved on."""
    name = f"st_{field}_ns"
    return bool(getattr(path.lstat(), name) > getattr(before, name))


def tick() -> None:
    """Let the clock that times are taken from move on, past those of a store, too."""
    start = time.time_ns()  # finer than that clock, which may be a step behind
    while kernel_now_ns() <= start:
        os.sched_yield()


# --- ctime --------------------------------------------------------------------------

CTIME_OF_ANYTHING: dict[str, Act] = {
    "chown": lambda path: os.chown(path, 12, 34, follow_symlinks=False),
    "utimens": lambda path: os.utime(path, ns=(5, 7), follow_symlinks=False),
}
CTIME_OF_FILES: dict[str, Act] = CTIME_OF_ANYTHING | {
    "chmod": lambda path: path.chmod(0o604),
    "write": lambda path: path.write_bytes(b"other"),
    "append": lambda path: path.open("ab").write(b"more"),
    "truncate": lambda path: os.truncate(path, 1),
    "extend": lambda path: os.truncate(path, 100),
    "O_TRUNC": lambda path: path.open("wb").close(),
}


@needs_root
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("change", CTIME_OF_FILES.values(), ids=CTIME_OF_FILES)
def test_change_of_a_file_moves_its_ctime(directory: Path, change: Act) -> None:
    """Bytes, size, mode, owner and times: each change has its time."""
    path = directory / "file"
    path.write_bytes(b"bytes")
    before = path.stat()
    tick()

    change(path)

    assert later(path, before, "ctime")


@needs_root
@pytest.mark.parametrize("change", CTIME_OF_ANYTHING.values(), ids=CTIME_OF_ANYTHING)
@pytest.mark.parametrize("kind", ["directory", "link"])
def test_change_of_what_has_no_bytes_moves_its_ctime(
    directory: Path, kind: str, change: Act
) -> None:
    """Directories and links have a ctime of their own."""
    path = directory / "name"
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    before = path.lstat()
    tick()

    change(path)

    assert later(path, before, "ctime")


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_rename_moves_the_ctime(directory: Path, kind: str) -> None:
    """rename(2) changes the inode, and not its bytes."""
    path = directory / "name"
    if kind == "file":
        path.write_bytes(b"bytes")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    before = path.lstat()
    tick()

    path.rename(directory / "other")

    assert later(directory / "other", before, "ctime")
    assert not later(directory / "other", before, "mtime")


def test_unlink_moves_the_ctime_of_an_open_file(directory: Path) -> None:
    """Who has a removed file open sees when it lost its name."""
    path = directory / "file"
    path.write_bytes(b"bytes")
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        tick()
        path.unlink()
        after = os.fstat(file.fileno())

    assert after.st_ctime_ns > before.st_ctime_ns
    assert after.st_mtime_ns == before.st_mtime_ns


def test_extended_attributes_move_the_ctime_and_keep_it(
    mounter: Mounter, store: Store
) -> None:
    """setxattr(2) and removexattr(2) change the inode; the time is stored with it."""
    mount = mounter(store, "--virtual=all")
    (mount.path / "file").write_bytes(b"bytes")
    (mount.path / "directory").mkdir()
    paths = [mount.path / name for name in ("file", "directory")]
    changes: list[Act] = [
        lambda path: os.setxattr(path, "user.a", b"1"),
        lambda path: os.setxattr(path, "user.a", b"2"),
        lambda path: os.removexattr(path, "user.a"),
    ]

    for change in changes:
        for path in paths:
            before = path.stat()
            tick()
            change(path)
            assert later(path, before, "ctime")
            assert not later(path, before, "mtime")
    shown = [path.stat().st_ctime_ns for path in paths]
    mount.unmount()

    again = mounter(store, "--virtual=all", at="again").path
    found = [(again / path.name).stat().st_ctime_ns for path in paths]
    # The kernel takes the time of a file anew after the change: a later tick.
    assert found[1] == shown[1]
    assert 0 <= shown[0] - found[0] < 10**9


def test_reading_moves_neither_mtime_nor_ctime(directory: Path) -> None:
    """Looking at a file, a link or a directory changes nothing."""
    (directory / "file").write_bytes(b"bytes")
    (directory / "link").symlink_to("file")
    paths = [directory, directory / "file", directory / "link"]
    before = [path.lstat() for path in paths]
    tick()

    (directory / "link").read_bytes()
    os.listdir(directory)

    for path, status in zip(paths, before, strict=True):
        assert not later(path, status, "mtime")
        assert not later(path, status, "ctime")


# --- directories --------------------------------------------------------------------

CHANGES_OF_ENTRIES: dict[str, Act] = {
    "create": lambda at: (at / "new").touch(),
    "mkdir": lambda at: (at / "new").mkdir(),
    "symlink": lambda at: (at / "new").symlink_to("x"),
    "unlink": lambda at: (at / "file").unlink(),
    "rmdir": lambda at: (at / "sub").rmdir(),
    "rename": lambda at: (at / "file").rename(at / "new"),
    "rename-directory": lambda at: (at / "sub").rename(at / "new"),
    "rename-over": lambda at: (at / "file").rename(at / "other"),
}


@pytest.mark.parametrize("change", CHANGES_OF_ENTRIES.values(), ids=CHANGES_OF_ENTRIES)
def test_change_of_an_entry_moves_mtime_and_ctime(directory: Path, change: Act) -> None:
    """Each new, removed or renamed name shows in the times of its directory."""
    for name in ("file", "other"):
        (directory / name).touch()
    (directory / "sub").mkdir()
    before = directory.stat()
    tick()

    change(directory)

    assert later(directory, before, "mtime")
    assert later(directory, before, "ctime")


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_rename_moves_the_times_of_both_directories(directory: Path, kind: str) -> None:
    """The directory that loses a name and the one that gets it have changed."""
    old, new = directory / "old", directory / "new"
    for path in (old, new):
        path.mkdir()
    if kind == "file":
        (old / "name").touch()
    else:
        (old / "name").mkdir()
    before = [old.stat(), new.stat()]
    tick()

    (old / "name").rename(new / "name")

    for path, status in zip((old, new), before, strict=True):
        assert later(path, status, "mtime")
        assert later(path, status, "ctime")


def test_change_of_bytes_leaves_the_directory(directory: Path) -> None:
    """What happens inside of a file is no change of its directory."""
    (directory / "file").write_bytes(b"bytes")
    before = directory.stat()
    tick()

    (directory / "file").write_bytes(b"other")
    (directory / "file").chmod(0o600)

    assert not later(directory, before, "mtime")


@pytest.mark.parametrize("store_kind", ["local", "moto"])
def test_time_of_a_directory_survives_a_remount(
    mounter: Mounter, make_store: Callable[[str], Store], store_kind: str
) -> None:
    """Where a store keeps metadata of directories, their times are kept."""
    store = make_store(store_kind)
    mount = mounter(store)
    mount.announce("ignores conditions")
    path = mount.path / "d"
    path.mkdir()
    os.utime(path, ns=(OLD_NS, OLD_NS))
    (path / "file").touch()
    before = path.stat()
    mount.unmount()

    again = mounter(store, at="again")
    again.announce("ignores conditions")
    after = (again.path / "d").stat()

    assert before.st_mtime_ns > OLD_NS
    assert after.st_mtime_ns == before.st_mtime_ns


# --- utimensat ----------------------------------------------------------------------

UTIMENSAT = """
import ctypes, os, sys
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
class timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("ns", ctypes.c_long)]
def spec(word):
    if word == "now":
        return timespec(0, NOW)
    if word == "omit":
        return timespec(0, OMIT)
    seconds, ns = divmod(int(word), 10**9)
    return timespec(seconds, ns)
libc = ctypes.CDLL(None, use_errno=True)
times = (timespec * 2)(spec(sys.argv[2]), spec(sys.argv[3]))
uid = int(sys.argv[4])
os.chdir(os.path.dirname(sys.argv[1]))
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
done = libc.utimensat(-100, os.path.basename(sys.argv[1]).encode(), times, 0)
print("done" if done == 0 else os.strerror(ctypes.get_errno()))
"""


def utimensat(path: Path, atime: object, mtime: object, *, uid: int = 0) -> str:
    """Set times as utimensat(2) does: ns since 1970, "now" or "omit"."""
    return run_python(UTIMENSAT, path, str(atime), str(mtime), str(uid)).strip()


@pytest.mark.parametrize("atime", ["now", "omit", 11])
@pytest.mark.parametrize("mtime", ["now", "omit", 12])
def test_each_time_is_set_left_or_now(
    directory: Path, atime: object, mtime: object
) -> None:
    """utimensat(2) does to either time what it is told, whatever the other's fate."""
    path = directory / "file"
    path.write_bytes(b"bytes")
    os.utime(path, ns=(OLD_NS, OLD_NS))
    start_ns = time.time_ns()

    assert utimensat(path, atime, mtime) == "done"

    found = path.stat()
    for wanted, ns in ((atime, found.st_atime_ns), (mtime, found.st_mtime_ns)):
        if wanted == "now":
            assert ns >= start_ns - 10**8
        else:
            assert ns == (OLD_NS if wanted == "omit" else wanted)


DENIED, NOT_PERMITTED = "Permission denied", "Operation not permitted"


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "atime", "mtime", "outcome"),
    [
        (NOBODY, 0o400, 11, 12, "done"),
        (NOBODY, 0o400, "now", "now", "done"),
        (NOBODY, 0o400, "omit", "now", "done"),
        (0, 0o666, "now", "now", "done"),
        (0, 0o644, "now", "now", DENIED),
        (0, 0o666, 11, 12, NOT_PERMITTED),
        (0, 0o666, "now", "omit", NOT_PERMITTED),
        (0, 0o666, "omit", 12, NOT_PERMITTED),
        (0, 0o644, "omit", "omit", "done"),
    ],
)
def test_who_may_set_which_time(
    directory: Path, owner: int, mode: int, atime: object, mtime: object, outcome: str
) -> None:
    """The owner sets any time; who may write sets both to now; others neither."""
    directory.chmod(0o755)
    path = directory / "file"
    path.write_bytes(b"bytes")
    os.chown(path, owner, owner)
    path.chmod(mode)

    assert utimensat(path, atime, mtime, uid=NOBODY) == outcome


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_times_survive_a_remount_to_the_nanosecond(
    mounter: Mounter,
    make_store: Callable[[str], Store],
    remount_of: Callable[[Mount, Store], Mount],
    kind: str,
) -> None:
    """Before 1970, after 2038 and between: what was set is there again."""
    store = make_store("moto")
    mount = mounter(store)
    mount.announce("ignores conditions")
    wanted = [-1, 0, 1, YEAR_1700_NS, 10**18 + 123_456_789, YEAR_2500_NS]
    for number, ns in enumerate(wanted):
        path = mount.path / str(number)
        if kind == "file":
            path.write_bytes(b"bytes")
        elif kind == "directory":
            path.mkdir()
        else:
            path.symlink_to("nowhere")
        os.utime(path, ns=(ns + 1, ns), follow_symlinks=False)

    again = remount_of(mount, store).path

    found = [(again / str(number)).lstat() for number in range(len(wanted))]
    assert [each.st_mtime_ns for each in found] == wanted
    assert [each.st_atime_ns for each in found] == [ns + 1 for ns in wanted]


@pytest.fixture
def remount_of(mounter: Mounter) -> Callable[[Mount, Store], Mount]:
    """Unmount, and mount the store anew with nothing but the store."""

    def remount(mount: Mount, store: Store) -> Mount:
        mount.unmount()
        again = mounter(store, at="again")
        again.announce("ignores conditions")
        return again

    return remount


# --- atime --------------------------------------------------------------------------


def test_reading_sets_the_atime(directory: Path) -> None:
    """Who reads a file after its last change moves its atime, as on a disk."""
    path = directory / "file"
    path.write_bytes(b"bytes")
    os.utime(path, ns=(OLD_NS, OLD_NS))
    before = path.stat()

    path.read_bytes()

    after = path.stat()
    assert before.st_atime_ns == OLD_NS
    assert after.st_atime_ns > OLD_NS
    assert after.st_ctime_ns == before.st_ctime_ns


def test_atime_is_left_if_the_program_says_so(directory: Path) -> None:
    """O_NOATIME reads without a trace."""
    path = directory / "file"
    path.write_bytes(b"bytes")
    os.utime(path, ns=(OLD_NS, OLD_NS))

    handle = os.open(path, os.O_RDONLY | os.O_NOATIME)
    os.read(handle, 10)
    os.close(handle)

    assert path.stat().st_atime_ns == OLD_NS


def test_atime_is_left_if_the_mount_says_so(mounter: Mounter, store: Store) -> None:
    """With --noatime reading leaves no trace, and the kernel knows of the option."""
    path = mounter(store, "--noatime", "--ttl=0").path
    (path / "file").write_bytes(b"bytes")
    os.utime(path / "file", ns=(OLD_NS, OLD_NS))

    (path / "file").read_bytes()

    assert (path / "file").stat().st_atime_ns == OLD_NS
    assert os.statvfs(path).f_flag & os.ST_NOATIME
