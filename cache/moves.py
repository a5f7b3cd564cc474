"""Renames of what is pending, and of what the store has, without waiting for it.

Entries take the new key with them, and keep their tokens. What the store has under the
old key becomes a copy under the new one and a removal, which the drain carries out as
one move where it can. A directory changes its key in one transaction of the journal,
whatever lies below it.
"""

import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

import trio

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import (
    Copy,
    Describe,
    Entry,
    Remove,
    StoreBytes,
    ancestors_of,
    content_condition,
    is_only_in_upload,
    with_key,
)
from mountfs.cache.ledger import Ledger
from mountfs.cache.phases import reached
from mountfs.cache.settling import Settling
from mountfs.cache.tokens import is_token
from mountfs.storage.errors import NotFound, VersionChanged
from mountfs.storage.types import (
    ABSENT,
    Absent,
    Condition,
    ListMode,
    Object,
    ObjectKind,
    Version,
)

TreeMoved = Callable[[str, str, list[str]], Awaitable[None]]
"""Lets what is kept beside directories follow them: from, to, and which below."""


class Moves:
    """Changes the keys of what a ledger shows."""

    def __init__(
        self, ledger: Ledger, settling: Settling, tree_moved: TreeMoved | None = None
    ) -> None:
        self._ledger = ledger
        self._settling = settling
        self._tree_moved = tree_moved

    async def move(
        self,
        source: str,
        target: str,
        source_version: Version | None,
        *,
        ended_link: int | None = None,
    ) -> Object:
        """Let an object change its key. Raises `NotFound`, `VersionChanged`.

        `ended_link` is the row of the journal that promised the new name to the file
        of the old one: both change at once, or neither.
        """
        while True:
            await self._clear([source])
            newest = self._ledger.table.newest(source)
            known = None if newest is not None else await self._stored(source)
            await self._settling.free_for_change(target)
            if self._would_turn_in_a_circle(newest, target):
                await self._settling.settle_entries(self._ledger.table.at(source))
                continue
            async with self._ledger.locks.held(source, target):
                is_new = self._ledger.table.newest(source) is not newest
                if is_new or _has_flight(self._ledger.table.at(source)):
                    continue
                _check_source(source, newest, known, source_version)
                with self._undone_by_errors(self._ledger.table.at(source)):
                    old, new = await self._moved(source, target, known)
                    await self._ledger.replace(old, new, ended_link=ended_link)
                shown = next(
                    entry.shown for entry in reversed(new) if entry.key == target
                )
                assert shown is not None
                return shown

    async def move_tree(self, source: str, target: str) -> dict[str, Object]:
        """Let a directory, and all below it, change its key, all at once.

        Returns what shows under the new keys, by the old ones.
        """
        if self._ledger.store.capabilities.move_dir:
            natively = await self._move_natively(source, target)
            while natively is None:
                natively = await self._move_natively(source, target)
            return natively
        moved = await self._try_to_move(source, target)
        while moved is None:
            moved = await self._try_to_move(source, target)
        if self._tree_moved is not None and not self._goes_by_itself(source, moved):
            below = [key for key in moved if key.endswith("/")]
            await self._tree_moved(source, target, below)
        moved.setdefault(source, Object(key=target, kind=ObjectKind.DIRECTORY))
        return moved

    async def _move_natively(
        self, source: str, target: str
    ) -> dict[str, Object] | None:
        """Let the store move a directory, in one step.

        That is done once it has all that it is to move, and nobody waits for bytes that
        are to be found under the old keys; what is local-only below it follows. None if
        some of that had to be stored before we held it: then there is more to wait for.
        """
        ends = (source, target)
        await self._settling.settle_entries(
            each
            for each in self._ledger.table
            if not each.is_local_only
            and any(key.startswith(ends) for key in (each.key, *each.needs))
        )
        staying = self._pending_at(self._ledger.table.below(source))
        if not staying:
            return {source: await self._ledger.store.move(source, target)}
        targets = {
            entry.key: target + entry.key.removeprefix(source) for entry in staying
        }
        # Or it could be released, and be stored where the directory was.
        async with self._ledger.locks.held(*targets, *targets.values()):
            waiting = self._pending_at(self._ledger.table.below(source))
            if not all(each.is_local_only and each.key in targets for each in waiting):
                return None
            return await self._move_with(source, target, targets)

    async def _move_with(
        self, source: str, target: str, targets: dict[str, str]
    ) -> dict[str, Object]:
        """Let the store move a directory, and what is local-only below it follow.

        Who calls has journaled that, on its own or as a step of an exchange. Crash
        before the store has moved it: the next mount does it, or nobody was told. After
        it: that one finds it moved, and lets follow what does not lie there.
        """
        moved = await self._move_or_find(source, target)
        reached("local-only.moved")
        waiting = self._pending_at(targets)
        with trio.CancelScope(shield=True), self._undone_by_errors(waiting):
            followed = await self._move_all(source, {}, targets)
        return {source: moved, **followed}

    async def _move_or_find(self, source: str, target: str) -> Object:
        """Move a directory of the store, if that was not done before a crash.

        Neither may be there: somebody else has removed it. Then it is what stays here.
        """
        store = self._ledger.store
        try:
            return await store.move(source, target)
        except NotFound:
            try:
                return await store.stat(target, kind=ObjectKind.DIRECTORY)
            except NotFound:
                return Object(key=target, kind=ObjectKind.DIRECTORY)

    def _goes_by_itself(self, source: str, moved: Iterable[str]) -> bool:
        """Tell whether entries bring along all that is kept beside directories.

        Those of markers do: their attributes go to the store with them. What exists by
        its children alone has no entry.
        """
        if not self._ledger.store.capabilities.indexed <= {ObjectKind.DIRECTORY}:
            return False
        keys = set(moved)
        on_the_way = {step for key in keys for step in ancestors_of(key)}
        below = {step for step in on_the_way if step.startswith(source)}
        return {source, *below} <= keys

    async def _try_to_move(self, source: str, target: str) -> dict[str, Object] | None:
        """Move a directory, unless what is below it was stored while we looked.

        A listing that began before that does not have it, and the queue has it no more.
        """
        table = self._ledger.table
        await self._clear([source, *table.below(source)])
        with self._ledger.watching() as stored_since:
            stored = await self._stored_below(source)
            pending = {*table.below(source), *([source] if table.at(source) else [])}
            keys = sorted({*stored, *pending})
            targets = {key: target + key.removeprefix(source) for key in keys}
            if await self._settled_circles(targets):
                return None
            async with self._ledger.locks.held(
                source, target, *keys, *targets.values()
            ):
                is_known = set(table.below(source)) <= set(keys)
                is_flying = any(_has_flight(table.at(key)) for key in keys)
                is_moving = any(key.startswith(source) for key in stored_since)
                if is_moving or is_flying or not is_known:
                    return None
                with self._undone_by_errors(self._pending_at(keys)):
                    return await self._move_all(source, stored, targets)

    async def _clear(self, keys: Iterable[str]) -> None:
        """Bring down the flights of keys: large ones by force, small ones by waiting.

        A request that is on the wire could be carried out after a later delete of the
        same key, so only an upload in parts, which changes nothing before its end, is
        cancelled. What may have been carried out already is made sure of.
        """
        for key in keys:
            for entry in self._ledger.table.at(key):
                change = entry.change
                if isinstance(change, StoreBytes) and is_only_in_upload(change.dirty):
                    await self._settling.settle_entries([entry])
                    continue
                is_large = entry.size > self._ledger.files.put_size_max
                if entry.flight is not None and is_large:
                    entry.flight.cancel()
                while entry.flight is not None:
                    await self._ledger.news.wait()
                if entry.is_unsure and entry.stands_on_what_it_replaces:
                    await self._settling.settle_entries([entry])

    async def _stored(self, key: str) -> Object:
        """Return what the store has under a key; asks only if that is not known."""
        known = self._ledger.metadata.last_known(key)
        if isinstance(known, Object) and known.version is not None:
            return known
        return await self._ledger.store.stat(key)

    async def _stored_below(self, prefix: str) -> dict[str, Object]:
        """Return what the store has at and below a directory."""
        found: dict[str, Object] = {}
        token: str | None = None
        while True:
            page = await self._ledger.store.list(
                prefix, mode=ListMode.PREFIX, token=token
            )
            for object in page.objects:
                known = self._ledger.metadata.last_known(object.key)
                found[object.key] = _completed(object, known)
            if page.token is None:
                return found
            token = page.token

    def _would_turn_in_a_circle(self, newest: Entry | None, target: str) -> bool:
        # What the store has under its key already waits for nobody.
        table = self._ledger.table
        return newest is not None and table.would_turn_in_a_circle(newest, target)

    async def _settled_circles(self, targets: dict[str, str]) -> bool:
        """Store what could wait for itself under its new key; tell if there was any."""
        table = self._ledger.table
        waiting = [
            entry
            for key, target in targets.items()
            if self._would_turn_in_a_circle(table.newest(key), target)
            for entry in table.at(key)
        ]
        await self._settling.settle_entries(waiting)
        return bool(waiting)

    def _pending_at(self, keys: Iterable[str]) -> list[Entry]:
        return [entry for key in keys for entry in self._ledger.table.at(key)]

    @contextmanager
    def _undone_by_errors(self, entries: Iterable[Entry]) -> Iterator[None]:
        """Let files be of their old keys if the journal does not take the new ones."""
        changes = [(entry, entry.change) for entry in entries]
        files = [
            (entry, change.dirty, *_place(change.dirty))
            for entry, change in changes
            if isinstance(change, StoreBytes)
        ]
        try:
            yield
        except BaseException:
            for entry, dirty, key, base, inherit, condition in files:
                if entry in self._ledger.table:
                    dirty.key, dirty.base, dirty.inherit = key, base, inherit
                    dirty.condition = condition
            raise

    async def _moved(
        self,
        source: str,
        target: str,
        stored: Object | None,
        *,
        replaces: Condition | None = None,
        is_replacing_known: bool = False,
    ) -> tuple[list[Entry], list[Entry]]:
        """Return which entries go and which come when a key becomes another.

        `replaces` is what the store has under the new key, if that is known.
        """
        waiting = self._ledger.table.at(source)
        old = [entry for entry in waiting if not entry.is_removal]
        new: list[Entry] = []
        victims = self._ledger.table.at(target)
        old_victims = [entry for entry in victims if entry.flight is None]
        condition = (
            replaces if is_replacing_known else self._condition_at(target, victims)
        )
        if stored is not None:
            shown = dataclasses.replace(
                stored,
                key=target,
                version=self._ledger.aliases.new(),
                mtime_ns=self._ledger.now_ns(),
            )
            new.append(self._ledger.new_entry(target, Copy(stored), shown, [], None))
        new += [await self._relocated(entry, target) for entry in old]
        stays = any(entry.is_local_only for entry in old)
        if condition is None and not victims and stays:
            # Whoever renames has looked: what was there would be known.
            condition = ABSENT if self._ledger.local_only.is_meant(target) else None
        if new:
            new[0].stored = condition
            self._inherit_from_victim(new[0])
        for before, after in itertools.pairwise(new):
            after.stored = content_condition(before.shown)
        left = self._left_behind(source, waiting, stored)
        return [*old, *old_victims], [*new, *left]

    def _condition_at(self, key: str, entries: list[Entry]) -> Condition:
        """Return what a new state of a key takes the place of, in the store."""
        if entries and entries[0].flight is not None:
            return content_condition(entries[0].shown)
        if entries:
            return None if entries[0].is_unsure else entries[0].stored
        metadata = self._ledger.metadata
        known = metadata.last_known(key) or metadata.lookup(key)
        return self._stored_if_known(known) if known is not None else None

    def _stored_if_known(self, known: Object | Absent) -> Condition:
        """Return what the store has under a key without entries, by what is known."""
        if not isinstance(known, Object):
            return ABSENT
        # What waits under another key by now has left nothing under this one.
        has_moved = self._ledger.table.of_version(known.version) is not None
        return ABSENT if has_moved else known.version

    def _inherit_from_victim(self, entry: Entry) -> None:
        if not isinstance(entry.change, StoreBytes):
            return
        dirty = entry.change.dirty
        dirty.condition = entry.stored
        known = self._ledger.metadata.last_known(entry.key)
        if dirty.inherit is None and isinstance(known, Object):
            dirty.inherit = None if is_token(known.version) else known

    async def _relocated(self, entry: Entry, target: str) -> Entry:
        """Return what an entry becomes under another key; it keeps its token."""
        change = entry.change
        if isinstance(change, StoreBytes):
            dirty, source = change.dirty, entry.key
            await self._ledger.files.retarget(dirty, target)
            if dirty.base is not None and dirty.base.key == source:
                of = self._ledger.table.of_version(dirty.base.version)
                if of is not None and of.key == source:
                    dirty.base = with_key(dirty.base, target)
        elif isinstance(change, Describe):
            described = change.object
            of = self._ledger.table.of_version(described.version)
            if of is not None and of.key == entry.key:
                # It follows what is to be there, and moves with it.
                change = Describe(with_key(described, target), change.metadata)
            else:
                change = Copy(described, change.metadata)
        assert entry.shown is not None
        shown = with_key(entry.shown, target)
        moved = self._ledger.new_entry(target, change, shown, [], None)
        if not entry.is_local_only:
            moved.since_s = entry.since_s
        return moved

    def _left_behind(
        self, source: str, waiting: list[Entry], stored: Object | None
    ) -> list[Entry]:
        """Return the entry that a key keeps when what it shows has moved away."""
        if waiting and (
            waiting[0].is_removal or self._ledger.leaves_nothing(waiting[0])
        ):
            return []
        left = self._ledger.new_entry(source, Remove(), None, [], None)
        if stored is not None:
            left.stored = stored.version
        elif waiting and not waiting[0].is_unsure:
            left.stored = waiting[0].stored
        return [left]

    async def _move_all(
        self, source: str, stored: dict[str, Object], targets: dict[str, str]
    ) -> dict[str, Object]:
        old: list[Entry] = []
        new: list[Entry] = []
        for key, target in targets.items():
            newest = self._ledger.table.newest(key)
            if newest is not None and newest.is_removal:
                continue
            known = self._ledger.metadata.last_known(target)
            replaced = self._stored_if_known(known or ABSENT)
            gone, come = await self._moved(
                key,
                target,
                stored.get(key) if newest is None else None,
                replaces=replaced,
                is_replacing_known=not self._ledger.table.at(target),
            )
            old += gone
            new += come
        for entry in new:
            entry.is_of_many = entry.is_removal
        old_keys = {target: key for key, target in targets.items()}
        moved = {
            old_keys[entry.key]: entry.shown for entry in new if entry.shown is not None
        }
        new += self._implied_directories(source, stored, {e.key for e in new})
        await self._ledger.replace(old, new)
        return moved

    def _implied_directories(
        self, source: str, stored: dict[str, Object], seen: set[str]
    ) -> list[Entry]:
        """Return removals of the directories on the way that have no marker.

        A store that keeps directories behind the scenes (SeaweedFS) leaves one behind
        otherwise.
        """
        wanted: set[str] = set()
        for key in stored:
            steps = key.removeprefix(source).split("/")[:-1]
            for depth in range(len(steps) + 1):
                wanted.add(source + "".join(step + "/" for step in steps[:depth]))
        return [
            self._ledger.new_entry(key, Remove(), None, [], None)
            for key in sorted(wanted - seen, reverse=True)
            if self._ledger.table.newest(key) is None
        ]


def _place(
    dirty: DirtyFile,
) -> tuple[str, Object | None, Object | None, Condition]:
    return dirty.key, dirty.base, dirty.inherit, dirty.condition


def _has_flight(entries: list[Entry]) -> bool:
    return any(entry.flight is not None for entry in entries)


def _check_source(
    key: str, newest: Entry | None, stored: Object | None, wanted: Version | None
) -> None:
    shown = newest.shown if newest is not None else stored
    if shown is None:
        raise NotFound(key=key)
    if wanted is None or shown.version is None:
        return
    if shown.version.content != wanted.content:
        raise VersionChanged("the object is another by now", key=key)


def _completed(listed: Object, known: object) -> Object:
    """Return a listed object with what is known of just this state of it."""
    if not isinstance(known, Object) or known.version is None:
        return listed
    if listed.version is None or known.version.content != listed.version.content:
        return listed
    return known
