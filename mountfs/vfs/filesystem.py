"""One file system, put together from its parts."""

import errno
from collections.abc import Iterator

import trio

from mountfs.storage.errors import StoreError
from mountfs.vfs.directories import Directories
from mountfs.vfs.errors import fail
from mountfs.vfs.explain import Explainer
from mountfs.vfs.filecommits import FileCommits
from mountfs.vfs.files import Files
from mountfs.vfs.foresight import Foresight
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.laterlinks import LaterLinks
from mountfs.vfs.learning import Learning
from mountfs.vfs.lister import Lister
from mountfs.vfs.namespace import Namespace
from mountfs.vfs.openers import Openers
from mountfs.vfs.pushes import Pushes
from mountfs.vfs.rename import Renames
from mountfs.vfs.renewals import Renewals
from mountfs.vfs.resolver import Resolver
from mountfs.vfs.room import NAMES_MAX, Room
from mountfs.vfs.setattr import AttributeChanges
from mountfs.vfs.space import SpaceMeter
from mountfs.vfs.subtrees import Subtrees
from mountfs.vfs.unlinked import Unlinked
from mountfs.vfs.volume import Outdated, Volume
from mountfs.vfs.walks import Walks
from mountfs.vfs.xattrs import Xattrs

TIMES_TIMEOUT_S = 30.0
"""How long an unmount waits for the last times of directories."""


class FileSystem:
    """The parts of a file system over one volume.

    `owner` names the state directory, see `Unlinked`. `outdated` is the other end of
    the volume's channel, for whoever speaks to the kernel. `names_max` bounds the names
    in memory.
    """

    def __init__(
        self,
        volume: Volume,
        owner: str,
        outdated: "trio.MemoryReceiveChannel[Outdated]",
        names_max: int = NAMES_MAX,
    ) -> None:
        self.volume = volume
        self.room = Room(volume, names_max)
        self.outdated = outdated
        self.space = SpaceMeter()
        self.openers = Openers()
        self.unlinked = Unlinked(volume, owner)
        subtrees = Subtrees(volume)
        self.resolver = Resolver(volume, subtrees)
        self.renewals = Renewals(volume, self.resolver)
        self.foresight = Foresight(volume, self.resolver)
        self.hard_links = HardLinks(volume)
        self.learning = Learning(volume)
        lister = Lister(volume, self.learning, subtrees)
        self.pushes = Pushes(volume.inodes)
        self.walks = Walks(volume, lister, self.pushes)
        self.commits = FileCommits(volume, self.hard_links)
        self.files = Files(
            volume,
            self.resolver,
            self.openers,
            self.unlinked,
            self.commits,
            self.walks,
        )
        self.later_links = LaterLinks(volume, self.commits, self.hard_links)
        self.namespace = Namespace(
            volume,
            self.resolver,
            self.commits,
            self.unlinked,
            self.hard_links,
            self.later_links,
            walks=self.walks,
            foresight=self.foresight,
        )
        self.renames = Renames(
            volume,
            self.namespace,
            self.commits,
            self.unlinked,
            self.hard_links,
            self.later_links,
        )
        self.directories = Directories(
            volume, self.learning, self.later_links, lister, self.walks
        )
        self.attributes = AttributeChanges(
            volume, self.resolver, self.files, self.hard_links
        )
        self.explainer = Explainer(volume, self.namespace, self.files)
        self.xattrs = Xattrs(volume, self.resolver, self.attributes, self.explainer)

    def keep_names(self, names_max: int) -> None:
        """Keep so many names in memory from now on; the kernel is asked in time."""
        self.volume.metadata.keep_at_most(names_max)
        self.room.keep_at_most(names_max)

    async def recover(self) -> None:
        """Finish what an earlier mount of the same state directory left undone."""
        if self.volume.is_read_only:
            return
        if self.volume.journaled is not None:
            self.volume.journaled.drain.begin()
        await self.later_links.load()
        await self.renames.recover()
        if self.volume.journaled is not None:
            await self.volume.journaled.ledger.release_others()
        await self.hard_links.recover()
        await self.later_links.recover()
        await self.unlinked.clean_up()

    async def store_times(self) -> None:
        """Store what waits for more of its kind, in the background, until cancelled:
        the times of directories, second names of files.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.later_links.run)
            await self.volume.touched.run(self.attributes.store_times)

    async def finish(self) -> None:
        """Commit what is left when no program can write any more."""
        await self.commits.commit_all()
        if await self._empty_queue():
            await self._settle_links("")
        await self.keep_times()
        await self._empty_queue()
        if self.volume.index is not None:
            await self.volume.index.drain()

    async def keep_times(self) -> None:
        """Put the times of directories where files are put: the journal, or the store.

        A store that is out of reach is not waited for for long.
        """
        with trio.move_on_after(TIMES_TIMEOUT_S):
            await self.volume.touched.flush(self.attributes.store_times)

    async def key_of(self, path: bytes) -> str:
        """Return the key of a path below the root, "" of the root itself.

        Links in it are not followed. Raises ENOENT, ENOTDIR, or what the store says.
        """
        node = await self.hold(path)
        try:
            return node.key()
        finally:
            self.volume.inodes.release(node)

    async def hold(self, path: bytes) -> Node:
        """Return the node of a path below the root, held until it is released.

        Links in it are not followed. Raises ENOENT, ENOTDIR, or what the store says.
        """
        node, inodes = self.volume.inodes.root, self.volume.inodes
        inodes.hold(node)
        for name in filter(None, path.split(b"/")):
            try:
                if not node.is_directory:
                    fail(errno.ENOTDIR)
                found = await self.namespace.lookup(node, name)
                if found is None:
                    fail(errno.ENOENT)
                inodes.hold(found)
            finally:
                inodes.release(node)
            node = found
        return node

    def open_below(self, key: str) -> set[int]:
        """Return the inodes at or below a key that are open for writing."""
        return {
            each.node.inode
            for each in self.files
            if each.can_write and _is_within(each.node, key)
        }

    async def flush(self, key: str, *, below: bool = True) -> None:
        """Return when the store has all that was changed at a key, and below it.

        A key without a slash at the end means the file as well as the directory. All
        is tried before the first error is raised, which stays kept for its file.
        """
        errors: list[StoreError | OSError] = []
        errors += await self._settle_links(key, below=below)
        for node in list(self.uncommitted()):
            if not (_is_within(node, key) if below else node.key() == key):
                continue
            if node.file is not None and node.file.refusal is not None:
                # What is here is not what the program wrote: it will be given up.
                errors.append(node.file.refusal)
                continue
            try:
                # Who asked may go away; a commit is carried to its end.
                with trio.CancelScope(shield=True):
                    await self.files.fsync(node)
            except (StoreError, OSError) as error:
                errors.append(error)
        if any(_is_within(each, key) for each in self.volume.touched):
            with trio.CancelScope(shield=True):
                await self.volume.touched.flush(self.attributes.store_times)
        if self.volume.journaled is not None:
            try:
                await self.volume.journaled.settling.settle(
                    lambda each: is_within(each, key) if below else each == key
                )
            except StoreError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    async def _settle_links(
        self, key: str, *, below: bool = True
    ) -> list[StoreError | OSError]:
        """Let the store have second names at and below a key; return what failed."""
        errors: list[StoreError | OSError] = []
        for link in self.later_links:
            keys = {each.parent.key() + each.component for each in link.node.names()}
            if not any(is_within(each, key) if below else each == key for each in keys):
                continue
            try:
                with trio.CancelScope(shield=True):
                    await self.later_links.settle(link.node)
            except (StoreError, OSError) as error:
                errors.append(error)
        return errors

    async def _empty_queue(self) -> bool:
        if self.volume.journaled is None:
            return True
        return await self.volume.journaled.drain.empty()

    def uncommitted(self) -> Iterator[Node]:
        """Yield the files whose bytes are not in the store."""
        for node in self.volume.inodes.loaded():
            file = node.loaded_file
            if file is not None and file.needs_commit and not node.is_nameless:
                yield node


def is_within(key: str, top: str) -> bool:
    """Tell whether a key is at or below another; without a slash that one is both."""
    plain = top.rstrip("/")
    return not plain or key.rstrip("/") == plain or key.startswith(f"{plain}/")


def _is_within(node: Node, top: str) -> bool:
    return not node.is_nameless and is_within(node.key(), top)
