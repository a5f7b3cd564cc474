"""The attribute index: what one hidden object for each directory tells of its entries.

A listing of a key store tells no attributes; with the index they cost one request for a
directory instead of one for each entry. What it tells of an object counts only while
the listing shows the same state, so it may be behind, damaged or gone. Of some kinds
the store keeps no attributes at all; of those the index is where they are kept.

Changes are collected by directory. What nobody waits for is written after a while, and
the longer that took, the longer is the pause before the next time, so that the index
takes a tenth of the time at most. Who waits (`change`) is served at once, together with
everybody who came while the write before was under way. A write that others overtook is
merged with theirs and tried again; one that failed is tried again later, after pauses
that grow, unless somebody waited and was told.

Tasks run in a nursery of this class. Memory is bounded: when too much waits, what is
learnt is dropped, which costs requests later and nothing else.
"""

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import trio

from mountfs.cache.index_format import (
    PREFIX,
    SHARD_ENTRIES_MAX,
    Change,
    Drop,
    Learnt,
    Set,
    Shard,
    UnknownFormat,
    entries_of,
    merged,
    owner,
)
from mountfs.cache.index_shards import Loaded, Shards, apart
from mountfs.cache.knowledge import split_key
from mountfs.cache.records import Record
from mountfs.storage.errors import PreconditionFailed, StoreError, VersionChanged
from mountfs.storage.parallel import run_all
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, because, current_reason
from mountfs.storage.types import Object, ObjectKind

log = logging.getLogger(__name__)

ENTRIES_MAX = 50_000
"""How many entries are kept in memory, besides those in use."""
DELAY_S = 2.0
PAUSE_MAX_S = 60.0
PAUSE_FACTOR = 10
"""A pause is this many times as long as the write before it."""
DRAIN_S = 20.0
TRIES_MAX = 10
BACKOFF_S = 0.05
WRITES_AT_ONCE = 4
MOVES_AT_ONCE = 32
_RESERVED = PREFIX.partition("/")[0] + "/"
WAITING_MAX = 10_000
"""How many directories may wait; notes of others are dropped."""
NOTES_MAX = 200_000
"""How many notes may wait, of all directories; more are dropped."""


@dataclass(slots=True, eq=False)
class _Ticket:
    """Somebody who waits for a change."""

    reason: Reason
    done: trio.Event = field(default_factory=trio.Event)
    error: StoreError | None = None


@dataclass(slots=True, eq=False)
class _Waiting:
    """The changes of one directory that are not in the store yet."""

    changes: dict[str, Change] = field(default_factory=dict)
    sending: dict[str, Change] = field(default_factory=dict)
    tickets: list[_Ticket] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    """The names whose changes somebody waits for."""
    is_urgent: trio.Event = field(default_factory=trio.Event)
    is_removed: bool = False
    """Whether the index is to be deleted before these changes."""
    pause_s: float = DELAY_S
    ended: trio.Event = field(default_factory=trio.Event)


class AttributeIndex:
    """The indexes of one store, for one set of gates.

    `kinds` are those whose attributes are kept nowhere else.
    """

    def __init__(
        self,
        store: Storager,
        gates: str,
        kinds: frozenset[ObjectKind] = frozenset(),
        *,
        ttl_s: float,
        is_read_only: bool = False,
        entries_max: int = ENTRIES_MAX,
        shard_entries_max: int = SHARD_ENTRIES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gates = gates
        self.kinds = kinds
        self._shards = Shards(store, ttl_s=ttl_s, entries_max=entries_max, clock=clock)
        self._is_read_only = is_read_only
        self._shard_entries_max = shard_entries_max
        self._waiting: dict[str, _Waiting] = {}
        self._noted = 0
        self._slots = trio.Semaphore(WRITES_AT_ONCE)
        self._is_closing = False
        self._has_failed = False
        self._nursery: trio.Nursery | None = None
        self._stack = AsyncExitStack()

    def believe_for(self, ttl_s: float) -> None:
        """Believe what is known for another time."""
        self._shards.believe_for(ttl_s)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what waits, for a while."""
        assert self._nursery is not None
        try:
            await self.drain()
        finally:
            self._nursery.cancel_scope.cancel()
            self._nursery = None
            await self._stack.aclose()
        if self._waiting:
            log.warning(
                "the attribute indexes of %d directories are behind", len(self._waiting)
            )

    async def drain(self) -> None:
        """Write what waits, each index once; return when that is done, or took long.

        From then on nothing waits for more to come.
        """
        self._is_closing = True
        with trio.move_on_after(DRAIN_S):
            for waiting in list(self._waiting.values()):
                waiting.is_urgent.set()
            for waiting in list(self._waiting.values()):
                await waiting.ended.wait()

    # --- asking ---------------------------------------------------------------------

    async def records(self, directory: str) -> Mapping[str, Record]:
        """Return what is known of a directory's entries, by name; unchecked."""
        shards = await self._shards.all(directory)
        found = await apart(len(shards) > 1, lambda: entries_of(shards))
        waiting = self._waiting.get(directory)
        if waiting is None:
            return found
        if waiting.is_removed:
            found = {}
        return merged(merged(found, waiting.sending), waiting.changes)

    async def record(self, directory: str, name: str) -> Record | None:
        """Return what is known of one entry; unchecked."""
        shards = _shards(await self._shards.owning(directory, [name]))
        number = owner(name, shards)
        found = shards[number].entries.get(name) if number in shards else None
        waiting = self._waiting.get(directory)
        if waiting is None:
            return found
        entries = {name: found} if found and not waiting.is_removed else {}
        for changes in (waiting.sending, waiting.changes):
            if name in changes:
                entries = merged(entries, {name: changes[name]})
        return entries.get(name)

    async def directories(self, below: str) -> list[str]:
        """Return the directories below a key that have an index."""
        found = {*await self._shards.directories(below), *self._waiting}
        return sorted(
            each for each in found if each.startswith(below) and each != below
        )

    # --- changing -------------------------------------------------------------------

    def changed(self, object: Object) -> None:
        """Note what a change of this mount has made of an object."""
        if object.kind in self.kinds or object.key.startswith(_RESERVED):
            return
        record = Record.of(object, self.gates)
        if record is not None:
            directory, name = split_key(object.key)
            self.note(directory, {name: Learnt(record)})

    def gone(self, key: str) -> None:
        """Note that this mount has removed an object."""
        if key.endswith("/") or key.startswith(_RESERVED):
            return
        directory, name = split_key(key)
        self.note(directory, {name: Drop()})

    def note(self, directory: str, changes: Mapping[str, Change]) -> None:
        """Write some changes when it suits; nobody waits for them."""
        waiting = self._begin(directory)
        if waiting is None:
            return
        for name, change in changes.items():
            if name in waiting.changes:
                if _supersedes(change, waiting, name):
                    waiting.changes[name] = change
            elif self._noted < NOTES_MAX:
                self._noted += 1
                waiting.changes[name] = change

    async def change(self, directory: str, changes: Mapping[str, Change]) -> None:
        """Write some changes, and return when the store has them.

        An index that is not ours to change is left as it is. Raises what the store
        raises; then nothing of it is tried again.
        """
        waiting = self._begin(directory, is_needed=True)
        if waiting is None:
            return
        ticket = _Ticket(current_reason())
        self._noted += len(changes.keys() - waiting.changes.keys())
        waiting.changes |= changes
        waiting.asked |= changes.keys()
        waiting.tickets.append(ticket)
        waiting.is_urgent.set()
        await ticket.done.wait()
        if ticket.error is not None:
            raise ticket.error

    def made(self, directory: str) -> None:
        """Note that a directory was made here: its index need not be read first."""
        self._shards.note_new(directory)

    def forget(self, directory: str) -> None:
        """Delete the index of a directory that is gone, when it suits."""
        waiting = self._begin(directory)
        if waiting is not None:
            self._noted -= len(waiting.changes)
            waiting.changes.clear()
            waiting.is_removed = True

    async def renamed(self, old: str, new: str, below: Iterable[str]) -> None:
        """Keep what is kept only here for a directory that gets a new key.

        `below` are the keys of all directories under the old one. Nothing is taken
        from the old keys: `forget` them when the directory has moved.
        """
        if not self.kinds:
            return
        moves = [partial(self._carry, old, new, each) for each in {old, *below}]
        await run_all(moves, at_once=MOVES_AT_ONCE)
        (parent, name), (new_parent, new_name) = split_key(old), split_key(new)
        record = await self.record(parent, name)
        if record is not None and record.kind in self.kinds:
            await self.change(new_parent, {new_name: Set(record)})

    async def _carry(self, old: str, new: str, directory: str) -> None:
        records = await self.records(directory)
        kept: dict[str, Change] = {
            name: Set(record)
            for name, record in records.items()
            if record.kind in self.kinds
        }
        if kept:
            await self.change(new + directory.removeprefix(old), kept)

    def _begin(self, directory: str, *, is_needed: bool = False) -> _Waiting | None:
        """Return where to put the changes of a directory; None if they are dropped."""
        if self._is_read_only or self._nursery is None:
            return None
        waiting = self._waiting.get(directory)
        if waiting is None:
            if len(self._waiting) >= WAITING_MAX and not is_needed:
                return None
            waiting = self._waiting[directory] = _Waiting()
        elif waiting.ended.is_set():  # given up, at the end
            waiting.ended = trio.Event()
        else:
            return waiting
        self._nursery.start_soon(self._write_on, directory, waiting)
        return waiting

    # --- writing --------------------------------------------------------------------

    async def _write_on(self, directory: str, waiting: _Waiting) -> None:
        """Write the changes of one directory until none come any more."""
        try:
            while True:
                if not self._is_closing:
                    with trio.move_on_after(waiting.pause_s):
                        await waiting.is_urgent.wait()
                if not (waiting.changes or waiting.tickets or waiting.is_removed):
                    del self._waiting[directory]
                    return
                is_written = await self._write_waiting(directory, waiting)
                if not is_written and self._is_closing:
                    return
        finally:
            waiting.ended.set()

    async def _write_waiting(self, directory: str, waiting: _Waiting) -> bool:
        """Write what waits now; tell those who wait. Return whether it is written."""
        waiting.is_urgent = trio.Event()
        waiting.sending, waiting.changes = waiting.changes, {}
        self._noted -= len(waiting.sending)
        tickets, waiting.tickets = waiting.tickets, []
        asked, waiting.asked = waiting.asked, set()
        began_s = trio.current_time()
        failure: StoreError | None = None
        try:
            with because(_reason_of(tickets)):
                await self._write(directory, waiting, is_urgent=bool(tickets))
        except StoreError as error:
            failure = error
        except Exception as error:  # whatever it is, it must not cost the mount
            log.exception("a bug in mountfs: the index of %r is not written", directory)
            failure = StoreError(str(error))
        for ticket in tickets:
            ticket.error = failure
            ticket.done.set()
        if failure is not None:
            self._note_failure(directory, failure)
            left = {n: c for n, c in waiting.sending.items() if n not in asked}
            self._noted += len(left.keys() - waiting.changes.keys())
            waiting.changes = left | waiting.changes
            waiting.pause_s = min(2 * waiting.pause_s, PAUSE_MAX_S)
        else:
            took_s = trio.current_time() - began_s
            waiting.pause_s = min(max(DELAY_S, PAUSE_FACTOR * took_s), PAUSE_MAX_S)
        waiting.sending = {}
        return failure is None

    async def _write(
        self, directory: str, waiting: _Waiting, *, is_urgent: bool
    ) -> None:
        if is_urgent:
            await self._apply(directory, waiting)
        else:
            async with self._slots:
                await self._apply(directory, waiting)

    async def _apply(self, directory: str, waiting: _Waiting) -> None:
        if waiting.is_removed:
            await self._shards.remove(directory)
            waiting.is_removed = False
        left: Mapping[str, Change] = waiting.sending
        try:
            for attempt in range(TRIES_MAX):
                if attempt:
                    share = random.random()  # noqa: S311  # spreads writers, no secret
                    await trio.sleep(BACKOFF_S * 2**attempt * share)
                left = await self._try(directory, left, anew=attempt > 0)
                if not left:
                    return
        except UnknownFormat:
            return
        raise VersionChanged("others change the attribute index all the time")

    async def _try(
        self, directory: str, changes: Mapping[str, Change], *, anew: bool
    ) -> dict[str, Change]:
        """Write changes; return those that others overtook."""
        anew = anew or not self._shards.is_conditional
        loaded = await self._shards.owning(
            directory, changes, anew=anew, may_be_old=True
        )
        shards = _shards(loaded)
        parts: dict[int, dict[str, Change]] = {}
        for name, change in changes.items():
            parts.setdefault(owner(name, shards), {})[name] = change
        overtaken: dict[str, Change] = {}
        for number, part in parts.items():
            after = merged(_entries(loaded[number]), part)
            if after == _entries(loaded[number]):
                if not (anew or self._shards.is_fresh(loaded[number])):
                    overtaken |= part  # it may be another by now
                continue
            try:
                await self._replace(directory, loaded, number, after)
            except PreconditionFailed:
                overtaken |= part
        return overtaken

    async def _replace(
        self,
        directory: str,
        loaded: Mapping[int, Loaded],
        number: int,
        after: Mapping[str, Record],
    ) -> None:
        count = 1 if number == 0 else _count(loaded)
        shard = loaded[number].shard or Shard(number, count)
        new = Shard(number, shard.count, after)
        await self._shards.replace(directory, loaded[number], new)
        if len(after) > self._shard_entries_max:
            try:
                await self._shards.divide(directory)
            except PreconditionFailed:
                log.debug("the attribute index of %r is divided later", directory)

    def _note_failure(self, directory: str, error: StoreError) -> None:
        level = logging.DEBUG if self._has_failed else logging.WARNING
        self._has_failed = True
        log.log(
            level,
            "the attribute index of %r cannot be written for now: %s",
            directory,
            error,
        )


def _reason_of(tickets: list[_Ticket]) -> Reason:
    reasons = {ticket.reason for ticket in tickets}
    if Reason.FOREGROUND in reasons:
        return Reason.FOREGROUND
    return next(iter(reasons), Reason.INDEX)


def _supersedes(change: Change, waiting: _Waiting, name: str) -> bool:
    """Tell whether a change that nobody waits for replaces one that still waits."""
    match change:
        case Drop(over):
            return over is None
        case _:
            return name not in waiting.asked


def _shards(loaded: Mapping[int, Loaded]) -> dict[int, Shard]:
    return {n: each.shard for n, each in loaded.items() if each.shard is not None}


def _entries(loaded: Loaded) -> Mapping[str, Record]:
    return loaded.shard.entries if loaded.shard is not None else {}


def _count(loaded: Mapping[int, Loaded]) -> int:
    first = loaded[0].shard
    return first.count if first is not None else 1
