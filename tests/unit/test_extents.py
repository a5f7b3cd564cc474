"""Extents against a plain set of bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache.extents import Extents

RANGES = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(
    lambda pair: (min(pair), max(pair))
)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove", "cut"]), RANGES))


def bytes_of(extents: Extents) -> set[int]:
    return {byte for start, end in extents for byte in range(start, end)}


@given(STEPS)
def test_extents_hold_exactly_the_bytes_that_were_put_in(
    steps: list[tuple[str, tuple[int, int]]],
) -> None:
    """Adding, removing and cutting ranges does what it does to a set of bytes."""
    extents = Extents()
    model: set[int] = set()
    for verb, (start, end) in steps:
        touched = set(range(start, end))
        if verb == "add":
            assert extents.add(start, end) == len(touched - model)
            model |= touched
        elif verb == "remove":
            assert extents.remove(start, end) == len(touched & model)
            model -= touched
        else:
            assert extents.cut(end) == len({b for b in model if b >= end})
            model = {byte for byte in model if byte < end}

        assert bytes_of(extents) == model
        assert extents.total == len(model)
        assert extents.end == max(model, default=-1) + 1


@given(st.lists(RANGES), RANGES)
def test_ranges_and_gaps_tile_any_range(
    ranges: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    """Inside any range, what is in the set and what is not tile it exactly."""
    extents = Extents(ranges)
    start, end = asked
    pieces = sorted(extents.within(start, end) + extents.gaps(start, end))

    position = start
    for first, last in pieces:
        assert first == position < last
        position = last
    assert position == end or start == end
    assert extents.size_within(start, end) == sum(
        b - a for a, b in extents.within(start, end)
    )
    is_covered = extents.covered_until(start) >= end
    assert is_covered == (not extents.gaps(start, end))


@given(st.lists(RANGES))
def test_extents_are_few_sorted_and_never_touch(ranges: list[tuple[int, int]]) -> None:
    """Ranges that meet become one."""
    extents = list(Extents(ranges))

    for (_, end), (start, _) in itertools.pairwise(extents):
        assert end < start


def test_a_run_is_followed_to_its_end() -> None:
    """The end of the run that begins at a byte is told, or that byte itself."""
    extents = Extents([(0, 10), (10, 20), (30, 40)])

    assert extents.covered_until(0) == 20
    assert extents.covered_until(20) == 20
    assert extents.covered_until(35) == 40


def test_copies_are_apart_and_equal() -> None:
    """A copy has the same bytes and goes its own way."""
    extents = Extents([(0, 10)])
    copy = extents.copy()
    assert copy == extents

    copy.clear()

    assert not copy
    assert len(extents) == 1
    assert repr(extents) == "Extents([(0, 10)])"
    assert extents.overlaps(9, 12)
    assert not extents.overlaps(10, 12)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (4, 3)])
def test_a_range_that_is_none_is_refused(start: int, end: int) -> None:
    """Negative offsets and ends before starts are mistakes of the caller."""
    with pytest.raises(ValueError, match="no range"):
        Extents().add(start, end)
