"""Carries the entries of a ledger out, in the background.

Entries that are due, and that nothing older must come before, take off: many at once,
deletes in batches, one at a time for each name. What fails is tried again, for as long
as it takes, with growing pauses; what cannot succeed any more is settled as the user's
policy says, and somebody is told.

A request is on the wire only while its entry has a flight. After a crash the next mount
finds the entry in the journal, and carries it out again, to the same effect.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import trio

from mountfs.cache.entries import (
    Copy,
    Describe,
    Entry,
    Make,
    Remove,
    StoreBytes,
    content_condition,
)
from mountfs.cache.incidents import IncidentKind, Incidents
from mountfs.cache.landing import Landing
from mountfs.cache.ledger import AGE_MAX_S, Ledger
from mountfs.cache.phases import reached
from mountfs.cache.settling import Settling
from mountfs.storage.errors import (
    AlreadyExists,
    NotFound,
    PreconditionFailed,
    StoreError,
    VersionChanged,
)
from mountfs.storage.health import Health, State
from mountfs.storage.reason import Reason, because
from mountfs.storage.retry import is_copy
from mountfs.storage.types import (
    ABSENT,
    Call,
    Condition,
    Metadata,
    Object,
    ObjectKind,
    Version,
)

log = logging.getLogger(__name__)

FLIGHTS_MAX = 32
BATCH_MAX = 1000
RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
OFFLINE_GRACE_S = 10.0
"""How long the end of a mount waits for a store that is out of reach."""
LATE_S = 2.0
"""After how long an entry looks at the store before it takes away what is there."""


@dataclass(slots=True, kw_only=True)
class Hooks:
    """Whom the drain tells, and asks."""

    outdated: Callable[[str], None] = lambda _: None
    """A key has in the store what nobody here knows of."""
    failed: Callable[[str, StoreError | None], None] = lambda _key, _error: None
    """What a program was promised is not in the store, and why; None: now it is."""
    health: Health = field(default_factory=Health)
    """How the store does: nothing is sent while it is out of reach."""


class Drain:
    """Empties a ledger into its store, for as long as it is entered."""

    def __init__(
        self, ledger: Ledger, settling: Settling, incidents: Incidents, hooks: Hooks
    ) -> None:
        self._ledger = ledger
        self._settling = settling
        self._landing = Landing(ledger)
        self._incidents = incidents
        self._hooks = hooks
        self._flights = 0
        self._copies = 0
        """How many of them copy an object to another key."""
        self._has_begun = False
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._nursery = nursery
        return self

    def begin(self) -> None:
        """Begin to store what waits; what an earlier mount left is cleared away."""
        if not self._has_begun:
            self._has_begun = True
            self._nursery.start_soon(self._run)

    async def __aexit__(self, *details: object) -> None:
        self._nursery.cancel_scope.cancel()
        await self._stack.aclose()
        with trio.CancelScope(shield=True):
            await self._ledger.close()

    async def reclaim(self, size: int) -> int:
        """Free room by storing what waits (`mountfs.cache.budget.Reclaimer`).

        What is local-only comes last.
        """
        waiting = [entry for entry in self._waiting() if entry.size]
        if waiting:
            with contextlib.suppress(StoreError):
                await self._settling.settle_entries(waiting[:1])
            if waiting[0].is_over:
                return waiting[0].size
            if not self._is_reachable:
                return 0  # that was waited for already
        return await self._settling.store_local_only(size)

    @property
    def _is_reachable(self) -> bool:
        return self._hooks.health.state is not State.OFFLINE

    async def empty(self) -> bool:
        """Carry everything out but what is local-only; tell whether that was possible.

        Returns when nothing waits, when all that waits has been tried and failed, or
        when the store is and stays out of reach; in the first two cases with nothing
        in flight, since a flight has something to tell after its entry has gone.
        """
        table = self._ledger.table
        attempts = {entry.id: entry.attempts for entry in table}
        self.begin()
        self._settling.hurry()
        while (waiting := self._waiting()) or self._flights:
            look = self._ledger.news.look()
            tried = [
                entry.attempts > attempts.get(entry.id, 0) and entry.flight is None
                for entry in waiting
                if table.may_be_tried(entry)
            ]
            if all(tried) and waiting and not self._flights:
                return False
            if not self._is_reachable:
                with trio.move_on_after(OFFLINE_GRACE_S):
                    await self._hooks.health.wait_for(State.ONLINE, State.DEGRADED)
                if not self._is_reachable:
                    return False
            new = [
                entry
                for entry in self._waiting()
                if entry.attempts <= attempts.get(entry.id, 0)
                and entry.due_s > self._ledger.now_s()
            ]
            for entry in new:
                entry.due_s = self._ledger.now_s()
            if new:
                self._ledger.burst.cut_short()
                self._ledger.news.tell()
            await look.wait_for_news()
        return True

    def _waiting(self) -> list[Entry]:
        """Return what is to be stored."""
        return [entry for entry in self._ledger.table if not entry.is_local_only]

    # --- taking off -------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            look = self._ledger.news.look()
            if not self._is_reachable and len(self._ledger.table):
                # Who waits for all of it need not wait for this.
                self._ledger.news.tell()
                await self._hooks.health.change()
                continue
            await self._ledger.burst.over()
            next_s = self._take_off()
            with trio.move_on_after(max(0.0, next_s - self._ledger.now_s())):
                await look.wait_for_news()

    def _take_off(self) -> float:
        """Start what may start; return when the next entry is due."""
        ledger, now_s = self._ledger, self._ledger.now_s()
        next_s = float("inf")
        removals: list[Entry] = []
        may_grow = False
        for entry in ledger.table:
            if self._flights >= FLIGHTS_MAX:
                may_grow = may_grow or self._copies > 0
                break
            if entry.flight is not None or ledger.locks.is_held(entry.key):
                continue
            if entry.is_local_only:
                continue
            due_s = self._due_s(entry)
            is_due = due_s <= now_s
            if not is_due:
                next_s = min(next_s, due_s)
            is_batched = entry.is_removal and self._may_be_in_batch(entry)
            if not (is_due or is_batched) or ledger.table.is_blocked(entry):
                may_grow = may_grow or (is_batched and self._is_being_copied(entry))
                continue
            if is_batched:
                removals.append(entry)
            elif not ledger.table.leaves_something_below(entry):
                self._start([entry], self._carry_out)
        return min(next_s, self._take_off_together(removals, may_grow=may_grow))

    def _take_off_together(self, removals: list[Entry], *, may_grow: bool) -> float:
        """Start what is to be removed, or return until when more may come."""
        now_s = self._ledger.now_s()
        due = [entry for entry in removals if self._due_s(entry) <= now_s]
        if not due:
            return float("inf")
        if may_grow and (until_s := min(e.since_s for e in due) + AGE_MAX_S) > now_s:
            return until_s  # those of a directory go together
        removals = self._with_all_below(removals)
        if removals:
            self._start(removals, self._remove_all)
        return float("inf")

    def _due_s(self, entry: Entry) -> float:
        """Return when an entry is due: removals wait for more of them to come."""
        if not entry.is_removal or entry.error is not None:
            return entry.due_s
        return min(entry.due_s, self._ledger.burst.long_over_s)

    def _is_being_copied(self, removal: Entry) -> bool:
        """Tell whether a key waits only for being copied to another."""
        needing = self._ledger.table.needing(removal.key)
        return any(isinstance(e.change, Copy) and e.error is None for e in needing)

    def _with_all_below(self, removals: list[Entry]) -> list[Entry]:
        """Return removals, children first, without directories that must wait."""
        ordered = sorted(removals, key=lambda entry: entry.key, reverse=True)
        going: set[str] = set()
        for entry in ordered:
            before = self._ledger.table.to_go_before(entry)
            if going.issuperset(each.key for each in before):
                going.add(entry.key)
        return [entry for entry in ordered if entry.key in going]

    def _may_be_in_batch(self, entry: Entry) -> bool:
        if entry.error is not None:
            return False
        is_late = self._ledger.now_s() - entry.since_s > LATE_S
        return not (is_late and isinstance(entry.stored, Version))

    def _start(
        self, entries: list[Entry], deed: Callable[[list[Entry]], Awaitable[None]]
    ) -> None:
        scope = trio.CancelScope()
        for entry in entries:
            entry.flight = scope
            self._ledger.note_flight(entry)
        is_copy = isinstance(entries[0].change, Copy)
        self._flights += 1
        self._copies += is_copy
        self._nursery.start_soon(self._fly, entries, deed, scope, is_copy)

    async def _fly(
        self,
        entries: list[Entry],
        deed: Callable[[list[Entry]], Awaitable[None]],
        scope: trio.CancelScope,
        is_copy: bool,  # start_soon takes no names
    ) -> None:
        try:
            with scope, because(Reason.BACKGROUND):
                await deed(entries)
            if scope.cancelled_caught:
                for entry in entries:
                    entry.is_unsure = True
        except StoreError as error:
            for entry in entries:
                self._note_failure(entry, error)
        except OSError as error:
            for entry in entries:
                self._note_failure(entry, StoreError(str(error), is_ambiguous=True))
        except Exception as error:
            log.exception("a bug in mountfs: %r could not be stored", entries[0].key)
            for entry in entries:
                self._note_failure(entry, StoreError(str(error), is_ambiguous=True))
        finally:
            self._flights -= 1
            self._copies -= is_copy
            for entry in entries:
                entry.flight = None
            self._ledger.news.tell()

    def _note_failure(self, entry: Entry, error: StoreError) -> None:
        if entry.is_over:
            return
        is_news = entry.error is None or type(entry.error) is not type(error)
        entry.attempts += 1
        entry.is_unsure = entry.is_unsure or error.is_ambiguous
        entry.error = error
        pause_s = min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** min(entry.attempts - 1, 10))
        pause_s = max(pause_s, error.retry_after_s or 0.0)
        entry.due_s = self._ledger.now_s() + pause_s
        if not is_news:
            return
        if not error.is_retryable:
            self._incidents.note(IncidentKind.FAILED, entry.key, str(error))
            self._hooks.failed(entry.key, error)
        log.warning(
            "%r is not in the store yet (%s); it is safe here and is tried again",
            entry.key,
            error,
        )

    # --- carrying out -----------------------------------------------------------

    async def _carry_out(self, entries: list[Entry]) -> None:
        (entry,) = entries
        reached("drain.begun")
        try:
            object = await self._request(entry)
        except PreconditionFailed as error:
            await self._lose(entry, error)
            return
        except NotFound as error:
            if isinstance(entry.change, StoreBytes | Make):
                raise  # of nothing that the change is about: it is tried again
            object = await self._own_copy(entry)
            if object is None:
                await self._miss(entry, error)
                return
        reached("drain.stored")
        is_elsewhere = object is not None and object.key != entry.key
        with trio.CancelScope(shield=True):
            if is_elsewhere and object is not None:
                await self._landing.finish_elsewhere(entry, object)
            else:
                await self._landing.finish(entry, object)
        if is_elsewhere and object is not None:
            # It lost a race: the name means what the store has, beside is our copy.
            self._hooks.outdated(object.key)
            self._hooks.outdated(entry.key)
        else:
            self._incidents.clear(entry.key)
            if entry.attempts:
                self._hooks.failed(entry.key, None)

    async def _request(self, entry: Entry) -> Object | None:
        """Send what an entry stands for; return what the store has then."""
        store = self._ledger.store
        match entry.change:
            case StoreBytes(dirty, metadata):
                # A rename that failed may have named another key already.
                dirty.key, dirty.condition = entry.key, entry.stored
                return await self._ledger.files.store(dirty, metadata)
            case Make(ObjectKind.DIRECTORY, metadata):
                return await store.make_dir(entry.key, metadata=metadata)
            case Make(ObjectKind.LINK, metadata, str(target)):
                condition = await self._checked(entry)
                return await store.make_link(
                    entry.key, target, metadata=metadata, condition=condition
                )
            case Make(_, metadata):
                condition = await self._checked(entry)
                return await store.write(
                    entry.key, None, metadata=metadata, condition=condition
                )
            case Copy():
                return await self._copy(entry, entry.change)
            case Describe(object, metadata):
                return await self._describe(entry, object, entry.change)
            case Remove():
                await self._remove(entry)
                return None

    async def _checked(self, entry: Entry) -> Condition:
        """Return the condition to send; look first if the store honours none."""
        if entry.stored is None or Call.WRITE in self._conditions:
            return entry.stored
        await self._check(entry)
        return None

    @property
    def _conditions(self) -> frozenset[Call]:
        return self._ledger.store.capabilities.conditions

    async def _check(self, entry: Entry) -> None:
        """See that the store has what an entry takes the place of.

        Raises `PreconditionFailed`. Between the look and the request a foreign write
        can slip in.
        """
        if entry.stored is None:
            return
        found: Condition
        try:
            kind = ObjectKind.DIRECTORY if entry.is_directory else None
            found = content_condition(
                await self._ledger.store.stat(entry.key, kind=kind)
            )
        except NotFound:
            found = ABSENT
        if not isinstance(entry.stored, Version):
            if found is not ABSENT:
                raise AlreadyExists("an object is there", key=entry.key)
            return
        wanted = self._ledger.aliases.real(entry.stored)
        if found is ABSENT:
            raise VersionChanged("the object is gone", key=entry.key)
        if entry.is_directory or not isinstance(found, Version):
            return
        if self._ledger.aliases.real(found).content != wanted.content:
            raise VersionChanged("the object is another by now", key=entry.key)

    async def _copy(self, entry: Entry, change: Copy) -> Object:
        """Copy an object to a key, and let it have other metadata if there are any."""
        if change.source.key.endswith("/"):
            return await self._copy_directory(entry, change)
        arrived = await self._arrived(entry, change.source)
        if arrived is not None:
            return arrived
        copied = await self._copy_or_move(entry, change.source)
        if change.metadata is not None:
            # Crash before this: the copy is made again, from a source that is gone
            # if it was moved; then `_own_copy` finds it, and this is repeated.
            copied = await self._ledger.store.set_metadata(copied, change.metadata)
        return copied

    async def _copy_directory(self, entry: Entry, change: Copy) -> Object:
        """Make a marker like another: not every store can copy one."""
        store, metadata = self._ledger.store, change.metadata
        if metadata is None:
            key = change.source.key
            found = await store.stat(key, kind=ObjectKind.DIRECTORY)
            metadata = found.metadata or Metadata()
        return await store.make_dir(entry.key, metadata=metadata)

    async def _arrived(self, entry: Entry, source: Object) -> Object | None:
        """Return what is to be copied if it is at its key already."""
        assert isinstance(entry.change, Copy)
        if source.key == entry.key:  # it has come back to where it was
            here = self._ledger.aliases.without_token(source)
            metadata = entry.change.metadata
            if metadata is None:
                return here
            return await self._ledger.store.set_metadata(here, metadata)
        if not self._is_late(entry):
            return None
        try:
            await self._check(entry)
        except PreconditionFailed:
            copied = await self._own_copy(entry)
            if copied is not None:
                return copied
            # A store that moves nothing onto another object removes that one first:
            # killed in between, it is our own move that must go on. Nobody's bytes are
            # replaced then, whoever removed it.
            if not await self._is_gone(entry):
                raise
        return None

    async def _copy_or_move(self, entry: Entry, source: Object) -> Object:
        store, version = self._ledger.store, source.version
        removal = self._removal_of(source.key, entry)
        is_emulated = store.capabilities.move_is_copy
        if removal is None or (removal.is_of_many and is_emulated):
            copied = await store.copy(source.key, entry.key, source_version=version)
            if removal is not None and not removal.is_over:
                # It has just been seen to be what is to go: with others, in a batch.
                removal.since_s = self._ledger.now_s()
            return copied
        # It is on its way, too: whatever comes to its key now follows it.
        removal.flight, removal.is_unsure = entry.flight, True
        try:
            moved = await store.move(source.key, entry.key, source_version=version)
            # Crash before this: the source is gone, and `_own_copy` finds the copy.
            reached("drain.moved")
            with trio.CancelScope(shield=True):
                await self._landing.finish(removal, None)
        finally:
            removal.flight = None
        return moved

    def _removal_of(self, key: str, entry: Entry) -> Entry | None:
        """Return the entry that a move of a key carries out besides its copy."""
        table = self._ledger.table
        waiting = table.at(key)
        if len(waiting) != 1 or not waiting[0].is_removal or waiting[0].flight:
            return None
        if table.needing(key) != [entry] or self._ledger.locks.is_held(key):
            return None
        return waiting[0]

    async def _describe(self, entry: Entry, known: Object, change: Describe) -> Object:
        condition = entry.stored if isinstance(entry.stored, Version) else None
        if entry.is_directory:
            condition = None  # it is another version with every change in it
            known = self._ledger.aliases.without_token(known)
        return await self._ledger.store.set_metadata(
            known, change.metadata, condition=condition
        )

    def _is_late(self, entry: Entry) -> bool:
        return self._ledger.now_s() - entry.since_s > LATE_S

    async def _remove(self, entry: Entry) -> None:
        if self._is_late(entry):
            try:
                await self._check(entry)
            except VersionChanged:
                if await self._is_gone(entry):
                    return
                raise
        await self._ledger.store.delete(entry.key)

    async def _is_gone(self, entry: Entry) -> bool:
        kind = ObjectKind.DIRECTORY if entry.is_directory else None
        try:
            await self._ledger.store.stat(entry.key, kind=kind)
        except NotFound:
            return True
        return False

    async def _remove_all(self, entries: list[Entry]) -> None:
        """Delete many keys, in the order given, with as few requests as possible."""
        size = min(BATCH_MAX, self._ledger.store.capabilities.delete_many_max)
        for start in range(0, len(entries), size):
            await self._remove_batch(entries[start : start + size])

    async def _remove_batch(self, entries: list[Entry]) -> None:
        keys = [entry.key for entry in entries]
        failed: dict[str, Exception] = {}
        if len(keys) == 1:
            await self._ledger.store.delete(keys[0])
        else:
            failed = await self._ledger.store.delete_many(keys)
        reached("drain.removed")
        done = [entry for entry in entries if entry.key not in failed]
        with trio.CancelScope(shield=True):
            await self._landing.finish_removals(done)
        for entry in done:
            self._incidents.clear(entry.key)
        for entry in entries:
            if entry.key in failed:
                self._note_failure(entry, _store_error(failed[entry.key]))

    # --- what cannot be carried out ---------------------------------------------

    async def _own_copy(self, entry: Entry) -> Object | None:
        """Return the copy that was made before a crash, with its metadata; or None.

        It has the commit id of its source, or if that was moved away, its size.
        """
        if not isinstance(entry.change, Copy):
            return None
        store, source = self._ledger.store, entry.change.source
        try:
            copied = await store.stat(entry.key)
        except NotFound:
            return None
        if self._is_as_before(entry, copied):
            return None
        try:
            original = await store.stat(source.key)
        except NotFound:
            if source.size is None or copied.size != source.size:
                return None
        else:
            if not is_copy(original, copied):
                return None
        if entry.change.metadata is not None:
            copied = await store.set_metadata(copied, entry.change.metadata)
        return copied

    def _is_as_before(self, entry: Entry, found: Object) -> bool:
        """Tell whether the store has what an entry was to take the place of."""
        before, aliases = entry.stored, self._ledger.aliases
        if not isinstance(before, Version) or not aliases.is_known(before):
            return False
        if found.version is None:
            return False
        return aliases.real(before).content == aliases.real(found.version).content

    async def _miss(self, entry: Entry, error: NotFound) -> None:
        """A foreign client has deleted what was to be moved, or changed.

        What it makes under the old name from now on is its own, and stays.
        """
        if isinstance(entry.change, Copy):
            await self._spare(entry.change.source.key)
        self._tell_loss(entry, f"a foreign client removed it first ({error})")
        await self._landing.give_up(entry)
        self._hooks.outdated(entry.key)

    async def _lose(self, entry: Entry, error: PreconditionFailed) -> None:
        """Somebody else was there first."""
        change = entry.change
        if isinstance(change, StoreBytes):
            await self._ledger.files.keep(change.dirty, error, change.metadata)
            # Crash between the two: both rows speak of the file, and the older counts.
            reached("drain.kept")
            await self._landing.leave(entry)
            # Its close had succeeded. A newer write of the name drops the bytes, and
            # must not drop the news: this one stays.
            self._tell_loss(entry, f"a foreign client changed it first ({error})")
            self._hooks.failed(entry.key, error)
        else:
            text = f"a foreign client changed it first ({error})"
            if isinstance(change, Copy) and not await self._spare(change.source.key):
                text += await self._copy_beside(entry, change.source, error)
            self._tell_loss(entry, text)
            await self._landing.give_up(entry)
        self._hooks.outdated(entry.key)

    async def _spare(self, key: str) -> bool:
        """Let the old name of a rename that was lost stay, with whatever has it.

        False if the key is to have something else.
        """
        async with self._ledger.locks.held(key):
            last = self._ledger.table.newest(key)
            if last is None or not last.is_removal or last.flight is not None:
                return False
            await self._ledger.replace([last], [])
        self._hooks.outdated(key)
        return True

    async def _copy_beside(
        self, entry: Entry, source: Object, lost: PreconditionFailed
    ) -> str:
        """Copy what lost its new name, and has its old one no more; say where it is."""
        if source.key.endswith("/"):
            return ""
        try:
            copy = await self._ledger.files.copy_beside(source, entry.key, lost)
        except (NotFound, PreconditionFailed):
            return ""  # that was changed, too
        self._hooks.outdated(copy.key)
        return f"; it is in {copy.key!r}"

    def _tell_loss(self, entry: Entry, text: str) -> None:
        what = {
            Make: "what was made under this name is not in the store",
            Copy: "the rename to this name is not in the store",
            Describe: "its new attributes are not in the store",
            Remove: "it was not removed",
            StoreBytes: "what was written, and closed without an error, was not stored",
        }.get(type(entry.change), "the change is not in the store")
        self._incidents.note(IncidentKind.CONFLICT, entry.key, f"{what}: {text}")
        log.warning("%r: %s: %s", entry.key, what, text)


def _store_error(error: Exception) -> StoreError:
    return error if isinstance(error, StoreError) else StoreError(str(error))
