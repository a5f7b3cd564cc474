"""The store that fails by a script."""

import pytest
import trio

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import ServiceFailed, Unreachable
from tests.fakes.faulty import Fault, FaultyStore, hang


async def test_the_nth_call_fails_before_it_has_an_effect() -> None:
    """Only the named call, at its number, is refused."""
    store = FaultyStore(MemoryStore(), Fault("write", ServiceFailed(), nth=2))
    await store.write("a", BytesBody(b"1"))
    await store.stat("a")
    with pytest.raises(ServiceFailed):
        await store.write("a", BytesBody(b"2"))

    assert (await store.read("a")).data == b"1"
    assert store.calls == ["write", "stat", "write", "read"]


async def test_a_lost_reply_leaves_the_effect() -> None:
    """A fault after the effect is what a cut connection is."""
    store = FaultyStore(MemoryStore(), Fault(error=Unreachable(), is_after=True))
    with pytest.raises(Unreachable):
        await store.write("a", BytesBody(b"1"))

    assert (await store.read("a")).data == b"1"


async def test_a_call_can_hang(autojump_clock: trio.testing.MockClock) -> None:
    """Without an error a fault is a delay, which may have no end."""
    store = FaultyStore(MemoryStore(), hang("stat"))
    await store.write("a", BytesBody(b"1"))
    with trio.move_on_after(60) as scope:
        await store.stat("a")

    assert scope.cancelled_caught
    assert (await store.stat("a")).size == 1
