"""Whether a mount works: its loop, its threads, its journal, and the kernel's side.

Each part is asked again and again, by a task of its own, so that one that is stuck is
known by its silence and does not hold up the others. The mount itself is asked by a
small process (statvfs(2), which the kernel never answers from its cache): a thread of
the daemon that waits for the daemon could never be ended.
"""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from mountfs.cache.activity import Activity
from mountfs.cache.journal import Journal
from mountfs.storage.errors import StoreError

log = logging.getLogger(__name__)

_IS_DEAD = 3
_QUESTION = f"""\
import os, sys
try:
    os.statvfs(sys.argv[1])
except OSError as error:
    sys.exit({_IS_DEAD} * (error.errno in {(errno.ENOTCONN, errno.ECONNABORTED)}))
"""
"""Any other answer is one: the mount point may have been moved, or mounted over."""


class Pulse:
    """Feels whether the parts of a mount answer, for as long as `run` runs."""

    def __init__(
        self,
        journal: Journal,
        mount_point: Path,
        activity: Activity,
        is_mounted: Callable[[], bool],
    ) -> None:
        """Only while `is_mounted` says so is the mount asked."""
        self._journal = journal
        self._mount_point = mount_point
        self._activity = activity
        self._requests = activity.requests
        self._is_mounted = is_mounted
        self._parts: dict[str, Callable[[], Awaitable[bool]]] = {
            "a worker thread": _ask_threads,
            "the journal": self._ask_journal,
            "the mount": self._ask_mount,
        }
        self._answered: dict[str, float] = {}

    async def run(self, every_s: float) -> None:
        """Ask each part every so many seconds, until cancelled."""
        self._answered = dict.fromkeys(self._parts, trio.current_time())
        async with trio.open_nursery() as nursery:
            for name in self._parts:
                nursery.start_soon(self._ask, name, every_s)

    def silent(self, limit_s: float) -> Sequence[str]:
        """Return the parts that have not answered for so long."""
        now_s = trio.current_time()
        if self._activity.requests != self._requests:
            # The kernel's requests come through. While programs that wait for the
            # store have taken all places, ours may have to wait for very long.
            self._requests = self._activity.requests
            self._answered["the mount"] = now_s
        return [name for name, at in self._answered.items() if now_s - at > limit_s]

    async def _ask(self, name: str, every_s: float) -> None:
        while True:
            next_s = trio.current_time() + every_s
            try:
                if await self._parts[name]():
                    self._answered[name] = trio.current_time()
            except Exception as error:  # noqa: BLE001 - to ask must not cost the mount
                # No thread can be had, say: then the part does not answer.
                log.warning("%s cannot be asked: %s", name, error)
            await trio.sleep_until(next_s)

    async def _ask_journal(self) -> bool:
        try:
            return await self._journal.answers()
        except StoreError as error:
            # Programs are told that, too, and no new daemon would mend it.
            log.debug("the journal answers, but: %s", error)
            return True

    async def _ask_mount(self) -> bool:
        if not self._is_mounted():
            return True
        question = [sys.executable, "-I", "-S", "-c", _QUESTION]
        try:
            process = await trio.lowlevel.open_process(
                [*question, os.fspath(self._mount_point)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            # This host has no room for a process, which says nothing of the mount.
            log.debug("the mount cannot be asked: %s", error)
            return True
        try:
            return await process.wait() != _IS_DEAD
        finally:
            if process.returncode is None:
                process.kill()  # not waited for: it waits for us


async def _ask_threads() -> bool:
    return await trio.to_thread.run_sync(bool, 1, abandon_on_cancel=True)
