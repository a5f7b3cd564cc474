"""Which way a program goes through a directory, and how far who runs ahead is."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mountfs.vfs.rounds import Direction, Round


def positions(round: Round) -> list[int]:
    found = []
    while not round.is_over:
        found.append(round.next())
    return found


def noted(keys: str) -> Direction:
    direction = Direction()
    for key in keys:
        direction.note(key)
    return direction


def test_direction_is_that_of_most_steps() -> None:
    """One step back on the way forth turns nobody round, and a new way does."""
    assert not noted("a").is_backwards
    assert noted("ba").is_backwards
    assert not noted("bac").is_backwards
    assert not noted("bdcfe").is_backwards
    assert noted("zyxwv").is_backwards
    assert noted("abcdefghijk" + "jihgfe").is_backwards


def test_round_ends_where_the_listing_does() -> None:
    """Forth from a position to the last one, or back from it to the first."""
    forth = Round(2, 5, is_backwards=False, is_whole=False)
    back = Round(2, 5, is_backwards=True, is_whole=False)
    at_the_end = Round(5, 5, is_backwards=False, is_whole=False)
    at_the_start = Round(-1, 5, is_backwards=True, is_whole=False)

    assert positions(forth) == [2, 3, 4]
    assert positions(back) == [2, 1, 0]
    assert at_the_end.is_over
    assert at_the_start.is_over
    assert forth.tells_of_all
    assert not at_the_end.tells_of_all


@given(st.integers(1, 9), st.data(), st.booleans())
def test_whole_round_passes_each_position_once(
    count: int, data: st.DataObject, is_backwards: bool
) -> None:
    """From wherever it begins, it ends beside that."""
    start = data.draw(
        st.integers(-1, count - 1) if is_backwards else st.integers(0, count)
    )
    found = positions(Round(start, count, is_backwards=is_backwards, is_whole=True))

    assert sorted(found) == list(range(count))
    steps = [after - before for before, after in itertools.pairwise(found)]
    assert sum(abs(step) != 1 for step in steps) <= 1


def test_round_knows_where_it_has_been() -> None:
    """And the file behind which it began is no reason to begin anew."""
    round = Round(3, 8, is_backwards=False, is_whole=True)
    for _ in range(4):
        round.next()

    assert [each for each in range(8) if round.is_ahead_of(each)] == [2, 3, 4, 5, 6]
