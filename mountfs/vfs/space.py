"""How full the store is, for statfs(2): asked seldom, and never waited for long."""

import logging

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.events import Space, SpaceSource

log = logging.getLogger(__name__)

FRESH_S = 60.0
_ANSWER_S = 5.0


class SpaceMeter:
    """Remembers what a source told last."""

    def __init__(self, source: SpaceSource | None = None) -> None:
        self._source = source
        self._known: Space | None = None
        self._until = -1.0

    async def space(self) -> Space | None:
        """Return how full the store is; None if it has no end, or does not say."""
        if self._source is None or trio.current_time() < self._until:
            return self._known
        # Whoever comes meanwhile gets what was known before.
        self._until = trio.current_time() + FRESH_S
        try:
            with trio.move_on_after(_ANSWER_S):
                self._known = await self._source.space()
        except StoreError as error:
            log.debug("the store does not say how full it is: %s", error)
        return self._known
