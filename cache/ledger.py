"""What is pending for a store: entries in memory, and their rows in the journal.

What is in memory is what the journal has: whoever changes an entry holds the lock of
its key, from before the first look at the table until the journal has the change. A
flight (an entry on its way to the store) takes the same lock when it lands, so nobody
may wait for a flight while holding a lock.

Which entry a change comes to is not decided here (`mountfs.cache.queue`,
`mountfs.cache.moves`), nor when one is carried out (`mountfs.cache.drain`) or what that
tells (`mountfs.cache.landing`).

Crash before the row is synced: nobody was told, and the store has what it had. After
it: the next mount finds the row, and its bytes in it or in the spool file that was
synced before it. After the store has it, before the row is gone: the next mount carries
it out again, to the same effect; the commit id tells that an object there is ours.
"""

import itertools
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import trio

from mountfs.cache.aliases import Aliases, AliasStorager
from mountfs.cache.aliasrows import AliasRows
from mountfs.cache.burst import Burst
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import (
    Change,
    Copy,
    Describe,
    Entry,
    EntryTable,
    StoreBytes,
    ancestors_of,
    content_condition,
    was_never_stored,
)
from mountfs.cache.entry_text import INLINE_SIZE_MAX, from_row, to_row
from mountfs.cache.incidents import Incidents
from mountfs.cache.journal import Journal
from mountfs.cache.journalfile import JournalError
from mountfs.cache.keylocks import KeyLocks
from mountfs.cache.localonly import LocalOnly
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.news import News
from mountfs.cache.phases import reached
from mountfs.cache.promised import PromisedFiles
from mountfs.cache.spool import on_disk
from mountfs.storage.types import Object, ObjectKind, Version

USED_MAX = 100_000
"""How many directories are remembered that the store may see."""
DELAY_S = 0.05
DELAY_MAX_S = 0.2
AGE_MAX_S = 1.0
"""How long an entry waits at most for further changes of its name, in seconds."""


class Ledger:
    """The pending entries of one store."""

    def __init__(
        self,
        journal: Journal,
        store: AliasStorager,
        aliases: Aliases,
        files: PromisedFiles,
        metadata: MetadataCache,
        incidents: Incidents,
        *,
        local_only: LocalOnly | None = None,
    ) -> None:
        able = store.capabilities
        self.table = EntryTable(
            is_flat=not able.native_dirs,
            markers_first=not able.native_dirs
            and (not able.dir_metadata or ObjectKind.DIRECTORY in able.indexed),
        )
        self.store = store
        self.aliases = aliases
        self.journal = journal
        self.alias_rows = AliasRows(journal)
        self.files = files
        self.metadata = metadata
        self._incidents = incidents
        self.local_only = local_only or LocalOnly()
        self.now_s = time.monotonic
        """The time that entries are due by."""
        self.now_ns = time.time_ns
        self.burst = Burst()
        self.news = News()
        self.locks = KeyLocks(self.news)
        self._ids = itertools.count(1)
        self._used: set[str] | None = set()
        """Directories that the store may see; None if they were too many to know."""
        self._watchers: list[set[str]] = []

    def note_flight(self, entry: Entry) -> None:
        """Note that the store may see an entry, and so the directories above it."""
        if self._used is None:
            return
        self._used.update(ancestors_of(entry.key))
        if len(self._used) > USED_MAX:
            self._used = None

    def leaves_nothing(self, entry: Entry) -> bool:
        """Tell whether the store has nothing of a name if an entry is dropped.

        A store that keeps directories behind the scenes (SeaweedFS) has those of
        which it was given a child, with a marker or without. Where that is not known
        any more the store is asked to remove what may not be there.
        """
        if self._used is None and entry.is_directory:
            return False
        return was_never_stored(entry) and entry.key not in (self._used or ())

    @contextmanager
    def watching(self) -> Iterator[set[str]]:
        """Collect the keys whose entries go while the block runs."""
        gone: set[str] = set()
        self._watchers.append(gone)
        try:
            yield gone
        finally:
            self._watchers = [each for each in self._watchers if each is not gone]

    def end(self, entry: Entry) -> None:
        """Take an entry out: it is carried out, or somebody else has its bytes."""
        self.table.remove(entry)
        entry.is_over = True
        for gone in self._watchers:
            gone.add(entry.key)

    # --- the life of an entry ---------------------------------------------------

    async def load(self) -> tuple[Entry, ...]:
        """Take up what an earlier mount left; call once, before anything else.

        Raises `JournalError` if a row, or the bytes that it speaks of, are not as they
        were left: nothing is changed then.
        """
        await self.alias_rows.load(self.aliases)
        files = set(await on_disk(os.listdir, self.files.directory))
        last = 0
        for row in await self.journal.pending():
            entry = from_row(row, self.files.directory, self.files.ladder)
            if isinstance(entry.change, StoreBytes):
                await self._reopen(entry.change.dirty, row.content, files)
                self.files.adopt(entry.change.dirty)
            self.table.add(entry)
            if not entry.is_local_only:
                entry.is_unsure = True
                self.note_flight(entry)
            last = row.id
        self._ids = itertools.count(last + 1)
        return tuple(self.table)

    async def _reopen(
        self, dirty: DirtyFile, content: bytes | None, files: set[str]
    ) -> None:
        if content is not None:
            # A power cut may have taken the file, or a part of it, but not the row.
            if dirty.spool.name in files:
                await on_disk(dirty.spool.path.unlink)
            offset = 0
            for start, end in dirty.extents:
                piece = content[offset : offset + end - start]
                await dirty.spool.write(start, piece)
                offset += end - start
        elif not await dirty.spool.reopen(dirty.size):
            raise JournalError(
                f"the bytes of {dirty.key!r} are not whole: the spool file"
                f" {dirty.spool.path} is missing or too short; nothing was changed"
            )

    def new_entry(
        self,
        key: str,
        change: Change,
        shown: Object | None,
        old: list[Entry],
        last: Entry | None,
    ) -> Entry:
        """Return a new entry, which takes the place of `old` or follows `last`."""
        replaced = old[-1] if old and old[-1] is last else None
        entry = Entry(next(self._ids), key, change, shown, None)
        now_s = self.now_s()
        entry.since_s = entry.changed_s = now_s
        delay_s = DELAY_S
        if replaced is not None:
            entry.since_s = replaced.since_s
            # Who changes a name again and again does so about as soon once more.
            delay_s = max(DELAY_S, min(DELAY_MAX_S, 2 * (now_s - replaced.changed_s)))
        if entry.is_removal:
            delay_s = AGE_MAX_S  # there will be more: they go out together
        entry.due_s = min(now_s + delay_s, entry.since_s + AGE_MAX_S)
        if replaced is not None:
            # What an attempt that failed has done is not known, unless commit ids tell.
            is_known = not replaced.is_unsure or isinstance(change, StoreBytes)
            entry.stored = replaced.stored if is_known else None
            entry.is_unsure = replaced.is_unsure
        elif last is not None:
            entry.stored = content_condition(last.shown)
        return entry

    async def replace(
        self,
        old: Iterable[Entry],
        new: Iterable[Entry],
        *,
        ended_link: int | None = None,
    ) -> None:
        """Let new entries take the place of old ones, in the journal and then here."""
        old, new = tuple(old), tuple(new)
        for entry in new:
            self._resolve(entry)
        newest = {entry.key: entry for entry in new}
        for entry in new:
            # Else one that follows it, and may build on it, could never go.
            is_newest = newest[entry.key] is entry
            entry.is_local_only = is_newest and self.local_only(entry)
        kept, left = _files_of(new), _files_of(old)
        for id in kept:
            left.pop(id, None)
        rows = [to_row(entry, await content_of(entry)) for entry in new]
        self.burst.note()
        # The journal is not cancelled; nor is anything here before both say the same.
        await self.journal.change_pending(
            rows, [entry.id for entry in old], ended_link=ended_link
        )
        reached("queue.acknowledged")
        for entry in old:
            self.table.remove(entry)
            entry.is_over = True
            if entry.error is not None:
                self._incidents.clear(entry.key)
        _succeed(old, new)
        for entry in new:
            self.table.add(entry)
        if left:
            with trio.CancelScope(shield=True):
                await self._let_go(left.values(), kept.values())

    async def _let_go(
        self, left: Collection[DirtyFile], kept: Iterable[DirtyFile]
    ) -> None:
        """Drop the bytes that nobody needs, but those that a newer state has taken."""
        for dirty in kept:
            await self.files.hand_over(left, dirty)
        for dirty in left:
            await self.files.forget(dirty)

    def _resolve(self, entry: Entry) -> None:
        """Let an entry speak of what is stored in the store's own words.

        The journal remembers a token only as long as what it stood for, or something
        after that, is pending: rows that are written later must not name it.
        """
        aliases, stored, change = self.aliases, entry.stored, entry.change
        if isinstance(stored, Version) and aliases.is_known(stored):
            entry.stored = aliases.real(stored)
        match change:
            case StoreBytes(dirty):
                dirty.base = aliases.resolved(dirty.base)
                dirty.inherit = aliases.resolved(dirty.inherit)
                dirty.condition = entry.stored
            case Copy(source):
                change.source = aliases.resolved(source) or source
            case Describe(object):
                change.object = aliases.resolved(object) or object
            case _:
                pass

    async def close(self) -> None:
        """Leave everything to the next mount."""
        for entry in self.table:
            if isinstance(entry.change, StoreBytes):
                await self.files.close(entry.change.dirty)

    # --- what is local-only -----------------------------------------------------

    async def release_others(self) -> None:
        """Let be stored what an earlier mount kept here, if this one is not to.

        Call when the renames are finished that a crash has cut short: what is to follow
        a directory must not be stored where that was.
        """
        await self.release(
            entry
            for entry in self.table
            if entry.is_local_only and not self.local_only(entry)
        )

    async def release(self, entries: Iterable[Entry]) -> None:
        """Let local-only entries be stored like all others: somebody needs that."""
        entries = tuple(entries)
        if entries:
            async with self.locks.held(*(entry.key for entry in entries)):
                await self.release_held(*entries)

    async def release_held(self, *entries: Entry) -> None:
        """As `release`; the locks of their keys are held.

        Crash before the rows are synced: the next mount holds them, too, and it is true
        that nothing was sent. After it: that one sends them, as whatever is pending.
        """
        released = [
            entry for entry in entries if entry.is_local_only and not entry.is_over
        ]
        if not released:
            return
        for entry in released:
            entry.is_local_only = False
        try:
            rows = [to_row(entry, await content_of(entry)) for entry in released]
            with trio.CancelScope(shield=True):
                await self.journal.change_pending(rows)
        except BaseException:
            for entry in released:
                entry.is_local_only = True
            raise
        reached("local-only.released")
        for entry in released:
            entry.since_s = entry.changed_s = entry.due_s = self.now_s()


def _succeed(old: Iterable[Entry], new: Iterable[Entry]) -> None:
    """Tell old entries which one says now what they have said: by version, or name."""
    by_version = {each.shown.version: each for each in new if each.shown is not None}
    by_key = {each.key: each for each in new}
    for entry in old:
        version = entry.shown.version if entry.shown is not None else None
        entry.successor = by_version.get(version) or by_key.get(entry.key)


def _files_of(entries: Iterable[Entry]) -> dict[int, DirtyFile]:
    """Return the files whose bytes entries hold, by identity."""
    files = [
        each.change.dirty for each in entries if isinstance(each.change, StoreBytes)
    ]
    return {id(file): file for file in files}


async def content_of(entry: Entry) -> bytes | None:
    """Return the bytes of a small file, which its row is to hold.

    Those of a larger one are synced. That may not have been so: the row before this one
    may have held them, and to be sent the file was filled up with bytes of its base.
    """
    change = entry.change
    if not isinstance(change, StoreBytes):
        return None
    dirty = change.dirty
    if not is_inline(dirty):
        await dirty.spool.resize(dirty.size)
        await dirty.spool.sync()
        return None
    pieces = [await dirty.spool.read(s, e - s) for s, e in dirty.extents]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def is_inline(dirty: DirtyFile) -> bool:
    """Tell whether the row of a file holds its bytes."""
    return dirty.extents.total <= INLINE_SIZE_MAX and dirty.stream is None
