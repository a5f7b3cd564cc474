"""Counts what a store is asked, how that ends and how long it takes.

Two things are counted. A *call* is an operation of the storage contract, each attempt
of it: every store has them, and their outcomes are those of the contract. An *exchange*
is a request over the wire, which is what a service sends a bill for; one call takes
one, several, or none.
"""

import http
import threading
import time
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from mountfs.storage.counts import Tally, Times, Timings
from mountfs.storage.errors import StoreError
from mountfs.storage.passage import PassageStorager, RequestClass
from mountfs.storage.protocol import Storager
from mountfs.storage.reason import current_reason
from mountfs.storage.tracing import Tracer
from mountfs.storage.wire import Exchange

OK = "ok"
CANCELLED = "cancelled"
FAILED = "error"
"""An error that is none of the contract."""
NO_ANSWER = "none"
OTHER = "other"

Labels = tuple[str, ...]

_STATUSES = frozenset(status.value for status in http.HTTPStatus)


class Meter:
    """The counters of one store. Exchanges may come from any thread."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self._lock = threading.Lock()
        self._calls: Tally[Labels] = Tally((OTHER, OTHER, OTHER))
        self._call_times = {each: Timings() for each in RequestClass}
        self._exchanges: Tally[Labels] = Tally((OTHER, OTHER, OTHER))
        self._exchange_times: dict[str, Timings] = {}
        self._sent_bytes = 0
        self._received_bytes = 0
        self._retries = 0

    # --- counting ---------------------------------------------------------------

    def called(self, kind: RequestClass, outcome: str, seconds: float) -> None:
        """Count a call; on the trio thread."""
        self._calls.add((kind.value, outcome, current_reason().value))
        self._call_times[kind].note(seconds)

    def exchanged(self, exchange: Exchange) -> None:
        """Count a request over the wire."""
        status = _status_of(exchange.status)
        with self._lock:
            self._exchanges.add((exchange.request, status, exchange.reason.value))
            self._sent_bytes += exchange.sent_bytes
            self._received_bytes += exchange.received_bytes
            times = self._exchange_times.get(exchange.request)
            if times is None:
                times = self._exchange_times[exchange.request] = Timings()
            times.note(exchange.seconds)
        if self.tracer.is_on:
            self.tracer.exchanged(exchange)

    def retried(self) -> None:
        """Count one more attempt; on the trio thread."""
        self._retries += 1
        if self.tracer.is_on:
            self.tracer.retried()

    # --- asking -----------------------------------------------------------------

    def calls(self) -> dict[Labels, int]:
        """Return how many calls there were by class, outcome and reason."""
        return self._calls.counts()

    def call_times(self) -> dict[str, Times]:
        """Return how long the calls of each class took, without waiting for a turn."""
        return {kind.value: each.times() for kind, each in self._call_times.items()}

    def exchanges(self) -> dict[Labels, int]:
        """Return how many requests were sent by kind, HTTP status and reason."""
        with self._lock:
            return self._exchanges.counts()

    def exchange_times(self) -> dict[str, Times]:
        """Return how long the requests of each kind took."""
        with self._lock:
            return {name: each.times() for name, each in self._exchange_times.items()}

    @property
    def wire_bytes(self) -> tuple[int, int]:
        """How many bytes of bodies were sent and received, failed attempts included."""
        with self._lock:
            return self._sent_bytes, self._received_bytes

    @property
    def retries(self) -> int:
        """How often a call was made again."""
        return self._retries


class CountedStorager(PassageStorager):
    """Counts every call that passes."""

    def __init__(self, inner: Storager, meter: Meter) -> None:
        super().__init__(inner)
        self._meter = meter

    def _passing(self, kind: RequestClass) -> AbstractAsyncContextManager[None]:
        return _Call(self._meter, kind)


class _Call:
    """One call under way. A class, because a generator would cost more than it does."""

    __slots__ = ("_begun_s", "_kind", "_meter")

    def __init__(self, meter: Meter, kind: RequestClass) -> None:
        self._meter = meter
        self._kind = kind
        self._begun_s = 0.0

    async def __aenter__(self) -> None:
        self._begun_s = time.monotonic()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self._begun_s
        self._meter.called(self._kind, outcome_of(error), seconds)


def outcome_of(error: BaseException | None) -> str:
    """Return how a call ended, as one word of a bounded number."""
    if error is None:
        return OK
    if isinstance(error, StoreError):
        return _snake(type(error).__name__)
    return FAILED if isinstance(error, Exception) else CANCELLED


def _snake(name: str) -> str:
    spaced = "".join(f"_{each}" if each.isupper() else each for each in name)
    return spaced.strip("_").lower()


def _status_of(status: int) -> str:
    """Return a status as a label: a service may say any number."""
    if status == 0:
        return NO_ANSWER
    return str(status) if status in _STATUSES else OTHER
