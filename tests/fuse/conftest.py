"""Mounts as fixtures.

`directory` is an empty directory in a mount that many tests share; `there` shows it
from the other side. A test that unmounts, or needs options, takes `mounter` and
`store`. Without a word of theirs tests run on every store; `on_shared_stores` names
those that outlive a daemon and have another side.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes import s3_servers
from tests.fakes.dropbox_fixtures import mount_options_of
from tests.fakes.dropbox_server import DropboxServer
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer
from tests.fakes.s3_servers import S3Server
from tests.fuse import mounting, tried
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.sampling import leave_some, leave_twins
from tests.fuse.stores import (
    DropboxFiles,
    GcsObjects,
    OtherSide,
    PlainFiles,
    S3Objects,
    Store,
)

STORES = ("memory", "local", "s3", pytest.param("gs", marks=pytest.mark.slow))
GATED = ("--virtual=all",)
Mounter = Callable[..., Mount]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what mounts for real, and what of it is left to `make proof`."""
    for item in items:
        if item.nodeid.startswith("tests/fuse/"):
            item.add_marker(pytest.mark.fuse)
    leave_some(items, "tests/fuse/")
    leave_twins(items, "tests/fuse/")


@pytest.fixture(scope="session", autouse=True)
def _connections_can_be_aborted() -> Iterator[None]:
    with mounting.fusectl():
        yield


@pytest.fixture(scope="session")
def make_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Store]:
    """Make new, empty stores by the name of their kind."""
    buckets: dict[str, tuple[S3Server, str]] = {}

    def make(kind: str) -> Store:
        if kind == "memory":
            return Store("memory://")
        if kind == "local":
            root = tmp_path_factory.mktemp("store")
            return Store(f"file://{root}", (), PlainFiles(root))
        if kind == "gs":
            return gs_store(request.getfixturevalue("gcs_strict_server"))
        if kind == "dropbox":
            server = request.getfixturevalue("dropbox_shared")
            return dropbox_store(server, tmp_path_factory.mktemp("token"))
        if kind not in buckets:
            name = "seaweedfs" if kind == "s3" else kind
            server = request.getfixturevalue(f"{name}_server")
            assert isinstance(server, S3Server)
            tried.is_shared(server.endpoint_url)
            buckets[kind] = (server, s3_servers.make_bucket(server))
        return s3_store(*buckets[kind], prefix=uuid.uuid4().hex[:12])

    return make


def dropbox_store(server: DropboxServer, directory: Path) -> Store:
    """Return a new folder of the fake Dropbox."""
    folder = uuid.uuid4().hex[:12]
    options = mount_options_of(server, directory)
    return Store(f"dropbox:///{folder}", options, DropboxFiles(server, f"{folder}/"))


def gs_store(server: GcsServer) -> Store:
    """Return a new store on the fake of Google Cloud Storage."""
    prefix = uuid.uuid4().hex[:12]
    other_side = GcsObjects(server, GCS_BUCKET, f"{prefix}/")
    options = (f"--endpoint-url={server.endpoint_url}", "--no-sign-request")
    return Store(f"gs://{GCS_BUCKET}/{prefix}", options, other_side)


def s3_store(server: S3Server, bucket: str, prefix: str) -> Store:
    """Return the store below a prefix of a bucket."""
    other_side = S3Objects(server.client(), bucket, f"{prefix}/")
    options = (f"--endpoint-url={server.endpoint_url}", "--addressing-style=path")
    return Store(f"s3://{bucket}/{prefix}", options, other_side)


@pytest.fixture(scope="session", params=STORES)
def shared_store(
    request: pytest.FixtureRequest, make_store: Callable[[str], Store]
) -> Store:
    """The store below `directory`."""
    return make_store(request.param)


@pytest.fixture(scope="session")
def shared_mount(
    shared_store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """A mount for all tests that neither unmount nor need options."""
    base = tmp_path_factory.mktemp("mount")
    options = (*shared_store.options, "--cache-size=1G", "--allow-other")
    with Mount(shared_store.url, base, options, life_s=TEST_S) as mount:
        yield mount


@pytest.fixture
def directory(shared_mount: Mount) -> Iterator[Path]:
    """An empty directory in a mount, for one test."""
    shared_mount.watch()
    path = shared_mount.path / uuid.uuid4().hex[:12]
    path.mkdir()
    yield path
    shared_mount.check_log()
    shared_mount.watch(3600)


@pytest.fixture
def there(shared_store: Store, directory: Path) -> OtherSide:
    """`directory` as others see it."""
    return shared_store.below(directory.name)


@pytest.fixture(scope="session", params=STORES)
def gated_store(
    request: pytest.FixtureRequest, make_store: Callable[[str], Store]
) -> Store:
    """The store below `gated_directory`."""
    return make_store(request.param)


@pytest.fixture(scope="session")
def gated_mount(
    gated_store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """As `shared_mount`, with every gate on."""
    base = tmp_path_factory.mktemp("gated")
    options = (*gated_store.options, *GATED, "--cache-size=1G", "--allow-other")
    with Mount(gated_store.url, base, options, life_s=TEST_S) as mount:
        yield mount


@pytest.fixture
def gated_directory(gated_mount: Mount) -> Iterator[Path]:
    """An empty directory, open to everybody, in a mount with every gate on."""
    gated_mount.watch()
    path = gated_mount.path / uuid.uuid4().hex[:12]
    path.mkdir()
    path.chmod(0o777)
    yield path
    gated_mount.check_log()
    gated_mount.watch(3600)


@pytest.fixture(
    params=(
        "local",
        "s3",
        pytest.param("gs", marks=pytest.mark.slow),
        pytest.param("dropbox", marks=pytest.mark.slow),
    )
)
def store(request: pytest.FixtureRequest, make_store: Callable[[str], Store]) -> Store:
    """An empty store for one test."""
    return make_store(request.param)


@pytest.fixture
def moto_store(moto_server: S3Server) -> Iterator[Store]:
    """A store on moto, which keeps keys that SeaweedFS rewrites."""
    tried.is_shared(moto_server.endpoint_url)
    with s3_servers.bucket(moto_server) as name:
        yield s3_store(moto_server, name, prefix="pre")


@pytest.fixture
def mounter(tmp_path: Path) -> Iterator[Mounter]:
    """Mount stores: `mounter(store, "--option=x", at="name", life_s=100)`.

    A name used again means the same directories: mount point, state and cache. A new
    name means a mount that has nothing but the store. What is still mounted at the
    end is unmounted, which must succeed.
    """
    with ExitStack() as stack:

        def mount(
            store: Store, *options: str, at: str = "first", life_s: float = TEST_S
        ) -> Mount:
            options = (*store.options, "--cache-size=512M", *options)
            mounted = Mount(store.url, tmp_path / at, options, life_s=life_s)
            return stack.enter_context(mounted)

        yield mount


@pytest.fixture
def remounter(mounter: Mounter, store: Store) -> Callable[[Mount], Mount]:
    """Unmount, and mount the store anew with empty cache and state directories."""

    def remount(mount: Mount) -> Mount:
        mount.unmount()
        at = f"again-{uuid.uuid4().hex[:6]}"
        return mounter(store, *gates_of(mount), at=at)

    return remount


def gates_of(mount: Mount) -> list[str]:
    """Return the options of a mount that say which gates are open."""
    return [option for option in mount.options if option.startswith("--virtual=")]
