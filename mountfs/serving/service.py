"""A mount as a service: what its manager is told, and when.

READY when the mount answers, STATUS when there is something else to say, WATCHDOG while
every part answers, STOPPING when the mount begins to end; and while it begins or ends a
request for more time, for as long as it gets on with its work.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from mountfs.cache.activity import Activity
from mountfs.configuration.values import format_size
from mountfs.serving.notify import Manager
from mountfs.serving.pulse import Pulse
from mountfs.status import State, Status

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 5.0
STATUS_INTERVAL_MAX_S = 30.0
STATUS_COST = 50
"""Looking at all that is pending may take a fiftieth of the time."""
EXTENSION_S = 120.0
"""How long a mount that begins or ends may seem to do nothing."""
SIGNS_PER_WATCHDOG = 4
"""How often each part is asked within the time that a daemon may be silent."""


@dataclass(frozen=True, slots=True)
class Work:
    """Where it shows that a mount gets on with its work."""

    activity: Activity
    requests: Callable[[], int]
    """How many requests to the store are under way; each of them has a deadline."""


class Service:
    """Tells the manager of one mount how it does."""

    def __init__(self, manager: Manager, work: Work) -> None:
        self._manager = manager
        self._work = work
        self._work_seen: object = None
        self._status: Callable[[], Status] | None = None
        self._silent: tuple[str, ...] = ()
        self._said = ""

    def say(self, text: str) -> None:
        """Say this of the mount, if it is news."""
        if text != self._said:
            self._manager.tell(STATUS=text)
            self._said = text

    def ready(self, status: Callable[[], Status]) -> None:
        """Say that the mount answers; from now on `status` tells how it does."""
        self._status = status
        self._manager.tell(READY=1)
        self._look()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that the configuration is being read, and then that it has been."""
        if self._status is None:  # not ready yet: that must not be said by this
            yield
            return
        self._manager.tell_reloading()
        try:
            yield
        finally:
            self._manager.tell(READY=1)
            self._look()

    def stopping(self) -> None:
        """Say that the mount takes no more work, and finishes what it has."""
        self._manager.tell(STOPPING=1)
        self._manager.extend(EXTENSION_S)
        self._look()

    def ended(self, status: Status) -> None:
        """Say how it ended."""
        self.say(describe(status))

    async def run(self) -> None:
        """Tell how it does again and again, until cancelled."""
        while self._manager.is_there:
            begun_s = time.perf_counter()
            self._look()
            pause_s = (time.perf_counter() - begun_s) * STATUS_COST
            await trio.sleep(
                min(max(pause_s, STATUS_INTERVAL_S), STATUS_INTERVAL_MAX_S)
            )

    async def watch(self, pulse: Pulse) -> None:
        """Give signs of life while every part answers, until cancelled."""
        if not self._manager.is_there or self._manager.watchdog_s is None:
            return
        every_s = self._manager.watchdog_s / SIGNS_PER_WATCHDOG
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pulse.run, every_s)
            while True:
                self._note_silent(tuple(pulse.silent(2 * every_s)))
                if not self._silent:
                    self._manager.tell(WATCHDOG=1)
                await trio.sleep(every_s)

    def _note_silent(self, parts: tuple[str, ...]) -> None:
        if parts == self._silent:
            return
        self._silent = parts
        if parts:
            log.error(
                "%s does not answer: the service manager gets no sign of life, and"
                " restarts this mount unless that changes",
                " and ".join(parts),
            )
        else:
            log.info("everything answers again")
        self._look()

    def _look(self) -> None:
        try:
            self._tell()
        except Exception:
            # What cannot be told must not cost the mount.
            log.exception("a bug in mountfs: the service manager was not told")

    def _tell(self) -> None:
        """Say what has changed, and ask for more time if there is need for it."""
        status = self._status() if self._status is not None else None
        if status is not None:
            self.say(describe(status, self._silent))
        if status is None or status.state is not State.MOUNTED:
            pending = status and (status.pending_files, status.pending_bytes)
            seen = (dataclasses.astuple(self._work.activity), pending)
            if seen != self._work_seen or self._work.requests() > 0:
                self._manager.extend(EXTENSION_S)
            self._work_seen = seen


def describe(status: Status, silent: tuple[str, ...] = ()) -> str:
    """Return how a mount does, in one line for `systemctl status`."""
    parts = [_HEADS[status.state]]
    if silent:
        parts.insert(0, f"STUCK: {' and '.join(silent)} does not answer")
    if status.store_state != "online":
        reason = f" ({status.store_reason})" if status.store_reason else ""
        parts.append(f"the store is {status.store_state.upper()}{reason}")
    parts.append(_pending(status))
    if status.config_problem:
        parts.append(f"the configuration was not taken: {status.config_problem}")
    if status.unseen:
        parts.append(f"late errors: {status.unseen} (see `mountfs status`)")
    return "; ".join(parts)


_HEADS = {
    State.MOUNTED: "mounted",
    State.DRAINING: "unmounted, draining",
    State.DONE: "unmounted",
}


def _pending(status: Status) -> str:
    if not status.pending_files:
        return "the store has everything"
    files = "1 file" if status.pending_files == 1 else f"{status.pending_files} files"
    what = f"not in the store yet: {files}, {format_size(status.pending_bytes)}"
    if status.state is State.DONE:
        return f"{what}; the next mount goes on with it"
    return what
