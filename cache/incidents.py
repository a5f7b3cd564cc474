"""What went wrong behind a program's back, kept until somebody has seen it.

A late error is one that no system call could carry any more: an upload failed after its
close(2) had returned, a commit lost a race. Each is logged once, shown by `mountfs
status` and by the extended attribute `user.mountfs.last_error`, and makes the exit code
of an unmount that of trouble. Bounded: the oldest go first, but the counts do not.

Everything runs on the trio thread.
"""

import enum
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

KEPT_MAX = 1000


class IncidentKind(enum.Enum):
    """What sort of thing went wrong."""

    CONFLICT = "conflict"
    """A commit lost a race; `kept_as` names the copy with its bytes, if any."""
    FAILED = "failed"
    """Bytes or a change could not be stored; they wait in the state directory."""
    REFUSED = "refused"
    """Bytes or a change were given up, and the program was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One late error."""

    kind: IncidentKind
    key: str
    text: str
    time_ns: int
    kept_as: str | None = None
    """The key of a conflict copy."""


class Incidents:
    """The late errors of one mount, oldest first."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._kept: deque[Incident] = deque(maxlen=KEPT_MAX)
        self._counts = dict.fromkeys(IncidentKind, 0)

    def __iter__(self) -> Iterator[Incident]:
        return iter(tuple(self._kept))

    def note(
        self, kind: IncidentKind, key: str, text: str, *, kept_as: str | None = None
    ) -> None:
        """Keep what went wrong with a key."""
        self._counts[kind] += 1
        self._kept.append(
            Incident(
                kind=kind, key=key, text=text, time_ns=self._now_ns(), kept_as=kept_as
            )
        )

    def count(self, kind: IncidentKind) -> int:
        """Return how often this happened since the mount began."""
        return self._counts[kind]

    def last(self, key: str) -> Incident | None:
        """Return the newest late error of a key, if it has one."""
        return next((each for each in reversed(self._kept) if each.key == key), None)

    def clear(self, key: str) -> None:
        """Forget the late errors of a key: its newest state is in the store."""
        kept = [each for each in self._kept if each.key != key]
        self._kept.clear()
        self._kept.extend(kept)
