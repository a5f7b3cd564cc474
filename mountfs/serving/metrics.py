"""Looks at the counters of a mount: makes the snapshot that everything else shows."""

import errno
import time
from dataclasses import dataclass, field

from mountfs.configuration.config import MountConfig
from mountfs.configuration.prices import Prices, cost_of, prices_of
from mountfs.fuse.meter import OperationMeter
from mountfs.snapshot import Snapshot
from mountfs.storage.counts import Times
from mountfs.storage.meter import Meter
from mountfs.vfs.filesystem import FileSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Where the counters of one mount are kept."""

    scheme: str
    """Of its URL: what a request is called there depends on it."""
    prices: Prices | None
    store: Meter
    operations: OperationMeter
    filesystem: FileSystem
    started_s: float = field(default_factory=time.time)

    def snapshot(self) -> Snapshot:
        """Return how they stand now; on the trio thread, in a moment."""
        requests = self.store.exchanges()
        sent, received = self.store.wire_bytes
        cost = cost_of(self.scheme, requests, self.prices) if self.prices else {}
        return Snapshot(
            started_s=self.started_s,
            operations=_named(self.operations.outcomes()),
            operation_times=_of_use(self.operations.times()),
            calls=self.store.calls(),
            call_times=_of_use(self.store.call_times()),
            requests=requests,
            request_times=_of_use(self.store.exchange_times()),
            sent_bytes=sent,
            received_bytes=received,
            retries=self.store.retries,
            oldest_pending_s=_oldest_s(self.filesystem),
            open_files=sum(1 for _ in self.filesystem.files),
            cost=cost,
        )


def prices_for(config: MountConfig) -> Prices | None:
    """Return what the service of a mount charges, as far as that is known."""
    if config.request_prices is not None:
        return config.request_prices
    endpoint = config.store_options.get("endpoint_url")
    return prices_of(config.url, str(endpoint) if endpoint else None)


def _named(outcomes: dict[tuple[str, int], int]) -> dict[tuple[str, ...], int]:
    return {
        (name, errno.errorcode.get(code, "other") if code else "ok"): count
        for (name, code), count in outcomes.items()
    }


def _of_use(times: dict[str, Times]) -> dict[str, Times]:
    return {name: each for name, each in times.items() if each.total}


def _oldest_s(filesystem: FileSystem) -> float:
    """Return how long the oldest of what the store does not have waits."""
    volume = filesystem.volume
    ages = [0.0]
    if (begun_s := volume.writeback.oldest_s()) is not None:
        ages.append(time.monotonic() - begun_s)
    if volume.journaled is not None:
        ledger = volume.journaled.ledger
        ages += [
            ledger.now_s() - entry.since_s
            for entry in ledger.table
            if not entry.is_local_only
        ]
    return max(ages)
