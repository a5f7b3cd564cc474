"""`mountfs list`: which mounts there are, a line each."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from mountfs.actions.overview import Place, look
from mountfs.configuration.values import format_size
from mountfs.terminal import plain

HEAD = ("URL", "DIRECTORY", "STATE", "STORE", "PID", "SINCE", "PENDING")


def show(*, as_json: bool, out: TextIO) -> int:
    """Print the mounts of this user, for root all; return the exit code."""
    places = look(None, is_seen=False)
    if as_json:
        out.write(json.dumps([_fields(place) for place in places], indent=2) + "\n")
    elif places:
        rows = [HEAD, *(tuple(map(plain, _row(place))) for place in places)]
        out.writelines(f"{line}\n" for line in aligned(rows))
    else:
        out.write("nothing is mounted\n")
    return os.EX_OK


def aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as lines whose columns begin at the same place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _row(place: Place) -> tuple[str, ...]:
    status = place.status
    if status is None:
        pid = str(place.pid or "-")
        return (place.url or "-", str(place.mount_point), place.state, "-", pid, *"--")
    pending = "-"
    if status.pending_files:
        pending = f"{status.pending_files}, {format_size(status.pending_bytes)}"
    return (
        status.url,
        status.mount_point,
        place.state,
        status.store_state,
        str(status.pid),
        since(status.since_ns),
        pending,
    )


def since(since_ns: int) -> str:
    """Return when something began, by the clock on the wall."""
    if not since_ns:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(since_ns // 10**9))


def _fields(place: Place) -> dict[str, object]:
    status = place.status
    told: dict[str, object] = {
        "url": place.url,
        "mount_point": str(place.mount_point),
        "state": place.state,
    }
    if status is not None:
        told |= {
            "url": status.url,
            "mount_point": status.mount_point,
            "store_state": status.store_state,
            "pid": status.pid,
            "since_ns": status.since_ns,
            "pending_files": status.pending_files,
            "pending_bytes": status.pending_bytes,
        }
    elif place.pid is not None:
        told["pid"] = place.pid
    told["needs_attention"] = place.needs_attention
    return told
