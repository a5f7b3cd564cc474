"""One file that was changed and is not yet stored: its bytes and what is under them.

The bytes of a dirty file are, in this order: what lies in the spool (`extents`), what
an open upload holds and the spool gave up (`stream.punched`), the base object below
`base_size`, zeros.

Reads may come while anything else goes on. They see one consistent state because
state changes only between awaits, and because spool bytes that left `extents` stay
readable until every read that began before has ended (`ReadGate`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from mountfs.cache.attempts import Attempt
from mountfs.cache.extents import Extents
from mountfs.cache.lock import Lock
from mountfs.cache.spool import Spool
from mountfs.cache.streaming import SlotState, Stream
from mountfs.storage.types import Condition, Metadata, Object


class ReadGate:
    """Lets whoever destroys bytes wait for the reads that may still look at them."""

    def __init__(self) -> None:
        self._cohort = _Cohort()
        self._closing: list[_Cohort] = []

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the bytes that are readable now."""
        cohort = self._cohort
        cohort.count += 1
        try:
            yield
        finally:
            cohort.count -= 1
            if cohort.count == 0 and cohort is not self._cohort:
                cohort.empty.set()

    async def wait_for_readers(self) -> None:
        """Return when every read that began before this call has ended."""
        if self._cohort.count:
            self._closing.append(self._cohort)
            self._cohort = _Cohort()
        for cohort in list(self._closing):
            await cohort.empty.wait()
        self._closing = [cohort for cohort in self._closing if cohort.count]


class _Cohort:
    """The reads that began between two changes."""

    def __init__(self) -> None:
        self.count = 0
        self.empty = trio.Event()


@dataclass(frozen=True, slots=True)
class Own:
    """What a file has put by while it uses the spool of the state before it."""

    spool: Spool
    extents: Extents
    lent_bytes: int
    """How many bytes of the other state are counted for this one as well."""


class DirtyFile:
    """The changed state of one file, shared by all its handles.

    Made by `WriteBack.begin` and changed by `WriteBack` only.
    """

    def __init__(
        self,
        key: str,
        base: Object | None,
        size: int,
        spool: Spool,
        *,
        inherit: Object | None = None,
        condition: Condition = None,
        is_forced: bool = False,
    ) -> None:
        base_size = (base.size or 0) if base is not None else 0
        self.key = key
        self.base = base
        self.base_size = min(base_size, size)
        """How much of the base is still visible."""
        self.size = size
        self.extents = Extents()
        self.revision = 0
        """Grows with each change of the bytes or the size."""
        self.stored_revision = 0 if base is not None and base_size == size else -1
        self.inherit = inherit
        self._condition = condition
        self._is_forced = is_forced
        self.committed_any = False
        """Whether an object that holds bytes of this file was stored by us."""
        self.is_ahead = False
        """Whether we stored an object that our user has not been told of."""
        self.commit_ids: dict[str, int] = {}
        """Commits that may have been carried out or not, and the revision they hold."""
        self.commit_id: str | None = None
        """The commit that was promised; None if each attempt may have its own."""
        self.is_promised = False
        """Whether it belongs to the queue, which stores it and then discards it."""
        self.is_discarded = False
        self.is_kept = False
        """Whether a row of a failed file names its spool."""
        self.own: Own | None = None
        self.stream: Stream | None = None
        self.stream_refused = False
        self.attempt: Attempt | None = None
        """An upload by a plan that was cut short, and can be gone on with."""
        self.whole: bytes | None = None
        """All bytes as they were just stored, if they were put together for that."""
        self.metadata: Callable[[], Metadata] | None = None
        self.begun_s = time.monotonic()
        self.spool = spool
        self.may_change_spool = False
        """Whether no row names the spool file, so that it may be left to others."""
        self.readers = ReadGate()
        self.changing = Lock()

    @property
    def condition(self) -> Condition:
        """What must hold for a commit; None if it replaces whatever is there."""
        return None if self._is_forced else self._condition

    @condition.setter
    def condition(self, condition: Condition) -> None:
        self._condition = condition

    @property
    def starts_from(self) -> Condition:
        """What the name had when the file was begun, whatever a commit demands."""
        return self._condition

    @property
    def is_changed(self) -> bool:
        """Whether anything differs from the newest object stored."""
        return self.revision != self.stored_revision

    @property
    def sent_bytes(self) -> int:
        """How many of its bytes lie in an upload that is not finished."""
        if self.stream is not None:
            sent = (each for each in self.stream.slots if each.state is SlotState.SENT)
            return sum(each.size for each in sent)
        if self.attempt is not None:
            return sum(part.size for part in self.attempt.parts.values())
        return 0

    @property
    def is_like_base(self) -> bool:
        """Whether the newest object stored has all bytes, if not all metadata."""
        is_all_base = self.is_base_whole and self.base_size == self.size
        return is_all_base and not self.extents and self.stream is None

    @property
    def is_base_whole(self) -> bool:
        """Whether all of the base is still visible."""
        return self.base is not None and self.base.size == self.base_size
