"""Renaming files and directories.

Atomic in this mount: the names change here in one step, when the store has everything
under the new keys. For other clients both names exist for a while. A directory on a
store that has none is moved key by key; the journal knows of it from before the first
copy until the last delete, and a crash in between is finished forward at the next
mount: an acknowledged rename is never undone.
"""

import contextlib
import errno
import logging
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from mountfs.cache.dirty import DirtyFile
from mountfs.storage.errors import NotFound, StoreError, VersionChanged
from mountfs.storage.types import ListMode, Object
from mountfs.vfs.errors import fail
from mountfs.vfs.files import condition_of
from mountfs.vfs.filestate import Clean, Dirty
from mountfs.vfs.inodes import Node
from mountfs.vfs.names import Entry
from mountfs.vfs.namespace import Namespace
from mountfs.vfs.parallel import run_all
from mountfs.vfs.tree import changing, moving
from mountfs.vfs.unlinked import Unlinked
from mountfs.vfs.volume import Volume

log = logging.getLogger(__name__)

NOREPLACE = 1
EXCHANGE = 2


@dataclass(slots=True)
class _Move:
    """A directory on its way: from which prefix to which, and what has arrived."""

    source: str
    target: str
    is_recovery: bool = False
    arrived: dict[str, Object] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    """Sources that must stay, because the target has something else by now."""

    def new_key(self, key: str) -> str:
        return self.target + key.removeprefix(self.source)


class Renames:
    """Moves names about in one volume."""

    def __init__(
        self, volume: Volume, namespace: Namespace, unlinked: Unlinked
    ) -> None:
        self._volume = volume
        self._namespace = namespace
        self._unlinked = unlinked

    async def rename(
        self, old: tuple[Node, bytes], new: tuple[Node, bytes], flags: int
    ) -> None:
        """Rename as rename(2) and renameat2(2) with RENAME_NOREPLACE.

        Raises ENOENT, EEXIST, EINVAL, EISDIR, ENOTDIR, ENOTEMPTY; EXDEV if the store
        cannot move and virtual_move is off, so that mv(1) copies visibly.
        """
        if flags & ~NOREPLACE:
            fail(errno.EINVAL, "only RENAME_NOREPLACE is supported")
        old_parent, old_name = old
        new_parent, new_name = new
        entry = self._volume.new_entry(new_parent, new_name)
        node = await self._namespace.lookup(old_parent, old_name)
        if node is None:
            fail(errno.ENOENT)
        victim = await self._namespace.lookup(new_parent, new_name)
        if victim is node:
            return
        self._check(node, victim, new_parent, flags)
        if node.is_nameless:
            fail(errno.ESTALE)
        pinned = self._volume.inodes.pinned(*filter(None, (node, victim)))
        with pinned:
            async with changing(old_parent, new_parent):
                if node.is_directory:
                    move = self._rename_directory
                else:
                    move = self._rename_file
                await move(node, victim, new_parent, new_name, entry)
                self._volume.touch(old_parent)
                self._volume.touch(new_parent)

    async def recover(self) -> int:
        """Finish the directory renames that a crash cut short; return how many."""
        renames = await self._volume.journal.renames()
        for rename in renames:
            move = _Move(rename.source, rename.target, is_recovery=True)
            await self._delete_sources(move, await self._copy_sources(move))
            await self._volume.journal.end_rename(rename.id)
        return len(renames)

    def _check(
        self, node: Node, victim: Node | None, new_parent: Node, flags: int
    ) -> None:
        if victim is not None:
            if flags & NOREPLACE:
                fail(errno.EEXIST)
            if victim.is_directory and not node.is_directory:
                fail(errno.EISDIR)
            if node.is_directory and not victim.is_directory:
                fail(errno.ENOTDIR)
        if any(step is node for step in new_parent.ancestors()):
            fail(errno.EINVAL)
        store = self._volume.store
        can_move = store.features.virtual_move or (
            store.capabilities.move_dir
            if node.is_directory
            else store.capabilities.move
        )
        if not can_move and node.is_stored:
            fail(errno.EXDEV, "virtual_move is off")

    # --- files and links --------------------------------------------------------

    async def _rename_file(
        self,
        node: Node,
        victim: Node | None,
        parent: Node,
        name: bytes,
        entry: Entry,
    ) -> None:
        ends = [node] if victim is None else [node, victim]
        async with _all_locked(ends):
            if victim is None or victim.file is None:
                await self._move_object(node, parent, name, entry, victim)
                return
            async with self._unlinked.losing_name(victim, victim.file):
                await self._move_object(node, parent, name, entry, victim)
            self._volume.inodes.drop_if_unused(victim)

    async def _move_object(
        self,
        node: Node,
        parent: Node,
        name: bytes,
        entry: Entry,
        victim: Node | None,
    ) -> None:
        old_key, new_key = node.key(), parent.key() + entry.component
        moved: Object | None = None
        if node.is_stored:
            if node.parent is not None and node.parent is not parent:
                await self._namespace.keep_directory(node.parent, old_key)
            # Crash after the copy and before the delete: both names hold the file.
            moved = await self._move_one(node, old_key, new_key)
            self._volume.metadata.put_absent(old_key)
            moved = self._volume.metadata.put(moved)
        replaced = victim.object if victim is not None else None
        if victim is not None:
            victim.object = None
            self._volume.inodes.detach(victim)
        assert node.parent is not None
        old = (node.parent, node.name)
        self._volume.inodes.move(old, parent, name, entry.component)
        stored = moved if node.object is not None else replaced
        await self._follow(node, new_key, stored, moved)

    async def _move_one(self, node: Node, old_key: str, new_key: str) -> Object:
        known = node.object
        version = known.version if known is not None else None
        try:
            moved = await self._volume.store.move(
                old_key, new_key, source_version=version
            )
        except (NotFound, VersionChanged):
            self._volume.metadata.expire(old_key)
            self._volume.say_outdated(node)
            fail(errno.ESTALE, "a foreign client replaced the object")
        return moved if known is None else self._with_metadata(moved, known)

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
        file = node.file
        if file is not None:
            match file.state:
                case Clean(known) if moved is not None:
                    self._volume.blocks.rekey(known, moved)
                    file.state = Clean(moved)
                case Dirty(dirty):
                    if moved is not None and dirty.base is not None:
                        self._volume.writeback.rebase(dirty, moved)
                    await self._volume.writeback.retarget(dirty, new_key)
                case Clean():
                    pass
        node.object = object
        if file is not None and isinstance(file.state, Dirty):
            self._expect(file.state.file, node)

    def _expect(self, dirty: DirtyFile, node: Node) -> None:
        """Tell a file what it will replace, should it be stored before its commit."""
        dirty.inherit = node.object
        if not dirty.is_ahead:
            dirty.condition = condition_of(node)

    def _with_metadata(self, moved: Object, old: Object) -> Object:
        """A move keeps the metadata; an answer without them means the old ones."""
        if moved.metadata is not None:
            return moved
        return replace(
            moved, kind=old.kind, metadata=old.metadata, link_target=old.link_target
        )

    # --- directories ------------------------------------------------------------

    async def _rename_directory(
        self,
        node: Node,
        victim: Node | None,
        parent: Node,
        name: bytes,
        entry: Entry,
    ) -> None:
        if victim is not None:
            await self._namespace.check_empty(victim)
            async with moving(victim):
                await self._namespace.remove_directory(victim)
        async with moving(node):
            old_key, new_key = node.key(), parent.key() + entry.component + "/"
            for child in node.below():
                tail = child.key().removeprefix(old_key)
                self._volume.check_key(new_key + tail)
            if node.parent is not None and node.parent is not parent:
                await self._namespace.keep_directory(node.parent, old_key)
            files = [child for child in node.below() if child.file is not None]
            async with _all_locked(files):
                arrived = await self._move_directory(node, old_key, new_key)
                await self._renamed_below(node, parent, (name, entry), arrived)

    async def _move_directory(
        self, node: Node, old_key: str, new_key: str
    ) -> dict[str, Object]:
        """Move the keys; return what arrived, by its old key."""
        if node.object is None:
            return {}
        store = self._volume.store
        if store.capabilities.move_dir:
            moved = await store.move(old_key, new_key)
            return {old_key: moved}
        # Crash before begin_rename is synced: nothing happened. Between it and the
        # last copy: recovery copies the rest; sources still exist. While deleting:
        # recovery copies what is left of the sources again, to the same effect.
        # Before end_rename is synced: recovery finds no source and ends it.
        # An error is no crash: what fails is ended here, or the next mount would
        # carry it out behind the back of those who were told that it failed.
        id = await self._volume.journal.begin_rename(old_key, new_key)
        move = _Move(old_key, new_key)
        try:
            await self._delete_sources(move, await self._copy_sources(move))
        except StoreError:
            await self._undo(move)
            await self._volume.journal.end_rename(id)
            raise
        await self._volume.journal.end_rename(id)
        return move.arrived

    async def _undo(self, move: _Move) -> None:
        """Delete what arrived of a directory that stays where it was."""
        keys = [move.new_key(key) for key in move.arrived]
        self._volume.metadata.forget_below(move.target)
        self._volume.metadata.expire(move.target)
        try:
            failed = await self._volume.store.delete_many(
                children_first(keys, move.target) if keys else []
            )
        except StoreError as error:
            failed = dict.fromkeys(keys, error)
        if failed:
            log.warning("copies remain under %r: %s", move.target, sorted(failed))

    async def _copy_sources(self, move: _Move) -> list[str]:
        """Copy every key below a prefix; return those that may go now.

        What a foreign client puts there meanwhile stays under the old name.
        """
        sources = await self._keys_below(move.source)
        copies = [partial(self._copy, source, move) for source in sources]
        await run_all(copies, at_once=self._volume.requests_max)
        return [source.key for source in sources if source.key not in move.kept]

    async def _delete_sources(self, move: _Move, keys: list[str]) -> None:
        """Delete what was copied, many at once.

        Raises only if nothing of it went. Otherwise the target alone is whole, and
        there is no way back.
        """
        if not keys:
            return
        wanted = children_first(keys, move.source)
        try:
            failed = await self._volume.store.delete_many(wanted)
            error = next(iter(failed.values()), None)
        except StoreError as failure:
            error = failure
        if error is None:
            return
        left: set[str] | None = None
        with contextlib.suppress(StoreError):
            left = {object.key for object in await self._keys_below(move.source)}
        if left is not None and left.issuperset(keys):
            raise error
        log.warning(
            "%r is %r now; copies that could not be deleted (%s) may remain under the"
            " old name",
            move.source,
            move.target,
            error,
        )

    async def _keys_below(self, prefix: str) -> list[Object]:
        found: list[Object] = []
        token: str | None = None
        while True:
            page = await self._volume.store.list(
                prefix, mode=ListMode.PREFIX, token=token
            )
            found.extend(page.objects)
            if page.token is None:
                return found
            token = page.token

    async def _has_another(self, source: Object, target: str) -> bool:
        """Tell whether a target was written to after a crash cut its rename short."""
        try:
            found = await self._volume.store.stat(target)
        except NotFound:
            return False
        written = _commit_id(found)
        if written is None:
            return found.size != source.size
        return written != _commit_id(await self._volume.store.stat(source.key))

    async def _copy(self, source: Object, move: _Move) -> None:
        is_marker = source.key.endswith("/")
        target = move.new_key(source.key)
        if (
            move.is_recovery
            and not is_marker
            and await self._has_another(source, target)
        ):
            move.kept.add(source.key)
            return
        try:
            copy = await self._volume.store.copy(
                source.key, target, source_version=source.version
            )
        except NotFound:
            if not is_marker:
                return  # a foreign client deleted it meanwhile: it is gone here, too
            # SeaweedFS lists markers and does not find them as the source of a copy.
            copy = await self._volume.store.make_dir(target)
        known = self._volume.metadata.last_known(source.key)
        if isinstance(known, Object):
            copy = self._with_metadata(copy, known)
        move.arrived[source.key] = copy

    async def _renamed_below(
        self,
        node: Node,
        parent: Node,
        new: tuple[bytes, Entry],
        arrived: dict[str, Object],
    ) -> None:
        """Take the new names over, here: first the tree, then what each node knows."""
        old_prefix = node.key()
        old_keys = {child: child.key() for child in node.below()}
        name, entry = new
        assert node.parent is not None
        old = (node.parent, node.name)
        self._volume.inodes.move(old, parent, name, entry.component)
        new_prefix = node.key()
        self._volume.metadata.forget_below(old_prefix)
        self._volume.metadata.forget_below(new_prefix)
        self._volume.metadata.put_absent(old_prefix)
        for child, old_key in old_keys.items():
            if child.object is None:
                moved = arrived.get(old_key)
            else:
                moved = arrived.get(old_key) or replace(child.object, key=child.key())
                moved = self._volume.metadata.put(
                    self._with_metadata(moved, child.object)
                )
            if child.file is not None:
                stored = moved if child.object is not None else None
                await self._follow(child, child.key(), stored, moved)
            else:
                child.object = moved


def _commit_id(object: Object) -> str | None:
    return object.metadata.commit_id if object.metadata is not None else None


def children_first(keys: list[str], prefix: str) -> list[str]:
    """Return the keys, and those of all directories on the way, children first.

    A store that keeps directories behind the scenes (SeaweedFS) leaves one behind if
    its marker is deleted before its children, or never because it had none.
    """
    wanted = set(keys)
    for key in keys:
        tail = key.removeprefix(prefix)
        steps = tail.split("/")[:-1]
        for depth in range(len(steps) + 1):
            wanted.add(prefix + "".join(step + "/" for step in steps[:depth]))
    return sorted(wanted, reverse=True)


class _all_locked:  # noqa: N801  # reads as what it does: `async with _all_locked(...)`
    """Hold the locks of many files, taken in order of their inodes."""

    def __init__(self, nodes: list[Node]) -> None:
        ordered = sorted(nodes, key=lambda node: node.inode)
        self._locks: list[trio.Lock] = [
            node.file.lock for node in ordered if node.file is not None
        ]
        self._held: list[trio.Lock] = []

    async def __aenter__(self) -> None:
        try:
            for lock in self._locks:
                await lock.acquire()
                self._held.append(lock)
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        while self._held:
            self._held.pop().release()
