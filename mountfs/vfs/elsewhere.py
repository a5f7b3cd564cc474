"""What others change in the store: forgotten here, and by the kernel.

Changes come from an `EventSource`, our own among them. What is known here to be so
already is no news. Of the rest nothing is believed but that it is not what it was: it
is asked for when somebody wants it. A file with changes of its own keeps them; who was
faster is found out when they are stored.
"""

import logging

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.events import Change, EventSource
from mountfs.storage.types import ABSENT, Object, is_same_state
from mountfs.vfs.node import Node
from mountfs.vfs.volume import Outdated, Volume

log = logging.getLogger(__name__)

SETTLE_S = 0.25
_PAUSE_S, _PAUSE_MAX_S = 1.0, 60.0


class Elsewhere:
    """Takes in what a source tells."""

    def __init__(self, volume: Volume, source: EventSource) -> None:
        self._volume = volume
        self._source = source
        self.taken = 0
        """How many changes were news."""

    async def run(self) -> None:
        """Take in changes until cancelled. A source that fails is asked again."""
        pause_s = _PAUSE_S
        while True:
            try:
                changes = await self._source.changes()
            except StoreError as error:
                log.debug("no word of what others change: %s", error)
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
                continue
            pause_s = _PAUSE_S
            # A change of our own may be told before the answer to its request is here.
            await trio.sleep(SETTLE_S)
            if changes is None:
                self._volume.metadata.forget_below("")
                continue
            for change in changes:
                self.take(change)
                await trio.lowlevel.checkpoint()

    def take(self, change: Change) -> None:
        """Forget what one change makes old."""
        if self._is_known(change):
            return
        self.taken += 1
        name = change.key.rstrip("/")
        if not name:
            return
        self._volume.metadata.expire(name)
        self._volume.metadata.expire(f"{name}/")
        if change.object is None:
            self._volume.metadata.forget_below(f"{name}/")
        above, _, component = name.rpartition("/")
        parent = self._node_of(above)
        if parent is None:
            return  # the kernel knows nothing below what is not known here
        node = parent.children.get(self._volume.names.name(component))
        if node is not None:
            self._volume.say_outdated(node)
            return
        # The kernel may know that there is nothing.
        try:
            self._volume.outdated.send_nowait(
                Outdated(parent.inode, self._volume.names.name(component))
            )
        except (trio.WouldBlock, trio.BrokenResourceError):
            return  # the kernel finds out when its time to live ends, or it is gone

    def _is_known(self, change: Change) -> bool:
        metadata = self._volume.metadata
        if change.object is None:
            name = change.key.rstrip("/")
            if not change.is_gone:
                return False
            return all(metadata.newest(each) is ABSENT for each in (name, f"{name}/"))
        known = metadata.last_known(change.key)
        if not isinstance(known, Object):
            return False
        if self._volume.journaled is not None:
            known = self._volume.journaled.queue.aliases.inward(known)
        if known.key.endswith("/") and known.version is None:
            return True  # it is there, as it was
        return is_same_state(known, change.object)

    def _node_of(self, key: str) -> Node | None:
        node: Node | None = self._volume.inodes.root
        for component in filter(None, key.split("/")):
            name = self._volume.names.name(component)
            node = node.children.get(name) if node else None
        return node
