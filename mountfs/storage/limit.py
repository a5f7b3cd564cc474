"""Bounds on how many requests are under way, one pool for each class of request.

Metadata, reads, uploads and the store's own copies have pools of their own: a hundred
parts on their way up never keep a `stat` waiting. This wrapper stands innermost, below
the retries, so that a request that is backing off holds no place. Waiting for a place
does not count against a deadline: the store is not to blame for our queue.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from mountfs.storage.deadline import not_counted
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.passage import PassageStorager, RequestClass
from mountfs.storage.protocol import Storager


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most requests of each class that are under way at once."""

    metadata: int = 64
    reads: int = 48
    uploads: int = 48
    copies: int = 48

    def __post_init__(self) -> None:
        if min(self.metadata, self.reads, self.uploads, self.copies) < 1:
            raise InvalidRequest(f"every limit must be at least 1: {self}")


class LimitStorager(PassageStorager):
    """Lets at most so many requests of each class through; the others wait."""

    def __init__(self, inner: Storager, limits: Limits) -> None:
        super().__init__(inner)
        self._pools = {
            RequestClass.METADATA: trio.CapacityLimiter(limits.metadata),
            RequestClass.READ: trio.CapacityLimiter(limits.reads),
            RequestClass.UPLOAD: trio.CapacityLimiter(limits.uploads),
            RequestClass.COPY: trio.CapacityLimiter(limits.copies),
        }

    @property
    def under_way(self) -> int:
        """How many requests have been let through and have not ended."""
        return sum(pool.borrowed_tokens for pool in self._pools.values())

    @contextlib.asynccontextmanager
    async def _passing(self, kind: RequestClass) -> AsyncIterator[None]:
        pool = self._pools[kind]
        try:
            pool.acquire_nowait()
        except trio.WouldBlock:
            with not_counted():
                await pool.acquire()
        try:
            yield
        finally:
            pool.release()
