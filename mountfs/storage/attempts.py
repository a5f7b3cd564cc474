"""How often, how long and with what pauses a request is tried.

Two kinds of requests exist. An *idempotent* one may simply be sent again. One that
must take effect once is *resolvable*: when its answer was lost, a look at the store
tells whether it was carried out. Only then is it sent again; and when a second try is
refused because the first one won, the look turns the refusal into the success it is.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from mountfs.storage.deadline import seconds_left, within
from mountfs.storage.errors import (
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    StoreError,
    TimedOut,
    Unreachable,
)
from mountfs.storage.refusals import Refusals
from mountfs.storage.wire import note_retry

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found(Generic[_T]):
    """What a look found: the effect of our own request, as its answer."""

    answer: _T


Look = Callable[[], Awaitable[Found[_T] | None]]
"""Asks the store whether the request was carried out; None if it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds on the attempts of one request. Deadlines cover all attempts together."""

    attempts: int = 6
    backoff_base_s: float = 0.1
    backoff_max_s: float = 10.0
    metadata_s: float = 10.0
    read_s: float = 60.0
    write_s: float = 60.0
    copy_s: float = 600.0
    """copy, move, complete: the store moves bytes and may need minutes."""
    bytes_per_s: float = float(1 << 20)
    """The slowest transfer that is waited for, on top of `read_s` or `write_s`."""
    outage_attempts: float = 0
    """The attempts while the store is out of reach, if more; may be infinite."""
    outage_pause_max_s: float = 1.0
    """The longest pause between attempts while the store is out of reach."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.bytes_per_s <= 0 or self.backoff_base_s < 0:
            raise InvalidRequest(f"the policy makes no sense: {self}")

    def reading_s(self, size: int | None) -> float:
        """Return the deadline for reading `size` bytes."""
        return self.read_s + (size or 0) / self.bytes_per_s

    def writing_s(self, size: int) -> float:
        """Return the deadline for writing `size` bytes."""
        return self.write_s + size / self.bytes_per_s

    def backoff_s(self, attempt: int, share: float) -> float:
        """Return the pause after failed attempt `attempt` (from 1).

        The pause is `share` (0 to 1, drawn at random) of a bound that doubles.
        """
        doublings = min(attempt - 1, 30)
        return share * min(self.backoff_max_s, self.backoff_base_s * 2.0**doublings)


class Attempts:
    """Sends requests again and again, within a policy."""

    def __init__(
        self,
        policy: RetryPolicy,
        chance: random.Random,
        refusals: Refusals | None = None,
    ) -> None:
        """`refusals` is told of what was not answered in time."""
        self._policy = policy
        self._chance = chance
        self._refusals = refusals

    async def repeat(
        self,
        request: Callable[[], Awaitable[_T]],
        *,
        what: str,
        key: str | None,
        deadline_s: float,
        may_be_ambiguous: bool = False,
    ) -> _T:
        """Send an idempotent request until it is answered.

        Raises the last error, or `TimedOut`. With `may_be_ambiguous` the request
        changes something, and the `TimedOut` says so.
        """
        attempt = 0
        with within(deadline_s):
            while True:
                attempt += 1
                try:
                    return await request()
                except StoreError as error:
                    if not await self._pause(error, attempt, what):
                        raise
        raise self._timed_out(what, key, deadline_s, is_ambiguous=may_be_ambiguous)

    async def once(
        self,
        request: Callable[[], Awaitable[_T]],
        *,
        what: str,
        key: str,
        deadline_s: float,
    ) -> _T:
        """Send a request again only while it was certainly not carried out."""
        attempt = 0
        with within(deadline_s):
            while True:
                attempt += 1
                try:
                    return await request()
                except StoreError as error:
                    if error.is_ambiguous:
                        raise
                    if not await self._pause(error, attempt, what):
                        raise
        raise self._timed_out(what, key, deadline_s, is_ambiguous=True)

    async def resolve(
        self,
        request: Callable[[], Awaitable[_T]],
        look: Look[_T],
        *,
        what: str,
        key: str,
        deadline_s: float,
        is_resumed: bool = False,
    ) -> _T:
        """Send a request so that it takes effect once, and tell truly whether it did.

        `is_resumed` says that the request may have been sent before, by an earlier
        process: then even the first refusal is looked into.
        """
        try:
            with within(deadline_s):
                return await self._resolve(request, look, what, is_resumed=is_resumed)
            raise self._timed_out(what, key, deadline_s, is_ambiguous=True)
        except StoreError as error:
            if not (error.is_ambiguous and error.is_retryable):
                raise
            # The time or the attempts are used up; whether the last one was carried
            # out is worth one more question.
            found = await self._look_after_all(look, error)
            if found is None:
                raise
            return found.answer

    async def _resolve(
        self,
        request: Callable[[], Awaitable[_T]],
        look: Look[_T],
        what: str,
        *,
        is_resumed: bool,
    ) -> _T:
        unanswered: StoreError | None = None
        attempt = 0
        while True:  # `_pause` counts the attempts and ends them
            attempt += 1
            try:
                found = await look() if unanswered is not None else None
                unanswered = None
                return await request() if found is None else found.answer
            except StoreError as error:
                if _is_refusal(error) and (attempt > 1 or is_resumed):
                    return await self._own_or_raise(look, error, what)
                if unanswered is not None and not error.is_retryable:
                    raise unanswered from error  # the look was refused
                if error.is_ambiguous and unanswered is None:
                    unanswered = error
                if not await self._pause(error, attempt, what):
                    if unanswered is None or unanswered is error:
                        raise
                    raise unanswered from error

    async def _own_or_raise(self, look: Look[_T], refusal: StoreError, what: str) -> _T:
        try:
            found = await self.repeat(
                look, what=what, key=refusal.key, deadline_s=self._policy.metadata_s
            )
        except StoreError as error:
            # Nobody knows whose object is there: no conflict may be claimed.
            error.is_ambiguous = True
            raise error from refusal
        if found is None:
            raise refusal
        return found.answer

    async def _look_after_all(
        self, look: Look[_T], failure: StoreError
    ) -> Found[_T] | None:
        try:
            with within(self._policy.metadata_s):
                return await look()
        except StoreError as error:
            _log.debug("no answer to the look after %s: %s", failure, error)
        return None

    async def _pause(self, error: StoreError, attempt: int, what: str) -> bool:
        """Wait before the next attempt; False if there is to be none."""
        most: float = self._policy.attempts
        is_outage = (
            isinstance(error, Unreachable) and self._policy.outage_attempts > most
        )
        if is_outage:
            most = self._policy.outage_attempts
        if not error.is_retryable or attempt >= most:
            return False
        pause_s = self._policy.backoff_s(attempt, self._chance.random())
        if is_outage:
            pause_s = min(pause_s, self._policy.outage_pause_max_s)
        pause_s = max(pause_s, error.retry_after_s or 0.0)
        if pause_s >= seconds_left():
            return False
        _log.debug("%s failed, again in %.3f s: %s", what, pause_s, error)
        await trio.sleep(pause_s)
        note_retry()
        return True

    def _timed_out(
        self, what: str, key: str | None, deadline_s: float, *, is_ambiguous: bool
    ) -> TimedOut:
        error = TimedOut(
            f"{what}: no answer within {deadline_s:g} s",
            key=key,
            is_ambiguous=is_ambiguous,
        )
        if self._refusals is not None:
            self._refusals.note(error)
        return error


def _is_refusal(error: StoreError) -> bool:
    return isinstance(error, NotFound | PreconditionFailed)
