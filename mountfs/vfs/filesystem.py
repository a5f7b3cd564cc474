"""One file system, put together from its parts."""

from collections.abc import Iterator

import trio

from mountfs.vfs.directories import Directories
from mountfs.vfs.files import Files
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.learning import Learning
from mountfs.vfs.namespace import Namespace
from mountfs.vfs.openers import Openers
from mountfs.vfs.rename import Renames
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.setattr import AttributeChanges
from mountfs.vfs.unlinked import Unlinked
from mountfs.vfs.volume import Outdated, Volume
from mountfs.vfs.xattrs import Xattrs

TIMES_TIMEOUT_S = 30.0
"""How long an unmount waits for the last times of directories."""


class FileSystem:
    """The parts of a file system over one volume.

    `owner` names the state directory, see `Unlinked`. `outdated` is the other end of
    the volume's channel, for whoever speaks to the kernel.
    """

    def __init__(
        self,
        volume: Volume,
        owner: str,
        outdated: "trio.MemoryReceiveChannel[Outdated]",
    ) -> None:
        self.volume = volume
        self.outdated = outdated
        self.openers = Openers()
        self.unlinked = Unlinked(volume, owner)
        self.resolver = Resolver(volume)
        self.hard_links = HardLinks(volume)
        self.files = Files(
            volume, self.resolver, self.openers, self.unlinked, self.hard_links
        )
        self.namespace = Namespace(
            volume, self.resolver, self.files, self.unlinked, self.hard_links
        )
        self.renames = Renames(
            volume, self.namespace, self.files, self.unlinked, self.hard_links
        )
        self.learning = Learning(volume)
        self.directories = Directories(volume, self.learning)
        self.attributes = AttributeChanges(
            volume, self.resolver, self.files, self.hard_links
        )
        self.xattrs = Xattrs(volume, self.resolver, self.attributes)

    async def recover(self) -> None:
        """Finish what an earlier mount of the same state directory left undone."""
        if self.volume.is_read_only:
            return
        await self.renames.recover()
        await self.hard_links.recover()
        await self.unlinked.clean_up()

    async def store_times(self) -> None:
        """Store the times of directories, in the background, until cancelled."""
        await self.volume.touched.run(self.attributes.store_times)

    async def finish(self) -> None:
        """Commit what is left when no program can write any more."""
        await self.files.commit_all()
        with trio.move_on_after(TIMES_TIMEOUT_S):
            await self.volume.touched.flush(self.attributes.store_times)
        if self.volume.index is not None:
            await self.volume.index.drain()

    def uncommitted(self) -> Iterator[Node]:
        """Yield the files whose bytes are not in the store."""
        for node in self.volume.inodes:
            file = node.file
            if file is not None and file.needs_commit and not node.is_nameless:
                yield node
