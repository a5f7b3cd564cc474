"""The store goes away under a mount, or is not there when it begins, and comes back."""

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import s3_servers
from tests.fakes.cutting_proxy import answer
from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import Mounter
from tests.fuse.mounting import run_command
from tests.fuse.stores import S3Objects, Store
from tests.fuse.streaming import open_new
from tests.recovery.outages import (
    WRITTEN_OFF,
    Outages,
    go_offline,
    outages,
    status_of,
    wait_for_store,
)

__all__ = ["outages"]
pytestmark = pytest.mark.fuse


@contextlib.contextmanager
def refused(*codes: int) -> Iterator[None]:
    """Expect an OSError with one of these."""
    with pytest.raises(OSError, match=r".") as caught:
        yield
    assert caught.value.errno in codes, caught.value


def test_a_request_outlasts_an_outage(outages: Outages, mounter: Mounter) -> None:
    """By default a program waits while the store is away, and is then answered."""
    outages.there.write("f", b"bytes")
    mount = mounter(outages.store, "--ttl=0")
    read: list[bytes] = []
    mount.announce(WRITTEN_OFF)
    outages.begin()
    reading = threading.Thread(
        target=lambda: read.append((mount.path / "f").read_bytes())
    )
    reading.start()
    wait_for_store(mount, "offline")

    outages.end()
    reading.join()

    assert read == [b"bytes"]
    assert wait_for_store(mount, "online").store_reason == ""


def test_waiting_ends(outages: Outages, mounter: Mounter) -> None:
    """After the deadline the program is told ETIMEDOUT, and never that all is gone."""
    outages.there.write("f", b"bytes")
    mount = mounter(outages.store, "--ttl=0")
    go_offline(outages, mount)

    with refused(errno.ETIMEDOUT):
        (mount.path / "f").stat()

    outages.end()
    wait_for_store(mount, "online")
    assert (mount.path / "f").read_bytes() == b"bytes"


def test_eio_does_not_wait(outages: Outages, mounter: Mounter) -> None:
    """With `--offline=eio` hundreds of calls fail at once, and send nothing."""
    outages.there.write("f", b"bytes")
    mount = mounter(outages.store, "--ttl=0", "--offline=eio")
    go_offline(outages, mount)
    struck = outages.proxy.struck
    begun_s = time.monotonic()
    for number in range(1000 if "AT_LENGTH" in os.environ else 300):
        with refused(errno.EIO):
            (mount.path / f"f{number}").stat()
    took_s = time.monotonic() - begun_s
    with refused(errno.EIO):
        list(mount.path.iterdir())

    # Each would have cost at least one request; what came were the prober's.
    assert outages.proxy.struck - struck <= 2 + took_s / 0.25

    outages.end()
    wait_for_store(mount, "online")
    assert (mount.path / "f").read_bytes() == b"bytes"


def test_cached_serves_what_is_known(outages: Outages, mounter: Mounter) -> None:
    """Names, attributes, listings and bytes that are here; all else is EIO, and what
    was never asked for is never absent.
    """
    outages.there.write("d/known", os.urandom(3 << 20))
    outages.there.write("d/unread", bytes(3 << 20))
    outages.there.write("other/file", b"x")
    mount = mounter(outages.store, "--ttl=0", "--offline=cached")
    assert sorted(os.listdir(mount.path / "d")) == ["known", "unread"]
    known = (mount.path / "d" / "known").read_bytes()
    (mount.path / "other").stat()
    go_offline(outages, mount)

    assert sorted(os.listdir(mount.path / "d")) == ["known", "unread"]
    assert (mount.path / "d" / "known").stat().st_size == 3 << 20
    assert (mount.path / "d" / "known").read_bytes() == known
    assert not (mount.path / "d" / "absent").exists(), "a listing had told so"
    with refused(errno.EIO):
        (mount.path / "d" / "unread").read_bytes()
    with refused(errno.EIO):
        (mount.path / "other" / "file").stat()
    with refused(errno.EIO):
        os.listdir(mount.path / "other")

    outages.there.write("d/known", b"changed meanwhile")
    outages.end()
    wait_for_store(mount, "online")
    assert (mount.path / "d" / "known").read_bytes() == b"changed meanwhile"
    assert os.listdir(mount.path / "other") == ["file"]


def test_close_without_a_store_keeps_the_bytes(
    outages: Outages, mounter: Mounter
) -> None:
    """It fails, the bytes stay, and the next fsync stores them."""
    mount = mounter(outages.store, "--offline=eio")
    descriptor = os.open(mount.path / "f", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"written offline")
    go_offline(outages, mount)

    with refused(errno.EIO):
        os.fsync(descriptor)
    assert os.pread(descriptor, 100, 0) == b"written offline"
    outages.end()
    wait_for_store(mount, "online")
    os.fsync(descriptor)
    os.close(descriptor)

    assert outages.there.read("f") == b"written offline"


@pytest.mark.parametrize("policy", ["wait", "cached"])
def test_expired_credentials_are_a_state(
    outages: Outages, mounter: Mounter, policy: str
) -> None:
    """Programs are told EACCES at once; the mount lives, and goes on by itself."""
    outages.there.write("f", b"bytes")
    mount = mounter(outages.store, "--ttl=0", f"--offline={policy}")
    assert (mount.path / "f").read_bytes() == b"bytes"
    mount.announce(WRITTEN_OFF)
    outages.proxy.fail("", answer(400, "ExpiredToken"), is_lasting=True)
    with refused(errno.EACCES, errno.EINVAL):
        (mount.path / "new").stat()
    status = wait_for_store(mount, "offline")
    assert "credentials" in status.store_reason
    with refused(errno.EACCES):
        (mount.path / "new").stat()
    with refused(errno.EACCES):
        (mount.path / "new").mkdir()

    outages.end()
    wait_for_store(mount, "online")

    assert (mount.path / "f").read_bytes() == b"bytes"
    (mount.path / "new").mkdir()


def test_a_bucket_that_is_gone_is_a_state(outages: Outages, mounter: Mounter) -> None:
    """No name vanishes with it, and all is well when it is back."""
    outages.there.write("f", b"bytes")
    mount = mounter(outages.store, "--ttl=0")
    mount.announce(WRITTEN_OFF)
    outages.proxy.fail("", answer(404, "NoSuchBucket"), is_lasting=True)
    with refused(errno.EIO):
        list(mount.path.iterdir())
    status = wait_for_store(mount, "offline")
    assert "bucket" in status.store_reason
    with refused(errno.EIO):
        (mount.path / "f").stat()

    outages.end()
    wait_for_store(mount, "online")

    assert (mount.path / "f").read_bytes() == b"bytes"


def test_unmounting_without_a_store_is_bounded(
    outages: Outages, mounter: Mounter
) -> None:
    """What could not be stored is named, the exit code says so, and the next mount
    stores it.
    """
    mount = mounter(outages.store, "--offline=eio")
    files = [open_new(mount.path / f"f{number}") for number in range(20)]
    go_offline(outages, mount)
    for number, descriptor in enumerate(files):
        os.write(descriptor, b"%d" % number)
        with refused(errno.EIO):
            os.close(descriptor)

    assert run_command("umount", str(mount.path)).returncode == 75
    assert mount.process.wait(60) == 75
    outages.end()
    mounter(outages.store).unmount()

    found = {f"f{n}": outages.there.read(f"f{n}") for n in range(20)}
    assert found == {f"f{n}": b"%d" % n for n in range(20)}


@pytest.mark.parametrize("kind", ["new", "known"])
def test_the_journal_takes_changes_while_the_store_is_away(
    outages: Outages, mounter: Mounter, kind: str
) -> None:
    """With `--durability=journal` programs go on working, and all of it is stored when
    the store is back.
    """
    outages.there.write("d/old", b"old")
    mount = mounter(outages.store, "--durability=journal", "--offline=cached")
    assert os.listdir(mount.path / "d") == ["old"]
    go_offline(outages, mount)
    before = outages.there.listing()
    expected = {}
    for number in range(20):
        name = f"f{number}" if kind == "new" else "old"
        expected[f"d/{name}"] = b"%d" % number
        (mount.path / "d" / name).write_bytes(expected[f"d/{name}"])
        assert (mount.path / "d" / name).read_bytes() == expected[f"d/{name}"]
    assert outages.there.listing() == before
    assert status_of(mount).pending_files == len(expected)

    outages.end()
    wait_for_store(mount, "online")
    assert run_command("flush", str(mount.path)).returncode == 0

    assert {key: outages.there.read(key) for key in expected} == expected


# --- mounting without a store -------------------------------------------------------


def test_a_lazy_mount_waits_for_its_store(outages: Outages, mounter: Mounter) -> None:
    """It begins OFFLINE, nothing is absent, and it is whole when the store answers."""
    outages.there.write("d/f", b"bytes")
    outages.begin()
    mount = mounter(outages.store, "--lazy", "--offline=eio")
    mount.announce(WRITTEN_OFF)
    assert wait_for_store(mount, "offline").store_reason

    with refused(errno.EIO):
        list(mount.path.iterdir())
    with refused(errno.EIO):
        (mount.path / "d").stat()
    with refused(errno.EIO):
        (mount.path / "new").write_bytes(b"x")
    with refused(errno.EIO):
        (mount.path / "new").mkdir()
    outages.end()
    wait_for_store(mount, "online")

    assert os.listdir(mount.path) == ["d"]
    assert (mount.path / "d" / "f").read_bytes() == b"bytes"
    (mount.path / "new").write_bytes(b"x")
    assert outages.there.read("new") == b"x"
    assert (mount.state_dir / os.listdir(mount.state_dir)[0] / "probe.json").exists()


def test_a_lazy_mount_recovers_later(outages: Outages, mounter: Mounter) -> None:
    """What an earlier mount left is stored when the store answers, before anything
    else is.
    """
    mount = mounter(outages.store, "--offline=eio")
    descriptor = open_new(mount.path / "left")
    go_offline(outages, mount)
    os.write(descriptor, b"behind")
    with refused(errno.EIO):
        os.close(descriptor)
    assert run_command("umount", str(mount.path)).returncode == 75
    mount.process.wait(60)

    again = mounter(outages.store, "--lazy", "--offline=eio")
    again.announce(WRITTEN_OFF)
    with refused(errno.EIO):
        (again.path / "left").read_bytes()
    outages.end()
    wait_for_store(again, "online")

    assert outages.there.read("left") == b"behind"
    assert (again.path / "left").read_bytes() == b"behind"


def test_a_lazy_mount_shows_and_drains_what_waits(
    outages: Outages, mounter: Mounter
) -> None:
    """What the journal of an earlier mount holds is read and changed without a store,
    and is stored when it answers.
    """
    options = ("--durability=journal", "--offline=cached")
    mount = mounter(outages.store, *options)
    assert os.listdir(mount.path) == []
    go_offline(outages, mount)
    (mount.path / "one").write_bytes(b"1")
    (mount.path / "two").write_bytes(b"2")
    assert mount.end(signal.SIGKILL) == -signal.SIGKILL

    again = mounter(outages.store, *options, "--lazy")
    again.announce(WRITTEN_OFF)
    again.announce("cleaning up")
    assert (again.path / "one").read_bytes() == b"1"
    (again.path / "two").write_bytes(b"changed")
    assert outages.there.listing() == set()
    outages.end()
    wait_for_store(again, "online")
    assert run_command("flush", str(again.path)).returncode == 0

    assert outages.there.read("one") == b"1"
    assert outages.there.read("two") == b"changed"


def test_a_lazy_mount_of_nothing_can_be_unmounted(
    outages: Outages, mounter: Mounter
) -> None:
    """The store never came; nothing is pending."""
    outages.begin()
    mount = mounter(outages.store, "--lazy")
    mount.announce(WRITTEN_OFF)
    wait_for_store(mount, "offline")

    mount.unmount()


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid"]
)
def test_an_unknown_host_is_waited_for(
    s3_credentials: None, mounter: Mounter, endpoint: str
) -> None:
    """A refused connection and a name that nobody knows yet are states as well."""
    options = (f"--endpoint-url={endpoint}", "--addressing-style=path")
    mount = mounter(Store("s3://bucket/pre", options), "--lazy", "--offline=eio")
    mount.announce(WRITTEN_OFF)

    with refused(errno.EIO):
        (mount.path / "f").stat()

    assert status_of(mount).store_state == "offline"


def test_credentials_may_come_later(
    seaweedfs_server: S3Server,
    mounter: Mounter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lazy mount with expired credentials takes the new ones when they are there."""
    path = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    text = "[default]\naws_access_key_id={}\naws_secret_access_key={}\n"
    path.write_text(text.format(s3_servers.ACCESS_KEY, "expired"))
    with s3_servers.bucket(seaweedfs_server) as bucket:
        options = (
            f"--endpoint-url={seaweedfs_server.endpoint_url}",
            "--addressing-style=path",
        )
        there = S3Objects(seaweedfs_server.client(), bucket, "pre/")
        mount = mounter(Store(f"s3://{bucket}/pre", options, there), "--lazy")
        mount.announce(WRITTEN_OFF)
        assert "credentials" in wait_for_store(mount, "offline").store_reason
        with refused(errno.EACCES):
            list(mount.path.iterdir())

        path.write_text(text.format(s3_servers.ACCESS_KEY, s3_servers.SECRET_KEY))
        wait_for_store(mount, "online")

        (mount.path / "f").write_bytes(b"bytes")
        assert there.read("f") == b"bytes"
        mount.unmount()
