"""Listing the children of a directory, once for all who want it."""

import logging
from functools import partial

import trio

from mountfs.cache.listings import ListingInProgress
from mountfs.storage.errors import StoreError
from mountfs.storage.parallel import run_all
from mountfs.storage.reason import Reason, because
from mountfs.storage.types import Object
from mountfs.vfs.learning import Learning
from mountfs.vfs.pages import TooManyPages, pages
from mountfs.vfs.subtrees import Subtrees
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

PAGES_AHEAD_MAX = 4
"""A directory of more pages is not listed before a program asks for it."""


class Lister:
    """The listings of one volume: what is known freshly, or else what the store says.

    A directory that is being listed is not listed again: who wants it too waits.
    """

    def __init__(self, volume: Volume, learning: Learning, subtrees: Subtrees) -> None:
        self._volume = volume
        self._learning = learning
        self._subtrees = subtrees
        self._running: dict[str, trio.Event] = {}

    async def entries(self, prefix: str) -> tuple[Object, ...]:
        """Return the children of a directory, completed as far as they can be."""
        known = await self._known(prefix)
        if known is not None:
            self._volume.activity.metadata_hits += 1
            return known
        self._volume.activity.metadata_misses += 1
        await self._subtrees.renew(prefix)
        known = await self._known(prefix)  # others may list it by now
        return known if known is not None else await self._list(prefix)

    async def _known(self, prefix: str) -> tuple[Object, ...] | None:
        """Return what is known freshly once nobody is listing a directory."""
        while (running := self._running.get(prefix)) is not None:
            await running.wait()
        return self._volume.metadata.listing(prefix)

    async def list_ahead(self, prefix: str) -> tuple[Object, ...] | None:
        """List a directory anew before a program asks, unless it is large.

        Returns None if it is, if it cannot be listed, or if it is being listed.
        """
        if prefix in self._running:
            return None
        try:
            with because(Reason.PREFETCH):
                return await self._list(prefix, pages_max=PAGES_AHEAD_MAX)
        except (StoreError, TooManyPages) as error:
            log.debug("%r was not listed ahead: %s", prefix, error)
            return None

    async def _list(
        self, prefix: str, *, pages_max: int | None = None
    ) -> tuple[Object, ...]:
        metadata = self._volume.metadata
        done = self._running[prefix] = trio.Event()
        begun = metadata.begin_listing(prefix)
        try:
            # Most listings are followed by the index: it is asked at the same time.
            take = partial(self._take_pages, prefix, begun, pages_max)
            await run_all([take, partial(self._learning.prepare, prefix)], at_once=2)
            # Whoever looks a name up meanwhile asks for it, as if nothing was listed:
            # a listing alone tells neither attributes nor what is a link.
            listed = metadata.listed(begun)
            completed = await self._learning.completed(prefix, listed)
            metadata.complete_listing(begun, completed)
            return metadata.put_listing(begun)
        finally:
            metadata.drop_listing(begun)  # does nothing if it was taken in
            del self._running[prefix]
            done.set()

    async def _take_pages(
        self, prefix: str, begun: ListingInProgress, pages_max: int | None
    ) -> None:
        store = self._volume.store
        async for objects in pages(store, prefix, pages_max=pages_max):
            self._volume.metadata.add_page(begun, objects)
