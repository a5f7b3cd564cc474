"""What a mount did between two looks at its counters: how often, how long, how much.

Pure. The counters only grow while a daemon lives (`mountfs.snapshot`); all rates and
latencies are made here, of two of them. A latency comes from a histogram: within its
bucket it is taken to be spread evenly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mountfs.snapshot import Counts, Durations, Snapshot
from mountfs.storage.counts import BOUNDS_S, Times

OK = "ok"
NO_FAILURES = frozenset(
    {
        OK,
        "not_found",
        "precondition_failed",
        "already_exists",
        "version_changed",
        "304",
        "404",
        "409",
        "412",
        "416",
        "ENOENT",
        "EEXIST",
        "ENODATA",
        "EOPNOTSUPP",
        "ENOSYS",
    }
)
"""Answers that say no in the course of things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One class of operations or requests."""

    name: str
    count: int
    per_s: float
    mean_s: float | None
    """None, as the next two, of a class of which none has ended."""
    p50_s: float | None
    p99_s: float | None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """How they ended: errno names, outcomes of the contract, or HTTP statuses."""

    @property
    def failed(self) -> int:
        """How many went wrong; a name that is not there is an answer."""
        return sum(
            count for name, count in self.outcomes.items() if not _is_answer(name)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was done in some seconds."""

    seconds: float
    operations: Sequence[Row] = ()
    """What the kernel asked."""
    calls: Sequence[Row] = ()
    """What the store was asked, each attempt, by class."""
    requests: Sequence[Row] = ()
    """What was sent to the service, by its name there."""
    sent_bytes: int = 0
    received_bytes: int = 0
    retries: int = 0
    cost: float | None = None
    """In US dollars; None if nobody knows what the service charges."""

    def per_s(self, count: int) -> float:
        """Return a rate."""
        return count / self.seconds


def usage_of(
    before: Snapshot, after: Snapshot, seconds: float, *, is_new: bool = False
) -> Usage:
    """Return what was done between two looks; `is_new`: since the mount began."""
    if is_new or after.started_s != before.started_s:
        before = Snapshot(started_s=after.started_s)
    seconds = max(seconds, 1e-6)
    cost = sum(after.cost.values()) - sum(before.cost.values())
    return Usage(
        seconds=seconds,
        operations=_rows(
            _difference(after.operations, before.operations),
            _spent(after.operation_times, before.operation_times),
            seconds,
        ),
        calls=_rows(
            _difference(after.calls, before.calls),
            _spent(after.call_times, before.call_times),
            seconds,
        ),
        requests=_rows(
            _difference(after.requests, before.requests),
            _spent(after.request_times, before.request_times),
            seconds,
        ),
        sent_bytes=after.sent_bytes - before.sent_bytes,
        received_bytes=after.received_bytes - before.received_bytes,
        retries=after.retries - before.retries,
        cost=cost if after.cost else None,
    )


def _rows(counts: Counts, spent: Durations, seconds: float) -> list[Row]:
    """Return a row for each name, the busiest first."""
    outcomes: dict[str, dict[str, int]] = {}
    for (name, outcome, *_), count in counts.items():
        ended = outcomes.setdefault(name, {})
        ended[outcome] = ended.get(outcome, 0) + count
    rows = []
    for name, ended in outcomes.items():
        times = spent.get(name, Times((), 0.0))
        count = sum(ended.values())
        rows.append(
            Row(
                name=name,
                count=count,
                per_s=count / seconds,
                mean_s=times.seconds / times.total if times.total else None,
                p50_s=quantile(times, 0.5),
                p99_s=quantile(times, 0.99),
                outcomes=dict(sorted(ended.items())),
            )
        )
    return sorted(rows, key=lambda row: (-row.count, row.name))


def quantile(times: Times, share: float) -> float | None:
    """Return how long it took at most in a share of the cases; None without any.

    What lasted longer than the last bound is told as that bound.
    """
    wanted, passed, lower_s = share * times.total, 0, 0.0
    for bound_s, count in zip(BOUNDS_S, times.buckets, strict=False):
        if count and passed + count >= wanted:
            return lower_s + (bound_s - lower_s) * (wanted - passed) / count
        passed, lower_s = passed + count, bound_s
    return BOUNDS_S[-1] if times.total else None


def _difference(after: Counts, before: Counts) -> Counts:
    return {
        labels: more
        for labels, count in after.items()
        if (more := count - before.get(labels, 0)) > 0
    }


def _spent(after: Durations, before: Durations) -> Durations:
    found: dict[str, Times] = {}
    for name, times in after.items():
        known = before.get(name)
        if known is None:
            found[name] = times
            continue
        buckets = _minus(times.buckets, known.buckets)
        found[name] = Times(buckets, max(times.seconds - known.seconds, 0.0))
    return found


def _minus(after: Iterable[int], before: Iterable[int]) -> tuple[int, ...]:
    return tuple(max(x - y, 0) for x, y in zip(after, before, strict=False))


def _is_answer(outcome: str) -> bool:
    is_done = outcome.isdigit() and outcome.startswith("2")
    return is_done or outcome in NO_FAILURES
