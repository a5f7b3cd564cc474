"""Ways of programs through large directories: what comes next, and how much of it."""

from collections.abc import Iterator

import pytest

from mountfs.vfs.courses import (
    AHEAD,
    ASTRAY_MAX,
    COURSES_MAX,
    GONE_S,
    IN_A_ROW,
    PART,
    RISING,
    UNFIT_S,
    Courses,
)
from mountfs.vfs.node import Inode

ORDER = [Inode(number) for number in range(2, 20_000, 7)]
TTL_S = 1.0


KNOWN = RISING + IN_A_ROW + 1
"""So many names in a row, from the first on, tell which come next."""


def go(courses: Courses, places: range, *, step_s: float = 0.0) -> float:
    """Remove names in the order of their numbers; return what time it is then."""
    for place in places:
        courses.note("d/", ORDER[place], place * step_s, ORDER[place + 1 :])
    return places[-1] * step_s


def test_what_comes_next_is_known_after_some_in_a_row() -> None:
    """And it is asked for once, many at a time."""
    courses = Courses()
    now_s = go(courses, range(KNOWN - 1))
    assert not courses.leads("d/", now_s)
    assert courses.next(now_s, TTL_S) == []

    now_s = go(courses, range(KNOWN - 1, KNOWN))
    assert courses.leads("d/", now_s)
    _, most = AHEAD
    ahead = ORDER[KNOWN:]
    assert courses.next(now_s, TTL_S) == ahead[:most]
    assert courses.next(now_s, TTL_S) == []
    go(courses, range(KNOWN, KNOWN + most // 2))
    assert courses.next(now_s, TTL_S) == ahead[most : most + most // 2]


def test_who_is_slow_is_not_run_ahead_of_far() -> None:
    """What was asked for must still be believed when its turn comes."""
    courses = Courses()
    now_s = go(courses, range(100), step_s=0.02)

    assert len(courses.next(now_s, TTL_S)) in (19, int(PART * TTL_S / 0.02))


def test_names_that_are_left_out_make_no_other_order() -> None:
    """A program may spare some."""
    courses = Courses()
    go(courses, range(0, 60, 3))

    assert courses.leads("d/", 0.0)


def test_another_order_is_not_looked_at() -> None:
    """To sort all names takes long: not for one that is removed, nor for some."""
    courses = Courses()
    looks: list[float] = []

    def left(now_s: float) -> Iterator[Inode]:
        looks.append(now_s)
        yield from ORDER

    for number in range(3 * ASTRAY_MAX):
        place = number * 1001 % len(ORDER)
        assert not courses.note("d/", ORDER[place], 0.0, left(0.0))
    for number in range(3 * RISING):
        now_s = number * GONE_S
        assert not courses.note("d/", ORDER[number], now_s, left(now_s))
    assert looks == []


def test_what_only_seems_to_be_the_order_is_looked_at_seldom() -> None:
    """Numbers that rise by large steps: once, and again after a while."""
    courses = Courses()
    looks: list[float] = []

    def left(now_s: float) -> Iterator[Inode]:
        looks.append(now_s)
        yield from ORDER

    for number in range(200):
        courses.note("d/", ORDER[10 * number], 0.0, left(0.0))
    assert looks == [0.0]

    for number in range(RISING + 1):
        courses.note("d/", ORDER[number], UNFIT_S + 1, left(UNFIT_S + 1))
    assert looks == [0.0, UNFIT_S + 1]


@pytest.mark.parametrize("since_s", [0.0, GONE_S + 1, UNFIT_S + 1])
@pytest.mark.parametrize("gone", [len(ORDER), 100])
def test_a_directory_is_gone_through_again_as_the_first_time(
    gone: int, since_s: float
) -> None:
    """With names that were made since, when all others had gone or not."""
    courses = Courses()
    go(courses, range(gone))

    newer = [Inode(inode + ORDER[-1]) for inode in ORDER]
    for place, inode in enumerate(newer[: 2 * KNOWN]):
        courses.note("d/", inode, since_s, newer[place + 1 :])
    assert courses.leads("d/", since_s)


def test_who_is_gone_is_not_run_ahead_of() -> None:
    """Nothing is asked for, and nothing kept for ever."""
    courses = Courses()
    now_s = go(courses, range(50))

    assert not courses.leads("d/", now_s + GONE_S)
    assert courses.next(now_s + GONE_S, TTL_S) == []
    assert courses.has("d/")
    courses.next(now_s + UNFIT_S + 1, TTL_S)
    assert not courses.has("d/")


def test_only_some_directories_are_remembered() -> None:
    """The oldest gives way."""
    courses = Courses()
    for number in range(COURSES_MAX + 1):
        courses.note(f"{number}/", ORDER[0], 0.0, ORDER)

    assert [courses.has(f"{n}/") for n in (0, 1, COURSES_MAX)] == [False, True, True]
