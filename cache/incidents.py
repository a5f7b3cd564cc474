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
        self._kept: deque[tuple[int, Incident]] = deque(maxlen=KEPT_MAX)
        self._counts = dict.fromkeys(IncidentKind, 0)
        self._number = 0
        self._seen_number = 0

    def __iter__(self) -> Iterator[Incident]:
        return iter([each for _, each in self._kept])

    def note(
        self, kind: IncidentKind, key: str, text: str, *, kept_as: str | None = None
    ) -> None:
        """Keep what went wrong with a key."""
        self._counts[kind] += 1
        self._number += 1
        incident = Incident(
            kind=kind, key=key, text=text, time_ns=self._now_ns(), kept_as=kept_as
        )
        self._kept.append((self._number, incident))

    def count(self, kind: IncidentKind) -> int:
        """Return how often this happened since the mount began."""
        return self._counts[kind]

    def last(self, key: str) -> Incident | None:
        """Return the newest late error of a key, if it has one."""
        return next((each for _, each in reversed(self._kept) if each.key == key), None)

    def unseen(self) -> tuple[Incident, ...]:
        """Return what nobody has seen: no program was told, no person was shown it."""
        return tuple(
            each
            for number, each in self._kept
            if number > self._seen_number and each.kind is not IncidentKind.REFUSED
        )

    def mark_seen(self) -> None:
        """Note that a person is shown all there is."""
        self._seen_number = self._number

    def clear(self, key: str) -> None:
        """Forget what failed of a key: its newest state is in the store.

        A conflict stays, since its copy does; so does what was given up.
        """
        kept = [
            (number, each)
            for number, each in self._kept
            if each.key != key or each.kind is not IncidentKind.FAILED
        ]
        if len(kept) < len(self._kept):
            self._kept.clear()
            self._kept.extend(kept)
