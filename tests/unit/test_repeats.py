"""Which messages of a log are written, and what is told of the others."""

import logging

from mountfs.repeats import DIFFERENT_MAX, SORTS_MAX, WINDOW_S, Repeats

SORT = ("mountfs.x", logging.WARNING, "%s failed")


def test_the_same_text_is_written_once_a_minute() -> None:
    """How often it came besides is told when the minute is over."""
    repeats = Repeats()
    written = [repeats.may_write(SORT, "a failed", float(n)) for n in range(10)]

    assert written == [True] + [False] * 9
    holding = [repeats.is_holding]
    assert list(repeats.due(WINDOW_S - 1)) == []
    (held,) = repeats.due(WINDOW_S)
    assert str(held) == "a failed (repeated 9 times in 60 s)"
    assert [*holding, repeats.is_holding] == [True, False]
    assert repeats.may_write(SORT, "a failed", WINDOW_S + 1)


def test_one_trouble_of_many_files_is_some_lines_and_a_count() -> None:
    """The first files are named, the others counted."""
    repeats = Repeats()
    written = [repeats.may_write(SORT, f"{n} failed", 0.0) for n in range(1000)]

    assert sum(written) == DIFFERENT_MAX
    (held,) = repeats.due(WINDOW_S)
    assert str(held) == f"999 failed (and {999 - DIFFERENT_MAX} more like this in 60 s)"


def test_different_messages_do_not_hide_each_other() -> None:
    """Another logger, level or message is another matter."""
    repeats = Repeats()

    assert repeats.may_write(SORT, "a failed", 0.0)
    assert repeats.may_write(("mountfs.y", *SORT[1:]), "a failed", 0.0)
    assert repeats.may_write((SORT[0], logging.ERROR, SORT[2]), "a failed", 0.0)


def test_messages_that_are_all_of_their_own_sort_take_no_room_for_ever() -> None:
    """A library that puts its numbers into its messages is bounded too."""
    repeats = Repeats()
    for number in range(10 * SORTS_MAX):
        assert list(repeats.due(0.0)) == []
        assert repeats.may_write(("a", 1, str(number)), str(number), 0.0)

    assert len(repeats._watched) <= SORTS_MAX + 1
