"""Named pipes, sockets and devices, and files that nobody opens."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.fuse.conftest import GATED, Mounter
from tests.fuse.counting import Counted
from tests.fuse.marks import needs_root, on_shared_stores
from tests.fuse.mounting import run
from tests.fuse.stores import OtherSide, Store

DEVICE = os.makedev(241, 70_001)
KINDS = [
    pytest.param(stat.S_IFIFO, 0, id="fifo"),
    pytest.param(stat.S_IFSOCK, 0, id="socket"),
    pytest.param(stat.S_IFCHR, DEVICE, id="chr", marks=needs_root),
    pytest.param(stat.S_IFBLK, DEVICE, id="blk", marks=needs_root),
]
of_each_kind = pytest.mark.parametrize(("kind", "device"), KINDS)


def facts(path: Path) -> tuple[int, int, int, int, int, int]:
    """Return what stat(2) says of a special file, but for its number."""
    found = path.lstat()
    return (
        found.st_mode,
        found.st_rdev,
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
        found.st_size,
    )


@of_each_kind
def test_special_file_is_of_its_type(
    gated_directory: Path, kind: int, device: int
) -> None:
    """stat(2) shows the type, the permissions under the umask, and the device."""
    path = gated_directory / "special"

    os.mknod(path, kind | 0o666, device)

    mode, rdev, *_, size = facts(path)
    assert (mode, rdev, size) == (kind | 0o644, device, 0)
    with pytest.raises(FileExistsError):
        os.mknod(path, kind | 0o666, device)


@of_each_kind
def test_attributes_of_special_files_change(
    gated_directory: Path, kind: int, device: int
) -> None:
    """chmod, chown and utimensat do what they do to files, and leave the type."""
    path = gated_directory / "special"
    os.mknod(path, kind | 0o600, device)

    path.chmod(0o640)
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    if os.geteuid() == 0:
        os.chown(path, 12, 34)

    owner = (12, 34) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    time_ns = 1_234_567_890_123_456_789
    assert facts(path) == (kind | 0o640, device, *owner, time_ns, 0)


@of_each_kind
def test_special_files_are_renamed_and_removed(
    gated_directory: Path, kind: int, device: int
) -> None:
    """Over a free name, over a file, and away."""
    old, new = gated_directory / "old", gated_directory / "new"
    os.mknod(old, kind | 0o600, device)
    before = facts(old)

    old.rename(new)
    new.rename(old)
    new.write_bytes(b"a file")
    old.rename(new)

    assert facts(new) == before
    assert os.listdir(gated_directory) == ["new"]
    new.unlink()
    assert os.listdir(gated_directory) == []


@of_each_kind
def test_special_files_have_several_names(
    gated_directory: Path, kind: int, device: int
) -> None:
    """link(2) gives one more name to a special file as to any other."""
    one, other = gated_directory / "one", gated_directory / "other"
    os.mknod(one, kind | 0o600, device)

    os.link(one, other)
    one.chmod(0o640)

    assert facts(other) == facts(one)
    assert other.lstat().st_ino == one.lstat().st_ino
    assert other.lstat().st_nlink == 2
    one.unlink()
    assert other.lstat().st_nlink == 1


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_special_files_survive_a_remount(mounter: Mounter, store: Store) -> None:
    """Another mount of the store, which has nothing else, shows the same."""
    mount = mounter(store, *GATED)
    for parameters in KINDS:
        kind, device = parameters.values
        assert isinstance(kind, int)
        assert isinstance(device, int)
        if not device or os.geteuid() == 0:
            os.mknod(mount.path / f"{kind:o}", kind | 0o600, device)
    before = {path.name: facts(path) for path in mount.path.iterdir()}
    mount.unmount()

    again = mounter(store, *GATED, at="again").path

    assert {path.name: facts(path) for path in again.iterdir()} == before
    again.joinpath("10000").unlink()
    assert not again.joinpath("10000").exists()


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_special_files_are_plain_objects_to_others(
    mounter: Mounter, store: Store
) -> None:
    """In the store each is an empty object, and without the gate an empty file."""
    mount = mounter(store, *GATED)
    os.mkfifo(mount.path / "fifo")
    content = store.there.read("fifo")
    mount.unmount()

    again = mounter(store, at="again").path

    assert content == b""
    assert stat.S_ISREG((again / "fifo").stat().st_mode)


def test_two_processes_talk_through_a_pipe(gated_directory: Path) -> None:
    """A named pipe carries bytes from one process to another."""
    pipe = gated_directory / "pipe"
    run("mkfifo", pipe)

    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        with pipe.open("wb") as writing:
            writing.write(b"through the pipe" * 10_000)
        received, _ = reader.communicate(timeout=30)

    assert received == b"through the pipe" * 10_000
    assert pipe.lstat().st_size == 0


def test_socket_is_bound_and_connected_to(
    gated_directory: Path, tmp_path: Path
) -> None:
    """Processes of one host meet at a socket in the mount."""
    path = gated_directory / "socket"
    (tmp_path / "d").symlink_to(gated_directory)  # sockets take short paths only
    short = str(tmp_path / "d" / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as peer:
        server.bind(short)
        server.listen()

        peer.connect(short)
        accepted, _ = server.accept()
        with accepted:
            peer.sendall(b"hello")
            assert accepted.recv(5) == b"hello"

    assert path.is_socket()


@needs_root
def test_ls_shows_major_and_minor(gated_directory: Path) -> None:
    """ls -l prints the numbers of a device in place of a size."""
    os.mknod(gated_directory / "device", stat.S_IFBLK | 0o600, DEVICE)

    words = run("ls", "-l", gated_directory / "device").split()

    assert words[0] == "brw-------"
    assert words[4:6] == ["241,", "70001"]


def test_special_file_inherits_the_group(gated_directory: Path) -> None:
    """In a directory with S_ISGID a special file has the directory's group."""
    if os.geteuid() == 0:
        os.chown(gated_directory, 0, 4321)
    gated_directory.chmod(0o2777)

    os.mkfifo(gated_directory / "pipe")

    pipe, above = (gated_directory / "pipe").lstat(), gated_directory.lstat()
    assert pipe.st_gid == above.st_gid
    assert pipe.st_mode == stat.S_IFIFO | 0o644


def test_without_the_gate_there_are_no_special_files(directory: Path) -> None:
    """Pipes, sockets and devices are EPERM."""
    for kind in (stat.S_IFIFO, stat.S_IFSOCK):
        with pytest.raises(PermissionError):
            os.mknod(directory / "special", kind | 0o600)

    assert os.listdir(directory) == []


@on_shared_stores
def test_regular_file_by_mknod_is_in_the_store(
    directory: Path, there: OtherSide
) -> None:
    """mknod(2) makes a file without opening it: nobody will close it later."""
    os.mknod(directory / "file", stat.S_IFREG | 0o640)
    found = there.listing()
    (directory / "file").write_bytes(b"bytes")

    assert "file" in found
    assert (directory / "file").stat().st_mode == stat.S_IFREG | 0o640
    assert there.read("file") == b"bytes"


def test_mknod_is_one_request(counted: Counted, counted_directory: Path) -> None:
    """A file that nobody opens is one PUT; a pipe that is refused costs nothing."""
    with counted.requests() as tally:
        os.mknod(counted_directory / "new")
        with pytest.raises(PermissionError):
            os.mkfifo(counted_directory / "pipe")

    assert tally == {"PutObject": 1}
