"""Bytes in memory, at their offsets."""

from hypothesis import given
from hypothesis import strategies as st

from mountfs.cache.pieces import Pieces

END = 24

Deed = tuple[str, int, int]

DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["write", "clear", "resize"]),
        st.integers(0, END),
        st.integers(0, 8),
    ),
    max_size=20,
)


def is_held(pieces: Pieces) -> list[bool]:
    """Tell of each offset whether a piece holds it."""
    held = [False] * (2 * END)
    for start, piece in pieces:
        held[start : start + len(piece)] = [True] * len(piece)
    return held


@given(DEEDS)
def test_holds_what_a_file_would(deeds: list[Deed]) -> None:
    """In as few pieces as possible, and knows how many bytes that are."""
    pieces, wanted, held = Pieces(), bytearray(2 * END), [False] * (2 * END)
    length = 0
    for number, (deed, offset, size) in enumerate(deeds, start=1):
        if deed == "write":
            growth = pieces.growth(offset, offset + size)
            before, content = pieces.total, bytes([number]) * size
            pieces.write(offset, content)
            assert pieces.total == before + growth
            wanted[offset : offset + size] = content
            held[offset : offset + size] = [True] * size
            length = max(length, offset + size) if size else length
        elif deed == "clear":
            pieces.clear(offset, offset + size)
            wanted[offset : offset + size] = bytes(size)
        else:
            pieces.resize(offset)
            wanted[offset:] = bytes(2 * END - offset)
            held[offset:] = [False] * (2 * END - offset)
            length = offset

        assert pieces.read(0, 2 * END) == wanted
        assert pieces.read(offset, size) == wanted[offset : offset + size]
        assert is_held(pieces) == held
        assert pieces.total == sum(held)
        assert pieces.size == length
        runs = [
            at for at, is_in in enumerate(held) if is_in and not (at and held[at - 1])
        ]
        assert [start for start, _ in pieces] == runs
        assert pieces.count == len(runs)
