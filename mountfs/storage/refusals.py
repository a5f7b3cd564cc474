"""What a store refused last, by key: for whoever asks why a file is not stored.

An answer that says no in the course of things (no such object, a condition that does
not hold) is none, nor is what was never sent. Bounded: the oldest go first.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mountfs.storage.errors import (
    BucketNotFound,
    NotFound,
    Offline,
    PreconditionFailed,
    StayedOffline,
    StoreError,
)

KEPT_MAX = 1000

_IN_THE_COURSE_OF_THINGS = (NotFound, PreconditionFailed, Offline, StayedOffline)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request that failed."""

    time_ns: int
    error: StoreError


class Refusals:
    """The newest failure of each key."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._kept: OrderedDict[str, Refusal] = OrderedDict()

    def note(self, error: StoreError) -> None:
        """Keep a failure, if it is one."""
        is_failure = not isinstance(error, _IN_THE_COURSE_OF_THINGS)
        if not (is_failure or isinstance(error, BucketNotFound)):
            return
        key = error.key or ""
        self._kept.pop(key, None)
        self._kept[key] = Refusal(self._now_ns(), error)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def newest(self, count: int) -> list[Refusal]:
        """Return the newest that trying again does not help, the oldest of them first.

        The others show in the health of the store, and in what waits for it.
        """
        final = [each for each in self._kept.values() if not each.error.is_retryable]
        return final[-count:]

    def last(self, *keys: str) -> Refusal | None:
        """Return the newest failure of any of these keys."""
        found = [self._kept[key] for key in keys if key in self._kept]
        return max(found, key=lambda each: each.time_ns, default=None)
