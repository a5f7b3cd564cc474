"""The exerciser itself: it finds what is wrong, and does the same again."""

import os
from pathlib import Path

import pytest

from tests.fsx.exerciser import Bounds, Difference, Exerciser

BOUNDS = Bounds(64 << 10, 16 << 10)


def exercised(directory: Path, seed: int) -> Exerciser:
    """Return an exerciser that has done some operations."""
    exerciser = Exerciser(directory, seed, BOUNDS)
    for _ in range(400):
        exerciser.step()
    return exerciser


def test_a_plain_file_has_no_difference(tmp_path: Path) -> None:
    """The file system under the tests agrees with the shadow."""
    exerciser = exercised(tmp_path, seed=5)

    exerciser.check()

    exerciser.close()
    assert exerciser.path.read_bytes() == exerciser.shadow
    assert {word.split(" ")[0] for word in exerciser.log} >= {"read", "map_write"}


def test_one_seed_is_one_run(tmp_path: Path) -> None:
    """A difference can be looked for again."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (exercised(tmp_path / name, seed=6) for name in "ab")
    first.close()
    second.close()

    assert first.shadow == second.shadow
    assert list(first.log) == list(second.log)


@pytest.mark.parametrize("at", [0, -1])
def test_one_wrong_byte_is_a_difference(tmp_path: Path, at: int) -> None:
    """Every byte counts, at both ends."""
    exerciser = exercised(tmp_path, seed=7)
    exerciser.shadow[at] ^= 1

    with pytest.raises(Difference, match="1 bytes differ"):
        exerciser.check()

    exerciser.close()


def test_a_wrong_size_is_a_difference(tmp_path: Path) -> None:
    """A byte too many is found at the next operation."""
    exerciser = exercised(tmp_path, seed=8)
    os.truncate(exerciser.path, len(exerciser.shadow) + 1)

    with pytest.raises(Difference):
        exerciser.check()

    exerciser.close()
