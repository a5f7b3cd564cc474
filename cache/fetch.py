"""A request under way for blocks that follow each other, and which blocks go together.

Everybody who wants a block that is on its way waits for the same request. Its answer
tells more than bytes: how fast the store is, and that the object is still the same, so
that nobody need ask for that while its bytes come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from mountfs.cache.blockfiles import Block
from mountfs.cache.lanes import Place
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.pace import Pace
from mountfs.storage.errors import Corrupt
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason
from mountfs.storage.types import Content, Object, Version


class Front(Protocol):
    """Somebody in front of the store, who answers for what it does not have yet."""

    def holds(self, version: Version) -> bool:
        """Tell whether the bytes of a version are here."""
        ...

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """As `Storager.read`, of what is here or else of the store."""
        ...


@dataclass(slots=True)
class Fetch:
    """One request under way for consecutive blocks."""

    object: Object
    first: int
    count: int
    place: Place
    reason: Reason
    done: trio.Event = field(default_factory=trio.Event)
    blocks: Mapping[int, Block] = field(default_factory=dict)
    answer: Object | None = None
    """The object as the store has just described it."""
    error: Exception | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether it was begun before a program asked."""
        return self.place.is_ahead


class Requests:
    """Sends the requests of fetches, and notes what their answers tell besides."""

    def __init__(self, pace: Pace, block_size: int) -> None:
        self._pace = pace
        self._block_size = block_size

    async def send(
        self, fetch: Fetch, source: Front | Storager, metadata: MetadataCache | None
    ) -> dict[int, Block]:
        """Send a request; return the blocks that it brought."""
        object = fetch.object
        assert object.size is not None
        start = fetch.first * self._block_size
        end = min(start + fetch.count * self._block_size, object.size)
        asked_at = None if metadata is None else metadata.moment(object.key)
        begun_s = trio.current_time()
        content = await source.read(
            object.key, start, end - start, version=object.version
        )
        fetch.answer = content.object
        self._pace.note(end - start, trio.current_time() - begun_s)
        if metadata is not None and content.object.key == object.key:
            metadata.confirm(content.object, asked_at)
        if len(content.data) != end - start:
            raise Corrupt(
                f"{end - start} bytes at {start} were asked for and "
                f"{len(content.data)} came",
                key=object.key,
            )
        if fetch.count == 1:
            return {fetch.first: content.data}
        size, whole = self._block_size, memoryview(content.data)
        return {
            fetch.first + i: whole[i * size : (i + 1) * size]
            for i in range(fetch.count)
        }


def runs_of(
    indexes: list[int], count_max: int, steps: tuple[int, ...] = ()
) -> list[tuple[int, int]]:
    """Group ascending indexes into runs `(first, count)` of limited length."""
    runs: list[tuple[int, int]] = []
    for index in indexes:
        number = max(0, len(runs) - 1)
        most = min(count_max, steps[number]) if number < len(steps) else count_max
        if runs and index == sum(runs[-1]) and runs[-1][1] < most:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs
