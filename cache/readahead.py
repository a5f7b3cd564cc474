"""How far to read ahead of a program. Pure: it only sees offsets and sizes.

While reads follow each other the window doubles, up to `window_max`; a read somewhere
else closes it. "Follow" is meant loosely: the kernel keeps two requests in flight and
they may arrive in either order, so a read counts as next if it begins within
`tolerance` of where the last one ended. More is asked for only when less than half
of the window is left, so that requests stay large.

Who begins at the start with a large read is likely to go through the whole file (`cat`,
`cp`; the kernel asks for 512 KiB then, and for 16 if a program wants a few bytes): it
gets a wide window at once, where its caller allows one.

A program that reads here and there waits a round trip for each read, unless what it
wants next was fetched with what it wanted before. So from its third jump on each read
that has to wait brings its surroundings along, as long as that proves useful: so many
bytes are spent in advance, and each read that finds its bytes here earns more. Of a
file that is small next to what its reader has waited for, all comes along: pieces of a
large one would be found too seldom to earn that.
"""

from mountfs.cache.extents import Range

JUMPS_MIN = 3
"""So many reads here and there, less those that follow another, make a pattern."""
WHOLE_SHARE = 24 << 20
"""For each jump so many bytes of a file may come: then all of it is about as fast."""
WHOLE_MAX = 256 << 20
"""A file of that size comes along whatever was spent before, once."""
LARGE_READ = 512 << 10
CREDIT_EARNED = 32 << 20
CREDIT_MAX = 1 << 30


class ReadStream:
    """The reads of one open file, as far as they predict the next one."""

    def __init__(
        self,
        *,
        window_min: int = 1 << 20,
        window_max: int = 32 << 20,
        tolerance: int = 2 << 20,
        credit: int = 64 << 20,
    ) -> None:
        self._window_min = window_min
        self._window_max = window_max
        self._tolerance = tolerance
        self._window = 0
        self._position: int | None = None
        self._asked_until = 0
        self._jumps = 0
        self._credit = credit
        self._whole_left = WHOLE_MAX

    @property
    def window(self) -> int:
        """How many bytes ahead are wanted at the moment."""
        return self._window

    def advance(self, offset: int, size: int, *, wide: int = 0) -> Range | None:
        """Note a read; return the range to fetch ahead now, if any.

        `wide` is how far a program may be led that seems to read the whole file. The
        range may reach past the end of the file.
        """
        end = offset + size
        if self._position is None and offset == 0 and size >= LARGE_READ and wide:
            self._position = end
            self._window = wide
            self._asked_until = end + wide
            return (end, self._asked_until)
        if not self._is_next(offset):
            self._window = 0
            self._jumps += 1
            self._position = end
            self._asked_until = end
            return None
        assert self._position is not None
        self._jumps = max(0, self._jumps - 1)
        self._position = max(self._position, end)
        ahead = max(0, self._asked_until - self._position)
        if self._window and ahead >= self._window // 2:
            return None
        doubled = max(self._window_min, self._window * 2)
        self._window = min(doubled, max(self._window_max, wide))
        start = max(self._position, self._asked_until)
        self._asked_until = max(start, self._position + self._window)
        return (start, self._asked_until) if start < self._asked_until else None

    def around(
        self, offset: int, width: int, *, size: int = 0, share: int = WHOLE_SHARE
    ) -> Range | None:
        """Return what to fetch with a read that jumped to bytes that are not here.

        `width` is how much may come along, and the range one of the pieces of that
        size that a file consists of; or all of the file, if its `size` is no more than
        `share` for each jump: so its reader never waits much longer for all of it than
        it would have waited for pieces.
        """
        if self._jumps < JUMPS_MIN:
            return None
        allowance = max(self._credit, self._whole_left)
        if 0 < size <= min(self._jumps * share, allowance):
            self._whole_left = 0
            self._credit = max(0, self._credit - size)
            return (0, size)
        if self._credit < width or width <= 0:
            return None
        self._credit -= width
        start = offset // width * width
        return (start, start + width)

    def note_found(self) -> None:
        """Note that a read that jumped found its bytes here."""
        if self._jumps >= JUMPS_MIN:
            self._credit = min(self._credit + CREDIT_EARNED, CREDIT_MAX)

    def _is_next(self, offset: int) -> bool:
        if self._position is None:
            return False
        return abs(offset - self._position) <= self._tolerance
