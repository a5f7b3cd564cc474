"""The record of `make proof` is there, and of this history."""

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
RECORD = CHECKOUT / "docs" / "explanation" / "proof.md"


def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run git in the checkout."""
    return subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def recorded_commit() -> str:
    """Return the commit that the record names."""
    assert RECORD.exists(), "there is no record: run `make proof` and commit it"
    found = re.search(r"^\* Commit: ([0-9a-f]{40})$", RECORD.read_text(), re.MULTILINE)
    assert found is not None, f"{RECORD} names no commit: run `make proof` again"
    return found[1]


def test_the_record_is_of_an_ancestor() -> None:
    """What was proven at length is part of what is here."""
    commit = recorded_commit()
    if git("rev-parse", "--git-dir").returncode != 0:
        pytest.skip("this is no git checkout, so nothing can be compared")
    if git("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        pytest.skip("this is a shallow clone, so the history cannot be asked")

    asked = git("merge-base", "--is-ancestor", commit, "HEAD")
    assert asked.returncode == 0, f"the record is of {commit}, no ancestor of this"


def test_the_record_has_passed_in_every_suite() -> None:
    """Each suite of the tree stands in the record, with tests that passed."""
    recorded_commit()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| \d+ \|", RECORD.read_text(), re.MULTILINE)
    passed = {suite: int(count) for suite, count in rows}

    folders = {path.parent.name for path in (CHECKOUT / "tests").glob("*/test_*.py")}
    assert folders <= passed.keys()
    assert all(passed.values())
