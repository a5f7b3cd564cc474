"""Renaming files and directories.

Atomic in this mount: the names change here in one step, when the store has everything
under the new keys. For other clients both names exist for a while, and in an exchange
each is missing for a moment. What takes more than one request is journaled, and a crash
in between is finished forward at the next mount.
"""

import contextlib
import errno
import json
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from mountfs.cache.dirty import DirtyFile
from mountfs.storage.errors import NotFound, StoreError, VersionChanged
from mountfs.storage.types import Object, Version
from mountfs.vfs.errors import fail
from mountfs.vfs.filecommits import FileCommits
from mountfs.vfs.filemove import FileMoves
from mountfs.vfs.filenodes import condition_of
from mountfs.vfs.filestate import Clean, Dirty
from mountfs.vfs.foreign import take_over
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.inodes import Node
from mountfs.vfs.laterlinks import LaterLinks
from mountfs.vfs.namespace import Namespace
from mountfs.vfs.tree import changing, moving
from mountfs.vfs.treemove import TreeMoves, with_metadata
from mountfs.vfs.unlinked import Unlinked
from mountfs.vfs.volume import EXCHANGES, RESERVED, Volume

log = logging.getLogger(__name__)

NOREPLACE = 1
EXCHANGE = 2

End = tuple[Node, bytes]
"""A directory and a name in it."""


@dataclass(frozen=True, slots=True)
class _Rename:
    """One rename as it was asked for, with what was found at both ends."""

    node: Node
    old: End
    new: End
    component: str
    """What the new name stands for; of no use in an exchange, where it is known."""
    victim: Node | None

    @property
    def old_key(self) -> str:
        """The key of the name that goes."""
        return self.node.key_at(*self.old)

    @property
    def new_key(self) -> str:
        """The key of the name that comes."""
        tail = "/" if self.node.is_directory else ""
        return self.new[0].key() + self.component + tail


class Renames:
    """Moves names about in one volume."""

    def __init__(
        self,
        volume: Volume,
        namespace: Namespace,
        commits: FileCommits,
        unlinked: Unlinked,
        hard_links: HardLinks,
        later: LaterLinks,
    ) -> None:
        self._volume = volume
        self._namespace = namespace
        self._commits = commits
        self._unlinked = unlinked
        self._hard_links = hard_links
        self._later = later
        self._trees = TreeMoves(volume, hard_links)
        self._file_moves = FileMoves(volume)

    async def rename(self, old: End, new: End, flags: int) -> None:
        """Rename as rename(2) and renameat2(2), RENAME_WHITEOUT excepted.

        Raises ENOENT, EEXIST, EINVAL, EISDIR, ENOTDIR, ENOTEMPTY; EXDEV if the store
        cannot move and virtual_move is off, so that mv(1) copies visibly.
        """
        if flags & ~(NOREPLACE | EXCHANGE) or flags == NOREPLACE | EXCHANGE:
            fail(errno.EINVAL, "RENAME_WHITEOUT is not supported")
        is_exchange = bool(flags & EXCHANGE)
        self._volume.check_writable()
        component = "" if is_exchange else self._volume.new_entry(*new).component
        node = await self._namespace.lookup(*old)
        if node is None:
            fail(errno.ENOENT)
        victim = await self._namespace.lookup(*new)
        if victim is node:
            return
        rename = _Rename(node, old, new, component, victim)
        self._check(rename, flags)
        if node.is_directory or is_exchange:
            await self._later.settle_below(node, victim)
        await self._later.settle(node, victim)
        if node.is_nameless:
            fail(errno.ESTALE)
        with self._volume.inodes.pinned(*filter(None, (node, victim))):
            async with changing(old[0], new[0]):
                await take_over(self._volume, node, victim)
                if is_exchange:
                    await self._exchange(rename)
                elif node.is_directory:
                    await self._rename_directory(rename)
                else:
                    await self._rename_file(rename)
                self._volume.touch(old[0])
                self._volume.touch(new[0])
                self._note_change(node, victim)

    async def recover(self) -> int:
        """Finish what a crash cut short; return how many renames that were."""
        renames = await self._volume.journal.renames()
        for rename in renames:
            if rename.phase.startswith("{"):
                moved = await self._finish_exchange(rename.phase)
            elif not rename.source.endswith("/"):
                # What it does to hard links is journaled on its own.
                await self._file_moves.finish(
                    rename.source, rename.target, rename.phase
                )
                moved = {}
            else:
                await self._trees.finish(rename.source, rename.target)
                moved = {rename.source: rename.target}
            await self._hard_links.moved(moved)
            await self._volume.journal.end_rename(rename.id)
        return len(renames)

    def _check(self, rename: _Rename, flags: int) -> None:
        node, victim, new_parent = rename.node, rename.victim, rename.new[0]
        if flags & EXCHANGE:
            if victim is None:
                fail(errno.ENOENT)
            if any(step is victim for step in rename.old[0].ancestors()):
                fail(errno.EINVAL)
        elif victim is not None:
            if flags & NOREPLACE:
                fail(errno.EEXIST)
            if victim.is_directory and not node.is_directory:
                fail(errno.EISDIR)
            if node.is_directory and not victim.is_directory:
                fail(errno.ENOTDIR)
        if any(step is node for step in new_parent.ancestors()):
            fail(errno.EINVAL)
        self._check_can_move(node, rename.new)
        if victim is not None and flags & EXCHANGE:
            self._check_can_move(victim, rename.old)

    def _check_can_move(self, node: Node, new: End) -> None:
        if not node.is_directory:
            self._volume.check_file_name(new[1])
        store = self._volume.store
        can_move = store.features.virtual_move or (
            store.capabilities.move_dir
            if node.is_directory
            else store.capabilities.move
        )
        if not can_move and node.is_stored:
            fail(errno.EXDEV, "virtual_move is off")

    def _note_change(self, *nodes: Node | None) -> None:
        """A rename changes the inode: its ctime travels with the next commit."""
        for node in nodes:
            if node is not None:
                self._volume.note_change(node)

    # --- files and links --------------------------------------------------------

    async def _rename_file(self, rename: _Rename) -> None:
        node, victim = rename.node, rename.victim
        ends = [node] if victim is None else [node, victim]
        async with all_locked(ends):
            self._later.refuse(*ends)
            await self._commits.settle_names(*ends)
            async with AsyncExitStack() as stack:
                is_last = await self._losing(stack, rename)
                await self._move_object(rename, is_replaced=is_last)
            if victim is not None:
                self._volume.inodes.drop_if_unused(victim)

    async def _losing(self, stack: AsyncExitStack, rename: _Rename) -> bool:
        """See to a file that loses a name; tell whether that was its last."""
        victim = rename.victim
        if victim is None:
            return False
        is_last = not await self._namespace.keeps_other_name(victim, rename.new)
        if is_last and victim.file is not None:
            losing_name = self._unlinked.losing_name(victim, victim.file)
            await stack.enter_async_context(losing_name)
        key = victim.key_at(*rename.new)
        await stack.enter_async_context(self._hard_links.losing(victim, key))
        return is_last

    async def _move_object(self, rename: _Rename, *, is_replaced: bool) -> None:
        node, victim = rename.node, rename.victim
        old_key, new_key = rename.old_key, rename.new_key
        moved: Object | None = None
        if node.is_stored:
            if rename.old[0] is not rename.new[0]:
                await self._namespace.keep_directory(rename.old[0], old_key)
            async with (
                self._hard_links.moving(node, old_key, new_key),
                self._file_moves.journaled(
                    old_key, new_key, is_onto_another=victim is not None
                ),
            ):
                moved = await self._move_one(node, old_key, new_key)
                self._volume.metadata.put_absent(old_key)
                moved = self._volume.metadata.put(moved)
        replaced = self._replaced(rename)
        is_first = node.parent is rename.old[0] and node.name == rename.old[1]
        inodes = self._volume.inodes
        if victim is not None:
            if is_replaced:
                victim.object = None
                inodes.retire_group(victim)
            inodes.detach_name(*rename.new)
            self._hard_links.point(victim)
        inodes.move(rename.old, *rename.new, rename.component)
        await self._volume.writeback.forget_failed(new_key)
        if is_first:
            stored = moved if node.object is not None else replaced
            await self._follow(node, new_key, stored, moved)

    def _replaced(self, rename: _Rename) -> Object | None:
        """Return the object that the name which comes has had until now."""
        victim, key = rename.victim, rename.new_key
        known = victim.object if victim is not None else None
        if victim is None or known is None or known.key == key:
            return known
        return replace(known, key=key, version=self._version_of(victim, key))

    async def _move_one(self, node: Node, old_key: str, new_key: str) -> Object:
        known = node.object
        version = self._version_of(node, old_key)
        try:
            moved = await self._volume.store_of(node).move(
                old_key, new_key, source_version=version
            )
        except (NotFound, VersionChanged):
            self._volume.metadata.expire(old_key)
            self._volume.say_outdated(node)
            fail(errno.ESTALE, "a foreign client replaced the object")
        return moved if known is None else with_metadata(moved, known)

    def _version_of(self, node: Node, key: str) -> Version | None:
        """Return the version that one of a node's names is known to have."""
        group = self._volume.group_of(node)
        if group is not None and key in group.names:
            return Version(group.names[key])
        return node.object.version if node.object is not None else None

    async def _follow(
        self,
        node: Node,
        new_key: str,
        object: Object | None,
        moved: Object | None,
    ) -> None:
        """Point what is here of a file at its new key.

        `moved` are the file's own bytes under it; `object` is what the next commit
        replaces there.
        """
        file, old_key = node.file, ""
        if file is not None:
            match file.state:
                case Clean(known) if moved is not None:
                    self._volume.blocks.rekey(known, moved)
                    file.state = Clean(moved)
                case Dirty(dirty):
                    old_key = dirty.key
                    if moved is not None and dirty.base is not None:
                        self._volume.writeback.rebase(dirty, moved)
                    await self._volume.writeback.retarget(dirty, new_key)
                case Clean():
                    pass
        node.object = object
        if file is not None and isinstance(file.state, Dirty):
            self._expect(file.state.file, node)
            await self._volume.writeback.follow(file.state.file, old_key)

    def _expect(self, dirty: DirtyFile, node: Node) -> None:
        """Tell a file what it will replace, should it be stored before its commit."""
        dirty.inherit = node.object
        if not dirty.is_ahead:
            dirty.condition = condition_of(node)

    # --- directories ------------------------------------------------------------

    async def _rename_directory(self, rename: _Rename) -> None:
        victim = rename.victim
        if victim is None:
            await self._move_directory(rename)
            return
        await self._namespace.check_empty(victim)
        self._check_keys(rename.node, rename.new_key)
        self._later.refuse_below(rename.node)
        async with AsyncExitStack() as stack:
            if rename.node.is_stored:
                journaled = self._trees.journaled(rename.old_key, rename.new_key)
                await stack.enter_async_context(journaled)
            # Its name means the empty one here until the other has it.
            await stack.enter_async_context(moving(victim))
            await self._namespace.take_from_store(victim)
            # Crash after this: the name that comes has nothing, until the next mount.
            try:
                await self._move_directory(rename)
            except (StoreError, OSError):
                await self._put_back(victim)
                raise

    async def _put_back(self, victim: Node) -> None:
        """Make an empty directory anew, unless the other has its place by now."""
        if victim.is_nameless:
            return
        key = victim.key()
        try:
            made = await self._volume.store.make_dir(
                key, metadata=self._volume.metadata_of(victim)
            )
        except StoreError as error:
            log.warning("the empty directory %r is gone: %s", key, error)
            self._namespace.forget_directory(victim)
        else:
            self._volume.adopt(victim, made)

    async def _move_directory(self, rename: _Rename) -> None:
        node = rename.node
        async with moving(node):
            old_key, new_key = rename.old_key, rename.new_key
            self._check_keys(node, new_key)
            if rename.old[0] is not rename.new[0]:
                await self._namespace.keep_directory(rename.old[0], old_key)
            async with all_locked(list(node.below())):
                self._later.refuse_below(node)
                arrived: dict[str, Object] = {}
                if node.object is not None:
                    below = (each for each in node.below() if each is not node)
                    is_known_below = any(each.object is not None for each in below)
                    arrived = await self._trees.move(
                        old_key, new_key, is_known_below=is_known_below
                    )
                old_keys = {child: child.key() for child in node.below()}
                if rename.victim is not None:
                    self._namespace.forget_directory(rename.victim)
                self._volume.inodes.move(rename.old, *rename.new, rename.component)
                self._forget_below(old_key, new_key)
                await self._arrive_below(old_keys, arrived)
                rename.old[0].count_directories(-1)
                rename.new[0].count_directories(1)

    def _check_keys(self, node: Node, new_key: str) -> None:
        old_key = node.key()
        for child in node.below():
            self._volume.check_key(new_key + child.key().removeprefix(old_key))

    def _forget_below(self, *keys: str) -> None:
        for key in keys:
            self._volume.metadata.forget_below(key)
        self._volume.metadata.put_absent(keys[0])

    async def _arrive_below(
        self, old_keys: dict[Node, str], arrived: dict[str, Object]
    ) -> None:
        """Tell each node, whose name has changed already, what it has there."""
        for child, old_key in old_keys.items():
            if child.object is None:
                moved = arrived.get(old_key)
            else:
                moved = arrived.get(old_key)
                if moved is None or _is_another(child.object, moved):
                    moved = replace(child.object, key=child.key())
                moved = replace(with_metadata(moved, child.object), key=child.key())
                moved = self._volume.metadata.put(moved)
            if child.file is not None:
                stored = moved if child.object is not None else None
                await self._follow(child, child.key(), stored, moved)
            else:
                child.object = moved

    def _arrive_under_other_name(
        self, node: Node, new_key: str, moved: Object | None
    ) -> None:
        """Note what a file has under a name that is not its first (a hard link)."""
        if moved is None or node.object is None or node.key() == new_key:
            return
        known = replace(with_metadata(moved, node.object), key=new_key)
        self._volume.metadata.put(known)

    # --- exchange ---------------------------------------------------------------

    async def _exchange(self, rename: _Rename) -> None:
        """Let two names change places: the first goes aside meanwhile.

        Each step is journaled before it begins, with those that follow; recovery
        repeats the one that a crash may have cut short, to the same effect, and goes
        on. A step that fails is no crash: those before it are taken back.
        """
        node, other = rename.node, rename.victim
        assert other is not None, "an exchange has two ends"
        async with AsyncExitStack() as stack:
            for each in (node, other):
                if each.is_directory:
                    await stack.enter_async_context(moving(each))
            below = [*node.below(), *other.below()]
            await stack.enter_async_context(all_locked(below))
            self._later.refuse_below(node, other)
            await self._commits.settle_names(node, other)
            one, two = node.key_at(*rename.old), other.key_at(*rename.new)
            new_one, new_two = _swapped(node, two), _swapped(other, one)
            self._check_keys_of(node, one, new_one)
            self._check_keys_of(other, two, new_two)
            steps = self._steps(node, other, (one, two), (new_one, new_two))
            versions = {
                one: self._version_of(node, one),
                two: self._version_of(other, two),
            }
            arrived = await self._carry_out(steps, versions)
            # Asked anew: the kernel may have forgotten some meanwhile.
            below = [*node.below(), *other.below()]
            old_keys = {
                each: each.key() for each in below if _is_moved(each, (one, two))
            }
            self._volume.inodes.exchange(rename.old, rename.new)
            for key in (one, two, new_one, new_two):
                if key.endswith("/"):
                    self._volume.metadata.forget_below(key)
                else:
                    self._volume.metadata.put_absent(key)
            await self._arrive_below(old_keys, arrived)
            self._arrive_under_other_name(node, new_one, arrived.get(one))
            self._arrive_under_other_name(other, new_two, arrived.get(two))
            for each in (node, other):
                self._hard_links.point(each)
            more = int(node.is_directory) - int(other.is_directory)
            rename.old[0].count_directories(-more)
            rename.new[0].count_directories(more)

    def _check_keys_of(self, node: Node, old_key: str, new_key: str) -> None:
        for child in node.below():
            if child.key().startswith(old_key):
                self._volume.check_key(new_key + child.key().removeprefix(old_key))

    def _steps(
        self,
        node: Node,
        other: Node,
        olds: tuple[str, str],
        news: tuple[str, str],
    ) -> list[tuple[str, str]]:
        aside = f"{EXCHANGES}/{uuid.uuid4().hex}"
        if node.is_directory:
            aside += "/"
        steps: list[tuple[str, str]] = []
        if node.is_stored:
            steps.append((olds[0], aside))
        if other.is_stored:
            steps.append((olds[1], news[1]))
        if node.is_stored:
            steps.append((aside, news[0]))
        return steps

    async def _carry_out(
        self, steps: list[tuple[str, str]], versions: dict[str, Version | None]
    ) -> dict[str, Object]:
        """Do the steps; return what arrived by the key that it had before all."""
        journal = self._volume.journal
        one, two = versions
        id = await journal.begin_rename(one, two, _phase_of(steps))
        arrived: dict[str, Object] = {}
        origins: dict[str, str] = {}
        for number, (source, target) in enumerate(steps):
            try:
                if number:
                    await journal.set_phase(id, _phase_of(steps, number))
                moved = await self._move_keys(source, target, versions.get(source))
            except StoreError:
                await self._take_back(steps[:number])
                await journal.end_rename(id)
                raise
            for key, object in moved.items():
                new_key = target + key.removeprefix(source)
                origin = origins.pop(key, key)
                origins[new_key] = origin
                versions[new_key] = object.version
                arrived[origin] = replace(object, key=new_key)
        if await self._trees.follow(_mapping(steps)):
            await journal.end_rename(id)
        return arrived

    async def _move_keys(
        self, source: str, target: str, version: Version | None = None
    ) -> dict[str, Object]:
        if source.endswith("/"):
            return await self._trees.move_keys(source, target)
        moved = await self._volume.store.move(source, target, source_version=version)
        return {source: moved}

    async def _take_back(self, steps: list[tuple[str, str]]) -> None:
        for source, target in reversed(steps):
            with contextlib.suppress(NotFound):
                await self._move_keys(target, source)

    async def _finish_exchange(self, phase: str) -> dict[str, str]:
        document = json.loads(phase)
        steps = [(str(source), str(target)) for source, target in document["steps"]]
        for source, target in steps[int(document["next"]) :]:
            left = [source]
            if source.endswith("/"):
                await self._trees.finish(source, target)
                left = await self._trees.left_aside(source)
            for key in left:
                new_key = target + key.removeprefix(source)
                await self._file_moves.carry_on(key, new_key)
        return _mapping(steps)


def _swapped(node: Node, key: str) -> str:
    """Return the key that a node has when it takes another's place."""
    return key.rstrip("/") + ("/" if node.is_directory else "")


def _is_another(known: Object, moved: Object) -> bool:
    """Tell whether a foreign client replaced a file while its directory moved.

    Its bytes must not be taken for those that are known of it.
    """
    if known.kind is not moved.kind or known.size != moved.size:
        return True
    if known.metadata is None or moved.metadata is None:
        return False
    before, after = known.metadata.system, moved.metadata.system
    return any(after[name] != before[name] for name in before.keys() & after.keys())


def _is_moved(node: Node, keys: tuple[str, str]) -> bool:
    key = node.key()
    return any(
        key == each or (each.endswith("/") and key.startswith(each)) for each in keys
    )


def _phase_of(steps: list[tuple[str, str]], next: int = 0) -> str:
    return json.dumps({"steps": steps, "next": next})


def _mapping(steps: list[tuple[str, str]]) -> dict[str, str]:
    """Return where the keys of an exchange come to lie in the end."""
    mapping = dict(steps)
    aside = {source: target for source, target in steps if source.startswith(RESERVED)}
    return {
        source: aside.get(target, target)
        for source, target in mapping.items()
        if source not in aside
    }


@asynccontextmanager
async def all_locked(nodes: list[Node]) -> AsyncIterator[None]:
    """Hold the locks of many files, taken in order of their inodes."""
    ordered = sorted(set(nodes), key=lambda node: node.inode)
    locks = [node.file.lock for node in ordered if node.file is not None]
    async with AsyncExitStack() as stack:
        for lock in locks:
            await stack.enter_async_context(lock)
        yield
