"""Bodies and their sizes."""

import os
from pathlib import Path

import pytest

from mountfs.storage.body import (
    Body,
    BytesBody,
    FileBody,
    read_exactly,
    stated_size,
)
from mountfs.storage.errors import BodyTooShort, InvalidRequest


@pytest.mark.parametrize(
    ("body", "size", "expected"),
    [
        (None, None, 0),
        (None, 0, 0),
        (BytesBody(b"12345"), None, 5),
        (BytesBody(b"12345"), 3, 3),
        (BytesBody(b"12345"), 0, 0),
        (BytesBody(b"12345"), 9, 9),
    ],
)
def test_the_size_that_is_stated_wins(
    body: Body | None, size: int | None, expected: int
) -> None:
    """A given size wins over that of the body; neither is zero."""
    assert stated_size(body, size) == expected


def test_sizes_that_cannot_be_are_refused() -> None:
    """No size is negative, and no bytes come without a body."""
    with pytest.raises(InvalidRequest):
        stated_size(BytesBody(b""), -1)
    with pytest.raises(BodyTooShort):
        stated_size(None, 1)
    with pytest.raises(BodyTooShort):
        read_exactly(BytesBody(b"12"), 3)


def test_a_body_is_read_to_its_stated_size() -> None:
    """Exactly the stated bytes are read."""
    assert read_exactly(BytesBody(b"12345"), 3) == b"123"
    assert read_exactly(BytesBody(b"12345"), None) == b"12345"
    assert read_exactly(None, None) == b""


def test_a_body_opens_again_and_again() -> None:
    """Each reader starts at the first byte."""
    body = BytesBody(b"12345")
    with body.open() as first, body.open() as second:
        first.read(3)

        assert second.read() == b"12345"
        assert first.read() == b"45"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A file of ten bytes."""
    path = tmp_path / "spool"
    path.write_bytes(b"0123456789")
    return path


def test_a_file_body_is_a_range(spool: Path) -> None:
    """Nothing outside the range is read."""
    body = FileBody(spool, 2, 5)
    with body.open() as reader:
        assert reader.read(3) == b"234"
        assert reader.read() == b"56"
        assert reader.read() == b""
    assert body.size == 5


def test_a_file_body_can_be_rewound(spool: Path) -> None:
    """An SDK that sends again seeks to the start, and to the end for the size."""
    with FileBody(spool, 2, 5).open() as reader:
        assert reader.seek(0, os.SEEK_END) == 5
        assert reader.seek(0) == 0
        assert reader.read() == b"23456"
        assert reader.seek(-2, os.SEEK_CUR) == 3
        assert reader.read(1) == b"5"
        assert reader.seekable()


def test_a_file_that_was_cut_ends_early(spool: Path) -> None:
    """A range past the end of the file gives what there is, which is too short."""
    with pytest.raises(BodyTooShort):
        read_exactly(FileBody(spool, 8, 5), None)
