"""A line that carries fewer bodies in their time than we would send at once."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mountfs.backends.memory import MemoryStore
from mountfs.cache.places import Places
from mountfs.storage.body import Body
from mountfs.storage.errors import (
    PermissionDenied,
    StayedOffline,
    StoreError,
    TimedOut,
)
from mountfs.storage.types import NO_METADATA, Object, Part, Upload
from mountfs.storage.wrapper import StoragerWrapper
from tests.fakes.cache_stack import open_stack, tiny_store

CARRIED = 2


class SlowLine(StoragerWrapper):
    """A store behind a line on which more than two bodies at once are all too late."""

    at_once = 0
    sent = 0

    async def _send(self) -> None:
        self.sent += 1
        self.at_once += 1
        try:
            await trio.testing.wait_all_tasks_blocked(0.01)
            if self.at_once > CARRIED:
                await trio.testing.wait_all_tasks_blocked(0.01)
                raise TimedOut("no answer within 60 s", is_ambiguous=True)
        finally:
            self.at_once -= 1

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Send a part, if the line is not too full."""
        await self._send()
        return await super().write_part(upload, index, body, size=size)

    async def write(self, key: str, body: Body | None, **options: Any) -> Object:
        """Send a body, if the line is not too full."""
        await self._send()
        return await super().write(key, body, **options)


async def test_a_large_file_comes_through_a_slow_line(tmp_path: Path) -> None:
    """Else all its parts are given up together, and begun anew together, for ever."""
    memory = MemoryStore(capabilities=tiny_store())
    data = bytes(range(200))
    async with open_stack(SlowLine(memory), tmp_path) as stack:
        dirty = stack.writeback.begin("a", None)
        await stack.writeback.write(dirty, 0, data, metadata=lambda: NO_METADATA)
        for _ in range(8):
            with suppress(TimedOut):
                await stack.writeback.commit(
                    dirty, metadata=NO_METADATA, inherit=None, condition=None
                )
                break

        assert memory.bucket.entries["a"].data == data
        await stack.writeback.discard(dirty)


async def test_small_files_come_through_a_slow_line(tmp_path: Path) -> None:
    """Those that wait for their turn are sent when fewer go at once."""
    memory = MemoryStore(capabilities=tiny_store())
    async with open_stack(SlowLine(memory), tmp_path) as stack:

        async def store(key: str) -> None:
            dirty = stack.writeback.begin(key, None)
            await stack.writeback.write(dirty, 0, b"x", metadata=lambda: NO_METADATA)
            for _ in range(8):
                with suppress(TimedOut):
                    await stack.writeback.commit(
                        dirty, metadata=NO_METADATA, inherit=None, condition=None
                    )
                    break
            await stack.writeback.discard(dirty)

        keys = {str(number) for number in range(40)}
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(store, key)

        assert memory.bucket.entries.keys() == keys


async def most_at_once(places: Places, *, is_small: bool = False) -> int:
    """Return how many places there are now, without using one up."""
    count = 0

    async def take() -> None:
        nonlocal count
        with suppress(PermissionDenied):
            async with places.taken(is_small=is_small):
                count += 1
                await everybody.wait()
                raise PermissionDenied("no")

    everybody = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        found = count
        everybody.set()
    return found


async def send(places: Places, error: StoreError | None = None) -> None:
    with suppress(StoreError):
        async with places.taken():
            await trio.testing.wait_all_tasks_blocked()
            if error is not None:
                raise error


async def test_places_are_halved_once_and_come_back_one_by_one() -> None:
    """What is given up together is one piece of news; the small ones are told, too."""
    places = Places(8, 32)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(send, places, TimedOut("late"))
    assert await most_at_once(places) == 4
    assert await most_at_once(places, is_small=True) == 16

    for expected in (5, 6, 7, 8, 8):
        for _ in range(expected - 1):
            await send(places)
        assert await most_at_once(places) == expected


@pytest.mark.parametrize("error", [PermissionDenied("no"), StayedOffline("away")])
async def test_other_errors_say_nothing_of_the_line(error: StoreError) -> None:
    places = Places(8, 32)
    await send(places, error)
    assert await most_at_once(places) == 8


async def test_one_place_is_left_whatever_happens() -> None:
    places = Places(2, 2)
    for _ in range(4):
        await send(places, TimedOut("late"))
    assert await most_at_once(places) == 1
