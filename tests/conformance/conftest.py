"""The fixtures of the suite: every test that asks for them runs on every store."""

import functools
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from mountfs.storage.protocol import Storager
from tests.conformance.stores import FACTORIES, LACKS, Subject
from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server

_SHARES = {
    "boto3": 6,
    "s3-moto-everything": 3,
    "s3-seaweedfs-strict": 3,
    "foreign_field": 2,
    "foreign_header": 2,
    "dropbox": 3,
    "dropbox-everything": 6,
    "gs-strict-everything": 8,
    "gs-fake-gcs-server": 5,
}
"""One of so many tests is run on these, or of these words, in every run; `make proof`
runs all."""
_LONG_LISTINGS = {
    "test_over_a_thousand_entries_are_listed",
    "test_pages_join_to_the_whole",
}
_AT_LENGTH = {
    "dropbox": {"test_over_a_thousand_entries_are_listed"},
    # The store does so by itself, and the wrappers do on memory.
    "local-stack": _LONG_LISTINGS,
    "local-everything": _LONG_LISTINGS,
}
"""What takes long on a store, or in its wrappers, and is for `make proof`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sample what is run a second time on the same server: over boto3 in place of the
    data plane, and behind all wrappers.
    """
    _leave_out_what_servers_lack(items)
    for item in items:
        if "conformance" not in item.path.parts:
            continue
        for place in (_store_of(item), _factory_of(item)):
            if getattr(item, "originalname", "") in _AT_LENGTH.get(place, ()):
                item.add_marker(pytest.mark.slow)
        for name, share in _SHARES.items():
            if _is_on(item, name) and zlib.crc32(item.nodeid.encode()) % share:
                item.add_marker(pytest.mark.slow)


def _leave_out_what_servers_lack(items: list[pytest.Item]) -> None:
    """Do not collect a test for a server that lacks what the test is about."""
    items[:] = [
        item
        for item in items
        if not any(
            f"[{store}" in item.name and item.name.partition("[")[0] in lacks
            for store, lacks in LACKS.items()
        )
    ]


def _factory_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("subject", "")) if callspec is not None else ""


def _is_on(item: pytest.Item, name: str) -> bool:
    """Tell whether a test is on a store of a name, or with that word in its name."""
    return _factory_of(item) == name if name in FACTORIES else name in item.name


def _store_of(item: pytest.Item) -> str:
    return _factory_of(item).partition("-")[0]


@pytest.fixture(scope="session")
def conformance_buckets() -> Callable[[S3Server], str]:
    """What gives the bucket of a server in which all tests of the suite have a root."""
    return functools.cache(s3_servers.make_bucket)


@pytest.fixture(params=FACTORIES)
def subject(request: pytest.FixtureRequest) -> Subject:
    """A new, empty store of each kind in turn."""
    return FACTORIES[request.param](request)


@pytest.fixture
async def store(subject: Subject) -> AsyncIterator[Storager]:
    """The store, open for the test."""
    opened = subject.open()
    yield opened
    await opened.close()


@pytest.fixture
async def again(subject: Subject) -> AsyncIterator[Storager]:
    """The same place through another store object, as another process would see it."""
    opened = subject.open()
    yield opened
    await opened.close()
