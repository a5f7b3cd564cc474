"""Whether programs may write, while a mount lives: `mount -o remount,ro` and `rw`.

The kernel has the word, and turns programs away itself. This is the daemon's part: that
all which was acknowledged is in the store, and that nothing of ours is written after.
"""

import logging

from mountfs.control import Outcome
from mountfs.errors import UsageError
from mountfs.serving.waiter import Waiter
from mountfs.vfs.filesystem import FileSystem

log = logging.getLogger(__name__)


class Access:
    """Makes one mount read-only, and writable again."""

    def __init__(
        self, filesystem: FileSystem, waiter: Waiter, *, is_read_only: bool
    ) -> None:
        self._fs = filesystem
        self._waiter = waiter
        self._begun_read_only = is_read_only

    async def forbid(self) -> Outcome:
        """Store what is pending, and write no more, not even an atime.

        The kernel must be read-only by then. If something cannot be stored the mount
        goes on trying; the outcome tells.
        """
        volume = self._fs.volume
        outcome = await self._waiter.wait([""], below=True)
        await volume.touched.flush(self._fs.attributes.store_times)
        volume.is_read_only = True
        log.info("the mount is read-only from now on")
        return outcome

    async def allow(self) -> Outcome:
        """Write again, unless the mount was begun read-only."""
        if self._begun_read_only:
            return Outcome(
                error="this mount was begun read-only and can send no write: unmount"
                " it, and mount it anew without ro",
                code=UsageError.exit_code,
            )
        self._fs.volume.is_read_only = False
        log.info("the mount can be written from now on")
        return Outcome()
