"""Programs that remove the names of a large directory in the order of their numbers.

`rm -r` does so with more than 10 000 names, and that order is none of the store's: a
page of a listing tells of a few names that will be asked for while it is believed.
Which name is next is known, though: the inode numbers are ours. Here it is seen that a
program goes that way, and how fast; who asks for what is next is `Foresight`
(mountfs.vfs.foresight).

Pure: no I/O, and no clock of its own.
"""

import bisect
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mountfs.vfs.node import Inode

NAMES_MIN = 32_000
"""In a directory with fewer names all pages are listed together (`neighbours`)."""
COURSES_MAX = 4
"""So many directories at a time."""
RISING = 8
"""So many numbers, each above the one before, are worth a look at all of them: to sort
a million takes a second, in which nobody else gets an answer."""
IN_A_ROW = 4
"""So many names, one after the other in the order, tell that it is the program's."""
STEP_MAX = 4
"""A name or two between them may be left out."""
ASTRAY_MAX = 32
"""After so many names in another order the directory is not looked at for a while."""
UNFIT_S = 60.0
GONE_S = 5.0
"""A program that has removed nothing for so long is at something else."""
AHEAD = 8, 128
"""So many names are asked for ahead of a program, at least and at most."""
PART = 0.4
"""Namely those that it needs in this part of the time to live."""


@dataclass(slots=True, eq=False)
class _Course:
    """A way through the names of a directory."""

    order: list[Inode] = field(default_factory=list)
    """Empty as long as nothing tells that it is worth a look."""
    unfit_until_s: float = 0.0
    last: int = 0
    """The name that was removed last: none at first."""
    rising: int = 0
    at: int = 0
    """The place of that name."""
    at_s: float = 0.0
    asked: int = 0
    """What is before this place was asked for, or has gone."""
    in_a_row: int = 0
    astray: int = 0
    step_s: float = 0.0
    """How long a name takes, a mean of the last ones."""

    def rises(self, inode: Inode, now_s: float) -> bool:
        """Note that a name is gone; tell whether the order is worth a look now."""
        is_next = 0 < self.last < inode and now_s - self.at_s < GONE_S
        self.rising = self.rising + 1 if is_next else 0
        self.last, self.at_s = inode, now_s
        return self.rising >= RISING and now_s >= self.unfit_until_s

    def begin(self, order: list[Inode]) -> None:
        """Follow the program from the name on that was removed last."""
        self.order, self.at = order, bisect.bisect_left(order, self.last) - 1
        self.asked = self.in_a_row = self.astray = 0
        self.step_s = 0.0

    def note(self, inode: Inode, now_s: float) -> None:
        """Note that the program has removed a name."""
        place = bisect.bisect_left(self.order, inode)
        step, took_s = place - self.at, now_s - self.at_s
        self.last, self.at, self.at_s = inode, place, now_s
        if 0 < step <= STEP_MAX:
            self.in_a_row, self.astray = self.in_a_row + 1, 0
            self.step_s += (took_s / step - self.step_s) / 8
        else:
            self.in_a_row, self.astray = 0, self.astray + 1
            self.step_s = 0.0
        if self.astray > ASTRAY_MAX:
            self.unfit_until_s = now_s + UNFIT_S
        if self.astray > ASTRAY_MAX or place >= len(self.order) - 1:
            self.order, self.rising = [], 0

    def is_led(self, now_s: float) -> bool:
        """Tell whether what comes next is known."""
        if not self.order:
            return False
        return self.in_a_row >= IN_A_ROW and now_s - self.at_s < GONE_S

    def next(self, ttl_s: float) -> list[Inode]:
        """Return what to ask for now; it is taken for asked then."""
        least, most = AHEAD
        count = int(PART * ttl_s / self.step_s) if self.step_s else most
        count = max(least, min(most, count))
        start = max(self.asked, self.at + 1)
        end = min(self.at + 1 + count, len(self.order))
        if end - start < count // 2 and end < len(self.order):
            return []  # several at a time: each turn costs something
        self.asked = max(start, end)
        return self.order[start:end]


class Courses:
    """The ways of programs through large directories."""

    def __init__(self) -> None:
        self._courses: OrderedDict[str, _Course] = OrderedDict()

    def note(
        self, prefix: str, inode: Inode, now_s: float, left: Iterable[Inode]
    ) -> bool:
        """Note that a name is gone; tell if what comes next is known.

        `left` are the numbers of those that are still there. They are looked at when
        it seems that they are removed in their order.
        """
        course = self._courses.get(prefix)
        if course is None or (course.order and now_s - course.at_s > UNFIT_S):
            course = self._courses[prefix] = _Course()
            if len(self._courses) > COURSES_MAX:
                self._courses.popitem(last=False)
        if course.order:
            course.note(inode, now_s)
        elif course.rises(inode, now_s):
            course.begin(sorted(left))
        return course.is_led(now_s)

    @property
    def are_none(self) -> bool:
        """Whether no directory is remembered at all."""
        return not self._courses

    def has(self, prefix: str) -> bool:
        """Tell whether a directory is known to be gone through, or was."""
        return prefix in self._courses

    def leads(self, prefix: str, now_s: float) -> bool:
        """Tell whether it is known which names of a directory come next."""
        course = self._courses.get(prefix)
        return course is not None and course.is_led(now_s)

    def next(self, now_s: float, ttl_s: float) -> list[Inode]:
        """Return what to ask for now, of all directories."""
        for prefix, course in tuple(self._courses.items()):
            if course.order and now_s - course.at_s > UNFIT_S:
                del self._courses[prefix]
        led = [each for each in self._courses.values() if each.is_led(now_s)]
        return [inode for course in led for inode in course.next(ttl_s)]
