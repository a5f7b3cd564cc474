"""The stores that the conformance suite runs on: a table of factories.

A factory makes a new, empty store. To add a store to the suite, add a line to
`FACTORIES`. A quirk is a promise that the service breaks and no capability tells; the
tests that meet one assert what the service does instead.
"""

import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio

from mountfs.backends import open_store
from mountfs.backends.local import LocalStore
from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.backends.memory_bucket import Bucket
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import Features, ListMode, MultipartLimits, Page
from mountfs.storage.virtual import VirtualStorager
from mountfs.storage.wrapper import StoragerWrapper
from tests.fakes import s3_servers
from tests.fakes.faulty import FaultyStore

# Small limits, so that a test reaches them.
SMALL = dataclasses.replace(
    MEMORY_CAPABILITIES,
    multipart=MultipartLimits(part_size_min=10, part_size_max=1000, parts_max=20),
    list_page_max=50,
    write_size_max=8 << 20,
    key_size_max=600,
)


class Quirk(enum.Enum):
    """A promise that a service breaks although its interface is the same."""

    CLOCK_IN_SECONDS = "time stamps are cut to seconds"
    REWRITES_KEYS = "keys with //, a leading / or \\ are stored as others"


@dataclass(frozen=True, slots=True)
class Subject:
    """A store under test, and how to open the same place once more."""

    open: Callable[[], Storager]
    quirks: frozenset[Quirk] = frozenset()


class EmptyPages(StoragerWrapper):
    """Puts an empty page before each page, as key stores sometimes do."""

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Answer first with nothing but a token."""
        if token is None or not token.startswith("after-empty:"):
            await trio.lowlevel.checkpoint()
            return Page((), f"after-empty:{token or ''}")
        real = token.removeprefix("after-empty:") or None
        return await self._inner.list(prefix, mode=mode, token=real, limit=limit)


Wrap = Callable[[Storager], Storager]
Factory = Callable[[pytest.FixtureRequest], Subject]


def _memory(wrap: Wrap = lambda store: store) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        bucket = Bucket()
        return Subject(lambda: wrap(MemoryStore(bucket, capabilities=SMALL)))

    return make


def _local(wrap: Wrap = lambda store: store) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        path = request.getfixturevalue("tmp_path") / "root"
        path.mkdir()
        return Subject(lambda: wrap(LocalStore(path)))

    return make


def _s3(server_fixture: str, *quirks: Quirk) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        server = request.getfixturevalue(server_fixture)
        bucket = s3_servers.bucket(server)
        name = bucket.__enter__()
        request.addfinalizer(lambda: bucket.__exit__(None, None, None))
        options = {"endpoint_url": server.endpoint_url, "addressing_style": "path"}
        return Subject(
            lambda: open_store(f"s3://{name}/below", options), frozenset(quirks)
        )

    return make


def _limited(store: Storager) -> Storager:
    return LimitStorager(store, Limits(metadata=4, reads=2, uploads=2))


def _retried(store: Storager) -> Storager:
    return RetryStorager(store, RetryPolicy())


def _emulated(store: Storager) -> Storager:
    return VirtualStorager(store, Features.all())


def _stacked(store: Storager) -> Storager:
    mounted = Features.for_mounts()
    return VirtualStorager(_retried(_limited(store)), mounted)


FACTORIES: dict[str, Factory] = {
    "memory": _memory(),
    "memory-empty-pages": _memory(EmptyPages),
    "memory-faulty": _memory(FaultyStore),
    "memory-limit": _memory(_limited),
    "memory-retry": _memory(_retried),
    "memory-virtual": _memory(_emulated),
    "memory-stack": _memory(_stacked),
    "local": _local(),
    "local-stack": _local(_stacked),
    "s3-moto": _s3("moto_strict_server", Quirk.CLOCK_IN_SECONDS),
    "s3-seaweedfs-strict": _s3(
        "seaweedfs_strict_server", Quirk.CLOCK_IN_SECONDS, Quirk.REWRITES_KEYS
    ),
    "s3-seaweedfs": _s3(
        "seaweedfs_server", Quirk.CLOCK_IN_SECONDS, Quirk.REWRITES_KEYS
    ),
}
