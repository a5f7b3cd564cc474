"""`mountfs status`: how this user's mounts do, for people and for programs."""

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from mountfs import abort, control, mounts
from mountfs.configuration.values import format_size, format_span
from mountfs.errors import UsageError
from mountfs.status import LateError, PendingPath, Refused, State, Status
from mountfs.terminal import plain

EXIT_ATTENTION = 1
NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Place:
    """A mount point, and what is known of its mount."""

    mount_point: Path
    url: str
    socket: Path
    status: Status | None = None
    """None: its daemon is dead, or does not answer."""
    is_silent: bool = False
    """There is a daemon, which did not answer in time."""
    pid: int | None = None
    """The process of one that is silent, if the kernel says which it is."""

    @property
    def state(self) -> str:
        """The state in one word."""
        if self.status is not None:
            return self.status.state.value
        return "silent" if self.is_silent else "dead"

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should look at it."""
        return self.status is None or self.status.needs_attention


def show(directory: str | None, *, as_json: bool, out: TextIO) -> int:
    """Print how mounts do; return the exit code: 1 if somebody should look.

    Raises `UsageError` if the directory is in no mount of ours.
    """
    places = look(directory, is_seen=not as_json)
    text = _as_json(places) if as_json else "\n\n".join(map(_as_text, places))
    out.write(f"{text or 'nothing is mounted'}\n")
    return code_of(places)


def code_of(places: Iterable[Place]) -> int:
    """Return the exit code that says whether somebody should look."""
    is_well = not any(each.needs_attention for each in places)
    return os.EX_OK if is_well else EXIT_ATTENTION


def look(directory: str | None, *, is_seen: bool) -> list[Place]:
    """Return how the mount of a directory does, or each mount of this user.

    `is_seen`: a person is shown what went wrong. Raises `UsageError` if the directory
    is in no mount of ours.
    """
    places = _all() if directory is None else [_one(directory)]
    with ThreadPoolExecutor(max(len(places), 1)) as threads:
        # One that does not answer takes its time: no other is to wait for it.
        asked = list(threads.map(partial(_asked, is_seen=is_seen), places))
    return [place for place in asked if not _has_ended(place)]


def _all() -> list[Place]:
    """Return the mounts of this user, and the daemons that still send; for root all."""
    user = os.geteuid()
    found = {
        entry.mount_point: _place(entry)
        for entry in mounts.all_mounts()
        if entry.fstype == mounts.FSTYPE and user in (0, entry.user_id)
    }
    sockets = {place.socket for place in found.values()}
    # The others are unmounted, and their daemons still send what is pending, or died.
    others = [each for each in control.sockets() if each not in sockets]
    return [*found.values(), *(Place(Path(), "", socket) for socket in others)]


def _one(directory: str) -> Place:
    found = mounts.find_ours(directory)
    if found is not None:
        return _place(found[0])
    mount_point = Path(os.path.realpath(directory))
    place = Place(mount_point, "", control.socket_path(mount_point))
    if not control.is_alive(place.socket):
        raise UsageError(f"{directory} is not in a mount of mountfs")
    return place


def _place(entry: mounts.MountEntry) -> Place:
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    return Place(entry.mount_point, entry.source, socket)


def _asked(place: Place, *, is_seen: bool) -> Place:
    try:
        status = control.ask(place.socket, "status", is_seen=is_seen)
    except TimeoutError:
        pid = abort.listener(place.socket)
        return dataclasses.replace(place, is_silent=True, pid=pid)
    return dataclasses.replace(place, status=status)


def _has_ended(place: Place) -> bool:
    """Tell whether nothing is there but the socket of a daemon that has ended."""
    return place.status is None and not place.url and not place.is_silent


# --- for programs -------------------------------------------------------------------


def _as_json(places: Iterable[Place]) -> str:
    return json.dumps([fields_of(place) for place in places], indent=2)


def fields_of(place: Place) -> dict[str, object]:
    """Return what programs are told of a mount."""
    status = place.status
    told: dict[str, object] = {
        "url": place.url,
        "mount_point": str(place.mount_point),
    }
    if status is not None:
        told = dataclasses.asdict(status)
    elif place.pid is not None:
        told["pid"] = place.pid
    told["state"] = place.state
    told["needs_attention"] = place.needs_attention
    return told


# --- for people ---------------------------------------------------------------------

Row = tuple[str, str]
"""A word, or nothing if it belongs to the row before, and what there is to say."""


def _as_text(place: Place) -> str:
    lines = [title(place), *(f"  {word:<9} {text}" for word, text in _rows(place))]
    if place.status is not None and place.status.state is State.DRAINING:
        lines.append(f"  {DRAINING}")
    return "\n".join(map(plain, lines))


DRAINING = "It is unmounted, and ends when the store has everything."


def title(place: Place) -> str:
    """Return what is mounted where."""
    status = place.status
    if status is None:
        return f"{place.url} at {place.mount_point}"
    return f"{status.url} at {status.mount_point}"


def advice(place: Place) -> str:
    """Return what can be done about a daemon that does not answer."""
    if place.is_silent:
        process = f", process {place.pid}," if place.pid is not None else ""
        return f"its daemon{process} does not answer; its log may say why"
    return (
        "its daemon has died; mount it again with the same words, and what it had not"
        " sent is sent"
    )


def _rows(place: Place) -> Iterator[Row]:
    status = place.status
    if status is None:
        yield "state", f"{place.state}: {advice(place)}"
        return
    yield "state", f"{status.state.value}, process {status.pid}{since_text(status)}"
    yield "store", store_text(status)
    yield "promise", f"durability={status.durability}"
    yield from config_rows(status)
    yield from others_rows(status)
    yield "hits", hits_text(status)
    yield "programs", programs_text(status)
    yield "network", network_text(status)
    yield "pending", amount_text(status)
    for each in foremost(status.pending, NAMES_SHOWN):
        yield "", f"{each.path or ROOT} ({size_text(each)}){note_text(each, ': ')}"
    more = status.pending_files - min(len(status.pending), NAMES_SHOWN)
    if status.pending and more > 0:
        yield "", f"and {more} more"
    yield from local_only_rows(status)
    yield from trouble_rows(status)
    yield from refused_rows(status)
    yield "cache", cache_text(status)
    yield "journal", f"{format_size(status.journal_size)} in {status.state_dir}"
    yield "memory", f"{status.names} names"


ROOT = "(the root)"


def since_text(status: Status) -> str:
    """Return since when it is there, if it says so."""
    if not status.since_ns:
        return ""
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.since_ns // 10**9))
    return f", since {at}"


def store_text(status: Status) -> str:
    """Return how the store does, and why."""
    reason = f": {status.store_reason}" if status.store_reason else ""
    return f"{status.store_state}{reason}"


def config_rows(status: Status) -> Iterator[Row]:
    """Yield what of the configuration files is not what the mount does."""
    if status.config_problem:
        yield "config", f"not taken at the last reload: {status.config_problem}"
    if status.config_waiting:
        yield "config", f"for the next mount: {', '.join(status.config_waiting)}"


def others_rows(status: Status) -> Iterator[Row]:
    """Yield whether the store tells of what others change, if it was asked to."""
    if status.untold:
        yield "others", f"their changes are not told: {status.untold}"
    elif status.is_told:
        yield "others", "their changes are told"


def hits_text(status: Status) -> str:
    """Return how much was answered from the caches since the mount began."""
    done = status.activity
    blocks = share_of(done.block_hits, done.block_misses)
    names = share_of(done.metadata_hits, done.metadata_misses)
    return f"blocks {percent(blocks)}, names {percent(names)}"


def programs_text(status: Status) -> str:
    """Return what programs have done since the mount began."""
    done = status.activity
    return (
        f"read {format_size(done.read_bytes)}, wrote {format_size(done.written_bytes)},"
        f" {done.requests} requests"
    )


def network_text(status: Status) -> str:
    """Return what came from the store and went there since the mount began."""
    done = status.activity
    return (
        f"in {format_size(done.fetched_bytes)}, out {format_size(done.uploaded_bytes)}"
    )


def share_of(hits: int, misses: int) -> float | None:
    """Return the share of hits; None of nothing."""
    return hits / (hits + misses) if hits + misses else None


def percent(share: float | None) -> str:
    """Return a share for people."""
    return "-" if share is None else f"{100 * share:.0f} %"


def amount_text(status: Status) -> str:
    """Return how much the store does not have."""
    if not status.pending_files:
        return "nothing"
    files = count_of(status.pending_files, "file")
    return f"{files}, {format_size(status.pending_bytes)}"


def local_only_rows(status: Status) -> Iterator[Row]:
    """Yield how much stays here until it is renamed, if anything does."""
    if status.local_only_files:
        files = count_of(status.local_only_files, "local-only file")
        verb = "is" if status.local_only_files == 1 else "are"
        size = format_size(status.local_only_bytes)
        yield "local", f"{files}, {size}, {verb} kept here only"


def count_of(count: int, what: str) -> str:
    """Return so many of something."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def foremost(pending: Sequence[PendingPath], count: int) -> list[PendingPath]:
    """Return so many: first what failed, then what is on its way."""
    return sorted(
        pending, key=lambda each: (each.error is None, not each.is_sending, each.path)
    )[:count]


def size_text(pending: PendingPath) -> str:
    """Return the size of a file, and how much of it is under way."""
    if pending.sent:
        return f"{format_size(pending.sent)} of {format_size(pending.size)}"
    return format_size(pending.size)


def note_text(pending: PendingPath, before: str = "") -> str:
    """Return what is done about a file, and what went wrong, if anything."""
    parts = ["sending"] if pending.is_sending else []
    if pending.error is not None:
        parts.append(pending.error)
    if pending.attempts > 1:
        parts.append(f"tried {pending.attempts} times")
    if pending.next_try_s is not None and not pending.is_sending:
        parts.append(f"again in {format_span(pending.next_try_s)}")
    return before + ", ".join(parts) if parts else ""


def trouble_rows(status: Status) -> Iterator[Row]:
    """Yield what went wrong behind the programs' backs."""
    if not status.incidents:
        return
    unseen = f", {status.unseen} of them new" if status.unseen else ""
    yield (
        "trouble",
        f"{count_of(status.conflicts, 'conflict')},"
        f" {count_of(status.late_errors, 'late error')}{unseen}",
    )
    for each in status.incidents[-NAMES_SHOWN:]:
        yield "", incident_text(each)


def refused_rows(status: Status) -> Iterator[Row]:
    """Yield what the store refused, and which permission that lacked."""
    word = "refused"
    for each in status.refused:
        yield word, refused_text(each)
        word = ""
        if each.needs:
            yield "", f"needs {each.needs}"


def refused_text(refused: Refused) -> str:
    """Return one refusal, with its time and what support asks for."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(refused.time_ns // 10**9))
    about = [str(each) for each in (refused.request, refused.code) if each]
    if refused.http_status is not None:
        about.append(f"HTTP {refused.http_status}")
    if refused.request_id:
        about.append(f"request {refused.request_id}")
    behind = f" ({', '.join(about)})" if about else ""
    return f"{at} {refused.path or ROOT}: {refused.text}{behind}"


def incident_text(incident: LateError) -> str:
    """Return one late error, with its time."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(incident.time_ns // 10**9))
    kept = f"; kept as {incident.kept_as}" if incident.kept_as is not None else ""
    return f"{at} {incident.kind} {incident.path}: {incident.text}{kept}"


def cache_text(status: Status) -> str:
    """Return how full the cache is."""
    return (
        f"{format_size(status.cache_used)} of {format_size(status.cache_limit)},"
        f" {format_size(status.cache_dirty)} of that only here"
    )
