"""Asks for the names that a program will remove next, while nobody waits.

Which those are is known if it goes through a large directory in the order of the inode
numbers (`mountfs.vfs.courses`). Nothing is believed for longer than otherwise.
"""

import logging
from functools import partial

import trio

from mountfs.storage.errors import StoreError
from mountfs.storage.parallel import run_all
from mountfs.storage.reason import Reason, because
from mountfs.vfs.courses import NAMES_MIN
from mountfs.vfs.inodes import Inode, Node
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

AT_ONCE = 16


class Foresight:
    """Runs ahead of programs that remove many names of one directory."""

    def __init__(
        self, volume: Volume, resolver: Resolver, names_min: int = NAMES_MIN
    ) -> None:
        self._volume = volume
        self._resolver = resolver
        self._names_min = names_min
        self._moved = trio.Event()

    def note_removed(self, directory: Node, node: Node) -> None:
        """Note that a program has removed a file."""
        courses, children = self._volume.courses, directory.children
        is_worth_it = self._is_worth_it(directory)
        if not is_worth_it and courses.are_none:
            return
        if directory.is_nameless:
            return  # another client has removed it meanwhile, and that was seen
        prefix = directory.key()
        if not is_worth_it and not courses.has(prefix):
            return
        now_s = self._volume.metadata.now_s()
        left = (child.inode for child in children.values())
        if courses.note(prefix, node.inode, now_s, left):
            self._moved.set()

    def _is_worth_it(self, directory: Node) -> bool:
        if len(directory.children) < self._names_min:
            return False
        is_flat = not self._volume.store.capabilities.native_dirs
        return is_flat and self._volume.metadata.ttl_s > 0

    async def run(self) -> None:
        """Ask ahead until cancelled."""
        with because(Reason.REVALIDATE):
            while True:
                await self._moved.wait()
                self._moved = trio.Event()
                try:
                    await self._ask_all()
                except Exception:  # whatever it is, it must not cost the mount
                    log.exception("a bug in mountfs: nothing was asked for ahead")

    async def _ask_all(self) -> None:
        metadata = self._volume.metadata
        if not metadata.ttl_s:
            return  # it was set so: no answer would be believed when its name comes
        wanted = self._volume.courses.next(metadata.now_s(), metadata.ttl_s)
        await run_all([partial(self._ask, inode) for inode in wanted], at_once=AT_ONCE)

    async def _ask(self, inode: Inode) -> None:
        node = self._volume.inodes.find(inode)
        if node is None or node.is_directory or node.is_nameless:
            return
        try:
            await self._resolver.ask_ahead(node.key())
        except StoreError as error:
            # The program asks itself then, and is told what is wrong.
            log.debug("not asked ahead: %s", error)
