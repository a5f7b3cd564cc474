"""A close that could not store: the program is told, and no byte is lost."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import Mounter, s3_store
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import PlainFiles, Store

PENDING = 75


def end_with_pending(mount: Mount) -> str:
    """Unmount; return what the user is told of files that wait."""
    done = run_command("umount", str(mount.path))
    assert done.returncode == PENDING, done.stderr
    assert mount.process.wait(60) == PENDING
    return done.stderr


@pytest.mark.parametrize("size", [100, 20 << 20], ids=["small", "large"])
def test_bytes_of_a_failed_close_are_sent_by_the_next_mount(
    mounter: Mounter, s3_and_bucket: tuple[S3Server, str], size: int
) -> None:
    """The bucket goes, close(2) fails, unmount names the file; once the bucket is back
    the next mount sends the bytes, and only then are they gone from the state dir.
    """
    server, bucket = s3_and_bucket
    store = s3_store(server, bucket, "p")
    mount = mounter(store)
    mount.announce(r".")
    content = os.urandom(size)
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    empty_and_delete(server, bucket)

    with pytest.raises(OSError, match=r"."):
        write_and_close(descriptor, content)
    told = end_with_pending(mount)
    server.client().create_bucket(Bucket=bucket)
    again = mounter(store)

    assert "file" in told
    assert "'file', kept by an earlier mount, is in the store" in again.log()
    assert (again.path / "file").read_bytes() == content
    assert store.there.read("file") == content


def test_store_that_is_back_takes_the_bytes_at_the_next_fsync(
    mounter: Mounter, s3_and_bucket: tuple[S3Server, str]
) -> None:
    """After a failed fsync the same descriptor can be synced again, with success.

    As soon as the mount has noticed that the bucket is there: until then it is offline,
    and an fsync fails at once.
    """
    server, bucket = s3_and_bucket
    store = s3_store(server, bucket, "p")
    mount = mounter(store)
    mount.announce(r".")
    with (mount.path / "file").open("wb", buffering=0) as file:
        file.write(b"important")
        empty_and_delete(server, bucket)
        with pytest.raises(OSError, match=r"."):
            os.fsync(file.fileno())

        server.client().create_bucket(Bucket=bucket)
        until = time.monotonic() + 60
        while not is_synced(file.fileno()):
            assert time.monotonic() < until, "the bucket that is back is not noticed"
            time.sleep(0.1)

        assert store.there.read("file") == b"important"


def is_synced(descriptor: int) -> bool:
    try:
        os.fsync(descriptor)
    except OSError:
        return False
    return True


def test_wait_tells_why_it_cannot_be_stored(
    mounter: Mounter, s3_and_bucket: tuple[S3Server, str]
) -> None:
    """While the store is gone the bytes stay here; when it is back they are stored."""
    server, bucket = s3_and_bucket
    store = s3_store(server, bucket, "p")
    mount = mounter(store)
    mount.announce("file|OFFLINE")
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"ours")
    empty_and_delete(server, bucket)

    failed = run_command("wait", str(mount.path / "file"))
    server.client().create_bucket(Bucket=bucket)
    done = run_command("wait", str(mount.path / "file"))

    assert failed.returncode == 1
    assert failed.stderr.startswith("mountfs: file is not in the store: ")
    assert (done.returncode, done.stderr) == (0, "")
    assert store.there.read("file") == b"ours"
    os.close(descriptor)


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_vanished_store_is_an_error_and_no_absence(
    mounter: Mounter,
    s3_and_bucket: tuple[S3Server, str],
    tmp_path: Path,
    kind: str,
) -> None:
    """When the store is gone nothing looks deleted: what fails is not ENOENT."""
    root = tmp_path / "root"
    root.mkdir()
    local = Store(f"file://{root}", (), PlainFiles(root))
    store = local if kind == "local" else s3_store(*s3_and_bucket, "p")
    store.there.write("kept", b"x")
    mount = mounter(store, "--ttl=0")
    mount.announce(r".")
    if kind == "local":
        shutil.rmtree(root)
    else:
        empty_and_delete(*s3_and_bucket)

    deeds: list[Callable[[], object]] = [
        lambda: (mount.path / "kept").read_bytes(),
        lambda: (mount.path / "other").stat(),
        lambda: list(mount.path.iterdir()),
    ]
    for deed in deeds:
        with pytest.raises(OSError, match=r".") as caught:
            deed()
        assert caught.value.errno not in (errno.ENOENT, 0)


def write_and_close(descriptor: int, content: bytes) -> None:
    """Write it all and close; the error of either is raised, the descriptor gone."""
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)


def empty_and_delete(server: S3Server, bucket: str) -> None:
    """Remove a bucket with everything in it."""
    client = server.client()
    found = client.list_objects_v2(Bucket=bucket).get("Contents", ())
    for entry in found:
        client.delete_object(Bucket=bucket, Key=entry["Key"])
    client.delete_bucket(Bucket=bucket)
    client.close()


@pytest.fixture
def s3_and_bucket(moto_server: S3Server) -> Iterator[tuple[S3Server, str]]:
    """A server and a bucket that a test may remove."""
    with s3_servers.bucket(moto_server) as name:
        yield moto_server, name
