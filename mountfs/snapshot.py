"""What a mount has done and how it does, at one moment, as plain values.

Made in the daemon (`mountfs.serving.metrics`), shown as Prometheus's text, and sent to
commands over the control socket. The counters only grow while a mount lives: a rate is
the difference of two snapshots. No name of a file is in here, and no secret.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mountfs.storage.counts import Times

Counts = Mapping[tuple[str, ...], int]
"""How often, by labels."""
Durations = Mapping[str, Times]
"""How long, by one label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The counters and levels of one mount that its status does not have."""

    started_s: float = 0.0
    """When the mount began, in seconds since 1970."""
    operations: Counts = field(default_factory=dict)
    """What the kernel asked, by operation and errno name, or `ok`."""
    operation_times: Durations = field(default_factory=dict)
    calls: Counts = field(default_factory=dict)
    """Operations of the storage contract, each attempt, by class (metadata, read,
    upload, copy), outcome and reason."""
    call_times: Durations = field(default_factory=dict)
    requests: Counts = field(default_factory=dict)
    """What was sent to the service, by its name there, HTTP status and reason."""
    request_times: Durations = field(default_factory=dict)
    sent_bytes: int = 0
    """Bodies on the wire, failed attempts included."""
    received_bytes: int = 0
    retries: int = 0
    oldest_pending_s: float = 0.0
    """How long the oldest change waits that the store does not have."""
    open_files: int = 0
    cost: Mapping[str, float] = field(default_factory=dict)
    """What the requests may have cost, in US dollars by class; empty if nobody knows
    what the service charges."""

    def told(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "started_s": self.started_s,
            "operations": _rows(self.operations),
            "operation_times": _times(self.operation_times),
            "calls": _rows(self.calls),
            "call_times": _times(self.call_times),
            "requests": _rows(self.requests),
            "request_times": _times(self.request_times),
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "retries": self.retries,
            "oldest_pending_s": self.oldest_pending_s,
            "open_files": self.open_files,
            "cost": dict(self.cost),
        }


def snapshot_of(told: Mapping[str, object]) -> Snapshot:
    """Return the snapshot that a daemon told, of whatever version it is."""
    return Snapshot(
        started_s=_number(told.get("started_s")),
        operations=_counts(told.get("operations")),
        operation_times=_durations(told.get("operation_times")),
        calls=_counts(told.get("calls")),
        call_times=_durations(told.get("call_times")),
        requests=_counts(told.get("requests")),
        request_times=_durations(told.get("request_times")),
        sent_bytes=int(_number(told.get("sent_bytes"))),
        received_bytes=int(_number(told.get("received_bytes"))),
        retries=int(_number(told.get("retries"))),
        oldest_pending_s=_number(told.get("oldest_pending_s")),
        open_files=int(_number(told.get("open_files"))),
        cost={name: _number(each) for name, each in _mapping(told.get("cost"))},
    )


def _rows(counts: Counts) -> list[list[object]]:
    return [[*labels, count] for labels, count in sorted(counts.items())]


def _times(durations: Durations) -> dict[str, object]:
    return {
        name: {"buckets": list(each.buckets), "seconds": each.seconds}
        for name, each in sorted(durations.items())
    }


def _counts(told: object) -> Counts:
    rows = told if isinstance(told, list) else []
    return {
        tuple(map(str, row[:-1])): int(_number(row[-1]))
        for row in rows
        if isinstance(row, list) and row
    }


def _durations(told: object) -> Durations:
    found: dict[str, Times] = {}
    for name, each in _mapping(told):
        if isinstance(each, dict) and isinstance(each.get("buckets"), list):
            buckets = tuple(int(_number(count)) for count in each["buckets"])
            found[name] = Times(buckets, _number(each.get("seconds")))
    return found


def _mapping(told: object) -> Iterable[tuple[str, object]]:
    return told.items() if isinstance(told, dict) else ()


def _number(told: object) -> float:
    return told if isinstance(told, int | float) else 0.0
