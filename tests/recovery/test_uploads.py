"""An upload that is killed in its midst: the next mount sends what is missing."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import Mounter, s3_store
from tests.fuse.mounting import Mount, run_command
from tests.fuse.processes import COMMAND
from tests.fuse.stores import Store
from tests.fuse.test_failed_close import empty_and_delete, write_and_close

pytestmark = pytest.mark.fuse

PARTS = 20
"""More than the 16 that are on their way at once, and three that were answered."""
SIZE = PARTS * (8 << 20)
START_S = 60
REST_S = 1.0


@pytest.fixture
def server_and_bucket(moto_server: S3Server) -> Iterator[tuple[S3Server, str]]:
    """A server and a bucket that a test may remove."""
    with s3_servers.bucket(moto_server) as name:
        yield moto_server, name


def keep_in_state_dir(
    mount: Mount, server: S3Server, bucket: str, content: bytes
) -> None:
    """Write a file that cannot be stored, and unmount; its bytes stay here."""
    mount.announce(r".")
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    empty_and_delete(server, bucket)
    with pytest.raises(OSError, match=r"."):
        write_and_close(descriptor, content)
    assert run_command("umount", str(mount.path)).returncode == 75
    mount.process.wait(60)
    client = server.client()
    client.create_bucket(Bucket=bucket)
    client.close()


def start(mount: Mount, store: Store, die_at: str) -> int:
    """Run a mount that is to die while it recovers; return how it ended."""
    done = subprocess.run(
        [
            *COMMAND,
            "mount",
            "--foreground",
            f"--state-dir={mount.state_dir}",
            f"--cache-dir={mount.cache_dir}",
            *store.options,
            store.url,
            str(mount.path),
        ],
        env={**os.environ, "MOUNTFS_TEST_DIE_AT": die_at},
        check=False,
        capture_output=True,
        timeout=START_S,
    )
    return done.returncode


def parts_at_rest(server: S3Server, bucket: str) -> list[int]:
    """Return the parts of the one open upload, when no more arrive.

    The server may still take in what a daemon had sent before it was killed.
    """
    before, now = None, parts_of(server, bucket)
    while now != before:
        time.sleep(REST_S)
        before, now = now, parts_of(server, bucket)
    return now


def parts_of(server: S3Server, bucket: str) -> list[int]:
    """Return the numbers of the parts of the one open upload."""
    client = server.client()
    try:
        (upload,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        reply = client.list_parts(
            Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
        return [part["PartNumber"] for part in reply.get("Parts", ())]
    finally:
        client.close()


def test_killed_upload_is_gone_on_with(
    mounter: Mounter, server_and_bucket: tuple[S3Server, str]
) -> None:
    """Of twenty parts each is sent once, although the daemon dies twice meanwhile."""
    server, bucket = server_and_bucket
    store = s3_store(server, bucket, "p")
    content = os.urandom(SIZE)
    mount = mounter(store)
    keep_in_state_dir(mount, server, bucket, content)

    assert start(mount, store, "part-sent:3") == -signal.SIGKILL
    done = parts_at_rest(server, bucket)
    assert 3 <= len(done) < PARTS
    # Dies with the last missing part; if it sent one that is there, one would miss.
    assert start(mount, store, f"part-sent:{PARTS - len(done)}") == -signal.SIGKILL
    assert parts_at_rest(server, bucket) == list(range(1, PARTS + 1))
    again = mounter(store)

    assert (again.path / "file").read_bytes() == content
    assert store.there.read("file") == content
    assert uploads_of(server, bucket) == []


@pytest.mark.parametrize("phase", ["upload-intended", "upload-opened", "parts-sent"])
def test_death_between_two_steps_of_an_upload(
    mounter: Mounter, server_and_bucket: tuple[S3Server, str], phase: str
) -> None:
    """The file is stored all the same, and another client's uploads stay."""
    server, bucket = server_and_bucket
    store = s3_store(server, bucket, "p")
    content = os.urandom(12 << 20)
    mount = mounter(store)
    keep_in_state_dir(mount, server, bucket, content)
    client = server.client()
    foreign = client.create_multipart_upload(Bucket=bucket, Key="p/file")["UploadId"]
    client.close()

    assert start(mount, store, phase) == -signal.SIGKILL
    again = mounter(store)

    assert (again.path / "file").read_bytes() == content
    left = uploads_of(server, bucket)
    assert foreign in left
    # Between opening and journaling nothing tells ours from the other's, empty both.
    assert len(left) == (2 if phase == "upload-opened" else 1)


def uploads_of(server: S3Server, bucket: str) -> list[str]:
    """Return the ids of all open uploads."""
    client = server.client()
    try:
        found = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        return [upload["UploadId"] for upload in found]
    finally:
        client.close()
