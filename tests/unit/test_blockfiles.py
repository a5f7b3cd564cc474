"""Blocks on the disk: what comes back is what was written, or nothing."""

from pathlib import Path

import pytest

from mountfs.cache import blockfiles
from mountfs.cache.blockfiles import (
    RUN_MAX,
    Block,
    BlockFiles,
    BlockName,
    Run,
    content_digest,
    runs_in,
)

CONTENT = bytes(range(16))


@pytest.fixture
def files(tmp_path: Path) -> BlockFiles:
    files = BlockFiles(tmp_path)
    files.scan()
    return files


def named(*indexes: int, content: bytes = CONTENT) -> dict[BlockName, Block]:
    return {BlockName(content, index): bytes([index]) * 10 for index in indexes}


def test_blocks_that_follow_each_other_are_a_run() -> None:
    """Of one content, and no more of them than are evicted together."""
    other = bytes(16)
    blocks = named(1, 2, 4) | named(5, content=other) | named(*range(6, 15))

    runs = runs_in(blocks)

    places = [(run.content, run.first, run.count) for run in runs]
    assert places == [
        (CONTENT, 1, 2),
        (CONTENT, 4, 1),
        (other, 5, 1),
        (CONTENT, 6, RUN_MAX),
        (CONTENT, 14, 1),
    ]
    assert [len(each) for each in runs.values()] == [2, 1, 1, RUN_MAX, 1]


def test_a_run_is_written_in_pieces_and_read_block_by_block(
    files: BlockFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the pieces are; and it is found again with its size."""
    monkeypatch.setattr(blockfiles, "_PIECE", 7)
    whole = bytes(range(45))
    blocks = [whole[:20], whole[20:40], whole[40:]]
    run = Run(CONTENT, 3, 3)

    files.store(run, [memoryview(block) for block in blocks])

    assert [files.load(run, index) for index in (3, 4, 5)] == blocks
    assert [(each.run, each.size) for each in files.scan()] == [(run, 45)]
    assert files.damaged() == []


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000])
def test_bytes_of_a_block_are_had_without_the_rest(
    files: BlockFiles, tmp_path: Path, size: int
) -> None:
    """Whichever they are; what is damaged elsewhere in the block does not matter."""
    run, block = Run(CONTENT, 0, 2), bytes(i % 251 for i in range(size))
    files.store(run, [b"before", block])

    for start in range(0, size, 1 + size // 9):
        for count in {1, size - start, (size - start) // 2}:
            found = files.load_part(run, 1, start, count)
            assert found == block[start : start + count]
    assert files.load_part(run, 1, 0, size + 1) is None
    assert files.load_part(run, 1, size + 1, 1) is None

    path = next(tmp_path.glob("?/*"))
    path.write_bytes(path.read_bytes()[:-1] + bytes([block[-1] ^ 1]))
    assert files.load_part(run, 1, size - 1, 1) is None
    assert files.load_part(run, 1, 0, 1) == (block[:1] if size > 1 else None)
    assert files.load(run, 1) is None


@pytest.mark.parametrize("left", [0, 20, 94])
def test_a_run_that_was_cut_lacks_what_is_cut(
    files: BlockFiles, tmp_path: Path, left: int
) -> None:
    """A crash in the midst of writing leaves no block that is wrong."""
    run = Run(CONTENT, 0, 2)
    files.store(run, [b"a" * 10, b"b" * 10])
    path = next(tmp_path.glob("?/*"))
    path.write_bytes(path.read_bytes()[:left])

    assert files.load(run, 0) == (b"a" * 10 if left == 94 else None)
    assert files.load(run, 1) is None
    assert files.damaged() == [path]
    assert len(files.scan()) == (left == 94)


def test_a_file_of_another_run_gives_no_block(
    files: BlockFiles, tmp_path: Path
) -> None:
    """Even if its name says otherwise, or says nothing that can be."""
    files.store(Run(CONTENT, 0, 2), [b"a", b"b"])
    path = next(tmp_path.glob("?/*"))
    for name in ("1+2", "0+0", "0+ffff", "0", "x+1"):
        path = path.rename(path.with_name(f"{CONTENT.hex()}.{name}"))
        assert files.damaged() == [path]

    assert files.load(Run(CONTENT, 1, 2), 1) is None
    assert files.scan() == []
    assert not path.exists()


def test_the_name_of_some_bytes_is_made_once() -> None:
    """It is asked for several times with each small file."""
    before = content_digest.cache_info().misses

    names = {content_digest("a key", "version", 1 << 20) for _ in range(3)}

    assert len(names) == 1
    assert content_digest.cache_info().misses == before + 1
    assert content_digest("a key", "another", 1 << 20) not in names
