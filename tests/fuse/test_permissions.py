"""Who may do what, and the calls that the mount refuses."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.marks import needs_root, on_s3
from tests.fuse.mounting import Mount, run
from tests.fuse.stores import S3Objects, Store

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

ATTEMPT = """
import os, sys
try:
    eval(sys.argv[1], {"os": os, "path": sys.argv[2]})
    print("done")
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture
def open_directory(directory: Path) -> Path:
    """`directory`, with a way to it for everybody."""
    for step in (directory, *directory.parents):
        if step.is_mount():
            break
        step.chmod(0o755)
    return directory


def as_nobody(attempt: str, path: Path) -> str:
    """Evaluate an expression about `path` as a user without rights.

    Names above the mount may be closed to that user: it starts inside.
    """
    program = [sys.executable, "-c", ATTEMPT, attempt, path.name]
    return run(*AS_NOBODY, *program, cwd=path.parent).strip()


@needs_root
@pytest.mark.parametrize(
    ("mode", "attempt", "outcome"),
    [
        (0o600, "open(path, 'rb')", "Permission denied"),
        (0o644, "open(path, 'rb')", "done"),
        (0o644, "open(path, 'ab')", "Permission denied"),
        (0o666, "open(path, 'ab')", "done"),
        (0o644, "os.chmod(path, 0o777)", "Operation not permitted"),
        (0o644, "os.truncate(path, 0)", "Permission denied"),
        (0o666, "os.unlink(path)", "Permission denied"),
    ],
)
def test_mode_decides_what_others_may(
    open_directory: Path, mode: int, attempt: str, outcome: str
) -> None:
    """Permission bits mean for another user what they mean on a disk."""
    (open_directory / "file").write_bytes(b"x")
    (open_directory / "file").chmod(mode)

    assert as_nobody(attempt, open_directory / "file") == outcome


@needs_root
def test_new_file_belongs_to_its_maker(open_directory: Path) -> None:
    """A file has the user and group of the process that made it, and its umask."""
    open_directory.chmod(0o777)

    assert as_nobody("open(path, 'wb')", open_directory / "file") == "done"
    assert as_nobody("os.mkdir(path)", open_directory / "d") == "done"

    for name in ("file", "d"):
        found = (open_directory / name).stat()
        assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)


@needs_root
def test_sticky_directory_protects_the_files_of_others(open_directory: Path) -> None:
    """In a directory like /tmp nobody removes what is not theirs."""
    open_directory.chmod(0o1777)
    (open_directory / "file").touch()

    told = as_nobody("os.unlink(path)", open_directory / "file")

    assert told == "Operation not permitted"


@needs_root
def test_change_of_owner_is_kept(directory: Path) -> None:
    """chown(2) changes user and group, of files and directories."""
    (directory / "file").write_bytes(b"x")
    (directory / "d").mkdir()

    for name in ("file", "d"):
        os.chown(directory / name, 1234, 5678)

        found = (directory / name).stat()
        assert (found.st_uid, found.st_gid) == (1234, 5678)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o755, 0o1777, 0o4755, 0o2750])
def test_mode_is_what_it_was_set_to(directory: Path, mode: int) -> None:
    """chmod(2) of a stored file shows at once, and the bytes stay."""
    (directory / "file").write_bytes(b"x")

    (directory / "file").chmod(mode)

    assert (directory / "file").stat().st_mode & 0o7777 == mode
    assert (directory / "file").read_bytes() == b"x"


def test_mode_without_permissions_survives_a_remount(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount]
) -> None:
    """What chmod 000 has set is what was meant."""
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"x")
    (mount.path / "file").chmod(0)

    path = remounter(mount).path

    assert (path / "file").stat().st_mode & 0o7777 == 0


@on_s3
@pytest.mark.parametrize("mode", [None, "0", "512", "none"])
def test_mode_of_programs_that_know_no_modes_is_the_mounts(
    mounter: Mounter, store: Store, mode: str | None
) -> None:
    """Metadata that say nothing of permissions lock nobody out."""
    there = store.there
    assert isinstance(there, S3Objects)
    metadata = {"mtime": "5"} | ({"mode": mode} if mode is not None else {})
    there.client.put_object(
        Bucket=there.bucket, Key=f"{there.prefix}file", Metadata=metadata
    )

    path = mounter(store, "--umask=027").path

    assert (path / "file").stat().st_mode & 0o7777 == 0o640
    assert (path / "file").stat().st_mtime == 5


@pytest.mark.parametrize("ns", [0, 1, -1, 10**18 + 123_456_789, 4 * 10**18 + 1])
def test_times_are_kept_to_the_nanosecond(directory: Path, ns: int) -> None:
    """utimensat(2) sets any time, before 1970 and far ahead included."""
    (directory / "file").write_bytes(b"x")

    os.utime(directory / "file", ns=(ns, ns))

    assert (directory / "file").stat().st_mtime_ns == ns


def test_mode_and_times_set_while_writing(directory: Path) -> None:
    """fchmod(2) and futimens(2) on a file being written hold after its close."""
    with (directory / "file").open("wb", buffering=0) as file:
        file.write(b"x")
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), ns=(7, 12_345_678_901))

    found = (directory / "file").stat()
    assert found.st_mode & 0o777 == 0o640
    assert found.st_mtime_ns == 12_345_678_901


def test_writing_sets_the_time(directory: Path) -> None:
    """A write moves the mtime from where utimensat(2) had put it."""
    (directory / "file").write_bytes(b"x")
    os.utime(directory / "file", ns=(5, 5))

    with (directory / "file").open("ab") as file:
        file.write(b"y")

    assert (directory / "file").stat().st_mtime_ns > 10**18


# --- refusals -----------------------------------------------------------------------

REFUSED: list[tuple[str, Callable[[Path], object], int]] = [
    ("getxattr", lambda p: os.getxattr(p / "f", "user.x"), errno.EOPNOTSUPP),
    ("setxattr", lambda p: os.setxattr(p / "f", "user.x", b""), errno.EOPNOTSUPP),
    ("removexattr", lambda p: os.removexattr(p / "f", "user.x"), errno.EOPNOTSUPP),
    ("listxattr", lambda p: os.listxattr(p / "f"), errno.EOPNOTSUPP),
    ("link", lambda p: os.link(p / "f", p / "hard"), errno.EPERM),
    ("mkfifo", lambda p: os.mkfifo(p / "fifo"), errno.EPERM),
]


@pytest.mark.parametrize(
    ("call", "code"), [pytest.param(*each[1:], id=each[0]) for each in REFUSED]
)
def test_call_that_the_mount_does_not_offer(
    directory: Path, call: Callable[[Path], object], code: int
) -> None:
    """Extended attributes are not supported, hard links and devices not permitted."""
    (directory / "f").touch()

    with pytest.raises(OSError, match=r".") as caught:
        call(directory)

    assert caught.value.errno == code


def test_space_never_runs_out(directory: Path) -> None:
    """statvfs(3) tells of much room, and names of 255 bytes."""
    found = os.statvfs(directory)

    assert found.f_bavail * found.f_frsize >= 1 << 40
    assert found.f_namemax == 255
    run("df", directory)
