"""Whose are the objects that a mount sets aside in the store."""

from pathlib import Path

from mountfs.serving.construction import owner_of


def test_each_state_directory_owns_what_it_set_aside(tmp_path: Path) -> None:
    """Two hosts with one store have two names; the same directory keeps its own."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()

    owner = owner_of(first)

    assert owner == owner_of(first)
    assert owner != owner_of(second)
