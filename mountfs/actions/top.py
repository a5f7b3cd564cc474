"""`mountfs top`: what mounts do right now, by operation and by request to the store.

A daemon only counts; everything else is made here of two looks at its counters
(`mountfs.actions.usage`). On a terminal the picture changes in place; otherwise there
is a table for each look, for people, or a line of JSON, for programs.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from mountfs import control
from mountfs.actions.listing import aligned
from mountfs.actions.overview import Place, look, title
from mountfs.actions.usage import Row, Usage, usage_of
from mountfs.configuration.values import format_size
from mountfs.control import Request
from mountfs.errors import UsageError
from mountfs.snapshot import Snapshot, snapshot_of
from mountfs.status import Outcome
from mountfs.terminal import plain

HEADS = ("", "count", "per s", "failed", "mean", "p50", "p99")


@dataclass(frozen=True, slots=True)
class Load:
    """One mount, and what it does; None if that cannot be told (yet)."""

    place: Place
    usage: Usage | None


class Screen(Protocol):
    """Where the newest look is shown."""

    def show(self, loads: Sequence[Load]) -> None:
        """Show the newest look."""
        ...


class Watched:
    """The last look at each of some mounts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[str, tuple[float, Snapshot]] = {}

    def note(self, name: str, snapshot: Snapshot) -> Usage | None:
        """Take in a look; return what was done since the one before, if it was one."""
        at_s = self._clock()
        before = self._before.get(name)
        self._before[name] = at_s, snapshot
        if before is None or before[1].started_s != snapshot.started_s:
            return None
        return usage_of(before[1], snapshot, at_s - before[0])


def once(
    directory: str | None,
    interval_s: float | None,
    *,
    as_json: bool,
    out: TextIO,
    watched: Watched | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Print what mounts did since they began, or in an interval from now on."""
    watched = watched or Watched()
    if interval_s is not None:
        list(_looks(directory, watched))
        sleep(interval_s)
        loads = list(_looks(directory, watched))
    else:
        loads = [
            Load(place, None if snapshot is None else _since_it_began(snapshot))
            for place, snapshot in _snapshots(directory)
        ]
    Lines(out, as_json=as_json).show(loads)
    return os.EX_OK


def watch(
    directory: str | None,
    interval_s: float,
    *,
    screen: Screen,
    looks: int | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Show what mounts do until interrupted; return the exit code, which is 0.

    `looks` ends it after so many. Raises `UsageError` if the directory is in no mount
    of ours; one that is unmounted later ends it.
    """
    watched, count = Watched(), 0
    try:
        while looks is None or count < looks:
            if count:
                sleep(interval_s)
            try:
                loads = list(_looks(directory, watched))
            except UsageError:
                if not count:
                    raise
                return os.EX_OK  # it has been unmounted
            screen.show(loads)
            count += 1
    except KeyboardInterrupt:
        return os.EX_OK
    return os.EX_OK


def _looks(directory: str | None, watched: Watched) -> Iterator[Load]:
    for place, snapshot in _snapshots(directory):
        usage = None
        if snapshot is not None:
            usage = watched.note(str(place.socket), snapshot)
        yield Load(place, usage)


def _snapshots(directory: str | None) -> Iterator[tuple[Place, Snapshot | None]]:
    for place in look(directory, is_seen=False):
        yield place, _snapshot(place) if place.status is not None else None


def _snapshot(place: Place) -> Snapshot | None:
    """Ask a daemon for its counters; None if it does not tell any."""
    try:
        for said in control.carry_out(place.socket, Request("metrics")):
            if isinstance(said, Outcome) and said.error is None:
                return snapshot_of(said.told)
    except TimeoutError:
        return None
    return None


def _since_it_began(snapshot: Snapshot) -> Usage:
    seconds = time.time() - snapshot.started_s
    return usage_of(Snapshot(), snapshot, seconds, is_new=True)


# --- showing ------------------------------------------------------------------------


class Lines:
    """A table for each mount and look, or an object of JSON in a line."""

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json

    def show(self, loads: Sequence[Load]) -> None:
        """Add the newest look."""
        if self._as_json:
            self._out.write(json.dumps([told_of(load) for load in loads]) + "\n")
        else:
            blocks = ["\n".join(lines_of(load)) for load in loads]
            self._out.write("\n\n".join(blocks or ["nothing is mounted"]) + "\n")
        self._out.flush()


def told_of(load: Load) -> dict[str, object]:
    """Return what programs are told of a mount."""
    told: dict[str, object] = {
        "time": time.time(),
        "url": load.place.url,
        "mount_point": str(load.place.mount_point),
        "state": load.place.state,
    }
    if load.place.status is not None:
        told["url"] = load.place.status.url
        told["mount_point"] = load.place.status.mount_point
    if load.usage is not None:
        told |= dataclasses.asdict(load.usage)
    return told


def lines_of(load: Load) -> Iterator[str]:
    """Yield what people are shown of a mount."""
    yield plain(title(load.place))
    if load.usage is None:
        yield f"  {nothing_text(load)}"
        return
    for word, text in summary_rows(load.usage):
        yield f"  {word:<9} {text}"
    for name, rows in tables_of(load.usage):
        cells = [(name, *HEADS[1:]), *(cells_of(row) for row in rows)]
        yield from (f"  {line}" for line in aligned(cells))


def nothing_text(load: Load) -> str:
    """Return why nothing is told of a mount."""
    return "one moment" if load.place.status is not None else load.place.state


def summary_rows(usage: Usage) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of all requests together."""
    incoming = format_size(int(usage.per_s(usage.received_bytes)))
    outgoing = format_size(int(usage.per_s(usage.sent_bytes)))
    retries = f", {usage.retries} retries" if usage.retries else ""
    yield "network", f"in {incoming}/s, out {outgoing}/s{retries}"
    if usage.cost is not None:
        hourly = usage.cost / usage.seconds * 3600
        yield "requests", f"about ${hourly:.2g} an hour at this pace"


def tables_of(usage: Usage) -> Iterator[tuple[str, Sequence[Row]]]:
    """Yield the tables that have any rows, with their names."""
    for name, rows in (
        ("operation", usage.operations),
        ("store", usage.calls),
        ("request", usage.requests),
    ):
        if rows:
            yield name, rows


def cells_of(row: Row) -> tuple[str, ...]:
    """Return a row as text."""
    return (
        plain(row.name),
        str(row.count),
        f"{row.per_s:.1f}",
        str(row.failed or "-"),
        *(latency(each) for each in (row.mean_s, row.p50_s, row.p99_s)),
    )


def latency(seconds: float | None) -> str:
    """Return a short time for people."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
