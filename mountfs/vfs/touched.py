"""Directories whose times changed with their entries, and are not stored yet.

Every new, removed or renamed entry moves the times of its directory. Programs see that
at once; to the store the times go in the background, for each directory at most once
per `INTERVAL_S`, however often it changes. A crash loses the times of that interval,
and nothing else.

A directory that waits here is held in memory, so that the kernel may forget it. So
their number is bounded: what does not fit any more keeps its times here only.
"""

import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.parallel import run_all
from mountfs.storage.reason import Reason, because
from mountfs.vfs.inodes import InodeTable, Node

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
AT_ONCE = 8
"""Requests at the same time; programs need the others."""
WAITING_MAX = 4096

StoreTimes = Callable[[Node], Awaitable[None]]


class Touched:
    """The directories that wait, and who sends their times."""

    def __init__(self, inodes: InodeTable, *, waiting_max: int = WAITING_MAX) -> None:
        self._inodes = inodes
        self._waiting_max = waiting_max
        self._changes = itertools.count()
        self._waiting: dict[Node, int] = {}
        self._has_some = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, directory: object) -> bool:
        """Tell whether the store does not have a directory's newest times yet."""
        return directory in self._waiting

    def __iter__(self) -> Iterator[Node]:
        """Yield the directories that wait."""
        return iter(list(self._waiting))

    def note(self, directory: Node) -> None:
        """Let the times of a directory be stored before long."""
        if directory not in self._waiting:
            if len(self._waiting) >= self._waiting_max:
                return
            self._inodes.hold(directory)
        self._waiting[directory] = next(self._changes)
        self._has_some.set()

    def drop(self, directory: Node) -> None:
        """Forget about a directory whose times are stored."""
        if self._waiting.pop(directory, None) is not None:
            self._inodes.release(directory)

    async def run(self, store: StoreTimes) -> None:
        """Store what waits, until cancelled; what is left then is for `flush`."""
        while True:
            await self._has_some.wait()
            # What changes meanwhile goes with it: a program that makes a thousand
            # files costs one request a second, not a thousand.
            await trio.sleep(INTERVAL_S)
            await self.flush(store)

    async def flush(self, store: StoreTimes) -> None:
        """Store what waits now."""
        self._has_some = trio.Event()
        deeds = [
            partial(self._store, store, directory, change)
            for directory, change in self._waiting.items()
        ]
        with because(Reason.BACKGROUND):
            await run_all(deeds, at_once=AT_ONCE)

    async def _store(self, store: StoreTimes, directory: Node, change: int) -> None:
        try:
            await store(directory)
        except (StoreError, OSError) as error:
            log.info(
                "the times of directory %r are not stored: %s", directory.name, error
            )
        except Exception:  # whatever it is, it must not cost the mount
            log.exception("a bug in mountfs: the times of a directory are not stored")
        if self._waiting.get(directory) == change:
            self.drop(directory)
