"""A mount whose store a test takes away, spoils and gives back."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mountfs import control
from mountfs.control import Status
from tests.fakes import s3_servers
from tests.fakes.cutting_proxy import CuttingProxy, cut_request
from tests.fakes.s3_servers import S3Server
from tests.fuse.mounting import Mount
from tests.fuse.stores import S3Objects, Store

PATIENCE_S = 60.0
WRITTEN_OFF = r"the store is OFFLINE|->|is not stored|not in the store"
"""What a mount may log at WARNING while its store is away."""


@dataclass(frozen=True)
class Outages:
    """A store behind a proxy."""

    proxy: CuttingProxy
    store: Store
    there: S3Objects

    def begin(self) -> None:
        """Cut every request from now on, and carry none out."""
        self.proxy.fail("", cut_request, is_lasting=True)

    def end(self) -> None:
        """Let everything through again."""
        self.proxy.mend()


@pytest.fixture(params=["moto"])
def outages(request: pytest.FixtureRequest) -> Iterator[Outages]:
    """An empty store on moto, or another server by its name, behind a proxy."""
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, S3Server)
    with (
        s3_servers.bucket(server) as bucket,
        contextlib.closing(CuttingProxy(server)) as proxy,
    ):
        there = S3Objects(server.client(), bucket, "pre/")
        options = (f"--endpoint-url={proxy.endpoint_url}", "--addressing-style=path")
        yield Outages(proxy, Store(f"s3://{bucket}/pre", options, there), there)


def status_of(mount: Mount) -> Status:
    """Return what the daemon says of itself."""
    status = control.ask(control.socket_path(mount.path), "status")
    assert status is not None
    return status


def wait_for_store(mount: Mount, state: str) -> Status:
    """Return when the daemon says that its store is in a state."""
    end_s = time.monotonic() + PATIENCE_S
    while (status := status_of(mount)).store_state != state:
        assert time.monotonic() < end_s, f"{status}\n{mount.log()}"
        time.sleep(0.05)
    return status


def knock(mount: Mount, has_heard: threading.Event) -> None:
    """Ask for something that only the store can tell, again and again."""
    while not has_heard.wait(0.05):
        with contextlib.suppress(OSError):
            (mount.path / "nobody").stat()


def go_offline(outages: Outages, mount: Mount) -> None:
    """Take the store away and let the mount find out."""
    mount.announce(WRITTEN_OFF)
    outages.begin()
    has_heard = threading.Event()
    knocking = threading.Thread(target=knock, args=(mount, has_heard))
    knocking.start()
    try:
        wait_for_store(mount, "offline")
    finally:
        has_heard.set()
        knocking.join()
