"""Names of a directory in which a program makes or removes one after the other.

`tar x`, `cp -r`, `git add` make file after file, `rm -r` removes them: each name is
asked for first, and most of them are new, or known and older than the time to live. To
a question for each name a small directory has a cheaper answer: one page of its listing
tells of all its names at once, of those that are not there too.

Only what a listing can vouch for is believed: names that are not in it, and objects
that are just what they were when all was known of them. The others are asked for one by
one, as before: a listing tells no attributes, SeaweedFS goes on listing directories
whose last key is gone, and foreign tools keep links under other names.

The same holds for small directories that were listed, or made, a while ago: one LIST
tells what else a HEAD and a LIST would be asked for, and of the other names besides.
Other directories that programs only look at are not listed: what other clients put
there would be seen later than if each name were asked for.
"""

import logging
import time
from collections.abc import Callable

import trio

from mountfs.cache.metadata import split_key
from mountfs.storage.errors import StoreError
from mountfs.storage.foreign_names import named_key
from mountfs.storage.types import Object, ObjectKind
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

UNFIT_S = 60.0
"""For how long a directory that does not fit in a page is not tried again."""
UNFIT_MAX = 1000
SMALL_COUNT = 100
"""To list a directory of so many names costs hardly more than to ask for one."""


class Neighbours:
    """Renews what is known of all names of a directory at once."""

    def __init__(
        self, volume: Volume, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._volume = volume
        self._clock = clock
        self._running: dict[str, trio.Event] = {}
        self._unfit_until_s: dict[str, float] = {}

    async def renew(self, key: str) -> bool:
        """List the directory of a key, if that is worth it; tell if it was listed."""
        prefix, _ = split_key(key)
        if not self._volume.metadata.ttl_s or not self._is_worth_it(prefix):
            return False
        if self._clock() < self._unfit_until_s.get(prefix, 0.0):
            return False
        if (running := self._running.get(prefix)) is not None:
            await running.wait()
            return True
        done = self._running[prefix] = trio.Event()
        try:
            is_listed = await self._list(prefix)
        finally:
            del self._running[prefix]
            done.set()
        if not is_listed:
            self._note_unfit(prefix)
        return is_listed

    def _is_worth_it(self, prefix: str) -> bool:
        if prefix in self._volume.busy:
            return True
        count = self._volume.metadata.count_listed(prefix)
        return count is not None and count <= SMALL_COUNT

    def _note_unfit(self, prefix: str) -> None:
        if len(self._unfit_until_s) >= UNFIT_MAX:
            self._unfit_until_s.clear()
        self._unfit_until_s[prefix] = self._clock() + UNFIT_S

    async def _list(self, prefix: str) -> bool:
        metadata = self._volume.metadata
        begun = metadata.begin_listing(prefix)
        try:
            page = await self._volume.store.list(prefix)
        except StoreError as error:
            # The names themselves are asked for then, and tell what is wrong.
            log.debug("%r cannot be listed: %s", prefix, error)
            metadata.drop_listing(begun)
            return False
        except BaseException:
            metadata.drop_listing(begun)
            raise
        is_odd = any(named_key(object.key) is not None for object in page.objects)
        if page.token is not None or is_odd:
            metadata.drop_listing(begun)
            return False
        metadata.put_listing(begun, page.objects, is_sure=_is_sure)
        return True


def _is_sure(object: Object) -> bool:
    """Tell whether a listed object, with all that is known of it, needs no question."""
    return object.is_described and object.kind is not ObjectKind.DIRECTORY
