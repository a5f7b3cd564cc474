"""Moving a directory of a store that has none: key by key.

Every object below a prefix is copied to its new key, then the sources are deleted. The
journal knows of it from before the first copy until the last delete, and a crash in
between is finished forward at the next mount: an acknowledged rename is never undone.
"""

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from mountfs.cache.queued import QueuedStorager
from mountfs.storage.errors import (
    DirectoryNotEmpty,
    NotFound,
    PreconditionFailed,
    StoreError,
)
from mountfs.storage.parallel import run_all
from mountfs.storage.types import ListMode, Object
from mountfs.vfs.groups import Group
from mountfs.vfs.hardlinks import HardLinks
from mountfs.vfs.volume import EXCHANGES, Volume

log = logging.getLogger(__name__)

_IN_THE_WAY = (PreconditionFailed, DirectoryNotEmpty)


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


class TreeMoves:
    """Moves directories of one volume, in the store."""

    def __init__(self, volume: Volume, hard_links: HardLinks) -> None:
        self._volume = volume
        self._hard_links = hard_links

    async def move(
        self, old_key: str, new_key: str, *, is_known_below: bool = True
    ) -> dict[str, Object]:
        """Move a directory, journaled; return what arrived, by its old key.

        Of what is below it nothing need be told unless something is known.
        """
        store = self._volume.store
        if store.capabilities.move_dir and not store.features.virtual_hard_link:
            async with self._journaled_if_followed(old_key, new_key):
                return await self.move_keys(
                    old_key, new_key, is_known_below=is_known_below
                )
        # Crash before begin_rename is synced: nothing happened. Between it and the
        # last copy: recovery copies the rest; sources still exist. While deleting:
        # recovery copies what is left of the sources again, to the same effect.
        # Before end_rename is synced: recovery finds no source and ends it.
        # An error is no crash: what fails is ended here, or the next mount would
        # carry it out behind the back of those who were told that it failed.
        id = await self._volume.journal.begin_rename(old_key, new_key)
        groups: list[Group] | None = None
        arrived: dict[str, Object] = {}

        async def move() -> None:
            arrived.update(await self.move_keys(old_key, new_key))

        async def ask() -> None:
            # Nothing below it is linked meanwhile: `moving` is held.
            nonlocal groups
            with contextlib.suppress(StoreError):
                groups = await self._hard_links.all_groups()

        try:
            await run_all([move, ask], at_once=2)
        except StoreError:
            await self._volume.journal.end_rename(id)
            raise
        if await self.follow({old_key: new_key}, groups):
            await self._volume.journal.end_rename(id)
        return arrived

    @asynccontextmanager
    async def _journaled_if_followed(
        self, old_key: str, new_key: str
    ) -> AsyncIterator[None]:
        """Journal that the store moves a directory if something here is to follow it.

        Nothing below it is made or committed meanwhile: `moving` is held, and the locks
        of its files. Where the queue moves it that is one transaction anyway.
        """
        waiting = self._volume.waiting()
        is_native = self._volume.direct.capabilities.move_dir
        if not is_native or not any(
            each.is_local_only and each.key.startswith(old_key) for each in waiting
        ):
            yield
            return
        async with self.journaled(old_key, new_key):
            yield

    @asynccontextmanager
    async def journaled(self, old_key: str, new_key: str) -> AsyncIterator[None]:
        """Journal a move before the block begins it; one that fails is over.

        Crash within: the next mount does all of it, also if no more was done than that
        the empty directory went which is to be replaced.
        """
        id = await self._volume.journal.begin_rename(old_key, new_key)
        try:
            yield
        except (StoreError, OSError):
            await self._volume.journal.end_rename(id)
            raise
        await self._volume.journal.end_rename(id)

    async def follow(
        self, prefixes: dict[str, str], groups: list[Group] | None = None
    ) -> bool:
        """Let what the store keeps of names elsewhere follow; tell if that was done.

        There is no way back by now: what fails is left to the next mount.
        """
        try:
            await self._hard_links.moved(prefixes, groups)
        except StoreError as error:
            log.warning(
                "hard links below %s are files of their own until the next mount: %s",
                sorted(prefixes),
                error,
            )
            return False
        return True

    async def move_keys(
        self, old_key: str, new_key: str, *, is_known_below: bool = True
    ) -> dict[str, Object]:
        """Move a directory; who calls has journaled it. What fails is undone."""
        store = self._volume.store
        if isinstance(store, QueuedStorager):
            moved = await store.move_tree(old_key, new_key)
        elif store.capabilities.move_dir:
            moved = {old_key: await store.move(old_key, new_key)}
        else:
            return await self._moved_one_by_one(old_key, new_key)
        able = store.capabilities
        is_other = able.move_dir and not able.move_dir_keeps_versions
        if is_other and is_known_below:
            moved = {**await self._renewed(old_key, new_key), **moved}
        return moved

    async def _renewed(self, old_key: str, new_key: str) -> dict[str, Object]:
        """Return what lies below a directory that has moved, by the old keys.

        There is no way back. What cannot be asked for is taken for changed by somebody
        else when it is used next: nothing of it is lost.
        """
        try:
            below = await self._keys_below(new_key)
        except StoreError as error:
            log.warning("what is in %r now is not known: %s", new_key, error)
            return {}
        return {old_key + each.key.removeprefix(new_key): each for each in below}

    async def _moved_one_by_one(self, old_key: str, new_key: str) -> dict[str, Object]:
        move = _Move(old_key, new_key)
        try:
            await self._move_all(move)
        except StoreError:
            await self._undo(move)
            raise
        return move.arrived

    async def finish(self, old_key: str, new_key: str) -> None:
        """Move what a crash has left of a directory under its old key."""
        if self._volume.direct.capabilities.move_dir:
            with contextlib.suppress(NotFound, *_IN_THE_WAY):
                await self._finish_natively(old_key, new_key)
            return
        await self._move_all(_Move(old_key, new_key, is_recovery=True))

    async def left_aside(self, key: str) -> list[str]:
        """Return the files of an exchange whose names others have taken meanwhile."""
        if not key.startswith(EXCHANGES):
            return []  # they are where somebody looks
        with contextlib.suppress(NotFound):
            left = await self._keys_below(key)
            return [each.key for each in left if not each.key.endswith("/")]
        return []

    async def _finish_natively(self, old_key: str, new_key: str) -> None:
        """Move a directory, unless it has arrived or something else has its place."""
        try:
            await self._volume.store.move(old_key, new_key)
        except _IN_THE_WAY:
            # The empty one that was to go first; another that is not empty stays.
            await self._volume.direct.delete(new_key)
            await self._volume.store.move(old_key, new_key)

    async def _move_all(self, move: _Move) -> None:
        keys = await self._copy_sources(move)
        index = self._volume.index
        if index is not None and keys:
            # Before the sources go: what is kept beside directories goes with them.
            on_the_way = children_first(keys, move.source)
            below = [key for key in on_the_way if key.endswith("/")]
            await index.renamed(move.source, move.target, below)
        await self._delete_sources(move, keys)

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
        await trio.lowlevel.checkpoint_if_cancelled()  # or all others would follow
        # When another copy fails, this one is carried out all the same, and whoever
        # undoes the move must know of it.
        with trio.CancelScope(shield=True):
            await self._copy_to(source, target, move)

    async def _copy_to(self, source: Object, target: str, move: _Move) -> None:
        is_marker = source.key.endswith("/")
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
            copy = with_metadata(copy, known)
        move.arrived[source.key] = copy


def with_metadata(moved: Object, old: Object) -> Object:
    """A move keeps the metadata; an answer without them means the old ones."""
    if moved.metadata is not None:
        return moved
    return replace(
        moved, kind=old.kind, metadata=old.metadata, link_target=old.link_target
    )


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
