"""What is known of directories that programs change just now, renewed in time.

Who makes or removes one file after the other has each name looked up first, and all
directories on the way to it once a time to live. When what is known of them has just
grown too old, the program waits for the answers, one round trip after the other:
whether the directory is there, its attributes, what is in it. So that is asked for a
little earlier, while nobody waits.

Nothing is believed for longer than otherwise, and no directory is asked about that
programs do not change: where nothing happens nothing is sent.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import trio

from mountfs.cache.knowledge import split_key
from mountfs.storage.errors import StoreError
from mountfs.storage.parallel import run_all
from mountfs.storage.reason import Reason, because
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

PART = 0.65
"""After this part of the time to live what is known is renewed."""
PERIOD_S = 0.1, 60.0
"""It is seen to no more often, and no more seldom."""
DIRECTORIES_MAX = 4
"""So many directories at a time, those that were changed last."""
AT_ONCE = 8


class Renewals:
    """Asks again about the directories of a volume that are being changed."""

    def __init__(self, volume: Volume, resolver: Resolver) -> None:
        self._volume = volume
        self._resolver = resolver

    async def run(self) -> None:
        """Renew until cancelled."""
        least_s, most_s = PERIOD_S
        with because(Reason.REVALIDATE):
            while True:
                await self._volume.busy.wait_for_change()
                ttl_s = self._volume.metadata.ttl_s
                await trio.sleep(min(max(PART * ttl_s, least_s), most_s))
                try:
                    await self.renew()
                except Exception:  # whatever it is, it must not cost the mount
                    log.exception("a bug in mountfs: nothing was renewed")

    async def renew(self) -> None:
        """Ask for what is about to grow too old of directories that are changed."""
        ttl_s = self._volume.metadata.ttl_s
        if not ttl_s or self._volume.store.capabilities.native_dirs:
            return
        # It is good until it is seen to again, and has been answered then.
        time_s = (PART + (1 - PART) / 2) * ttl_s
        prefixes = self._volume.busy.newest(DIRECTORIES_MAX, PART * ttl_s)
        deeds = [
            partial(self._resolver.renew_names, each, time_s)
            for each in prefixes
            if each in self._volume.busy
        ]
        deeds += [
            partial(self._resolver.renew_directory, each, time_s)
            for each in dict.fromkeys(
                above for prefix in prefixes for above in _steps(prefix)
            )
        ]
        await run_all([partial(_tried, deed) for deed in deeds], at_once=AT_ONCE)


async def _tried(deed: Callable[[], Awaitable[None]]) -> None:
    """Do what may fail: then programs ask, and are told what is wrong."""
    try:
        await deed()
    except StoreError as error:
        log.debug("not renewed: %s", error)


def _steps(prefix: str) -> Iterator[str]:
    """Yield a directory and those on the way to it, but for the root."""
    while prefix:
        yield prefix
        prefix, _ = split_key(prefix)
