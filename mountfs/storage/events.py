"""What a store tells beside its objects: what others change, and how much room is left.

Neither is needed: without events what is known grows old and is asked for again, and
without a word on space a store has no end. A source has a connection of its own, so
that a question that waits for a minute holds no place that a request needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mountfs.storage.types import Object


@dataclass(frozen=True, slots=True)
class Change:
    """Something under a key is not what it was; perhaps by our own doing."""

    key: str
    """Without a slash if it is not known whether it is, or was, a directory."""
    object: Object | None = None
    """What is there now, if the event tells."""
    is_gone: bool = False
    """Whether the event tells that nothing is there now."""


class EventSource(Protocol):
    """Tells of changes, those of this mount among them."""

    async def changes(self) -> Sequence[Change] | None:
        """Wait for changes and return them; None is "anything may have changed".

        If none come for a while, that is an answer, too: nothing is in the way.

        What happens between two calls is told by the second, which also says that
        what the first has told was taken in: a service that keeps it until then need
        not any more. Raises `StoreError`; a later call goes on where it can.
        """
        ...

    async def close(self) -> None:
        """Give back the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Space:
    """How full a store is, in bytes."""

    total: int
    used: int

    @property
    def free(self) -> int:
        """What is left, never negative."""
        return max(0, self.total - self.used)


class SpaceSource(Protocol):
    """Tells how full a store is."""

    async def space(self) -> Space | None:
        """Ask; None if there is no end. Raises `StoreError`."""
        ...

    async def close(self) -> None:
        """Give back the connection."""
        ...
