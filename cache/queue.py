"""Changes that are acknowledged when the journal has them, and stored afterwards.

Changes come in as states of keys, are merged with what waits for the same name
(`mountfs.cache.succession`), and return when the row of their entry is synced. Entries
and rows are in the hands of `Ledger` (mountfs.cache.ledger), whose page says what a
crash leaves; changes of keys are those of `Moves` (mountfs.cache.moves), and `Drain`
(mountfs.cache.drain) carries all of it out.

What is asked of the queue is asked under the lock of the key, from the first look at
what waits until the journal has the change.
"""

import dataclasses
import os
import secrets
from collections.abc import Iterable

import trio

from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import Change, Describe, Entry, Make, Remove, StoreBytes
from mountfs.cache.ledger import Ledger, is_inline
from mountfs.cache.phases import reached
from mountfs.cache.settling import Settling
from mountfs.cache.succession import (
    Succession,
    may_be_described,
    may_be_replaced,
    recommit,
    with_metadata,
)
from mountfs.storage.errors import AlreadyExists, NotFound, VersionChanged
from mountfs.storage.types import Condition, Metadata, Object, ObjectKind, Version


class Queue:
    """Takes in changes; `Promises` (mountfs.cache.promised) of what is written."""

    def __init__(
        self, ledger: Ledger, settling: Settling, *, takes_changes: bool = True
    ) -> None:
        self._ledger = ledger
        self._settling = settling
        self._succession = Succession(ledger.files)
        self.takes_changes = takes_changes
        """Whether files may be promised; else they are stored at their commit."""

    # --- what is promised -------------------------------------------------------

    def spools(self) -> set[str]:
        """Return the names of the spool files that hold bytes of entries."""
        return {
            entry.change.dirty.spool.name
            for entry in self._ledger.table
            if isinstance(entry.change, StoreBytes)
        }

    def uploads(self) -> set[str]:
        """Return the ids of the uploads that hold bytes of entries."""
        streams = [
            entry.change.dirty.stream
            for entry in self._ledger.table
            if isinstance(entry.change, StoreBytes)
        ]
        return {stream.upload.id for stream in streams if stream is not None}

    def keeps_here(self, dirty: DirtyFile) -> bool:
        """Tell whether a file is not to be sent, and nothing of its name ever was."""
        last = self._ledger.table.newest(dirty.key)
        return self._ledger.local_only.keeps(dirty, last)

    async def make_whole(self, dirty: DirtyFile) -> bool:
        """Let a file that stays here do without what was promised of it so far.

        False if it does not stay here, or if there is no room for all of it.
        """
        # Or it could be stored, and go, meanwhile.
        async with self._ledger.locks.held(dirty.key):
            last = self._ledger.table.newest(dirty.key)
            if not self._ledger.local_only.keeps(dirty, last):
                return False
            if not dirty.base_size:
                self._ledger.files.put_base(dirty, None)
                return True
            if last is None or not last.is_base_of(dirty):
                return False
            assert isinstance(last.change, StoreBytes), "nothing else has bytes"
            return await self._ledger.files.make_whole(last.change.dirty, dirty)

    async def settle_name(self, key: str) -> None:
        """Return when the store has what was promised under a key so far."""
        await self._settling.settle_name(key)

    def resolve(self, dirty: DirtyFile) -> None:
        """Let a file speak of what is stored in the store's own words.

        What is kept of it is not pending: the journal does not remember tokens for it.
        """
        aliases, condition = self._ledger.aliases, dirty.starts_from
        dirty.base = aliases.resolved(dirty.base)
        dirty.inherit = aliases.resolved(dirty.inherit)
        if isinstance(condition, Version) and aliases.is_known(condition):
            dirty.condition = aliases.real(condition)

    async def store_local_only(self, size: int) -> int:
        """Free about so many bytes that were to stay here; return how many it were."""
        return await self._settling.store_local_only(size)

    # --- changes ----------------------------------------------------------------

    async def promise(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Take over a changed file; return how it shows until the store has it."""
        key = dirty.key
        await self._settling.free_for_change(key)
        async with self._ledger.locks.held(key):
            last = self._ledger.table.newest(key)
            _check(key, last, dirty.condition)
            old: list[Entry] = []
            base, base_size = dirty.base, dirty.base_size
            if last is not None and await self._succession.absorb(last, dirty):
                old = [last]
            elif last is not None:
                # There is no room for both to stay.
                await self._ledger.release_held(last)
            dirty.commit_id = secrets.token_hex(16)
            dirty.commit_ids[dirty.commit_id] = dirty.revision
            carried = _carried(metadata, dirty.inherit)
            shown = self._shown(key, ObjectKind.FILE, dirty.size, carried)
            change = StoreBytes(dirty, metadata)
            entry = self._ledger.new_entry(key, change, shown, old, last)
            if last is None:
                entry.stored = self._ledger.local_only.replaced_by(dirty)
            dirty.condition = entry.stored
            try:
                await self._secure(dirty)
                await self._ledger.replace(old, [entry])
            except BaseException:
                # What was beneath is stored by and by, and is gone then.
                if entry not in self._ledger.table:
                    dirty.base, dirty.base_size = base, base_size
                    with trio.CancelScope(shield=True):
                        await self._ledger.files.take_apart(dirty)
                raise
        return shown

    async def make(
        self,
        key: str,
        kind: ObjectKind,
        metadata: Metadata,
        *,
        target: str | None = None,
        condition: Condition = None,
    ) -> Object:
        """Take in what one request makes whole."""
        if metadata.commit_id is None:
            metadata = dataclasses.replace(metadata, commit_id=secrets.token_hex(16))
        await self._settling.free_for_change(key)
        async with self._ledger.locks.held(key):
            last = self._ledger.table.newest(key)
            is_directory = kind is ObjectKind.DIRECTORY
            if is_directory and last is not None and last.shown is not None:
                return last.shown  # one that is there is success
            _check(key, last, condition)
            size = None if is_directory else len(os.fsencode(target or ""))
            shown = self._shown(key, kind, size, metadata, target)
            old = [last] if last is not None and may_be_replaced(last) else []
            change = Make(kind, metadata, target)
            entry = self._ledger.new_entry(key, change, shown, old, last)
            if last is None:
                entry.stored = condition
            await self._ledger.replace(old, [entry])
        return shown

    async def describe(
        self, object: Object, metadata: Metadata, condition: Condition
    ) -> Object:
        """Take in other metadata for an object. Raises `NotFound`, `VersionChanged`."""
        key = object.key
        metadata = dataclasses.replace(metadata, commit_id=secrets.token_hex(16))
        async with self._ledger.locks.held(key):
            last = self._ledger.table.newest(key)
            if last is not None and last.shown is None:
                raise NotFound(key=key)
            if last is not None and isinstance(condition, Version):
                _check(key, last, condition)
            known = last.shown if last is not None and last.shown else object
            shown = dataclasses.replace(
                known,
                version=self._ledger.aliases.new(),
                mtime_ns=self._ledger.now_ns(),
                metadata=_described(metadata, known.metadata),
            )
            change: Change = Describe(known, metadata)
            old: list[Entry] = []
            if last is not None and may_be_described(last):
                old, change = [last], with_metadata(last, metadata)
            entry = self._ledger.new_entry(key, change, shown, old, last)
            if last is None and not entry.is_directory:
                entry.stored = object.version
            for replaced in old:
                recommit(replaced, entry)
            await self._ledger.replace(old, [entry])
        return shown

    async def remove(self, keys: Iterable[str]) -> None:
        """Take in that keys are to have nothing, all at once."""
        keys = list(dict.fromkeys(keys))
        async with self._ledger.locks.held(*keys):
            old: list[Entry] = []
            new: list[Entry] = []
            for key in keys:
                last = self._ledger.table.newest(key)
                if last is not None and last.is_removal:
                    continue
                if last is not None and last.flight is None:
                    old.append(last)
                entry = self._ledger.new_entry(key, Remove(), None, old[-1:], last)
                if last is None:
                    known = self._ledger.metadata.last_known(key)
                    entry.stored = known.version if isinstance(known, Object) else None
                elif last.flight is None and self._ledger.leaves_nothing(last):
                    continue
                new.append(entry)
            await self._ledger.replace(old, new)

    def _shown(
        self,
        key: str,
        kind: ObjectKind,
        size: int | None,
        metadata: Metadata,
        target: str | None = None,
    ) -> Object:
        return Object(
            key=key,
            kind=kind,
            size=size,
            mtime_ns=self._ledger.now_ns(),
            version=self._ledger.aliases.new(),
            metadata=metadata,
            link_target=target,
        )

    async def _secure(self, dirty: DirtyFile) -> None:
        """Return when the bytes of a file are safe, unless its row will hold them."""
        if is_inline(dirty):
            return
        await dirty.spool.resize(dirty.size)
        await dirty.spool.sync()
        reached("queue.bytes-synced")


def _check(key: str, last: Entry | None, condition: Condition) -> None:
    """Hold a condition against what is pending. Raises `PreconditionFailed`."""
    if last is None or condition is None:
        return
    if not isinstance(condition, Version):
        if last.shown is not None:
            raise AlreadyExists("an object is there", key=key)
        return
    version = last.shown.version if last.shown is not None else None
    if version is None or version.content != condition.content:
        raise VersionChanged("the object is another by now", key=key)


def _described(metadata: Metadata, known: Metadata | None) -> Metadata:
    """Return metadata as they show when only what is ours of them was replaced."""
    if known is None:
        return dataclasses.replace(metadata, is_whole=False)
    return dataclasses.replace(
        known, attributes=metadata.attributes, commit_id=metadata.commit_id
    )


def _carried(metadata: Metadata, inherit: Object | None) -> Metadata:
    """Return metadata as they show with what is carried over from an older object."""
    if inherit is None:
        return metadata
    return _described(metadata, inherit.metadata)
