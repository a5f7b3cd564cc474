"""`mountfs status --watch`: how mounts do right now, again and again, until Ctrl-C.

A daemon only counts (`mountfs.cache.activity`); rates and shares are made here, of two
looks at its counters. On a terminal the picture changes in place; otherwise there is a
line for each mount and look, for people, or an object of JSON, for programs. Nobody is
taken to have been shown a late error: its text is not here.
"""

import dataclasses
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from mountfs.actions.overview import (
    Place,
    amount_text,
    fields_of,
    look,
    percent,
    share_of,
    store_text,
)
from mountfs.cache.activity import Activity
from mountfs.configuration.values import format_size, format_span
from mountfs.errors import UsageError
from mountfs.status import Status
from mountfs.terminal import plain

INTERVAL_S_MIN = 0.1
INTERVAL_S_MAX = 3600.0
LOOKS_KEPT = 10
"""Over so many looks it is told how long what is pending will take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a mount did between two looks at it. Rates are per second."""

    read_bytes: float
    written_bytes: float
    requests: float
    fetched_bytes: float
    uploaded_bytes: float
    block_hits: float | None
    """The share of reads that were answered from the cache; None without reads."""
    metadata_hits: float | None
    """The share of questions for names that were; None without any."""
    pending_s: float | None
    """When the store may have what is pending; None if nothing is, or nothing goes."""


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    status: Status


class Watched:
    """The last looks at one mount."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque(maxlen=LOOKS_KEPT + 1)

    def note(self, at_s: float, status: Status) -> Rates | None:
        """Take in a look; return the rates since the one before, if there was one."""
        if self._looks and self._looks[-1].status.pid != status.pid:
            self._looks.clear()  # mounted anew: its counters begin again
        self._looks.append(_Look(at_s, status))
        if len(self._looks) < 2:
            return None
        before, seconds = self._looks[-2].status.activity, _seconds(self._looks, -2)
        done = _difference(status.activity, before)
        return Rates(
            read_bytes=done.read_bytes / seconds,
            written_bytes=done.written_bytes / seconds,
            requests=done.requests / seconds,
            fetched_bytes=done.fetched_bytes / seconds,
            uploaded_bytes=done.uploaded_bytes / seconds,
            block_hits=share_of(done.block_hits, done.block_misses),
            metadata_hits=share_of(done.metadata_hits, done.metadata_misses),
            pending_s=self._pending_s(status),
        )

    def _pending_s(self, status: Status) -> float | None:
        first = self._looks[0].status.activity
        sent = status.activity.uploaded_bytes - first.uploaded_bytes
        if sent <= 0 or not status.pending_bytes:
            return None
        return status.pending_bytes * _seconds(self._looks, 0) / sent


def read_interval(text: str) -> float:
    """Return a number of seconds. Raises `UsageError`."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not INTERVAL_S_MIN <= seconds <= INTERVAL_S_MAX:
        raise UsageError(
            f"--interval {text}: give seconds, from {INTERVAL_S_MIN:g} to"
            f" {INTERVAL_S_MAX:g}"
        )
    return seconds


def watch(
    directory: str | None,
    interval_s: float,
    *,
    as_json: bool,
    out: TextIO,
    screen: "Screen | None" = None,
    looks: int | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Show how mounts do until interrupted; return the exit code, which is 0.

    `screen` is a terminal, else there are lines. `looks` ends it after so many. Raises
    `UsageError` if the directory is in no mount of ours; one that is unmounted later
    ends it.
    """
    shown = screen or _Lines(out, as_json)
    known: dict[str, Watched] = {}
    count = 0
    try:
        while looks is None or count < looks:
            if count:
                sleep(interval_s)
            try:
                places = look(directory, is_seen=False)
            except UsageError:
                if not count:
                    raise
                return os.EX_OK  # it has been unmounted
            shown.show([(place, _rates(place, known)) for place in places])
            count += 1
    except KeyboardInterrupt:
        return os.EX_OK
    except BrokenPipeError:
        # Who read has enough. What is still buffered must not fail at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return os.EX_OK


def _rates(place: Place, known: dict[str, Watched]) -> Rates | None:
    if place.status is None:
        return None
    watched = known.setdefault(str(place.socket), Watched())
    return watched.note(time.monotonic(), place.status)


# --- showing ------------------------------------------------------------------------

Seen = Sequence[tuple[Place, Rates | None]]


class Screen(Protocol):
    """Where the newest look is shown."""

    def show(self, seen: Seen) -> None:
        """Show the newest look."""
        ...


class _Lines:
    """A line for each mount and look."""

    def __init__(self, out: TextIO, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json

    def show(self, seen: Seen) -> None:
        """Add the newest look."""
        for place, rates in seen:
            line = _json(place, rates) if self._as_json else plain(_line(place, rates))
            self._out.write(line + "\n")
        self._out.flush()


def _json(place: Place, rates: Rates | None) -> str:
    told = fields_of(place)
    told["time"] = time.time()
    told["rates"] = dataclasses.asdict(rates) if rates is not None else None
    return json.dumps(told)


def _line(place: Place, rates: Rates | None) -> str:
    head = f"{time.strftime('%H:%M:%S')} {place.mount_point}"
    if place.status is None:
        return f"{head}: {place.state}"
    return f"{head}: " + "; ".join(
        f"{name} {text}" for name, text in parts(place.status, rates)
    )


def parts(status: Status, rates: Rates | None) -> Iterator[tuple[str, str]]:
    """Yield what is shown of a mount: a word, and what there is to say."""
    yield "store", store_text(status)
    if rates is not None:
        yield "programs", programs_text(rates)
        yield "network", network_text(rates)
        yield (
            "hits",
            f"blocks {percent(rates.block_hits)}, names {percent(rates.metadata_hits)}",
        )
    yield "ahead", ahead_text(status)
    yield "pending", pending_text(status, rates)
    if status.unseen:
        yield "trouble", f"{status.unseen} new: see `mountfs status`"


def programs_text(rates: Rates) -> str:
    """Return what programs do."""
    return (
        f"read {_rate(rates.read_bytes)}, write {_rate(rates.written_bytes)},"
        f" {rates.requests:.0f} requests/s"
    )


def network_text(rates: Rates) -> str:
    """Return what comes from the store and goes there."""
    return f"in {_rate(rates.fetched_bytes)}, out {_rate(rates.uploaded_bytes)}"


def ahead_text(status: Status) -> str:
    """Return what was fetched before anybody asked."""
    done = status.activity
    return (
        f"{format_size(done.ahead_bytes)} fetched, {format_size(done.ahead_used_bytes)}"
        f" used, {format_size(done.ahead_unused_bytes)} in vain"
    )


def pending_text(status: Status, rates: Rates | None) -> str:
    """Return how much the store does not have, and how long that will take."""
    eta = ""
    if status.pending_files and rates is not None and rates.pending_s is not None:
        eta = f", {format_span(rates.pending_s)} to go"
    return f"{amount_text(status)}{eta}"


def _rate(bytes_per_s: float) -> str:
    return f"{format_size(int(bytes_per_s))}/s"


def _difference(after: Activity, before: Activity) -> Activity:
    names = [field.name for field in dataclasses.fields(Activity)]
    return Activity(
        **{name: getattr(after, name) - getattr(before, name) for name in names}
    )


def _seconds(looks: Sequence[_Look], since: int) -> float:
    return max(looks[-1].at_s - looks[since].at_s, 1e-6)
