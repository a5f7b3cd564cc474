"""A day in the life of a mount, from the unit's own commands.

It is started as systemd would start it, four applications work in it, and one after the
other happens what happens in a year: the network is cut, keys are rotated, the disk of
the cache fills up, the daemon is killed, its configuration changes, it is stopped. In
the evening the bucket holds what the applications were told, and nothing else.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mountfs import control, mounts
from tests.fakes import s3_servers
from tests.fakes.http_proxy import HttpProxy, Reply, Request, error_reply
from tests.fakes.s3_servers import S3Server
from tests.fakes.service_manager import ServiceManager
from tests.fuse import mounting
from tests.fuse.marks import needs_root
from tests.recovery.applications import (
    Application,
    Backup,
    Ledger,
    Logger,
    Website,
    wait_until,
)
from tests.recovery.small_disk import SmallDisk

AT_LENGTH = "AT_LENGTH" in os.environ
CUT_S = 60.0 if AT_LENGTH else 3.0
STEPS = 40 if AT_LENGTH else 4
"""How many steps each application does between two events."""
DAY_S = 900 if AT_LENGTH else 110
PAGES = {"index.html": b"<p>hello\n" * 50, "big.bin": bytes(range(256)) * 9000}


class Uplink(HttpProxy):
    """The network between host and store, and the store's list of keys."""

    is_cut = False
    refused_key: str | None = None

    def answer(self, request: Request) -> Reply:
        """Forward the request, unless the network is cut or its key was taken back."""
        if self.is_cut:
            return Reply(0, cut_after=-1)
        key = self.refused_key
        if key is not None and f"={key}/" in request.header("Authorization"):
            return error_reply(403, "InvalidAccessKeyId")
        return self.forward(request)


class Host:
    """What lies on the host: the configuration, the keys, the mount point."""

    def __init__(self, base: Path, endpoint_url: str, bucket: str, cache: Path) -> None:
        self.mnt = base / "host" / "mnt"
        self._keys = base / "credentials"
        self.config = base / "mountfs.toml"
        self._options = f"""
endpoint-url = "{endpoint_url}"
addressing-style = "path"
virtual = "all"
durability = "journal"
offline = "cached"
state-dir = "{base / "state"}"
cache-dir = "{cache / "cache"}"
cache-size = "32M"
min-free = "8M"

[mounts.day]
url = "s3://{bucket}/data"
mount-point = "{self.mnt}"
"""
        self.set_key(s3_servers.ACCESS_KEY, s3_servers.SECRET_KEY)
        self.configure()

    @property
    def environment(self) -> dict[str, str]:
        """What the unit sets for the daemon."""
        keys = str(self._keys)
        return {
            **s3_servers.aws_environment(),
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_SHARED_CREDENTIALS_FILE": keys,
        }

    def set_key(self, key: str, secret: str) -> None:
        """Put other keys into the file of credentials."""
        text = f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n"
        self._keys.write_text(text)
        self._keys.chmod(0o600)

    def configure(self, **options: str) -> None:
        """Write the file of the configuration, with these options besides."""
        lines = [f'{name.replace("_", "-")} = "{v}"' for name, v in options.items()]
        self.config.write_text("\n".join(["[mount]", *lines, self._options]))


@pytest.fixture
def host_root(tmp_path: Path) -> Iterator[None]:
    """A read-only file system below the mount: nobody writes beside it unseen."""
    root = tmp_path / "host"
    root.mkdir()
    mounting.run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", root)
    try:
        (root / "mnt").mkdir()
        mounting.run("mount", "-o", "remount,ro", root)
        yield
    finally:
        mounting.run("umount", "-l", root)


@pytest.fixture
def uplink(seaweedfs_server: S3Server) -> Iterator[Uplink]:
    """The network to a real engine."""
    with Uplink(seaweedfs_server) as proxy:
        yield proxy


@contextlib.contextmanager
def watched(mnt: Path) -> Iterator[None]:
    """Let go of every program that waits for the mount when its day is over."""
    watchdog = mounting.Watchdog(lambda: abort(mnt))
    watchdog.arm(DAY_S)
    try:
        yield
    finally:
        watchdog.disarm()


def abort(mnt: Path) -> None:
    """Let go of every program that waits for the mount."""
    entry = mounts.mount_at(mnt)
    if entry is not None:
        mounting.Connection(entry).abort()


def work(applications: Sequence[Application]) -> None:
    """Let each application get on for some steps."""
    goals = [(each, each.steps + STEPS) for each in applications]
    wait_until(lambda: all(each.steps >= goal for each, goal in goals), DAY_S / 4)


def state_of_store(mnt: Path) -> str:
    """Return how the daemon says that its store does."""
    status = control.ask(control.socket_path(mnt), "status")
    return "" if status is None else status.store_state


@needs_root
@pytest.mark.usefixtures("host_root")
@pytest.mark.timeout(DAY_S + 60)
def test_a_day(
    uplink: Uplink,
    seaweedfs_server: S3Server,
    small_disk: SmallDisk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that an application was told is missing, and nothing else is there."""
    bucket = s3_servers.make_bucket(seaweedfs_server)
    client = seaweedfs_server.client()
    for name, data in PAGES.items():
        client.put_object(Bucket=bucket, Key=f"data/www/{name}", Body=data)
    host = Host(tmp_path, uplink.endpoint_url, bucket, small_disk.place)
    for name, value in host.environment.items():
        monkeypatch.setenv(name, value)

    with (
        ServiceManager(tmp_path, host.config, "day") as service,
        watched(host.mnt),
    ):
        service.start()
        logger, ledger = Logger(host.mnt), Ledger(host.mnt)
        backup = Backup(host.mnt, tmp_path / "source")
        (port,) = s3_servers.free_ports(1)
        website = Website(host.mnt, PAGES, port)
        applications = (logger, ledger, backup, website)
        for each in applications:
            each.start()
        try:
            work(applications)

            uplink.is_cut = True
            wait_until(lambda: state_of_store(host.mnt) == "offline")
            lines = len(logger.acknowledged)
            wait_until(lambda: len(logger.acknowledged) > lines, CUT_S + 10)
            uplink.is_cut = False
            work(applications)

            host.set_key(s3_servers.SECOND_ACCESS_KEY, s3_servers.SECOND_SECRET_KEY)
            uplink.refused_key = s3_servers.ACCESS_KEY
            work(applications)

            small_disk.fill()
            work(applications)
            small_disk.release()

            service.kill()
            service.run_after()
            service.start()
            work(applications)

            host.configure(log_level="debug", ttl="2s")
            service.reload()
            work(applications)
        finally:
            for each in applications:
                each.stop()
        backup.synchronize()
        code = service.stop()
        said = service.rest()

    stored = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page["Contents"]:
            body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            stored[entry["Key"].removeprefix("data/")] = body
    assert code == 0, service.log()
    assert any("STOPPING" in message for message in said)
    assert "Traceback" not in service.log()
    logger.check(stored)
    backup.check(stored)
    ledger.check(stored, tmp_path / "scratch")
    assert {name: stored[f"www/{name}"] for name in PAGES} == PAGES
    known = ("log/", "backup/", "ledger.db", "www/", ".mountfs/")
    assert [name for name in stored if not name.startswith(known)] in ([], [""])
