"""The state of a multipart upload that runs while its file is still being written.

Pure but for the events that tell that a part is no longer on its way. Parts are cut
by a ladder of sizes, so that a file of any size ends within the store's number of
parts although nobody knows its size when it begins.

    WAITING  the bytes are in the spool and must be sent (again)
    SENDING  a task sends them; a write in the meantime makes the part stale
    SENT     the store has them; they may be punched out of the spool

A stale part returns to WAITING when its sending ends, whatever became of it: two
requests for one part never overlap, so the one that started last wins.
"""

import enum
from dataclasses import dataclass, field

import trio

from mountfs.cache.extents import Extents
from mountfs.storage.errors import StoreError
from mountfs.storage.types import Metadata, MultipartLimits, Part, Upload

_STEPS = ((0.1, 1), (0.1, 8), (0.3, 32), (0.5, 128))
"""Which share of the parts has which multiple of the first size."""
_EQUAL_FACTOR = 8


class Ladder:
    """The size of each part of a file whose size is not yet known."""

    def __init__(
        self, limits: MultipartLimits, part_size: int, size_max: int | None = None
    ) -> None:
        least = max(1, limits.part_size_min)
        most = limits.part_size_max
        if size_max is not None:
            most = max(least, min(most, size_max))
        self.parts_max = limits.parts_max
        self.is_in_place = limits.in_place
        self._sizes: list[tuple[int, int]] = []
        if limits.equal_parts:
            size = min(max(part_size * _EQUAL_FACTOR, least), most)
            self._sizes.append((limits.parts_max, size))
            return
        until = 0
        for share, factor in _STEPS:
            until += max(1, int(limits.parts_max * share))
            self._sizes.append((until, min(max(part_size * factor, least), most)))

    def size_of(self, index: int) -> int:
        """Return the size of a part."""
        for until, size in self._sizes:
            if index < until:
                return size
        return self._sizes[-1][1]


class SlotState(enum.Enum):
    """Where the bytes of a part are."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"


@dataclass(slots=True, eq=False)
class Slot:
    """One part of the upload."""

    index: int
    offset: int
    size: int
    state: SlotState = SlotState.WAITING
    part: Part | None = None
    is_stale: bool = False
    is_punched: bool = False
    is_short: bool = False
    """Cut off at the end of the file; it is dropped when the file grows."""
    was_touched: bool = False
    """Whether a part of other bytes may have been sent under this index."""
    error: StoreError | None = None
    idle: trio.Event = field(default_factory=trio.Event)

    @property
    def end(self) -> int:
        """Where the next part begins."""
        return self.offset + self.size

    def begin(self) -> None:
        """A task starts to send the bytes."""
        assert self.state is SlotState.WAITING
        self.state = SlotState.SENDING
        self.is_stale = False
        self.error = None
        self.idle = trio.Event()

    def finish(self, part: Part | None, error: StoreError | None) -> None:
        """The task has ended."""
        assert self.state is SlotState.SENDING
        if part is not None and not self.is_stale:
            self.state, self.part = SlotState.SENT, part
        else:
            self.state, self.part = SlotState.WAITING, None
            self.error = None if self.is_stale else error
        self.idle.set()

    def touch(self) -> None:
        """The bytes change: whatever was sent is no longer right."""
        assert not self.is_punched
        self.is_stale = self.was_touched = True
        if self.state is SlotState.SENT:
            self.state, self.part = SlotState.WAITING, None

    def take_stock(self, listed: Part | None) -> None:
        """Compare with the part that the store has, which another process has sent."""
        is_like = listed is not None and listed.size == self.size
        if self.is_punched:
            # It was there when its bytes here were given up. Another one is of a
            # request that came late, with the same bytes if there never were others.
            if is_like and not self.was_touched:
                self.part = listed
            return
        if self.part is not None:
            is_like = is_like and listed is not None and listed.etag == self.part.etag
        elif self.was_touched:
            is_like = False
        self.state = SlotState.SENT if is_like else SlotState.WAITING
        self.part = listed if is_like else None


class Stream:
    """An upload under way for a file that is still open."""

    def __init__(
        self, upload: Upload, ladder: Ladder, metadata: Metadata, started_ns: int
    ) -> None:
        self.upload = upload
        self.metadata = metadata
        self.started_ns = started_ns
        self.slots: list[Slot] = []
        self.punched = Extents()
        self.punching = trio.Lock()
        self.is_over = False
        self.is_restored = False
        """Whether another process began it: the store knows more of its parts."""
        self.used = 0
        """So many indexes have been given to parts, some of which are gone."""
        self._ladder = ladder

    @property
    def end(self) -> int:
        """Where the next part begins."""
        return self.slots[-1].end if self.slots else 0

    @property
    def is_full(self) -> bool:
        """Whether the store takes no more parts than the one last part."""
        return len(self.slots) >= self._ladder.parts_max - 1

    @property
    def parts_max(self) -> int:
        """The most parts that the store takes."""
        return self._ladder.parts_max

    @property
    def next_end(self) -> int:
        """Where the next part will end."""
        return self.end + self._ladder.size_of(len(self.slots))

    def add(self, until: int) -> Slot:
        """Make the next part; the last one of a file ends early, at `until`."""
        end = min(self.next_end, until)
        slot = Slot(len(self.slots), self.end, end - self.end)
        slot.is_short = end < self.next_end
        slot.was_touched = slot.index < self.used
        self.used = max(self.used, slot.index + 1)
        self.slots.append(slot)
        return slot

    def fits(self, size: int) -> bool:
        """Tell whether the rest of a file of this size can be had in parts."""
        position, index = self.end, len(self.slots)
        while position < size and index < self._ladder.parts_max:
            position += self._ladder.size_of(index)
            index += 1
        return position >= size

    def cannot_take(self, start: int, end: int) -> bool:
        """Tell whether the upload cannot go on if these bytes change."""
        if self.punched.overlaps(start, end):
            return True
        return self._ladder.is_in_place and any(
            slot.offset < end and start < slot.end and not slot.is_short
            for slot in self.slots
        )

    def touch(self, start: int, end: int) -> bool:
        """Bytes change: parts that hold them must be sent again.

        Tells whether the store had any of them.
        """
        touched = [
            slot for slot in self.slots if slot.offset < end and start < slot.end
        ]
        had_any = any(slot.state is SlotState.SENT for slot in touched)
        for slot in touched:
            slot.touch()
        return had_any

    def behind(self, size: int) -> list[Slot]:
        """Return the parts that hold bytes at or behind `size`."""
        return [slot for slot in self.slots if slot.end > size]

    def cut(self, size: int) -> None:
        """Drop the parts that hold bytes at or behind `size`; none may be sending."""
        self.slots = [slot for slot in self.slots if slot.end <= size]
        self.punched.cut(self.end)

    def drop_short(self) -> None:
        """Drop the last part if it is a short one, before anything follows it."""
        if self.slots and self.slots[-1].is_short:
            self.slots.pop()

    def parts(self) -> list[Part]:
        """Return all parts. Every one of them must have been sent."""
        return [_sent(slot) for slot in self.slots]

    async def settle(self) -> None:
        """Return when no part is on its way."""
        for slot in list(self.slots):
            if slot.state is SlotState.SENDING:
                await slot.idle.wait()

    def waiting(self) -> list[Slot]:
        """Return the parts whose bytes must still be sent."""
        return [slot for slot in self.slots if slot.state is SlotState.WAITING]

    def punchable(self) -> list[Slot]:
        """Return the parts whose bytes here are not needed any more."""
        return [
            slot
            for slot in self.slots
            if slot.state is SlotState.SENT
            and not slot.is_punched
            and not slot.is_short
        ]


def _sent(slot: Slot) -> Part:
    assert slot.state is SlotState.SENT
    assert slot.part is not None
    return slot.part
