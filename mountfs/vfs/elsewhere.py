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
from mountfs.storage.types import Object, ObjectKind, is_same_state
from mountfs.vfs.node import Node
from mountfs.vfs.volume import Hearing, Outdated, Volume

log = logging.getLogger(__name__)

SETTLE_S = 0.25
_PAUSE_S, _PAUSE_MAX_S = 1.0, 60.0
_CROWDED_S, _CROWDED_MAX_S = 0.01, 10.0


class Elsewhere:
    """Takes in what a source tells."""

    def __init__(self, volume: Volume, source: EventSource) -> None:
        self._volume = volume
        self._source = source
        self._hearing = volume.hearing = Hearing()
        self.taken = 0
        """How many changes were news."""
        self._above: set[tuple[str, bool]] = set()
        """The directories above the news of one answer, and whether those have gone."""

    async def run(self) -> None:
        """Take in changes until cancelled. A source that fails is asked again."""
        pause_s, has_warned = _PAUSE_S, False
        while True:
            try:
                changes = await self._source.changes()
            except Exception as error:  # noqa: BLE001 - it must not cost the mount
                self._hearing.trouble = str(error)
                if not has_warned:
                    has_warned = _warn(error)
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
                continue
            if has_warned:
                log.info("what others change is told again")
            pause_s, has_warned = _PAUSE_S, False
            self._hearing.trouble = ""
            # A change of our own may be told before the answer to its request is here.
            await trio.sleep(SETTLE_S)
            if changes is None:
                await self._forget_all()
                continue
            self._above.clear()
            for change in changes:
                await self._wait_for_kernel()
                self._take_safely(change)
                await trio.lowlevel.checkpoint()

    async def _forget_all(self) -> None:
        """Forget what is known of everything, here and in the kernel."""
        self._volume.metadata.forget_below("")
        waiting = [self._volume.inodes.root]
        while waiting:
            for node in list(waiting.pop().children.values()):
                await self._wait_for_kernel()
                self._volume.say_outdated(node)
                waiting.append(node)

    async def _wait_for_kernel(self) -> None:
        """Wait until what it is to forget has room, for what has none is dropped."""
        outdated = self._volume.outdated
        with trio.move_on_after(_CROWDED_MAX_S):
            while True:
                told = outdated.statistics()
                if told.current_buffer_used * 2 <= told.max_buffer_size:
                    return
                await trio.sleep(_CROWDED_S)

    def _take_safely(self, change: Change) -> None:
        """Take in a change; without it what is known grows old, and that is all."""
        try:
            self.take(change)
        except Exception:  # whatever it is, it must not cost the mount
            log.exception("a change of %r could not be taken in", change.key)

    def take(self, change: Change) -> None:
        """Forget what one change makes old, here and in the kernel."""
        name = change.key.rstrip("/")
        if not name:
            return
        volume = self._volume
        known = self._known(name)
        if not self._is_known(change, known):
            self.taken += 1
            self._expire(change, known)
            self._take_above(name, is_gone=change.is_gone)
        above, _, component = name.rpartition("/")
        parent = self._node_of(above)
        if parent is not None:  # else the kernel knows nothing below it
            self._tell_kernel(parent, volume.names.name(component), change)

    def _expire(self, change: Change, known: Object | None) -> None:
        metadata, name = self._volume.metadata, change.key.rstrip("/")
        if known is not None and known.key == change.key and change.object is not None:
            metadata.expire(change.key, is_there=True)
            return
        metadata.expire(name)
        metadata.expire(f"{name}/")
        if change.object is None:
            metadata.forget_below(f"{name}/")

    def _take_above(self, name: str, *, is_gone: bool) -> None:
        """Let it be asked for the directories above, if nobody tells of them.

        Where the store has no directories, one comes with the first key below it, and
        may go with the last unless it has a marker.
        """
        volume = self._volume
        if volume.store.capabilities.native_dirs:
            return
        while name := name.rpartition("/")[0]:
            above, _, component = name.rpartition("/")
            parent, known = self._node_of(above), self._known(name)
            is_directory = known is not None and known.kind is ObjectKind.DIRECTORY
            has_marker = known is not None and known.version is not None
            is_sure = is_directory and (has_marker or not is_gone)
            if is_sure and self._node_of(name) is not None:
                return
            if (name, is_gone) in self._above:
                return
            self._above.add((name, is_gone))
            if not is_sure:
                volume.metadata.expire(name)
                volume.metadata.expire(f"{name}/")
            if parent is not None:
                change = Change(f"{name}/")
                self._tell_kernel(parent, volume.names.name(component), change)

    def _tell_kernel(self, parent: Node, name: bytes, change: Change) -> None:
        """Let the kernel forget a name, unless it means to it what the change says.

        A listing may have told us the news before the event does, and nobody the
        kernel.
        """
        node = parent.children.get(name)
        if node is not None:
            if not self._is_known(change, node.object):
                self._volume.say_outdated(node)
            return
        if change.is_gone:
            return
        try:
            self._volume.outdated.send_nowait(Outdated(parent.inode, name))
        except (trio.WouldBlock, trio.BrokenResourceError):
            return  # the kernel finds out when its time to live ends, or it is gone

    def _is_known(self, change: Change, known: Object | None) -> bool:
        """Tell whether something is known to be as a change says that it is now."""
        if change.is_gone:
            return known is None
        if change.object is None or known is None or known.key != change.key:
            return False
        if self._volume.journaled is not None and known.version is not None:
            aliases = self._volume.journaled.ledger.aliases
            if not aliases.is_known(known.version):
                return True  # ours waits: who was faster is found out when it is stored
            known = aliases.inward(known)
        if known.version is None and known.kind is ObjectKind.DIRECTORY:
            return True  # it is there, as it was
        return is_same_state(known, change.object)

    def _known(self, name: str) -> Object | None:
        """Return what is known under a name, or None for nothing."""
        for key in (name, f"{name}/"):
            known = self._volume.metadata.last_known(key)
            if isinstance(known, Object):
                return known
        return None

    def _node_of(self, key: str) -> Node | None:
        node: Node | None = self._volume.inodes.root
        for component in filter(None, key.split("/")):
            name = self._volume.names.name(component)
            node = node.children.get(name) if node else None
        return node


def _warn(error: Exception) -> bool:
    """Log why nothing is told; return whether somebody should act.

    What passes by itself is told by the state of the mount.
    """
    text = "nothing is told of what others change: %s"
    if not isinstance(error, StoreError):
        log.error(text, error, exc_info=error)
        return True
    is_news = not error.is_retryable
    log.log(logging.WARNING if is_news else logging.DEBUG, text, error)
    return is_news
