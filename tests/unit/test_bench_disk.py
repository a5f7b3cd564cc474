"""The floor of an early close syncs once for each acknowledgement."""

import os
from pathlib import Path

import pytest

from bench import disk
from bench.contents import Sizes


@pytest.mark.parametrize(
    ("row", "syncs"), [("create", 8), ("append", 4), ("write", 1), ("remove", 8)]
)
def test_each_acknowledgement_is_one_sync(
    row: str, syncs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows differ in how often a program is told that its bytes are safe."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    assert len(disk.floor(row, Sizes().tiny(), tmp_path)) == 1
    assert len(synced) == syncs
    assert list(tmp_path.iterdir()) == []


def test_rows_that_change_nothing_have_no_such_floor(tmp_path: Path) -> None:
    """Reading needs no sync."""
    assert disk.floor("read", Sizes().tiny(), tmp_path) == {}
