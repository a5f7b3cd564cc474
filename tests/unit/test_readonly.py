"""A read-only store: reading works, and no write goes through."""

import inspect

import pytest

from mountfs.backends import open_store
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import ReadOnlyStore
from mountfs.storage.protocol import Storager
from mountfs.storage.readonly import ReadOnlyStorager

READING = {"stat", "list", "read", "list_parts", "list_uploads", "sign_read", "close"}
WRITING = sorted(
    name
    for name, member in inspect.getmembers(Storager, inspect.isfunction)
    if not name.startswith("_") and name not in READING
)


async def test_reading_works() -> None:
    """What is in the store can be seen and read."""
    inner = open_store("memory://readonly-reading")
    await inner.write("a", BytesBody(b"text"))
    store: Storager = ReadOnlyStorager(inner)

    assert (await store.stat("a")).size == 4
    assert (await store.read("a")).data == b"text"
    assert [each.key for each in (await store.list("")).objects] == ["a"]


@pytest.mark.parametrize("name", WRITING)
async def test_every_operation_that_writes_is_refused(name: str) -> None:
    """All of the contract but reading raises, whatever it is given."""
    store = ReadOnlyStorager(open_store("memory://readonly-writing"))

    with pytest.raises(ReadOnlyStore):
        await getattr(store, name)("a", "b")
