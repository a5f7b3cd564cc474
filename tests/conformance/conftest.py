"""The fixtures of the suite: every test that asks for them runs on every store."""

from collections.abc import AsyncIterator

import pytest

from mountfs.storage.protocol import Storager
from tests.conformance.stores import FACTORIES, Subject


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
