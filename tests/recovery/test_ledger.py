"""The proof's own tools: programs and ledgers agree with a plain directory, and a
ledger knows what is wrong.
"""

import errno
import os
from pathlib import Path

import pytest

from tests.fuse.stores import PlainFiles
from tests.recovery.ledger import DIRECTORY, File, Ledger, World, files_in, tree_of
from tests.recovery.program import SMALL_SIZES, Program, moved, with_content


@pytest.mark.parametrize("seed", range(5))
def test_a_ledger_knows_a_plain_directory(tmp_path: Path, seed: int) -> None:
    """Where nothing fails one world is left, and it is what is there."""
    ledger = Ledger({})
    program = Program(tmp_path, ledger, seed, SMALL_SIZES)

    done = {program.step() for _ in range(300)}

    assert len(ledger.worlds) == 1
    ledger.check(tree_of(tmp_path), "plain")
    ledger.check_files(files_in(PlainFiles(tmp_path)), "plain")
    assert len(done) > 8


def test_what_failed_may_be_true_or_not() -> None:
    """After an error the old and the new bytes are possible, and nothing else."""
    ledger = Ledger({"f": File(b"old", 0o644)})

    def fail() -> None:
        raise OSError(errno.EIO, "failed")

    with pytest.raises(OSError, match="failed"):
        ledger.attempt(fail, with_content("f", b"new"))

    ledger.check({"f": File(b"old", 0o644)}, "old")
    ledger.check_files({"f": b"new"}, "new")
    wrongs: list[World] = [{"f": File(b"", 0o644)}, {"f": File(b"ne", 0o644)}, {}]
    for wrong in wrongs:
        with pytest.raises(AssertionError, match="f: "):
            ledger.check(wrong, "wrong")


def test_success_rules_out_what_made_it_impossible() -> None:
    """If a file of doubtful presence was renamed, it had been there."""
    ledger = Ledger({"d": DIRECTORY})
    with pytest.raises(OSError, match=r"."):
        ledger.attempt(lambda: os.stat("/missing"), with_content("d/f", b"x"))
    assert len(ledger.worlds) == 2

    ledger.attempt(lambda: None, moved("d/f", "g"))

    ledger.check({"d": DIRECTORY, "g": File(b"x", 0o644)}, "renamed")
    assert len(ledger.worlds) == 1
