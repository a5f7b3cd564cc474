"""Read-ahead windows: they double, they tolerate disorder, they collapse."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache.readahead import ReadStream

KIB = 1 << 10
MIB = 1 << 20


def test_a_window_doubles_while_reads_follow_each_other() -> None:
    """From nothing to the limit, and no request is smaller than half of it then."""
    stream = ReadStream()
    asked = []
    for offset in range(0, 200 * MIB, 128 * KIB):
        ahead = stream.advance(offset, 128 * KIB)
        if ahead is not None:
            asked.append(ahead)

    assert stream.window == 32 * MIB
    sizes = [end - start for start, end in asked]
    assert sizes[0] == MIB
    assert min(sizes[8:]) >= 16 * MIB - 128 * KIB
    assert len(asked) < 25
    for (_, end), (start, _) in itertools.pairwise(asked):
        assert start == end


def test_two_requests_in_flight_may_arrive_in_either_order() -> None:
    """Neighbours that change places do not end a sequence."""
    stream = ReadStream()
    for offset in (0, 2, 1, 4, 3, 6, 5, 8, 7):
        stream.advance(offset * 128 * KIB, 128 * KIB)

    assert stream.window >= MIB


def test_a_read_elsewhere_closes_the_window() -> None:
    """Random reads fetch nothing ahead."""
    stream = ReadStream()
    for offset in range(0, 8 * MIB, MIB):
        stream.advance(offset, MIB)
    assert stream.window > 0

    for offset in (500 * MIB, 20 * MIB, 300 * MIB):
        assert stream.advance(offset, 4 * KIB) is None
        assert stream.window == 0


def test_the_first_read_alone_fetches_nothing_ahead() -> None:
    """A program that looks at the head of many files pays for no more."""
    assert ReadStream().advance(0, 128 * KIB) is None


def test_a_large_read_at_the_start_opens_a_wide_window() -> None:
    """`cat` and `cp` begin like that; who allows it leads them far at once."""
    assert ReadStream().advance(0, MIB, wide=64 * MIB) == (MIB, 65 * MIB)
    assert ReadStream().advance(0, 16 * KIB, wide=64 * MIB) is None
    assert ReadStream().advance(MIB, MIB, wide=64 * MIB) is None
    assert ReadStream().advance(0, MIB) is None


def test_a_wide_window_goes_on_as_others_do() -> None:
    """Nothing is asked for twice, and more when half of the window is left."""
    stream = ReadStream()
    asked = [stream.advance(n * MIB, MIB, wide=64 * MIB) for n in range(200)]

    found = [each for each in asked if each is not None]
    assert found[0] == (MIB, 65 * MIB)
    assert len(found) < 12
    for (_, end), (start, _) in itertools.pairwise(found):
        assert start == end


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 500))))
def test_what_is_asked_for_lies_ahead_and_is_bounded(
    reads: list[tuple[int, int]],
) -> None:
    """No range is empty, begins before the read's end or passes the limit."""
    stream = ReadStream(window_min=64, window_max=1024, tolerance=128)
    for offset, size in reads:
        ahead = stream.advance(offset, size)
        if ahead is not None:
            start, end = ahead
            assert offset + size <= start < end
            assert end - start <= 1024
        assert stream.window <= 1024


def test_a_program_that_jumps_gets_the_surroundings() -> None:
    """From the third jump on; the first two may be the head and the tail of a file."""
    stream = ReadStream()
    found = []
    for offset in (100 * MIB, 20 * MIB, 203 * MIB, 77 * MIB):
        stream.advance(offset, 4 * KIB)
        found.append(stream.around(offset, 8 * MIB))

    assert found[:2] == [None, None]
    assert found[2:] == [(200 * MIB, 208 * MIB), (72 * MIB, 80 * MIB)]


def test_a_program_that_jumps_in_a_small_file_gets_all_of_it() -> None:
    """When what it waited for is much against the file; each jump allows for more."""
    small, large = ReadStream(), ReadStream()
    found = []
    for offset in (10 * MIB, 5 * MIB, 20 * MIB):
        small.advance(offset, 4 * KIB)
        large.advance(offset, 4 * KIB)
        found.append(small.around(offset, 8 * MIB, size=50 * MIB))

    assert found == [None, None, (0, 50 * MIB)]
    assert large.around(20 * MIB, 8 * MIB, size=100 << 30) == (16 * MIB, 24 * MIB)
    assert large.around(20 * MIB, 8 * MIB, size=50 * MIB, share=MIB) != (0, 50 * MIB)


def test_whole_file_needs_no_finds_before_it() -> None:
    """Of a fast store 256 MiB are here sooner than pieces of them show to be useful.

    Once: what comes next is bounded by what was found.
    """
    stream = ReadStream(credit=64 * MIB)
    found = []
    for index in range(5):
        offset = index * 50 * MIB % (256 * MIB)
        stream.advance(offset, 4 * KIB)
        found.append(stream.around(offset, MIB, size=256 * MIB, share=64 * MIB))

    assert found[3] == (0, 256 * MIB)
    assert found[4] is None
    larger = ReadStream()
    for index in range(9):
        larger.advance(index * 50 * MIB, 4 * KIB)
        around = larger.around(index * 50 * MIB, MIB, size=257 * MIB, share=64 * MIB)
        assert around is None or around[1] - around[0] == MIB


def test_jumps_that_find_nothing_end_the_surroundings() -> None:
    """What is spent in vain has a bound; what is found earns more."""
    stream = ReadStream(credit=32 * MIB)

    def spent(jumps: int, *, finds: bool) -> int:
        total = 0
        for index in range(jumps):
            offset = (index * 7919 % 1000) * 1000 * MIB
            stream.advance(offset, 4 * KIB)
            around = stream.around(offset, 8 * MIB)
            total += around[1] - around[0] if around else 0
            if finds:
                stream.note_found()
        return total

    assert spent(100, finds=False) == 32 * MIB
    assert spent(100, finds=True) > 400 * MIB
    assert spent(500, finds=False) <= 1024 * MIB
