"""Whether a store can be reached, as one state with a cause.

    ONLINE    requests are answered
    DEGRADED  some fail; all are still sent
    OFFLINE   the store is out of reach: whether requests wait or fail is a policy

The state follows from the outcomes of requests, in order, and changes with hysteresis:
one lost reply changes nothing; OFFLINE takes several failures in a row over some time
and no answer between them; and ONLINE takes several answers in a row. An answer is
whatever the store itself said, "no such object" included. One object that is stuck
therefore takes nothing offline while others, or a probe, are answered.

A store that is out of reach and one that rejects the credentials, or has lost the
bucket, are alike: no request can succeed until somebody has done something.

Nothing is sent here (see `mountfs.storage.watched`), and no time passes: all state is
in `Health`, which runs on the trio thread alone.
"""

import enum
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, assert_never

import trio

from mountfs.storage.errors import (
    Archived,
    BucketNotFound,
    CredentialsRejected,
    CredentialsRenewed,
    DirectoryNotEmpty,
    InvalidRequest,
    NotFound,
    Offline,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    ServiceFailed,
    StayedOffline,
    StoreError,
    Throttled,
    TimedOut,
    Unreachable,
    WrongKind,
)

log = logging.getLogger(__name__)


class State(enum.Enum):
    """How a store does."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"


class Cause(enum.Enum):
    """Why a store is not ONLINE, in words for the log."""

    SILENT = "the store does not answer"
    UNREACHABLE = "the store cannot be reached"
    FAILING = "the store answers with failures"
    CREDENTIALS = "the store rejects the credentials"
    BUCKET = "the bucket does not exist"

    @property
    def cure(self) -> str:
        """What a person can do about it."""
        return _CURES[self]

    @property
    def is_refusal(self) -> bool:
        """Whether the store can be reached, and will not until somebody acts."""
        return self in {Cause.CREDENTIALS, Cause.BUCKET}


_CURES = {
    Cause.SILENT: "check the network, and whether the service is up",
    Cause.UNREACHABLE: "check the network, the name service and --endpoint-url",
    Cause.FAILING: "wait, or ask who runs the service",
    Cause.CREDENTIALS: "renew them where they are kept; no new mount is needed",
    Cause.BUCKET: "create it again, or unmount",
}

_ANSWERS = (
    NotFound,
    PreconditionFailed,
    PermissionDenied,
    WrongKind,
    DirectoryNotEmpty,
    Archived,
    QuotaExceeded,
)
"""The errors that show a store in good health: it says no, and means it."""


def cause_of(error: StoreError) -> Cause | None:
    """Return what a failure says of the health of the store; None if nothing bad."""
    match error:
        case CredentialsRenewed():
            return None
        case CredentialsRejected():
            return Cause.CREDENTIALS
        case BucketNotFound():
            return Cause.BUCKET
        case TimedOut():
            return Cause.SILENT
        case Unreachable():
            return Cause.UNREACHABLE
        case ServiceFailed() | Throttled():
            return Cause.FAILING
        case _:
            return None


def is_answer(error: StoreError) -> bool:
    """Tell whether a failure shows that the store is well."""
    return isinstance(error, _ANSWERS) and cause_of(error) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """How much it takes to change the state."""

    degraded_after: int = 2
    """Failures in a row; a silence, which took a whole deadline, counts double."""
    offline_after: int = 3
    """Failures in a row ..."""
    offline_after_s: float = 2.0
    """... over at least so long."""
    refused_after: int = 2
    """Refusals in a row that mean OFFLINE, however soon."""
    online_after: int = 3
    """Answers in a row."""

    def __post_init__(self) -> None:
        counts = (
            self.degraded_after,
            self.offline_after,
            self.refused_after,
            self.online_after,
        )
        if min(counts) < 1 or not 0 <= self.offline_after_s < math.inf:
            raise InvalidRequest(f"these limits make no sense: {self}")


class Health:
    """The state of one store. What happened goes in; the state can be waited for."""

    def __init__(
        self,
        limits: HealthLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or HealthLimits()
        self._clock = clock
        self._state = State.ONLINE
        self._cause: Cause | None = None
        self._detail = ""
        self._since_s = clock()
        self._failures = 0
        self._failing_since_s = self._since_s
        self._was_reached = False
        self._answers = 0
        self._is_settled = True
        self._changed = trio.Event()

    # --- asking -----------------------------------------------------------------

    @property
    def state(self) -> State:
        """How the store does now."""
        return self._state

    @property
    def cause(self) -> Cause | None:
        """Why it is not ONLINE; None if it is."""
        return self._cause

    @property
    def reason(self) -> str | None:
        """Why it is not ONLINE, as a sentence; None if it is."""
        if self._cause is None:
            return None
        detail = f" ({self._detail})" if self._detail else ""
        return f"{self._cause.value}{detail}"

    @property
    def since_s(self) -> float:
        """For how long the state has been what it is."""
        return self._clock() - self._since_s

    @property
    def is_answering(self) -> bool:
        """Whether the last answers would do for ONLINE."""
        return self._answers >= self._limits.online_after

    async def wait_for(self, *states: State) -> None:
        """Return when the state is one of these; at once if it is."""
        while self._state not in states:
            await self._changed.wait()

    async def change(self) -> None:
        """Return when state or cause change."""
        await self._changed.wait()

    def refuse(self, *, has_waited: bool = False) -> NoReturn:
        """Raise what a request that is not sent is told; the store is not ONLINE."""
        assert self._cause is not None, "the store is ONLINE"
        told = self.reason or ""
        match self._cause:
            case Cause.CREDENTIALS:
                raise CredentialsRejected(told)
            case Cause.BUCKET:
                raise BucketNotFound(told)
            case Cause.SILENT | Cause.UNREACHABLE | Cause.FAILING:
                raise StayedOffline(told) if has_waited else Offline(told)
            case _ as never:
                assert_never(never)

    # --- learning ---------------------------------------------------------------

    def answered(self) -> None:
        """Take in that the store gave an answer."""
        self._failures = 0
        if self._state is State.ONLINE:
            return
        self._answers += 1
        if self.is_answering and self._is_settled:
            self._move(State.ONLINE, None)

    def failed(self, cause: Cause, detail: str = "") -> None:
        """Take in that a request failed, and how."""
        self._answers = 0
        is_reached = cause is Cause.FAILING
        if not self._failures or is_reached is not self._was_reached:
            self._failures, self._failing_since_s = 0, self._clock()
        self._was_reached = is_reached
        self._failures += 1
        if self._is_offline_by(cause):
            self._move(State.OFFLINE, cause, detail)
        elif self._state is State.OFFLINE:
            self._move(State.DEGRADED, cause, detail)  # it can be reached again
        elif self._state is State.DEGRADED or self._is_degraded_by(cause):
            self._move(State.DEGRADED, cause, detail)

    def begin_offline(self, cause: Cause, detail: str = "") -> None:
        """Begin OFFLINE; the store is not ONLINE before `settled` is called."""
        self._is_settled = False
        self._move(State.OFFLINE, cause, detail)

    def settled(self) -> None:
        """End what `begin_offline` began; the store must be answering."""
        self._is_settled = True
        if self.is_answering:
            self._move(State.ONLINE, None)

    def _is_degraded_by(self, cause: Cause) -> bool:
        weight = 2 if cause is Cause.SILENT or cause.is_refusal else 1
        return self._failures * weight >= self._limits.degraded_after

    def _is_offline_by(self, cause: Cause) -> bool:
        limits = self._limits
        if cause is Cause.FAILING:
            return False
        if self._state is State.OFFLINE:
            return True
        if cause.is_refusal:
            return self._failures >= limits.refused_after
        lasted_s = self._clock() - self._failing_since_s
        return (
            self._failures >= limits.offline_after
            and lasted_s >= limits.offline_after_s
        )

    def _move(self, state: State, cause: Cause | None, detail: str = "") -> None:
        if not self._is_settled:
            state = State.OFFLINE
        if (state, cause) == (self._state, self._cause):
            return
        lasted_s = self.since_s
        before, self._state = self._state, state
        self._cause, self._detail = cause, detail
        if before is not state:
            self._since_s = self._clock()
            self._answers = 0
        self._say(lasted_s)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _say(self, lasted_s: float) -> None:
        if self._cause is None:
            log.info("the store is ONLINE again after %.1f s", lasted_s)
            return
        log.log(
            logging.WARNING if self._state is State.OFFLINE else logging.INFO,
            "the store is %s: %s: %s",
            self._state.name,
            self.reason,
            self._cause.cure,
        )
