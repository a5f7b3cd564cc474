"""Changes that are acknowledged when the journal has them, and stored afterwards.

The state that each key is to have is an entry (`mountfs.cache.entries`), in memory and
in the journal. Changes come in as states, are merged with what waits for the same name,
and return when their row is synced. `Drain` (mountfs.cache.drain) carries the entries
out.

Who changes an entry holds the lock of its key, from before the first look at the table
until the journal has the change: what is in memory is what the journal has. A flight
(an entry on its way to the store) takes the same lock when it lands, so nobody may wait
for a flight while holding a lock.

Crash before the row is synced: nobody was told, and the store has what it had. After
it: the next mount finds the row, and its bytes in it or in the spool file that was
synced before it. After the store has it, before the row is gone: the next mount carries
it out again, to the same effect; the commit id tells that an object there is ours.
"""

import dataclasses
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import trio

from mountfs.cache.aliases import Aliases, AliasStorager
from mountfs.cache.burst import Burst
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import (
    Copy,
    Describe,
    Entry,
    EntryTable,
    Make,
    Remove,
    StoreBytes,
    ancestors_of,
    content_condition,
    is_only_in_upload,
    was_never_stored,
)
from mountfs.cache.entry_text import INLINE_SIZE_MAX, from_row, to_row
from mountfs.cache.journal import Journal, JournalError, PendingRow
from mountfs.cache.localonly import LocalOnly, enough
from mountfs.cache.lock import Lock
from mountfs.cache.metadata import MetadataCache
from mountfs.cache.phases import reached
from mountfs.cache.promised import PromisedFiles
from mountfs.cache.tokens import is_token
from mountfs.storage.errors import (
    AlreadyExists,
    NotFound,
    StoreError,
    Unreachable,
    VersionChanged,
)
from mountfs.storage.types import (
    Condition,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

log = logging.getLogger(__name__)

REST_SHARE = 4.0
REST_MAX_S = 0.05
NOTED_MAX = 10_000
"""After how many stored entries the journal is rid of tokens that no row names."""
USED_MAX = 100_000
"""How many directories are remembered that the store may see."""
PATIENCE_S = 60.0
"""How long somebody waits for a store that is out of reach."""
DELAY_S = 0.05
DELAY_MAX_S = 0.2
AGE_MAX_S = 1.0
"""How long an entry waits at most for further changes of its name, in seconds."""


class _Held:
    """The locks of some keys, held while a block runs."""

    __slots__ = ("_at_end", "_held", "_keys", "_locks")

    def __init__(
        self, locks: dict[str, Lock], keys: tuple[str, ...], at_end: Callable[[], None]
    ) -> None:
        self._locks = locks
        self._keys = sorted(set(keys)) if len(keys) > 1 else keys
        self._at_end = at_end
        self._held: list[tuple[str, Lock]] = []

    async def __aenter__(self) -> None:
        try:
            for key in self._keys:
                lock = self._locks.setdefault(key, Lock())
                await lock.acquire()
                self._held.append((key, lock))
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._release()
        if kind is None:
            self._at_end()

    def _release(self) -> None:
        for key, lock in reversed(self._held):
            lock.release()
            if not lock.is_used:
                del self._locks[key]


class Look:
    """One look at all entries, and the wait for the next.

    A look may take long if there are many entries, and news come with each of them: so
    a rest follows, in proportion.
    """

    def __init__(self, queue: "Queue", told: int) -> None:
        self._queue = queue
        self._told = told
        self._began_s = time.perf_counter()

    async def wait_for_news(self) -> None:
        """Return when something has happened since the look began."""
        spent_s = time.perf_counter() - self._began_s
        await trio.sleep(min(REST_MAX_S, REST_SHARE * spent_s))
        while self._queue.told == self._told:
            await self._queue.news()


class Queue:
    """The pending entries of one store."""

    def __init__(
        self,
        journal: Journal,
        store: AliasStorager,
        aliases: Aliases,
        files: PromisedFiles,
        metadata: MetadataCache,
        *,
        local_only: LocalOnly | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
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
        self.files = files
        self.metadata = metadata
        self._local_only = local_only or LocalOnly()
        self.is_local_only = self._local_only.is_meant
        self._has_told_shortage = False
        self._clock = clock
        self.now_ns = now_ns
        self.burst = Burst(clock)
        self._ids = itertools.count(1)
        self._locks: dict[str, Lock] = {}
        self._used: set[str] | None = set()
        """Directories that the store may see; None if they were too many to know."""
        self._watchers: list[set[str]] = []
        self._noted: list[str] = []
        self._noted_before: list[str] = []
        self._news = trio.Event()
        self.forget_error: Callable[[str], None] = lambda _: None
        """Told of a key whose entry had failed, and is to be stored no more."""
        self.told = 0
        """How often there was news."""
        self.takes_changes = True
        """Whether files may be promised; else they are stored at their commit."""

    # --- what is asked ----------------------------------------------------------

    def now_s(self) -> float:
        """Return the time that entries are due by."""
        return self._clock()

    def is_locked(self, key: str) -> bool:
        """Tell whether a change of a key is under way, so that it must not take off."""
        lock = self._locks.get(key)
        return lock is not None and lock.locked()

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

    def spools(self) -> set[str]:
        """Return the names of the spool files that hold bytes of entries."""
        return {
            entry.change.dirty.spool.path.name
            for entry in self.table
            if isinstance(entry.change, StoreBytes)
        }

    def uploads(self) -> set[str]:
        """Return the ids of the uploads that hold bytes of entries."""
        streams = [
            entry.change.dirty.stream
            for entry in self.table
            if isinstance(entry.change, StoreBytes)
        ]
        return {stream.upload.id for stream in streams if stream is not None}

    def keeps_here(self, dirty: DirtyFile) -> bool:
        """Tell whether a file is not to be sent, and nothing of its name ever was."""
        return self._local_only.keeps(dirty, self.table.newest(dirty.key))

    async def make_whole(self, dirty: DirtyFile) -> bool:
        """Let a file that stays here do without what was promised of it so far.

        False if it does not stay here, or if there is no room for all of it.
        """
        async with self.locked(dirty.key):  # or it could be stored, and go, meanwhile
            last = self.table.newest(dirty.key)
            if not self._local_only.keeps(dirty, last):
                return False
            if not dirty.base_size:
                self.files.put_base(dirty, None)
                return True
            if last is None or not _is_built_on(dirty, last):
                return False
            assert isinstance(last.change, StoreBytes), "nothing else has bytes"
            return await self.files.make_whole(last.change.dirty, dirty)

    async def news(self) -> None:
        """Return when something happened to an entry."""
        await self._news.wait()

    @contextmanager
    def watching(self) -> Iterator[set[str]]:
        """Collect the keys whose entries go while the block runs."""
        gone: set[str] = set()
        self._watchers.append(gone)
        try:
            yield gone
        finally:
            self._watchers = [each for each in self._watchers if each is not gone]

    def _end(self, entry: Entry) -> None:
        """Take an entry out: it is carried out, or somebody else has its bytes."""
        self.table.remove(entry)
        entry.is_over = True
        for gone in self._watchers:
            gone.add(entry.key)

    def look(self) -> "Look":
        """Begin to look at the entries."""
        return Look(self, self.told)

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self.told += 1
        self._news.set()
        self._news = trio.Event()

    # --- the life of an entry ---------------------------------------------------

    async def load(self) -> tuple[Entry, ...]:
        """Take up what an earlier mount left; call once, before anything else.

        Raises `JournalError` if a row, or the bytes that it speaks of, are not as they
        were left: nothing is changed then.
        """
        for alias in await self.journal.aliases():
            version = Version(alias.content, alias.attributes)
            self.aliases.learn(alias.token, version)
            self._noted.append(alias.token)
        last = 0
        for row in await self.journal.pending():
            entry = from_row(row, self.files.directory, self.files.ladder)
            if isinstance(entry.change, StoreBytes):
                await self._reopen(entry.change.dirty, row.content)
                self.files.adopt(entry.change.dirty)
            self.table.add(entry)
            if not entry.is_local_only:
                entry.is_unsure = True
                self.note_flight(entry)
            last = row.id
        self._ids = itertools.count(last + 1)
        return tuple(self.table)

    async def release_others(self) -> None:
        """Let be stored what an earlier mount kept here, if this one is not to.

        Call when the renames are finished that a crash has cut short: what is to follow
        a directory must not be stored where that was.
        """
        await self.release(
            entry
            for entry in self.table
            if entry.is_local_only and not self._local_only(entry)
        )

    async def release(self, entries: Iterable[Entry]) -> None:
        """Let local-only entries be stored like all others: somebody needs that."""
        entries = tuple(entries)
        if entries:
            async with self.locked(*(entry.key for entry in entries)):
                await self._release(*entries)

    async def store_local_only(self, size: int) -> int:
        """Store local-only entries of so many bytes, since there is no room for them.

        Returns how many that were. They are lost to nobody: a full disk would cost a
        program its write.
        """
        oldest = (each for each in self.table if each.is_local_only and each.size)
        chosen = [(entry, entry.size) for entry in enough(oldest, size)]
        if not chosen:
            return 0
        if not self._has_told_shortage:
            self._has_told_shortage = True
            log.warning(
                "there is no room here for more: local-only files go to the store, the"
                " oldest first; now %r",
                chosen[0][0].key,
            )
        with suppress(StoreError):
            await self.settle_entries(entry for entry, _ in chosen)
        return sum(size for entry, size in chosen if entry.is_over)

    async def _release(self, *entries: Entry) -> None:
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
            rows = [to_row(entry, await _content(entry)) for entry in released]
            with trio.CancelScope(shield=True):
                await self.journal.change_pending(rows)
        except BaseException:
            for entry in released:
                entry.is_local_only = True
            raise
        reached("local-only.released")
        for entry in released:
            entry.since_s = entry.changed_s = entry.due_s = self.now_s()

    async def _reopen(self, dirty: DirtyFile, content: bytes | None) -> None:
        if content is not None:
            # A power cut may have taken the file, or a part of it, but not the row.
            offset = 0
            for start, end in dirty.extents:
                piece = content[offset : offset + end - start]
                await dirty.spool.write(start, piece)
                offset += end - start
            await dirty.spool.resize(dirty.size)
        elif not await dirty.spool.reopen(dirty.size):
            raise JournalError(
                f"the bytes of {dirty.key!r} are not whole: the spool file"
                f" {dirty.spool.path} is missing or too short; nothing was changed"
            )

    def locked(self, *keys: str) -> "_Held":
        """Hold the locks of keys, taken in one order by everybody; tell at the end."""
        return _Held(self._locks, keys, self.tell)

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
            entry.is_local_only = is_newest and self._local_only(entry)
        kept, left = _files_of(new), _files_of(old)
        for id in kept:
            left.pop(id, None)
        rows = [to_row(entry, await _content(entry)) for entry in new]
        with trio.CancelScope(shield=True):
            self.burst.note()
            await self.journal.change_pending(
                rows, [entry.id for entry in old], ended_link=ended_link
            )
            reached("queue.acknowledged")
            for entry in old:
                self.table.remove(entry)
                entry.is_over = True
                if entry.error is not None:
                    self.forget_error(entry.key)
            _succeed(old, new)
            for entry in new:
                self.table.add(entry)
            for dirty in kept.values():
                await self.files.hand_over(left.values(), dirty)
            for dirty in left.values():
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

    async def finish(self, entry: Entry, object: Object | None) -> None:
        """Note that the store has what an entry says; `object` is what it answered."""
        async with self.locked(entry.key):
            if entry.is_over:
                return  # a newer state took its place while another carried it out
            await self._finish(entry, object, [])

    async def finish_elsewhere(self, entry: Entry, copy: Object) -> None:
        """Note that the bytes of an entry lost its name, and are in a copy beside.

        What was built on them, here or by who has the file open, reads them there.
        """
        shown = entry.shown
        if shown is not None and shown.version is not None:
            self.aliases.lost(shown.version.content, copy)
        async with self.locked(entry.key):
            rows: list[PendingRow] = []
            for each in self.table.at(entry.key):
                match each.change:
                    case StoreBytes(dirty) if _is_built_on(dirty, entry):
                        # Nobody knows the token of its base any more after a crash.
                        self.files.put_base(dirty, copy)
                        rows.append(to_row(each, await _content(each)))
                    case _:
                        pass
            await self._finish(entry, None, rows)

    async def _finish(
        self, entry: Entry, object: Object | None, others: list[PendingRow]
    ) -> None:
        rows = self.aliases.row(entry.shown, object) if object is not None else ()
        with trio.CancelScope(shield=True):
            await self.journal.change_pending(others, [entry.id], rows)
            self._noted += [row.token for row in rows]
            reached("queue.finished")
            self._end(entry)
            if object is not None and entry.shown is not None:
                self._settle(entry, entry.shown, object)
            if isinstance(entry.change, StoreBytes):
                await self.files.forget(entry.change.dirty)
            await self._forget_aliases()

    async def finish_removals(self, entries: list[Entry]) -> None:
        """Note that names are gone from the store, all in one transaction."""
        async with self.locked(*(entry.key for entry in entries)):
            await self.journal.change_pending((), [entry.id for entry in entries])
            reached("queue.finished")
            for entry in entries:
                if not entry.is_over:
                    self._end(entry)
            await self._forget_aliases()

    async def _forget_aliases(self) -> None:
        """Let the journal forget the tokens that no row names any more.

        Those noted lately stay: a row that names one may be about to be written.
        """
        if not (self._noted or self._noted_before):
            return
        if not len(self.table):
            self._noted, self._noted_before = [], []
            await self.journal.forget_aliases()
        elif len(self._noted) >= NOTED_MAX:
            named = self.table.tokens()
            kept = [token for token in self._noted_before if token in named]
            gone = [token for token in self._noted_before if token not in named]
            self._noted, self._noted_before = [], [*kept, *self._noted]
            await self.journal.forget_aliases(gone)

    def _settle(self, entry: Entry, shown: Object, object: Object) -> None:
        """Let what is known here of an object follow it into the store."""
        if object.version is None or shown.version is None:
            return
        is_newest = self.table.newest(entry.key) is None
        key = entry.key if is_newest else None
        self.aliases.learn(shown.version.content, object.version, key)
        self.files.stored(object, shown)
        if is_newest:
            self.metadata.settle(shown, object)

    async def close(self) -> None:
        """Leave everything to the next mount."""
        for entry in self.table:
            if isinstance(entry.change, StoreBytes):
                await self.files.close(entry.change.dirty)

    async def leave(self, entry: Entry) -> None:
        """Drop an entry whose bytes somebody else keeps."""
        async with self.locked(entry.key):
            with trio.CancelScope(shield=True):
                await self.journal.change_pending((), [entry.id])
                self._end(entry)

    async def give_up(self, entry: Entry) -> None:
        """Drop an entry, and its bytes, for good: somebody has been told."""
        async with self.locked(entry.key):
            await self.replace([entry], [])

    # --- changes ----------------------------------------------------------------

    async def promise(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Take over a changed file; return how it shows until the store has it."""
        key = dirty.key
        await self.free_for_change(key)
        async with self.locked(key):
            last = self.table.newest(key)
            _check(key, last, dirty.condition)
            old: list[Entry] = []
            base, base_size = dirty.base, dirty.base_size
            if last is not None and await self._absorb(last, dirty):
                old = [last]
            elif last is not None:
                await self._release(last)  # there is no room for both to stay
            dirty.commit_id = secrets.token_hex(16)
            dirty.commit_ids[dirty.commit_id] = dirty.revision
            shown = self._shown(
                key,
                ObjectKind.FILE,
                dirty.size,
                _carried(metadata, dirty.inherit),
            )
            entry = self.new_entry(key, StoreBytes(dirty, metadata), shown, old, last)
            if last is None:
                entry.stored = self._local_only.replaced_by(dirty)
            dirty.condition = entry.stored
            try:
                await self._secure(dirty)
                await self.replace(old, [entry])
            except BaseException:
                # What was beneath is stored by and by, and is gone then.
                if entry not in self.table:
                    dirty.base, dirty.base_size = base, base_size
                    with trio.CancelScope(shield=True):
                        await self.files.take_apart(dirty)
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
        await self.free_for_change(key)
        async with self.locked(key):
            last = self.table.newest(key)
            is_directory = kind is ObjectKind.DIRECTORY
            if is_directory and last is not None and last.shown is not None:
                return last.shown  # one that is there is success
            _check(key, last, condition)
            size = None if is_directory else len(os.fsencode(target or ""))
            shown = self._shown(key, kind, size, metadata, target)
            old = [last] if last is not None and _may_be_replaced(last) else []
            entry = self.new_entry(key, Make(kind, metadata, target), shown, old, last)
            if last is None:
                entry.stored = condition
            await self.replace(old, [entry])
        return shown

    async def describe(
        self, object: Object, metadata: Metadata, condition: Condition
    ) -> Object:
        """Take in other metadata for an object. Raises `NotFound`, `VersionChanged`."""
        key = object.key
        metadata = dataclasses.replace(metadata, commit_id=secrets.token_hex(16))
        async with self.locked(key):
            last = self.table.newest(key)
            if last is not None and last.shown is None:
                raise NotFound(key=key)
            if last is not None and isinstance(condition, Version):
                _check(key, last, condition)
            known = last.shown if last is not None and last.shown else object
            shown = dataclasses.replace(
                known,
                version=self.aliases.new(),
                mtime_ns=self.now_ns(),
                metadata=_described(metadata, known.metadata),
            )
            entry = self._described(key, known, metadata, shown, last)
            if last is None and not entry.is_directory:
                entry.stored = object.version
            old = [last] if last is not None and _may_be_described(last) else []
            for replaced in old:
                self._describe_bytes(replaced, entry)
            await self.replace(old, [entry])
        return shown

    async def remove(self, keys: Iterable[str]) -> None:
        """Take in that keys are to have nothing, all at once."""
        keys = list(dict.fromkeys(keys))
        async with self.locked(*keys):
            old: list[Entry] = []
            new: list[Entry] = []
            for key in keys:
                last = self.table.newest(key)
                if last is not None and last.is_removal:
                    continue
                if last is not None and last.flight is None:
                    old.append(last)
                entry = self.new_entry(key, Remove(), None, old[-1:], last)
                if last is None:
                    known = self.metadata.last_known(key)
                    entry.stored = known.version if isinstance(known, Object) else None
                elif last.flight is None and self.leaves_nothing(last):
                    continue
                new.append(entry)
            await self.replace(old, new)

    # --- waiting ----------------------------------------------------------------

    async def settle(self, is_meant: Callable[[str], bool]) -> None:
        """Return when the store has what is pending now of these keys.

        Not what is local-only. Raises the first error of an attempt that began since.
        """
        waiting = [
            entry
            for entry in self.table
            if is_meant(entry.key) and not entry.is_local_only
        ]
        await self.settle_entries(waiting)

    async def settle_entries(self, waiting: Iterable[Entry]) -> None:
        """As `settle`, for entries, and for local-only ones as well.

        Raises `Unreachable` if the store stays away.
        """
        waiting = list(waiting)
        if not waiting:
            return
        attempts = {entry.id: entry.attempts for entry in self.table}
        self.hurry()
        while True:
            look = self.look()
            waiting = [entry for entry in map(_newest, waiting) if not entry.is_over]
            if not waiting:
                return
            # What has taken the place of one since may be local-only again.
            await self.release(each for each in waiting if each.is_local_only)
            error = self._what_stops(waiting, attempts)
            if error is not None:
                raise error
            self._hurry_new(waiting, attempts)
            with trio.move_on_after(PATIENCE_S) as patience:
                await look.wait_for_news()
            if patience.cancelled_caught and not self.is_reachable():
                raise Unreachable("the store is out of reach", key=waiting[0].key)

    def _hurry_new(self, waiting: list[Entry], attempts: dict[int, int]) -> None:
        """Make those due that have come since somebody began to wait."""
        for entry in waiting:
            if entry.id not in attempts:
                attempts[entry.id] = entry.attempts
                entry.due_s = min(entry.due_s, self.now_s())
                self.burst.cut_short()
                self.tell()

    def _what_stops(
        self, waiting: list[Entry], attempts: dict[int, int]
    ) -> StoreError | None:
        """Return why entries are not stored, if each of them was tried, or can't be."""
        tried = {
            entry.id: entry.error
            for entry in self.table
            if entry.error is not None and entry.attempts > attempts.get(entry.id, 0)
        }
        if not tried:
            return None
        for entry in waiting:
            if entry.id not in tried and self.table.may_be_tried(entry):
                return None
        own = [tried[entry.id] for entry in waiting if entry.id in tried]
        return own[0] if own else next(iter(tried.values()))

    def is_reachable(self) -> bool:
        """Tell whether requests are sent at all; set by who sends them."""
        return True

    async def settle_name(self, key: str) -> None:
        """Return when the store has what was promised under a key so far, and nothing
        that is promised needs the bytes which are there now.
        """
        await self.settle_entries([*self.table.at(key), *self.table.needing(key)])

    def hurry(self) -> None:
        """Make everything due now: somebody waits."""
        for entry in self.table:
            entry.due_s = min(entry.due_s, self.now_s())
        self.burst.cut_short()
        self.tell()

    # --- inside -----------------------------------------------------------------

    def new_entry(
        self,
        key: str,
        change: StoreBytes | Make | Copy | Describe | Remove,
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
            mtime_ns=self.now_ns(),
            version=self.aliases.new(),
            metadata=metadata,
            link_target=target,
        )

    async def free_for_change(self, key: str) -> None:
        """See that what is stored under a key may be replaced in its turn.

        Bytes that a pending copy needs may be: the copy goes first. What the store
        cannot copy at all must be moved before.
        """
        if self.store.capabilities.copy:
            return
        await self.settle_entries(self.table.needing(key))

    async def _absorb(self, last: Entry, dirty: DirtyFile) -> bool:
        """Let a newer state of a file take in the one that waits; False if it cannot.

        The bytes that both have in common are copied into the newer spool file: the
        older one is what was acknowledged, and must stay whole until the row of the
        newer is synced.
        """
        if not _may_be_replaced(last):
            return False
        base = dirty.base if dirty.base_size else None
        is_on_top = base is not None and _is_version_of(base, last)
        if base is not None and is_token(base.version) and not is_on_top:
            return False
        self._take_over_commits(last, dirty)
        match last.change:
            case StoreBytes(older) if is_on_top:
                if not await self._merge(last, older, dirty):
                    return False
                dirty.inherit = older.inherit
            case StoreBytes(older):
                dirty.inherit = older.inherit
            case Copy(source):
                self._ground(dirty, is_on_top, source)
            case Describe(object):
                self._ground(dirty, is_on_top, object)
            case Make() | Remove():
                if is_on_top:
                    self.files.put_base(dirty, None)
                dirty.inherit = None
        return True

    async def _merge(self, last: Entry, older: DirtyFile, newer: DirtyFile) -> bool:
        if await self.files.merge(older, newer):
            return True
        # Of two states the first would have to go to the store.
        return last.is_local_only and await self.files.make_whole(older, newer)

    def _take_over_commits(self, last: Entry, dirty: DirtyFile) -> None:
        """Let an object that an earlier attempt may have made count as ours."""
        match last.change:
            case StoreBytes(older):
                dirty.commit_ids.update(dict.fromkeys(older.commit_ids, -1))
            case Make(_, Metadata(commit_id=str(commit_id))) | Describe(
                _, Metadata(commit_id=str(commit_id))
            ):
                dirty.commit_ids[commit_id] = -1
            case _:
                pass

    def _ground(self, dirty: DirtyFile, is_on_top: bool, stored: Object) -> None:
        if is_on_top:
            self.files.put_base(dirty, stored)
        dirty.inherit = stored

    def _described(
        self,
        key: str,
        known: Object,
        metadata: Metadata,
        shown: Object,
        last: Entry | None,
    ) -> Entry:
        """Return the entry that gives what is there other metadata."""
        change: StoreBytes | Make | Copy | Describe | Remove
        change = Describe(known, metadata)
        old = [last] if last is not None and _may_be_described(last) else []
        if old and last is not None:
            match last.change:
                case StoreBytes(dirty):
                    change = StoreBytes(dirty, metadata)
                case Make(kind, _, target):
                    change = Make(kind, metadata, target)
                case Copy(source):
                    change = Copy(source, metadata)
                case Describe(object):
                    change = Describe(object, metadata)
                case Remove():
                    raise NotFound(key=key)
        return self.new_entry(key, change, shown, old, last)

    def _describe_bytes(self, last: Entry, entry: Entry) -> None:
        """Let bytes that wait be stored by another commit than before."""
        if isinstance(last.change, StoreBytes):
            dirty = last.change.dirty
            # An object of the commit before has the bytes, but not these metadata.
            dirty.revision += 1
            dirty.commit_id = secrets.token_hex(16)
            dirty.commit_ids[dirty.commit_id] = dirty.revision
            entry.stored = last.stored

    async def _secure(self, dirty: DirtyFile) -> None:
        """Return when the bytes of a file are safe, unless its row will hold them."""
        if _is_inline(dirty):
            return
        await dirty.spool.resize(dirty.size)
        await dirty.spool.sync()
        reached("queue.bytes-synced")


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


def _newest(entry: Entry) -> Entry:
    """Return what has taken the place of an entry by now."""
    while entry.is_over and entry.successor is not None:
        entry = entry.successor
    return entry


async def _content(entry: Entry) -> bytes | None:
    """Return the bytes of a small file, which its row is to hold."""
    change = entry.change
    if not isinstance(change, StoreBytes) or not _is_inline(change.dirty):
        return None
    dirty = change.dirty
    pieces = [await dirty.spool.read(s, e - s) for s, e in dirty.extents]
    return b"".join(pieces)


def _is_inline(dirty: DirtyFile) -> bool:
    return dirty.extents.total <= INLINE_SIZE_MAX and dirty.stream is None


def _may_be_replaced(last: Entry) -> bool:
    """Tell whether an entry may go for a newer one: it is not on its way."""
    change = last.change
    if isinstance(change, StoreBytes) and is_only_in_upload(change.dirty):
        return False
    if isinstance(change, Copy) and last.is_unsure:
        return False
    return last.flight is None


def _may_be_described(last: Entry) -> bool:
    """Tell whether an entry may take in other metadata."""
    is_sure = not (isinstance(last.change, Copy) and last.is_unsure)
    return last.flight is None and is_sure


def _is_built_on(dirty: DirtyFile, entry: Entry) -> bool:
    return dirty.base is not None and _is_version_of(dirty.base, entry)


def _is_version_of(object: Object, entry: Entry) -> bool:
    shown = entry.shown
    if shown is None or shown.version is None or object.version is None:
        return False
    return shown.version.content == object.version.content


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
