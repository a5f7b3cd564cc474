"""Which connection of the kernel's is that of a mount without a mount point."""

import os
from pathlib import Path

import pytest

from mountfs import abort, control

NUMBER = 77


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory like that of fusectl, with one connection; this process serves it."""
    path = tmp_path / "connections"
    (path / str(NUMBER)).mkdir(parents=True)
    monkeypatch.setattr(abort, "CONNECTIONS", path)
    monkeypatch.setattr(abort, "listener", lambda _: os.getpid())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    control.socket_path(tmp_path / "mnt").parent.mkdir(exist_ok=True)
    return path


def test_a_detached_mount_has_the_connection_that_was_noted(
    connections: Path, tmp_path: Path
) -> None:
    abort.remember(tmp_path / "mnt", os.makedev(0, NUMBER))
    assert abort.find(tmp_path / "mnt") == abort.Connection(NUMBER, os.getpid())


def test_a_number_that_another_mount_has_by_now_is_left_alone(
    connections: Path, tmp_path: Path
) -> None:
    """A daemon that still sends has no connection any more; somebody else has."""
    abort.remember(tmp_path / "mnt", os.makedev(0, NUMBER))
    (connections / str(NUMBER)).rename(connections / "gone")
    assert abort.find(tmp_path / "mnt") is None
    (connections / str(NUMBER)).mkdir()
    assert abort.find(tmp_path / "mnt") is None
