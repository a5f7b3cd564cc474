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
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from mountfs.cache.aliases import Aliases, AliasStorager
from mountfs.cache.dirty import DirtyFile
from mountfs.cache.entries import (
    Copy,
    Describe,
    Entry,
    EntryTable,
    Make,
    Remove,
    StoreBytes,
    content_condition,
    with_key,
)
from mountfs.cache.entry_text import INLINE_SIZE_MAX, from_row, to_row
from mountfs.cache.journal import Journal, JournalError
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
    ABSENT,
    Condition,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

PATIENCE_S = 60.0
"""How long somebody waits for a store that is out of reach."""
MERGE_SIZE_MAX = 8 << 20
"""Up to how many bytes of a waiting file are copied to become part of a newer one."""
DELAY_S = 0.05
DELAY_MAX_S = 0.2
AGE_MAX_S = 1.0
"""How long an entry waits at most for further changes of its name, in seconds."""


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
        clock: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
        tree_moved: Callable[[str, str, list[str]], Awaitable[None]] | None = None,
    ) -> None:
        self.table = EntryTable()
        self.store = store
        self.aliases = aliases
        self.journal = journal
        self.files = files
        self.metadata = metadata
        self._clock = clock
        self._now_ns = now_ns
        self._tree_moved = tree_moved
        self._ids = itertools.count(1)
        self._locks: dict[str, trio.Lock] = {}
        self._news = trio.Event()
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

    async def news(self) -> None:
        """Return when something happened to an entry."""
        await self._news.wait()

    def tell(self) -> None:
        """Wake whoever waits for news."""
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
        last = 0
        for row in await self.journal.pending():
            entry = from_row(row, self.files.directory, self.files.ladder)
            if isinstance(entry.change, StoreBytes):
                await self._reopen(entry.change.dirty, row.content)
                self.files.adopt(entry.change.dirty)
            self.table.add(entry)
            last = row.id
        self._ids = itertools.count(last + 1)
        return tuple(self.table)

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

    @asynccontextmanager
    async def locked(self, *keys: str) -> AsyncIterator[None]:
        """Hold the locks of keys, taken in one order by everybody."""
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):
                lock = self._locks.setdefault(key, trio.Lock())
                stack.callback(self._drop_lock, key, lock)
                await stack.enter_async_context(lock)
            yield
        self.tell()

    def _drop_lock(self, key: str, lock: trio.Lock) -> None:
        statistics = lock.statistics()
        is_used = statistics.locked or statistics.tasks_waiting
        if not is_used and self._locks.get(key) is lock:
            del self._locks[key]

    async def _replace(self, old: Iterable[Entry], new: Iterable[Entry]) -> None:
        """Let new entries take the place of old ones, in the journal and then here."""
        old, new = tuple(old), tuple(new)
        kept = {
            id(entry.change.dirty)
            for entry in new
            if isinstance(entry.change, StoreBytes)
        }
        rows = [to_row(entry, await _content(entry)) for entry in new]
        with trio.CancelScope(shield=True):
            await self.journal.change_pending(rows, [entry.id for entry in old])
            reached("queue.acknowledged")
            for entry in old:
                self.table.remove(entry)
                entry.is_over = True
                entry.successor = new[-1] if new else None
            for entry in new:
                self.table.add(entry)
            for entry in old:
                change = entry.change
                if isinstance(change, StoreBytes) and id(change.dirty) not in kept:
                    await self.files.forget(change.dirty)

    async def finish(self, entry: Entry, object: Object | None) -> None:
        """Note that the store has what an entry says; `object` is what it answered."""
        async with self.locked(entry.key):
            rows = self.aliases.row(entry.shown, object) if object is not None else ()
            with trio.CancelScope(shield=True):
                await self.journal.change_pending((), [entry.id], rows)
                reached("queue.finished")
                self.table.remove(entry)
                entry.is_over = True
                if object is not None and entry.shown is not None:
                    self._settle(entry, entry.shown, object)
                if isinstance(entry.change, StoreBytes):
                    await self.files.forget(entry.change.dirty)
                if not len(self.table):
                    await self.journal.forget_aliases()

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
                self.table.remove(entry)
                entry.is_over = True

    async def give_up(self, entry: Entry) -> None:
        """Drop an entry, and its bytes, for good: somebody has been told."""
        async with self.locked(entry.key):
            await self._replace([entry], [])

    # --- changes ----------------------------------------------------------------

    async def promise(self, dirty: DirtyFile, metadata: Metadata) -> Object:
        """Take over a changed file; return how it shows until the store has it."""
        key = dirty.key
        await self._free_for_change(key)
        async with self.locked(key):
            last = self.table.newest(key)
            _check(key, last, dirty.condition)
            old: list[Entry] = []
            if last is not None and await self._absorb(last, dirty):
                old = [last]
            dirty.commit_id = secrets.token_hex(16)
            dirty.commit_ids[dirty.commit_id] = dirty.revision
            shown = self._shown(
                key,
                ObjectKind.FILE,
                dirty.size,
                _carried(metadata, dirty.inherit),
            )
            entry = self._entry(key, StoreBytes(dirty, metadata), shown, old, last)
            if last is None:
                entry.stored = dirty.condition
            dirty.condition = entry.stored
            await self._secure(dirty)
            await self._replace(old, [entry])
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
        await self._free_for_change(key)
        async with self.locked(key):
            last = self.table.newest(key)
            is_directory = kind is ObjectKind.DIRECTORY
            if is_directory and last is not None and last.shown is not None:
                return last.shown  # one that is there is success
            _check(key, last, condition)
            size = None if is_directory else len(os.fsencode(target or ""))
            shown = self._shown(key, kind, size, metadata, target)
            old = [last] if last is not None and _may_be_replaced(last) else []
            entry = self._entry(key, Make(kind, metadata, target), shown, old, last)
            if last is None:
                entry.stored = condition
            await self._replace(old, [entry])
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
                mtime_ns=self._now_ns(),
                metadata=_described(metadata, known.metadata),
            )
            entry = self._described(key, known, metadata, shown, last)
            if last is None and not entry.is_directory:
                entry.stored = object.version
            old = [] if last is None or last.flight is not None else [last]
            for replaced in old:
                self._describe_bytes(replaced, entry)
            await self._replace(old, [entry])
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
                entry = self._entry(key, Remove(), None, old[-1:], last)
                if last is None:
                    known = self.metadata.last_known(key)
                    entry.stored = known.version if isinstance(known, Object) else None
                elif last.flight is None and _was_never_stored(last):
                    continue
                new.append(entry)
            await self._replace(old, new)

    async def move(
        self, source: str, target: str, source_version: Version | None
    ) -> Object:
        """Let an object change its key. Raises `NotFound`, `VersionChanged`."""
        while True:
            await self.clear_for_move([source])
            newest = self.table.newest(source)
            known = None if newest is not None else await self._stored(source)
            await self._avoid_circle(newest, known, target)
            async with self.locked(source, target):
                is_new = self.table.newest(source) is not newest
                if is_new or _has_flight(self.table.at(source)):
                    continue
                _check_source(source, newest, known, source_version)
                old, new = await self._moved(source, target, known)
                await self._replace(old, new)
                shown = next(
                    entry.shown for entry in reversed(new) if entry.key == target
                )
                assert shown is not None
                return shown

    async def move_tree(self, source: str, target: str) -> Object:
        """Let a directory, and all below it, change its key, all at once."""
        if self.store.capabilities.move_dir:
            # The store does it in one step, once it has all that it is to move.
            await self.settle(lambda key: key.startswith((source, target)))
            return await self.store.move(source, target)
        while True:
            await self.clear_for_move(self.table.below(source))
            stored = await self._stored_below(source)
            pending = self.table.below(source)
            pending += [source] if self.table.newest(source) else []
            keys = sorted({*stored, *pending})
            targets = {key: target + key.removeprefix(source) for key in keys}
            async with self.locked(source, target, *keys, *targets.values()):
                if not set(self.table.below(source)) <= set(keys):
                    continue
                if any(_has_flight(self.table.at(key)) for key in keys):
                    continue
                moved = await self._move_all(source, stored, targets)
                break
        if self._tree_moved is not None:
            below = [key for key in keys if key.endswith("/")]
            await self._tree_moved(source, target, below)
        return moved.get(target) or Object(key=target, kind=ObjectKind.DIRECTORY)

    # --- waiting ----------------------------------------------------------------

    async def settle(self, is_meant: Callable[[str], bool]) -> None:
        """Return when the store has what is pending now of these keys.

        Raises the first error of an attempt that began since.
        """
        waiting = [entry for entry in self.table if is_meant(entry.key)]
        await self.settle_entries(waiting)

    async def settle_entries(self, waiting: Iterable[Entry]) -> None:
        """As `settle`, for entries. Raises `Unreachable` if the store stays away."""
        waiting = list(waiting)
        if not waiting:
            return
        attempts = {entry.id: entry.attempts for entry in self.table}
        self.hurry()
        while True:
            waiting = [entry for entry in map(_newest, waiting) if not entry.is_over]
            if not waiting:
                return
            error = self._what_stops(waiting, attempts)
            if error is not None:
                raise error
            for entry in waiting:
                if entry.id not in attempts:
                    attempts[entry.id] = entry.attempts
                    entry.due_s = min(entry.due_s, self.now_s())
            self.tell_drain()
            with trio.move_on_after(PATIENCE_S) as patience:
                await self._news.wait()
            if patience.cancelled_caught and not self.is_reachable():
                raise Unreachable("the store is out of reach", key=waiting[0].key)

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
            if entry.id not in tried and not self.table.is_blocked(entry):
                return None
        own = [tried[entry.id] for entry in waiting if entry.id in tried]
        return own[0] if own else next(iter(tried.values()))

    def is_reachable(self) -> bool:
        """Tell whether requests are sent at all; set by who sends them."""
        return True

    async def settle_name(self, key: str) -> None:
        """Return when the store has what was promised under a key so far.

        What is on its way there already is not waited for: it may be who asks.
        """
        waiting = [entry for entry in self.table.at(key) if entry.flight is None]
        await self.settle_entries(waiting)

    def hurry(self) -> None:
        """Make everything due now: somebody waits."""
        for entry in self.table:
            entry.due_s = min(entry.due_s, self.now_s())
        self.tell_drain()

    def tell_drain(self) -> None:
        """Wake whoever carries entries out; set by it."""

    async def clear_for_move(self, keys: Iterable[str]) -> None:
        """Bring down the flights of keys: large ones by force, small ones by waiting.

        A request that is on the wire could be carried out after a later delete of the
        same key, so only an upload in parts, which changes nothing before its end, is
        cancelled.
        """
        for key in keys:
            for entry in self.table.at(key):
                change = entry.change
                if isinstance(change, StoreBytes) and _is_only_in_upload(change.dirty):
                    await self.settle_entries([entry])
                    continue
                is_large = entry.size > self.files.put_size_max
                if entry.flight is not None and is_large:
                    entry.flight.cancel()
                while entry.flight is not None:
                    await self._news.wait()

    # --- inside -----------------------------------------------------------------

    def _entry(
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
        entry.since_s = now_s if replaced is None else replaced.since_s
        entry.merges = 0 if replaced is None else replaced.merges + 1
        delay_s = min(DELAY_MAX_S, DELAY_S * 2**entry.merges)
        entry.due_s = min(now_s + delay_s, entry.since_s + AGE_MAX_S)
        if replaced is not None:
            # What an attempt that failed has done is not known, unless commit ids tell.
            is_known = replaced.attempts == 0 or isinstance(change, StoreBytes)
            entry.stored = replaced.stored if is_known else None
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
            mtime_ns=self._now_ns(),
            version=self.aliases.new(),
            metadata=metadata,
            link_target=target,
        )

    async def _free_for_change(self, key: str) -> None:
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
                if older.stream is not None or older.extents.total > MERGE_SIZE_MAX:
                    return False
                await self.files.merge(older, dirty)
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

    def _take_over_commits(self, last: Entry, dirty: DirtyFile) -> None:
        """Let an object that an earlier attempt may have made count as ours."""
        match last.change:
            case StoreBytes(older):
                dirty.commit_ids.update(dict.fromkeys(older.commit_ids, -1))
            case Make(_, Metadata(commit_id=str(commit_id))):
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
        old = [] if last is None or last.flight is not None else [last]
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
        return self._entry(key, change, shown, old, last)

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
        await dirty.spool.resize(dirty.size)
        if not _is_inline(dirty):
            await dirty.spool.sync()
            reached("queue.bytes-synced")

    async def _stored(self, key: str) -> Object:
        """Return what the store has under a key; asks only if that is not known."""
        known = self.metadata.last_known(key)
        if isinstance(known, Object) and known.version is not None:
            return known
        return await self.store.stat(key)

    async def _stored_below(self, prefix: str) -> dict[str, Object]:
        """Return what the store has at and below a directory that shows."""
        found: dict[str, Object] = {}
        token: str | None = None
        while True:
            page = await self.store.list(prefix, mode=ListMode.PREFIX, token=token)
            for object in page.objects:
                if self.table.newest(object.key) is None:
                    known = self.metadata.last_known(object.key)
                    found[object.key] = _completed(object, known)
            if page.token is None:
                return found
            token = page.token

    async def _avoid_circle(
        self, newest: Entry | None, known: Object | None, target: str
    ) -> None:
        needs = newest.needs if newest is not None else frozenset[str]()
        if newest is not None and isinstance(newest.change, Describe):
            needs |= {newest.key}
        if known is not None:
            needs |= {known.key}
        await self.settle_entries(self.table.would_turn_in_a_circle(target, needs))
        await self._free_for_change(target)

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
        waiting = self.table.at(source)
        old = [entry for entry in waiting if not entry.is_removal]
        new: list[Entry] = []
        victims = self.table.at(target)
        old_victims = [entry for entry in victims if entry.flight is None]
        condition = (
            replaces if is_replacing_known else self._condition_at(target, victims)
        )
        if stored is not None:
            shown = dataclasses.replace(
                stored, key=target, version=self.aliases.new(), mtime_ns=self._now_ns()
            )
            new.append(self._entry(target, Copy(stored), shown, [], None))
        new += [await self._relocated(entry, target) for entry in old]
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
            return entries[0].stored if entries[0].attempts == 0 else None
        known = self.metadata.last_known(key)
        if isinstance(known, Object):
            return known.version
        return ABSENT if known is ABSENT else None

    def _inherit_from_victim(self, entry: Entry) -> None:
        if not isinstance(entry.change, StoreBytes):
            return
        dirty = entry.change.dirty
        dirty.condition = entry.stored
        known = self.metadata.last_known(entry.key)
        if dirty.inherit is None and isinstance(known, Object):
            dirty.inherit = None if is_token(known.version) else known

    async def _relocated(self, entry: Entry, target: str) -> Entry:
        """Return what an entry becomes under another key; it keeps its token."""
        change = entry.change
        if isinstance(change, StoreBytes):
            dirty, source = change.dirty, entry.key
            await self.files.retarget(dirty, target)
            if dirty.base is not None and dirty.base.key == source:
                of = self.table.of_version(dirty.base.version)
                if of is not None and of.key == source:
                    dirty.base = with_key(dirty.base, target)
        elif isinstance(change, Describe):
            change = Copy(change.object, change.metadata)
        assert entry.shown is not None
        shown = with_key(entry.shown, target)
        moved = self._entry(target, change, shown, [], None)
        moved.since_s, moved.merges = entry.since_s, entry.merges + 1
        return moved

    def _left_behind(
        self, source: str, waiting: list[Entry], stored: Object | None
    ) -> list[Entry]:
        """Return the entry that a key keeps when what it shows has moved away."""
        if waiting and (waiting[0].is_removal or _was_never_stored(waiting[0])):
            return []
        left = self._entry(source, Remove(), None, [], None)
        if stored is not None:
            left.stored = stored.version
        elif waiting and waiting[0].attempts == 0:
            left.stored = waiting[0].stored
        return [left]

    async def _move_all(
        self, source: str, stored: dict[str, Object], targets: dict[str, str]
    ) -> dict[str, Object]:
        old: list[Entry] = []
        new: list[Entry] = []
        for key, target in targets.items():
            newest = self.table.newest(key)
            if newest is not None and newest.is_removal:
                continue
            known = self.metadata.last_known(target)
            replaced = known.version if isinstance(known, Object) else ABSENT
            gone, come = await self._moved(
                key,
                target,
                stored.get(key),
                replaces=replaced,
                is_replacing_known=not self.table.at(target),
            )
            old += gone
            new += come
        moved = {
            entry.key: entry.shown
            for entry in new
            if entry.shown is not None and entry.key.endswith("/")
        }
        new += self._implied_directories(source, stored, {e.key for e in new})
        await self._replace(old, new)
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
            self._entry(key, Remove(), None, [], None)
            for key in sorted(wanted - seen, reverse=True)
            if self.table.newest(key) is None
        ]


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


def _is_only_in_upload(dirty: DirtyFile) -> bool:
    """Tell whether bytes lie in an open upload and nowhere else."""
    return dirty.stream is not None and bool(dirty.stream.punched)


def _may_be_replaced(last: Entry) -> bool:
    """Tell whether an entry may go for a newer one: it is not on its way."""
    change = last.change
    if isinstance(change, StoreBytes) and _is_only_in_upload(change.dirty):
        return False
    return last.flight is None


def _was_never_stored(entry: Entry) -> bool:
    return entry.stored is ABSENT and entry.attempts == 0


def _has_flight(entries: list[Entry]) -> bool:
    return any(entry.flight is not None for entry in entries)


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


def _completed(listed: Object, known: object) -> Object:
    """Return a listed object with what is known of just this state of it."""
    if not isinstance(known, Object) or known.version is None:
        return listed
    if listed.version is None or known.version.content != listed.version.content:
        return listed
    return known
