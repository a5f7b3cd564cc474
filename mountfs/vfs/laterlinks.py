"""Second names of files that the store does not have yet: linked a little later.

`git` makes each object under a name of its own, links it to its real name and removes
the first; so do other programs that want a name to appear whole or not at all. To make
a group of hard links of that costs ten requests, which say nothing an instant later.

So with `durability=journal` the second name of a file that waits for the store is a row
of the journal: "this key is to be the same file as that one". Programs see both names
of one file at once. If either name is removed soon, the row goes, and with the first
name gone the file merely has another key. What does not go is made a group in the
store, as ever (`mountfs.vfs.hardlinks`), after `WAITS_S`, or at once when somebody
waits for the store, gives the file a third name, or renames it or a directory.

Crash before the row is synced: nobody was told. After it: the next mount finds the row
and goes on with it. While the group is made: recovery of that (`HardLinks.recover`)
comes first; then the key has the file, and the row is ended. The first name becomes the
second in the transaction that ends the row: a program may make the first name anew.
"""

import errno
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import trio

from mountfs.cache.incidents import IncidentKind
from mountfs.cache.journal import LaterLinkRow
from mountfs.cache.phases import reached
from mountfs.cache.tokens import is_token
from mountfs.storage.errors import NotFound, StoreError, VersionChanged
from mountfs.storage.types import ObjectKind
from mountfs.vfs.errors import fail
from mountfs.vfs.filecommits import FileCommits
from mountfs.vfs.filestate import Clean
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.tree import changing
from mountfs.vfs.treemove import with_metadata
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

WAITS_S = 1.0
RETRY_S = 5.0
LINKS_MAX = 10_000
"""So many may wait: each holds a file in memory."""


@dataclass(slots=True, eq=False)
class LaterLink:
    """The second name of a file, of which the store does not know yet."""

    id: int
    node: Node
    parent: Node
    name: bytes
    due_s: float

    @property
    def key(self) -> str:
        """The key of the second name."""
        return self.node.key_at(self.parent, self.name)


class LaterLinks:
    """The links of one volume that are to be made."""

    def __init__(
        self, volume: Volume, commits: FileCommits, hard_links: HardLinks
    ) -> None:
        self._volume = volume
        self._commits = commits
        self._hard_links = hard_links
        self._links: dict[Node, LaterLink] = {}
        self._has_some = trio.Event()
        self._left: list[LaterLinkRow] = []
        """What an earlier mount promised, and this one has not made yet."""
        self._taking_up = trio.Lock()

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[LaterLink]:
        return iter(list(self._links.values()))

    def __contains__(self, node: object) -> bool:
        return node in self._links

    def is_at(self, parent: Node, name: bytes) -> bool:
        """Tell whether a name waits to be made."""
        node = parent.children.get(name)
        link = self._links.get(node) if node is not None else None
        return link is not None and link.parent is parent and link.name == name

    def is_any_in(self, parent: Node) -> bool:
        """Tell whether a directory has names that wait to be made."""
        return any(link.parent is parent for link in self._links.values())

    # --- making and losing them -------------------------------------------------

    def takes(self, node: Node) -> bool:
        """Tell whether a second name of a file may wait; its lock is held."""
        journaled, known, file = self._volume.journaled, node.object, node.file
        if journaled is None or not journaled.queue.takes_changes:
            return False
        if node in self._links or len(self._links) >= LINKS_MAX:
            return False
        if node.kind is not ObjectKind.FILE or file is None or known is None:
            return False
        is_quiet = isinstance(file.state, Clean) and not file.writers
        is_single = node.group is None and not node.aliases
        is_pending = journaled.ledger.table.of_version(known.version) is not None
        return is_quiet and is_single and is_token(known.version) and is_pending

    def is_fixed(self, node: Node) -> bool:
        """Tell whether a file must have both names in the store before it loses one."""
        if self._left_at(node):
            return True
        if node not in self._links or node.file is None:
            return False
        is_begun = node.group is not None
        return is_begun or not isinstance(node.file.state, Clean)

    async def add(self, node: Node, parent: Node, name: bytes, component: str) -> None:
        """Take in a second name; the file's lock is held, and `changing`."""
        key = parent.key() + component
        id = await self._volume.journal.begin_later_link(node.key(), key)
        reached("later-link.begun")
        self._volume.inodes.add_name(node, parent, name, component)
        self._enter(LaterLink(id, node, parent, name, trio.current_time() + WAITS_S))

    def _enter(self, link: LaterLink) -> None:
        node, inodes = link.node, self._volume.inodes
        self._links[node] = link
        node.links = 2
        node.pins += 1
        inodes.hold(link.parent)
        self._has_some.set()

    def _leave(self, link: LaterLink) -> None:
        del self._links[link.node]
        link.node.pins -= 1
        self._volume.inodes.release(link.parent)

    async def lose(self, node: Node, parent: Node, name: bytes) -> bool:
        """Take away one of the two names of such a file; False if it is none.

        `changing` is held. Raises ESTALE if it is changed just now.
        """
        if node not in self._links or node.file is None:
            return False
        async with node.file.lock:
            link = self._links.get(node)
            if link is None:
                return False
            if self.is_fixed(node):
                fail(errno.ESTALE, "it is being written, or linked")
            with trio.CancelScope(shield=True):
                if link.parent is parent and link.name == name:
                    await self._volume.journal.end_later_link(link.id)
                    self._leave(link)
                    self._volume.inodes.detach_name(parent, name)
                    node.links = 1
                else:
                    await self._become(link, parent, name)
            return True

    async def _become(self, link: LaterLink, parent: Node, name: bytes) -> None:
        """Let the second name of a file be its only one."""
        node, file, known = link.node, link.node.file, link.node.object
        assert file is not None, "only files have two names"
        assert known is not None, "what was committed has an object"
        volume, journaled = self._volume, self._volume.journaled
        assert journaled is not None, "who takes second names has a queue"
        old_key, new_key = node.key_at(parent, name), link.key
        try:
            moved = await journaled.moves.move(
                old_key, new_key, known.version, ended_link=link.id
            )
        except (NotFound, VersionChanged):
            volume.metadata.expire(old_key)
            volume.say_outdated(node)
            fail(errno.ESTALE, "a foreign client replaced the object")
        reached("later-link.moved")
        moved = with_metadata(moved, known)
        volume.metadata.put_absent(old_key)
        moved = volume.metadata.put(moved)
        volume.blocks.rekey(known, moved)
        file.state = Clean(moved)
        self._leave(link)
        volume.inodes.detach_name(parent, name)
        node.object = moved
        node.links = 1

    # --- making groups of them --------------------------------------------------

    async def settle(self, *nodes: Node | None) -> None:
        """Let the store have the second names of files; no lock is held.

        Raises ESTALE if one was made that an earlier mount had promised.
        """
        for node in nodes:
            if node is not None:
                await self._keep_promises(self._left_at(node))
        for node in nodes:
            if node is not None and node in self._links:
                await self._settle(self._links[node])

    async def settle_below(self, *tops: Node | None) -> None:
        """As `settle`, of these and of all that have a name below them."""
        for top in tops:
            if top is not None and top.is_directory:
                await self._keep_promises(self._left_at(top, is_below=True))
        for link in self:
            if any(step in tops for step in link.node.above()):
                await self.settle(link.node)

    def refuse(self, *nodes: Node | None) -> None:
        """Raise ESTALE if a file got a second name again: the kernel asks again."""
        if any(node in self._links for node in nodes if node is not None):
            fail(errno.ESTALE, "it was given a second name just now")

    def refuse_below(self, *directories: Node) -> None:
        """As `refuse`, of all names below some directories."""
        for link in self._links.values():
            above = list(link.node.above())
            if any(directory in above for directory in directories):
                fail(errno.ESTALE, "a file in it was given a second name just now")

    async def _settle(self, link: LaterLink) -> None:
        node = link.node
        assert node.file is not None, "only files have two names"
        async with changing(node, link.parent), node.file.lock:
            if self._links.get(node) is not link:
                return
            key = link.key
            try:
                with trio.CancelScope(shield=True):
                    await self._commits.commit_in_place(node)
                    await self._volume.store_has(node)
                    await self._hard_links.add(node, key)
            except StoreError as error:
                if error.is_retryable:
                    raise
                await self._give_up(link, key, str(error))
                return
            with trio.CancelScope(shield=True):
                self._leave(link)
                await self._volume.journal.end_later_link(link.id)

    async def _give_up(self, link: LaterLink, key: str, reason: str) -> None:
        """Take a second name away that the store does not take: it has other bytes.

        Those of the file lie under its first name, or in a copy beside that one.
        """
        log.error("%r is no name of %r: %s", key, link.node.key(), reason)
        volume = self._volume
        volume.incidents.note(IncidentKind.FAILED, key, reason)
        volume.say_outdated(link.node)
        self._leave(link)
        volume.inodes.detach_name(link.parent, link.name)
        link.node.links = 1
        volume.metadata.expire(key)
        await volume.journal.end_later_link(link.id)

    async def run(self) -> None:
        """Make in the background what has waited long enough, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._recover_the_rest)
            await self._settle_on()

    async def _settle_on(self) -> None:
        while True:
            await self._has_some.wait()
            if not self._links:
                self._has_some = trio.Event()
                continue
            first_s = min(link.due_s for link in self._links.values())
            await trio.sleep_until(first_s)
            await self._settle_due()

    async def _settle_due(self) -> None:
        now_s = trio.current_time()
        for link in self:
            if link.due_s > now_s or self._links.get(link.node) is not link:
                continue
            link.due_s = now_s + RETRY_S
            try:
                await self._settle(link)
            except (StoreError, OSError) as error:
                log.info("a second name has to wait: %s", error)
            except Exception:  # whatever it is, it must not cost the mount
                log.exception("a bug in mountfs: a second name is not stored")

    # --- the next mount ---------------------------------------------------------

    async def load(self) -> None:
        """See what an earlier mount promised; nothing is asked."""
        self._left = list(await self._volume.journal.later_links())

    async def recover(self) -> None:
        """Go on with what an earlier mount promised, as far as the store answers."""
        for row in list(self._left):
            try:
                await self._keep_promise(row)
            except StoreError as error:
                log.warning("the name %r has to wait: %s", row.target, error)

    def _left_at(self, node: Node, *, is_below: bool = False) -> list[LaterLinkRow]:
        """Return what was promised by an earlier mount of a file, or below a directory.

        Nobody is to change either name before: the second would be lost, or mean bytes
        that were never its own.
        """
        if not self._left or node.is_nameless:
            return []
        if is_below:
            top = node.key()
            return [
                row
                for row in self._left
                if row.source.startswith(top) or row.target.startswith(top)
            ]
        keys = {each.parent.key() + each.component for each in node.names()}
        return [
            row for row in self._left if not keys.isdisjoint({row.source, row.target})
        ]

    async def _keep_promises(self, rows: Sequence[LaterLinkRow]) -> None:
        for row in rows:
            await self._keep_promise(row)
        if rows:
            fail(errno.ESTALE, "it was given its second name just now")

    async def _keep_promise(self, row: LaterLinkRow) -> None:
        async with self._taking_up:
            if row in self._left:
                await self._take_up(row.id, row.source, row.target)
                self._left.remove(row)

    async def _recover_the_rest(self) -> None:
        while self._left:
            await trio.sleep(RETRY_S)
            try:
                await self.recover()
            except Exception:  # whatever it is, it must not cost the mount
                log.exception("a bug in mountfs: a second name waits for another mount")

    async def _take_up(self, id: int, source: str, target: str) -> None:
        direct = self._volume.direct
        try:
            await direct.stat(source)
        except NotFound:
            # It has become its second name, or somebody removed it in the store.
            await self._volume.journal.end_later_link(id)
            return
        try:
            await direct.stat(target)
        except NotFound:
            await self._hard_links.add_by_keys(source, target)
        await self._volume.journal.end_later_link(id)
