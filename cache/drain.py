"""Carries the entries of a ledger out, in the background.

Entries that are due, and that nothing older must come before, take off: many at once,
deletes in batches, one at a time for each name. What they ask the store for is read in
`mountfs.cache.carrier`, what becomes of those that fail in `mountfs.cache.setbacks`.

A request is on the wire only while its entry has a flight. After a crash the next mount
finds the entry in the journal, and carries it out again, to the same effect.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Self

import trio

from mountfs.cache.carrier import Carrier
from mountfs.cache.demand import Demand
from mountfs.cache.entries import Copy, Entry
from mountfs.cache.hooks import Hooks
from mountfs.cache.incidents import Incidents
from mountfs.cache.landing import Landing
from mountfs.cache.ledger import AGE_MAX_S, Ledger
from mountfs.cache.setbacks import RETRY_MIN_S, Setbacks
from mountfs.cache.settling import Settling
from mountfs.storage.errors import StoreError
from mountfs.storage.health import State
from mountfs.storage.reason import Reason, because

log = logging.getLogger(__name__)

FLIGHTS_MAX = 32
FLIGHTS_BESIDE = 8
"""So many while programs ask for anything: each takes processor time from them."""
PASSING_TRIES = 2
"""How often the end of a mount tries what fails for a reason that may pass."""
OFFLINE_GRACE_S = 10.0
"""How long the end of a mount waits for a store that is out of reach."""


class Drain:
    """Empties a ledger into its store, for as long as it is entered."""

    def __init__(
        self, ledger: Ledger, settling: Settling, incidents: Incidents, hooks: Hooks
    ) -> None:
        self._ledger = ledger
        self._settling = settling
        self._health = hooks.health
        self.demand = Demand(hooks.activity)
        landing = Landing(ledger)
        self._setbacks = Setbacks(ledger, landing, incidents, hooks)
        self._carrier = Carrier(ledger, landing, self._setbacks)
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
        return self._health.state is not State.OFFLINE

    async def empty(self) -> bool:
        """Carry everything out but what is local-only; tell whether that was possible.

        Returns when nothing waits, when all that waits has been tried and failed, twice
        if that may pass, or when the store is and stays out of reach; in the
        first two cases with nothing in flight, since a flight has something to tell
        after its entry has gone.
        """
        table = self._ledger.table
        attempts = {entry.id: entry.attempts for entry in table}
        self.begin()
        self._settling.hurry()
        while (waiting := self._waiting()) or self._flights:
            look = self._ledger.news.look()
            tried = [
                entry.flight is None and _has_failed(entry, attempts.get(entry.id, 0))
                for entry in waiting
                if table.may_be_tried(entry)
            ]
            if all(tried) and waiting and not self._flights:
                return False
            if not self._is_reachable:
                with trio.move_on_after(OFFLINE_GRACE_S):
                    await self._health.wait_for(State.ONLINE, State.DEGRADED)
                if not self._is_reachable:
                    return False
            self._hurry(attempts)
            await look.wait_for_news()
        return True

    def _hurry(self, attempts: dict[int, int]) -> None:
        """Make due at once what was not tried since, and soon what may be tried twice.

        What has failed waits as ever: it must not take the flights of all others.
        """
        now_s = self._ledger.now_s()
        is_news = False
        for entry in self._waiting():
            before = attempts.get(entry.id, 0)
            if _has_failed(entry, before):
                continue
            is_new = entry.attempts <= before
            latest_s = now_s if is_new else now_s + RETRY_MIN_S
            if entry.due_s > latest_s:
                entry.due_s = latest_s
                is_news = True
        if is_news:
            self._ledger.burst.cut_short()
            self._ledger.news.tell()

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
                await self._health.change()
                continue
            await self._ledger.burst.over()
            next_s = self._take_off()
            if not self._flights:  # else what lands makes room, or a way, for others
                await self._ledger.burst.rest()
            with trio.move_on_after(max(0.0, next_s - self._ledger.now_s())):
                await look.wait_for_news()

    def _take_off(self) -> float:
        """Start what may start; return when the next entry is due."""
        ledger, now_s = self._ledger, self._ledger.now_s()
        next_s = float("inf")
        removals: list[Entry] = []
        may_grow = False
        flights_max = self._flights_max
        for entry in ledger.table:
            if self._flights >= flights_max:
                may_grow = self._copies > 0
                break
            if entry.flight is not None or ledger.locks.is_held(entry.key):
                continue
            if entry.is_local_only:
                continue
            due_s = self._due_s(entry)
            if entry.is_removal and self._carrier.may_be_in_batch(entry):
                removals.append(entry)
            elif due_s <= now_s and ledger.table.may_be_tried(entry):
                self._start([entry], self._carrier.carry_out)
            if due_s > now_s:
                next_s = min(next_s, due_s)
        return min(next_s, self._take_off_together(removals, may_grow=may_grow))

    @property
    def _flights_max(self) -> int:
        is_beside = self.demand.is_there() and not self._ledger.burst.is_cut_short
        return FLIGHTS_BESIDE if is_beside else FLIGHTS_MAX

    def _take_off_together(self, waiting: list[Entry], *, may_grow: bool) -> float:
        """Start what is to be removed, or return until when more may come."""
        now_s = self._ledger.now_s()
        # While a program removes one name after the other this is asked again and
        # again, of ever more of them: nothing is looked into before it is time.
        if not any(self._due_s(entry) <= now_s for entry in waiting):
            return float("inf")
        removals: list[Entry] = []
        for entry in waiting:
            if not self._ledger.table.is_blocked(entry):
                removals.append(entry)
            elif not may_grow:
                may_grow = self._is_being_copied(entry)
        due = [entry for entry in removals if self._due_s(entry) <= now_s]
        if not due:
            return float("inf")
        if may_grow and (until_s := min(e.since_s for e in due) + AGE_MAX_S) > now_s:
            return until_s  # those of a directory go together
        removals = self._with_all_below(removals)
        if removals:
            self._start(removals, self._carrier.remove_all)
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
            self._note_failures(entries, error)
        except OSError as error:
            self._note_failures(entries, StoreError(str(error), is_ambiguous=True))
        except Exception as error:
            log.exception("a bug in mountfs: %r could not be stored", entries[0].key)
            self._note_failures(entries, StoreError(str(error), is_ambiguous=True))
        finally:
            self._flights -= 1
            self._copies -= is_copy
            for entry in entries:
                entry.flight = None
            self._ledger.news.tell()

    def _note_failures(self, entries: list[Entry], error: StoreError) -> None:
        for entry in entries:
            self._setbacks.note_failure(entry, error)


def _has_failed(entry: Entry, before: int) -> bool:
    """Tell whether the attempts since so many show that another is of no use now.

    A store that is busy answers one request too late, and the next in time.
    """
    is_passing = entry.error is not None and entry.error.is_retryable
    return entry.attempts >= before + (PASSING_TRIES if is_passing else 1)
