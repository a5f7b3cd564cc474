"""`mountfs wait` and `mountfs flush`: return when the store has what was written."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from mountfs import control, mounts
from mountfs.configuration.values import format_size
from mountfs.control import Request
from mountfs.errors import EXIT_FAILED, EXIT_PENDING, UsageError
from mountfs.status import Event, Outcome, Progress, Status
from mountfs.terminal import clear_line, plain, write_line


def wait(
    paths: Sequence[str], *, below: bool, out: TextIO, json_out: TextIO | None = None
) -> int:
    """Wait for these paths, with `below` for all under them; return the exit code.

    0: the store has them; 1: it refused something; 75: something could not be sent yet
    or nobody can tell. Raises `UsageError` for a path that is in no mount of ours.
    """
    asked = by_mount(paths)
    word = "flush" if below else "wait"
    outcomes = {
        entry: _ask(entry, Request(word, tuple(names)), out)
        for entry, names in asked.items()
    }
    if json_out is None:
        for outcome in outcomes.values():
            if outcome.error is not None:
                out.write(f"mountfs: {plain(outcome.error)}\n")
    else:
        told = [
            told_of(entry, outcome, paths=asked[entry])
            for entry, outcome in outcomes.items()
        ]
        json_out.write(json.dumps(told, indent=2) + "\n")
    codes = [code_of(outcome) for outcome in outcomes.values()]
    return next((code for code in (EXIT_FAILED, EXIT_PENDING) if code in codes), 0)


def by_mount(paths: Sequence[str]) -> dict[mounts.MountEntry, list[str]]:
    """Return, by mount, the paths below it. Raises `UsageError` if one is in none."""
    found: dict[mounts.MountEntry, list[str]] = {}
    for path in paths:
        place = mounts.find_ours(path)
        if place is None:
            raise UsageError(f"{path} is not in a mount of mountfs: name a path in one")
        found.setdefault(place[0], []).append(place[1])
    return found


def _ask(entry: mounts.MountEntry, request: Request, out: TextIO) -> Outcome:
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    return carry_out(socket, entry.mount_point, request, out)


def code_of(outcome: Outcome) -> int:
    """Return the exit code that tells how it ended."""
    if outcome.error is None:
        return os.EX_OK
    return EXIT_PENDING if outcome.is_passing else EXIT_FAILED


def told_of(
    entry: mounts.MountEntry, outcome: Outcome, **more: object
) -> dict[str, object]:
    """Return what programs are told of how it ended."""
    return {
        "mount_point": str(entry.mount_point),
        "url": entry.source,
        **more,
        "exit_code": code_of(outcome),
        "error": outcome.error,
    }


def carry_out(
    socket: Path,
    mount_point: Path,
    request: Request,
    out: TextIO,
    *,
    show: Callable[[Status | Progress], None] | None = None,
) -> Outcome:
    """Let a mount carry out a request, and show meanwhile how far it is."""
    heard: Status | Progress | None = None
    try:
        for said in control.carry_out(socket, request):
            if isinstance(said, Outcome):
                return said
            if isinstance(said, Event):
                continue
            heard = said
            if show is not None:
                show(said)
            elif isinstance(said, Status):
                _show(said, out)
    except TimeoutError:
        return Outcome(
            error=f"the daemon of {mount_point} does not answer", is_passing=True
        )
    finally:
        clear_line(out)
    if heard is None:
        raise UsageError(
            f"nobody serves {mount_point}, or its daemon is of an older version: mount"
            " it again"
        )
    return Outcome(
        error=f"the daemon of {mount_point} ended before it had answered; the next"
        " mount of the same store goes on with what is pending",
        is_passing=True,
    )


def _show(status: Status, out: TextIO) -> None:
    if status.pending_files:
        files = (
            "1 file" if status.pending_files == 1 else f"{status.pending_files} files"
        )
        write_line(f"{files}, {format_size(status.pending_bytes)} to go", out)
