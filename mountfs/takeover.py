"""A mount begins while an earlier one of the same store, unmounted, still sends.

The earlier daemon holds the state directory, and what programs were told is safe is in
it. It is asked to yield: with what is in its journal it stops at once, and the new one
goes on with it; what is not, it sends first. Whoever waits for its end is told what was
left.
"""

import logging
import os
import select
from pathlib import Path

from mountfs import control
from mountfs.configuration.config import MountConfig
from mountfs.control import Request, State, Status

END_TIMEOUT_S = 100.0
"""Less than whoever starts a daemon waits for its word."""

log = logging.getLogger(__name__)


def at_mount_point(config: MountConfig) -> None:
    """Let a daemon yield that has left our mount point, if its store is ours too."""
    _take_over(control.socket_path(config.mount_point), config, owner=None)


def from_process(owner: str, config: MountConfig) -> bool:
    """Let the daemon yield that holds our state directory; tell whether it ended."""
    return any(_take_over(path, config, owner=owner) for path in control.sockets())


def _take_over(path: Path, config: MountConfig, *, owner: str | None) -> bool:
    try:
        status = control.ask(path, "status")
        if status is None or not _may_follow(status, config):
            return False
        if owner is not None and str(status.pid) != owner:
            return False
        return _end(path, status)
    except TimeoutError:
        return False  # it hangs: the checks that follow say that it is there


def _may_follow(status: Status, config: MountConfig) -> bool:
    """Tell whether all that it leaves will be found by the new mount."""
    is_same = status.url.rstrip("/") == config.url.rstrip("/")
    is_here = Path(status.state_dir).parent == config.state_dir
    is_ending = status.state in (State.DRAINING, State.DONE)
    return is_ending and is_same and is_here


def _end(path: Path, status: Status) -> bool:
    try:
        process = os.pidfd_open(status.pid)
    except ProcessLookupError:
        return True
    try:
        log.info(
            "taking over from process %d, which still sends %d files of %s",
            status.pid,
            status.pending_files,
            status.mount_point,
        )
        for _ in control.carry_out(path, Request("yield")):
            pass  # until it is done with what must not be left
        ended, _, _ = select.select([process], [], [], END_TIMEOUT_S)
        return bool(ended)
    finally:
        os.close(process)
