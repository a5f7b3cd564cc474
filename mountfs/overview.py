"""`mountfs status`: how this user's mounts do, for people and for programs."""

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mountfs import control, mounts
from mountfs.errors import UsageError
from mountfs.options import format_size
from mountfs.status import LateError, PendingPath, State, Status
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


def overview(directory: str | None, *, as_json: bool) -> tuple[str, int]:
    """Return what is to be printed, and the exit code: 1 if somebody should look.

    Raises `UsageError` if the directory is in no mount of ours.
    """
    known = look(directory, is_seen=not as_json)
    code = EXIT_ATTENTION if any(each.needs_attention for each in known) else os.EX_OK
    text = _as_json(known) if as_json else "\n\n".join(map(_as_text, known))
    return text or "nothing is mounted", code


def look(directory: str | None, *, is_seen: bool) -> list[Place]:
    """Return how the mount of a directory does, or each mount of this user.

    `is_seen`: a person is shown what went wrong. Raises `UsageError` if the directory
    is in no mount of ours.
    """
    places = _all() if directory is None else [_one(directory)]
    with ThreadPoolExecutor(max(len(places), 1)) as threads:
        # One that does not answer takes half a minute: no other is to wait for it.
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
        return dataclasses.replace(place, is_silent=True)
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
    told["state"] = place.state
    told["needs_attention"] = place.needs_attention
    return told


# --- for people ---------------------------------------------------------------------


def _as_text(place: Place) -> str:
    status = place.status
    if status is None:
        lines = [
            f"{place.url} at {place.mount_point}",
            f"  state     {place.state}: {_advice(place)}",
        ]
    else:
        lines = [f"{status.url} at {status.mount_point}", *_lines(status)]
    return "\n".join(map(plain, lines))


def _advice(place: Place) -> str:
    if place.is_silent:
        return "its daemon does not answer; its log may say why"
    return (
        "its daemon has died; mount it again with the same words, and what it had not"
        " sent is sent"
    )


def _lines(status: Status) -> Iterator[str]:
    yield f"  state     {status.state.value}, process {status.pid}"
    reason = f": {status.store_reason}" if status.store_reason else ""
    yield f"  store     {status.store_state}{reason}"
    yield f"  promise   durability={status.durability}"
    yield from _config_lines(status)
    yield f"  pending   {_pending(status)}"
    yield from map(_pending_line, status.pending[:NAMES_SHOWN])
    more = status.pending_files - min(len(status.pending), NAMES_SHOWN)
    if status.pending and more > 0:
        yield f"            and {more} more"
    if status.incidents:
        unseen = f", {status.unseen} of them new" if status.unseen else ""
        yield (
            f"  trouble   {status.conflicts} conflicts,"
            f" {status.late_errors} late errors{unseen}"
        )
        yield from map(_incident_line, status.incidents[-NAMES_SHOWN:])
    yield (
        f"  cache     {format_size(status.cache_used)} of"
        f" {format_size(status.cache_limit)}, {format_size(status.cache_dirty)} of that"
        " only here"
    )
    yield f"  journal   {format_size(status.journal_size)} in {status.state_dir}"
    yield f"  memory    {status.names} names"
    if status.state is State.DRAINING:
        yield "  It is unmounted, and ends when the store has everything."


def _config_lines(status: Status) -> Iterator[str]:
    if status.config_problem:
        yield f"  config    not taken at the last reload: {status.config_problem}"
    if status.config_waiting:
        yield f"  config    for the next mount: {', '.join(status.config_waiting)}"


def _pending(status: Status) -> str:
    if not status.pending_files:
        return "nothing"
    files = "1 file" if status.pending_files == 1 else f"{status.pending_files} files"
    return f"{files}, {format_size(status.pending_bytes)}"


def _pending_line(pending: PendingPath) -> str:
    error = f": {pending.error}" if pending.error is not None else ""
    return f"            {pending.path} ({format_size(pending.size)}){error}"


def _incident_line(incident: LateError) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(incident.time_ns // 10**9))
    kept = f"; kept as {incident.kept_as}" if incident.kept_as is not None else ""
    return f"            {at} {incident.kind} {incident.path}: {incident.text}{kept}"
