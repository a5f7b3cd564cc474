"""The service manager, as a daemon speaks to it: the protocol of sd_notify(3).

A message is one datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET`
names. Nothing here waits: what the socket does not take at once is said with the next
message, the newest value of each name. Without a manager all is said to nobody.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Self

log = logging.getLogger(__name__)

STATUS_SIZE_MAX = 400
"""A status is one line of `systemctl status`."""
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Manager:
    """Whoever started this daemon and wants to hear how it does, or nobody."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """`watchdog_s`: a daemon that is silent for so long is ended, and restarted."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._unsaid: dict[str, str] = {}
        self._is_missed = False
        self.watchdog_s = watchdog_s

    @classmethod
    def take_from(cls, environ: MutableMapping[str, str]) -> Self:
        """Return the manager that the environment names, and remove it from there.

        What this process starts must not speak in its name.
        """
        found = {name: environ.pop(name, "") for name in _VARIABLES}
        return cls(found["NOTIFY_SOCKET"], _watchdog_s(found))

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def tell(self, **said: str | int) -> None:
        """Say this, and what could not be said before."""
        if not self.is_there:
            return
        self._unsaid |= {name: _one_line(str(value)) for name, value in said.items()}
        text = "\n".join(f"{name}={value}" for name, value in self._unsaid.items())
        try:
            # The manager may have been replaced by a newer one, at the same address.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talking:
                talking.setblocking(False)
                talking.sendto(text.encode(errors="replace"), self._address)
        except OSError as error:
            if not self._is_missed:
                log.warning("the service manager does not listen: %s", error)
            self._is_missed = True
            return
        self._is_missed = False
        self._unsaid.clear()

    def extend(self, seconds: float) -> None:
        """Ask for so much time from now, to start or to stop."""
        self.tell(EXTEND_TIMEOUT_USEC=int(seconds * 1e6))

    def tell_reloading(self) -> None:
        """Say that the configuration is being read; `READY` says that it has been."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell(RELOADING=1, MONOTONIC_USEC=now_us)


NOBODY = Manager()


def _watchdog_s(found: Mapping[str, str]) -> float | None:
    """Return how often the manager wants a sign of life from this very process."""
    pid, text = found["WATCHDOG_PID"], found["WATCHDOG_USEC"]
    if (pid and pid != str(os.getpid())) or not text.isdecimal():
        return None
    return int(text) / 1e6 or None


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return printable[:STATUS_SIZE_MAX]
