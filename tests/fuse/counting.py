"""A mount over moto whose requests are counted on the wire.

`counted` is one mount for all tests of a session, with a TTL so long that time does not
matter; a test makes a directory of its own in it with `counted_directory`, which the
mount then knows to be complete and empty. What is unknown to a mount until a test asks
for it is below `cold`, in a mount of its own: where names are made or directories are
listed, a mount also lists what is near.
"""

import contextlib
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mountfs.vfs.walks import FOUND_GAP_S
from tests.fakes import s3_servers
from tests.fakes.http_proxy import Reply, Request, error_reply
from tests.fakes.s3_servers import S3Server
from tests.fakes.strict_shim import Logged, StrictShim
from tests.fuse import tried
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.stores import S3Objects, Store

READING = frozenset({"GET", "HEAD"})
GATHER_S = 20.0
QUIET_S = 20.0
COLD = "cold"
"""A directory in which counted mounts change nothing: names of it stay unknown."""
_quiet_until = [0.0]


class CountingShim(StrictShim):
    """A strict shim that also tells how many requests are under way at once."""

    def __init__(self, upstream: S3Server) -> None:
        self.refuses_writes = False
        self._under_way = 0
        self._passing = 0
        self._changed = threading.Condition()
        self._barrier: tuple[tuple[str, ...], threading.Barrier] | None = None
        self._held: tuple[str, str, threading.Event, threading.Event] | None = None
        self.paths: set[Path] = set()
        """The mounts whose requests come here."""
        super().__init__(upstream)

    def answer(self, request: Request) -> Reply:
        """Answer as a strict shim, one request among those under way."""
        with self._changed:
            self._under_way += 1
        try:
            self._gather(request.operation)
            self._hold(request)
            return super().answer(request)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def forward(self, request: Request) -> Reply:
        """Refuse writes as a bucket policy would, if told to."""
        if self.refuses_writes and request.method not in READING:
            request.drain()
            return error_reply(403, "AccessDenied", "Access Denied")
        return super().forward(request)

    @contextlib.contextmanager
    def at_once(self, count: int, *operations: str, after: int = 0) -> Iterator[None]:
        """Answer requests of some operations only when so many are under way.

        The first `after` of them do not wait.
        Fails if they do not all come before the first is answered.
        """
        barrier = threading.Barrier(count)
        self._passing = after
        self._barrier = (operations, barrier)
        try:
            yield
            assert self._barrier is None, f"fewer than {count} {operations} at once"
        finally:
            barrier.abort()
            self._barrier = None

    def _gather(self, operation: str) -> None:
        waiting = self._barrier
        if waiting is None or operation not in waiting[0]:
            return
        with self._changed:
            self._passing -= 1
            if self._passing >= 0:
                return
        with contextlib.suppress(threading.BrokenBarrierError):
            waiting[1].wait(GATHER_S)
            self._barrier = None

    @contextlib.contextmanager
    def holding(self, operation: str, *, key: str = "") -> Iterator[threading.Event]:
        """Hold the requests of an operation, for keys that end so, to the block's end.

        Yields an event that says that one has come.
        """
        come, go = threading.Event(), threading.Event()
        self._held = (operation, key, come, go)
        try:
            yield come
        finally:
            self._held = None
            go.set()

    def _hold(self, request: Request) -> None:
        if self._held is None:
            return
        operation, key, come, go = self._held
        if request.operation == operation and request.key.endswith(key):
            come.set()
            go.wait(GATHER_S)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse the writes that come while a block runs."""
        self.refuses_writes = True
        try:
            yield
        finally:
            self.wait_until_quiet()
            self.refuses_writes = False

    def wait_until_quiet(self) -> None:
        """Wait until no request is under way."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._under_way, QUIET_S)


class Tally(Counter[str]):
    """What was asked in a `with` block: foreground by operation, all in `log`."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Logged] = []

    def __repr__(self) -> str:
        """Tell, for a test that fails, what was asked for."""
        asked = [f"{each.operation} {each.key}" for each in self.log[:40]]
        return f"{super().__repr__()} from {asked}"

    def keys_of(self, operation: str) -> list[str]:
        """Return the keys that an operation was asked for, sorted."""
        return sorted(each.key for each in self.log if each.operation == operation)

    def sent(self, operation: str) -> int:
        """Return the bytes that went up in all requests of an operation."""
        return sum(each.size for each in self.log if each.operation == operation)


@dataclass(frozen=True)
class Counted:
    """A mount, its store as others see it, and the shim between the two."""

    mount: Mount
    store: Store
    shim: CountingShim

    @property
    def path(self) -> Path:
        """The mount point."""
        return self.mount.path

    @contextlib.contextmanager
    def requests(self) -> Iterator[Tally]:
        """Count the requests of a block; programs in it must have ended with it."""
        self.settle()
        self.shim.clear()
        tally = Tally()
        yield tally
        self.settle()
        tally.update(self.shim.counts())
        tally.log.extend(self.shim.requests())

    def settle(self) -> None:
        """Wait until the daemon has done what programs set going before."""
        # Nobody waits for a RELEASE; what comes behind it finds it begun.
        for path in {self.path, *self.shim.paths}:
            os.statvfs(path)
            os.statvfs(path)
        self.shim.wait_until_quiet()

    def there(self, directory: Path) -> S3Objects:
        """Return one directory of the mount as others see it."""
        there = self.store.below(str(directory.relative_to(self.path)))
        assert isinstance(there, S3Objects)
        return there


@pytest.fixture(scope="session")
def counting_shim(moto_server: S3Server) -> Iterator[CountingShim]:
    """A counting shim before moto."""
    with contextlib.closing(CountingShim(moto_server)) as shim:
        tried.is_shared(shim.endpoint_url)
        yield shim


@pytest.fixture(scope="session")
def counting_bucket(moto_server: S3Server) -> Iterator[str]:
    """The bucket that counted mounts share."""
    with s3_servers.bucket(moto_server) as name:
        yield name


@pytest.fixture
def counted_store(
    moto_server: S3Server, counting_shim: CountingShim, counting_bucket: str
) -> Store:
    """An empty store behind the counting shim."""
    return store_behind(counting_shim, moto_server, counting_bucket)


@pytest.fixture(scope="session")
def counted_mount(
    moto_server: S3Server,
    counting_shim: CountingShim,
    counting_bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Counted]:
    """The mount that tests share."""
    with shared(
        tmp_path_factory.mktemp("counted"), counting_shim, moto_server, counting_bucket
    ) as counted:
        yield counted


@pytest.fixture(scope="session")
def cold_mount(
    moto_server: S3Server,
    counting_shim: CountingShim,
    counting_bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Counted]:
    """The mount that tests share which ask for what is unknown."""
    with shared(
        tmp_path_factory.mktemp("cold"), counting_shim, moto_server, counting_bucket
    ) as counted:
        counted.store.below(COLD).write("there", b"")
        counting_shim.paths.add(counted.path)
        yield counted
        counting_shim.paths.discard(counted.path)


@contextlib.contextmanager
def shared(
    base: Path, shim: CountingShim, server: S3Server, bucket: str
) -> Iterator[Counted]:
    """Mount a new store for all tests of a session."""
    store = store_behind(shim, server, bucket)
    options = (*store.options, "--cache-size=1G", "--ttl=3600")
    with Mount(store.url, base, options, life_s=TEST_S) as mount:
        yield Counted(mount, store, shim)
        mount.watch(3600)


@pytest.fixture
def counted(counted_mount: Counted) -> Iterator[Counted]:
    """The shared mount, for one test."""
    counted_mount.mount.watch()
    yield counted_mount
    counted_mount.mount.check_log()
    counted_mount.mount.watch(3600)


@pytest.fixture
def counted_directory(counted: Counted) -> Path:
    """A new directory in the shared mount: complete, empty, with a marker."""
    path = counted.path / uuid.uuid4().hex[:12]
    path.mkdir()
    return path


@pytest.fixture
def cold(cold_mount: Counted) -> Iterator[tuple[Path, S3Objects]]:
    """A name in a shared mount that nobody has asked for, and its other side."""
    cold_mount.mount.watch()
    # Many names found there, one soon after the other, have it listed.
    time.sleep(max(0.0, _quiet_until[0] - time.monotonic()))
    _quiet_until[0] = time.monotonic() + FOUND_GAP_S
    path = cold_mount.path / COLD / uuid.uuid4().hex[:12]
    yield path, cold_mount.there(path)
    cold_mount.mount.check_log()
    cold_mount.mount.watch(3600)


def store_behind(shim: CountingShim, server: S3Server, bucket: str) -> Store:
    """Return a new store whose mounts ask the shim, and whose other side does not."""
    prefix = uuid.uuid4().hex[:12]
    options = (f"--endpoint-url={shim.endpoint_url}", "--addressing-style=path")
    other_side = S3Objects(server.client(), bucket, f"{prefix}/")
    return Store(f"s3://{bucket}/{prefix}", options, other_side)
