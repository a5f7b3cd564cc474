"""The metrics of a mount as Prometheus reads them.

What is counted is counted elsewhere, in plain numbers; here it gets its names, when
somebody asks for it. `docs/reference/metrics.md` describes each of them.

Labels never carry the name of a file, and have few values, so that a mount is some
hundreds of series however long it lives.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mountfs import __version__
from mountfs.configuration.prices import READ, WRITE
from mountfs.snapshot import Counts, Durations, Snapshot
from mountfs.status import State, Status
from mountfs.storage.counts import BOUNDS_S

PREFIX = "mountfs_"
STORE_STATES = ("online", "degraded", "offline")
_DIGITS = 9


class Look(NamedTuple):
    """A mount at one moment."""

    status: Status
    snapshot: Snapshot


def exposition(look: Look) -> str:
    """Return the metrics in Prometheus's text format."""
    return generate_latest(registry_of(look)).decode()


def registry_of(look: Look) -> CollectorRegistry:
    """Return the metrics, and those of the process, for an encoder."""
    registry = CollectorRegistry()
    registry.register(_Collector(look))
    ProcessCollector(registry=registry)
    return registry


class _Collector(Collector):
    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        yield from families(self._look)


def families(look: Look) -> Iterator[Metric]:
    """Yield every metric, those that nothing was counted of yet included."""
    yield from _about_the_mount(look)
    yield from _about_operations(look)
    yield from _about_the_store(look)
    yield from _about_the_cache(look.status)
    yield from _about_what_waits(look)


def _about_the_mount(look: Look) -> Iterator[Metric]:
    status = look.status
    yield InfoMetricFamily(
        f"{PREFIX}build", "Which mountfs this is.", {"version": __version__}
    )
    yield InfoMetricFamily(
        f"{PREFIX}mount",
        "What is mounted where.",
        {
            "url": _text(status.url),
            "mount_point": _text(status.mount_point),
            "durability": status.durability,
        },
    )
    yield _gauge(
        "start_time_seconds",
        "When the mount began, in seconds since 1970.",
        look.snapshot.started_s,
    )
    yield _states(
        "state",
        "Where the mount stands: mounted, draining or done.",
        tuple(each.value for each in State),
        status.state.value,
    )
    yield _gauge(
        "needs_attention",
        "1 if somebody should look at the mount (`mountfs status` says why).",
        status.needs_attention,
    )
    yield _gauge("inodes", "Names that are kept in memory.", status.names)
    yield _gauge("open_files", "Files that are open.", look.snapshot.open_files)


def _text(text: str) -> str:
    """Return what can be written as UTF-8: a path may hold any byte."""
    return text.encode(errors="backslashreplace").decode()


def _about_operations(look: Look) -> Iterator[Metric]:
    activity, snapshot = look.status.activity, look.snapshot
    yield _counters(
        "operations_total",
        "What the kernel asked for, by what it ended with: ok or an errno.",
        ("operation", "outcome"),
        snapshot.operations,
    )
    yield _histogram(
        "operation_duration_seconds",
        "How long the kernel waited for an operation.",
        "operation",
        snapshot.operation_times,
    )
    yield _counter(
        "read_bytes_total",
        "Bytes given to the kernel; what it reads from its page cache is not here.",
        activity.read_bytes,
    )
    yield _counter(
        "written_bytes_total", "Bytes taken from the kernel.", activity.written_bytes
    )
    yield _counter(
        "pushed_bytes_total",
        "Bytes given to the kernel before it asked.",
        activity.pushed_bytes,
    )


def _about_the_store(look: Look) -> Iterator[Metric]:
    status, snapshot = look.status, look.snapshot
    yield _states(
        "store_state",
        "How the store does: online, degraded or offline.",
        STORE_STATES,
        status.store_state,
    )
    yield _counters(
        "store_calls_total",
        "Operations asked of the store, each attempt, by what they ended with.",
        ("class", "outcome", "reason"),
        snapshot.calls,
    )
    yield _histogram(
        "store_call_duration_seconds",
        "How long the store took for an operation.",
        "class",
        snapshot.call_times,
    )
    yield _counters(
        "store_requests_total",
        "Requests sent to the service, by its name for them and the HTTP status"
        " (none: no answer came).",
        ("request", "status", "reason"),
        snapshot.requests,
    )
    yield _histogram(
        "store_request_duration_seconds",
        "How long the service took for a request.",
        "request",
        snapshot.request_times,
    )
    yield _counter(
        "store_retries_total", "Operations that were tried again.", snapshot.retries
    )
    yield from _about_bytes(look)
    yield _cost(snapshot.cost)


def _about_bytes(look: Look) -> Iterator[Metric]:
    activity, snapshot = look.status.activity, look.snapshot
    yield _counter(
        "store_uploaded_bytes_total",
        "Bytes of files that were stored; each counts once, whatever it took.",
        activity.uploaded_bytes,
    )
    yield _counter(
        "store_fetched_bytes_total",
        "Bytes of files that the store brought.",
        activity.fetched_bytes,
    )
    yield _counter(
        "store_sent_bytes_total",
        "Bytes of bodies sent over the wire, failed attempts included.",
        snapshot.sent_bytes,
    )
    yield _counter(
        "store_received_bytes_total",
        "Bytes of bodies received over the wire, failed attempts included.",
        snapshot.received_bytes,
    )


def _about_the_cache(status: Status) -> Iterator[Metric]:
    activity = status.activity
    yield _gauge("cache_size_bytes", "What the cache holds.", status.cache_used)
    yield _gauge("cache_limit_bytes", "What it may hold.", status.cache_limit)
    yield _gauge(
        "cache_dirty_bytes",
        "What of it exists nowhere else: the store does not have it yet.",
        status.cache_dirty,
    )
    yield _counters(
        "cache_blocks_total",
        "Blocks of clean files that programs wanted, by whether they were here.",
        ("result",),
        {("hit",): activity.block_hits, ("miss",): activity.block_misses},
    )
    yield _counters(
        "cache_names_total",
        "Questions for a name or a directory, by whether the answer was known here.",
        ("result",),
        {("hit",): activity.metadata_hits, ("miss",): activity.metadata_misses},
    )
    yield _counter(
        "cache_evicted_blocks_total",
        "Blocks removed from the cache to make room.",
        activity.evicted_blocks,
    )
    yield _counter(
        "cache_evicted_bytes_total",
        "Bytes removed from the cache to make room.",
        activity.evicted_bytes,
    )
    yield _counters(
        "ahead_bytes_total",
        "Bytes fetched before a program asked, by what became of them since.",
        ("fate",),
        {
            ("fetched",): activity.ahead_bytes,
            ("used",): activity.ahead_used_bytes,
            ("unused",): activity.ahead_unused_bytes,
        },
    )


def _about_what_waits(look: Look) -> Iterator[Metric]:
    status = look.status
    yield _gauge(
        "pending_files",
        "Files and names that the store does not have as they are here.",
        status.pending_files,
    )
    yield _gauge("pending_bytes", "Bytes of them.", status.pending_bytes)
    yield _gauge(
        "local_only_files",
        "Files that stay here until they are renamed (local-only).",
        status.local_only_files,
    )
    yield _gauge("local_only_bytes", "Bytes of them.", status.local_only_bytes)
    yield _gauge(
        "pending_oldest_seconds",
        "How long the oldest of them waits.",
        look.snapshot.oldest_pending_s,
    )
    yield _gauge(
        "pending_failed_files",
        "Of those that `mountfs status` names: the store has refused or failed them.",
        sum(each.error is not None for each in status.pending),
    )
    yield _gauge(
        "journal_size_bytes", "What the journal takes of the disk.", status.journal_size
    )
    yield _counter(
        "conflicts_total",
        "Changes that another client's change was in the way of.",
        status.conflicts,
    )
    yield _counter(
        "late_errors_total",
        "What could not be stored and no program could be told in its call.",
        status.late_errors,
    )
    yield _gauge(
        "unseen_incidents",
        "Conflicts and late errors that no person was shown yet.",
        status.unseen,
    )


# --- making a family ----------------------------------------------------------------


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, help, value=float(value))


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, help, value=float(value))


def _counters(name: str, help: str, labels: tuple[str, ...], counts: Counts) -> Metric:
    family = CounterMetricFamily(PREFIX + name, help, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _cost(cost: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(
        f"{PREFIX}store_request_cost_dollars_total",
        "What the requests may have cost, by class: an estimate by a table of prices.",
        labels=("class",),
    )
    for kind in (WRITE, READ):
        if kind in cost:
            family.add_metric((kind,), round(cost[kind], _DIGITS))
    return family


def _states(name: str, help: str, states: tuple[str, ...], current: str) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, help, labels=("state",))
    for state in states:
        family.add_metric((state,), float(state == current))
    return family


def _histogram(name: str, help: str, label: str, times: Durations) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, help, labels=(label,))
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    for value, each in sorted(times.items()):
        total = 0
        buckets = []
        for bound, count in zip(bounds, each.buckets, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric((value,), buckets=buckets, sum_value=each.seconds)
    return family
