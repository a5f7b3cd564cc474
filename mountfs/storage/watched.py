"""Feeds the health of a store with what becomes of requests, and acts upon it.

`HealthStorager` stands inside the retries, so that it sees each attempt, and outside
the limits, so that what waits for the store holds no place. While the store is OFFLINE
it sends nothing: a request waits for the store to its deadline, or fails at once, as
the policy says. A store that refuses (credentials, bucket) is not waited for: that is
for a person to mend, and the program is told at once.

`Prober` asks the store whether it is back, and sends nothing while it is ONLINE.
"""

import contextlib
import contextvars
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import trio

from mountfs.storage.deadline import seconds_left, within
from mountfs.storage.errors import CredentialsRejected, InvalidRequest, StoreError
from mountfs.storage.health import Cause, Health, State, cause_of, is_answer
from mountfs.storage.passage import PassageStorager, RequestClass
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import Reason, because
from mountfs.storage.refusals import Refusals
from mountfs.storage.types import OfflinePolicy

log = logging.getLogger(__name__)

_LAST_MOMENT_S = 0.05
"""So long before its deadline a request that waits is told why it waited."""
_DOUBT_S = 10.0
"""How often a refusal without a reason is looked into."""


_is_admitted: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "mountfs_admitted", default=False
)


@contextlib.contextmanager
def admitted() -> Iterator[None]:
    """Send the requests of this block although the store is OFFLINE."""
    token = _is_admitted.set(True)
    try:
        yield
    finally:
        _is_admitted.reset(token)


class HealthStorager(PassageStorager):
    """Watches every request; sends none while the store is OFFLINE."""

    def __init__(self, inner: Storager, health: Health, policy: OfflinePolicy) -> None:
        super().__init__(inner)
        self._health = health
        self._policy = policy
        self.refusals = Refusals()
        """What failed last, by key."""
        self._waits_until = math.inf
        self._doubted_at = -math.inf

    def wait_no_longer_than(self, seconds: float) -> None:
        """From now on let all waiting for the store end after so long, in total."""
        self._waits_until = trio.current_time() + seconds

    @contextlib.asynccontextmanager
    async def _passing(self, kind: RequestClass) -> AsyncIterator[None]:
        await self._admission()
        try:
            yield
        except trio.Cancelled:
            if seconds_left() <= 0:  # its deadline, not a program that went away
                self._health.failed(Cause.SILENT, f"no answer to a {kind.value}")
            raise
        except StoreError as error:
            self._judge(error)
            self.refusals.note(error)
            if error.is_unexplained:
                await self._doubt()
            raise
        else:
            self._health.answered()

    async def _admission(self) -> None:
        """Return when a request may be sent; raise what it is told if it may not."""
        if not self._is_offline() or _is_admitted.get():
            return
        until = min(self._waits_until, trio.current_time() + seconds_left())
        with trio.move_on_at(until - _LAST_MOMENT_S):
            while self._is_offline() and self._may_wait():
                await self._health.change()
        if self._is_offline():
            self._health.refuse(has_waited=self._may_wait())

    @property
    def trouble(self) -> str | None:
        """Why nothing is sent now; None if requests are."""
        return self._health.reason if self._is_offline() else None

    def _is_offline(self) -> bool:
        return self._health.state is State.OFFLINE

    def _may_wait(self) -> bool:
        cause = self._health.cause
        is_refused = cause is not None and cause.is_refusal
        return self._policy is OfflinePolicy.WAIT and not is_refused

    def _judge(self, error: StoreError) -> None:
        cause = cause_of(error)
        if cause is not None:
            self._health.failed(cause, error.reason)
        elif is_answer(error):
            self._health.answered()

    async def _doubt(self) -> None:
        """Ask whether the credentials are why a request was refused without a word.

        The answer to some requests has no room for a reason. Raises it if it is that.
        """
        if _is_admitted.get() or trio.current_time() < self._doubted_at + _DOUBT_S:
            return
        self._doubted_at = trio.current_time()
        try:
            await self.ask()
        except CredentialsRejected:
            self._doubted_at = -math.inf
            raise
        except StoreError as error:
            log.debug("the credentials are not to blame: %s", error)

    async def ask(self) -> None:
        """Ask the store for something small, whatever its state; its health learns."""
        with admitted(), because(Reason.HEALTH):
            await self.list("", limit=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLimits:
    """How often, and how long, a store that fails is asked."""

    answer_s: float = 5.0
    pause_min_s: float = 0.25
    pause_max_s: float = 5.0
    confirmation_pause_s: float = 0.05
    """After an answer, until there are enough of them."""

    def __post_init__(self) -> None:
        if not 0 < self.pause_min_s <= self.pause_max_s or self.answer_s <= 0:
            raise InvalidRequest(f"these limits make no sense: {self}")


class Prober:
    """Asks a store that has failed whether it is back."""

    def __init__(
        self,
        store: HealthStorager,
        health: Health,
        *,
        settle: Callable[[], Awaitable[None]] | None = None,
        limits: ProbeLimits | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """`settle` is what must be done when a store that was offline from the
        beginning answers for the first time, before it is ONLINE.
        """
        self._store = store
        self._health = health
        self._settle = settle
        self._limits = limits or ProbeLimits()
        self._chance = chance or random.SystemRandom()

    async def run(self) -> None:
        """Ask while the store is not ONLINE; until cancelled."""
        while True:
            await self._health.wait_for(State.DEGRADED, State.OFFLINE)
            await self._recover()

    async def _recover(self) -> None:
        attempt = 0
        state = self._health.state
        while self._health.state is not State.ONLINE:
            if self._health.state is not state:
                attempt, state = 0, self._health.state
            await trio.sleep(self._pause_s(attempt))
            attempt = 0 if await self._is_answered() else attempt + 1

    def _pause_s(self, attempt: int) -> float:
        limits = self._limits
        if not attempt:
            return limits.confirmation_pause_s
        longest = min(limits.pause_max_s, limits.pause_min_s * 2.0 ** min(attempt, 30))
        return limits.pause_min_s + self._chance.random() * (
            longest - limits.pause_min_s
        )

    async def _is_answered(self) -> bool:
        is_answered = False
        with within(self._limits.answer_s):
            try:
                await self._store.ask()
                is_answered = True
            except StoreError as error:
                is_answered = is_answer(error)
        return is_answered and await self._is_settled()

    async def _is_settled(self) -> bool:
        """Do what must be done before the store is ONLINE for the first time."""
        if self._settle is None or not self._health.is_answering:
            return True
        try:
            with admitted():
                await self._settle()
        except StoreError as error:
            log.warning("the store answered and then failed: %s", error)
            return False
        self._settle = None
        self._health.settled()
        return True
