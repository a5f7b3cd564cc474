"""Bodies in a row, and ranges of them."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mountfs.storage.body import BytesBody, FileBody
from mountfs.storage.splice import SplicedBody

pieces = st.lists(st.binary(max_size=20), max_size=6)


@given(pieces, st.integers(0, 130), st.integers(0, 130))
def test_range_of_bodies_in_a_row_is_that_of_their_bytes(
    data: list[bytes], offset: int, size: int
) -> None:
    """A cut of a splice reads what the joined bytes hold there."""
    spliced = SplicedBody.of([BytesBody(piece) for piece in data]).cut(offset, size)

    wanted = b"".join(data)[offset : offset + size]
    assert spliced.size == len(wanted)
    with spliced.open() as reader:
        assert reader.read() == wanted
        reader.seek(0)
        assert reader.read() == wanted


@given(pieces, st.lists(st.integers(0, 130), max_size=5))
def test_reader_seeks_anywhere(data: list[bytes], positions: list[int]) -> None:
    """After a seek the reader goes on from there."""
    joined = b"".join(data)
    with SplicedBody.of([BytesBody(piece) for piece in data]).open() as reader:
        for position in positions:
            reader.seek(position)
            assert reader.read(7) == joined[position : position + 7]
        assert reader.seek(0, os.SEEK_END) == len(joined)
        reader.seek(-len(joined), os.SEEK_CUR)
        assert reader.read() == joined


def test_splice_of_a_splice_and_of_files(tmp_path: Path) -> None:
    """Splices nest, and leave no file open."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    inner = SplicedBody.of([FileBody(path, 2, 5), BytesBody(b"ab")]).cut(1, 5)

    with SplicedBody.of([inner, FileBody(path, 0, 2)]).open() as reader:
        assert reader.readable()
        assert reader.read() == b"3456a01"


def test_body_that_ends_early_ends_the_splice(tmp_path: Path) -> None:
    """A body that gives less than it promised is not made up for."""
    path = tmp_path / "file"
    path.write_bytes(b"0123")

    with SplicedBody.of([FileBody(path, 0, 9), BytesBody(b"ab")]).open() as reader:
        assert reader.read() == b"0123"
