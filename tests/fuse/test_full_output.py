"""What a command has to say goes to a disk that is full."""

import os
import subprocess
from pathlib import Path

import pytest

from mountfs.cli import build_parser
from tests.fuse.conftest import Mounter
from tests.fuse.processes import COMMAND
from tests.fuse.stores import Store

pytestmark = pytest.mark.parametrize("store", ["local"], indirect=True)
DIR, FILE, URL = "{mount}", "{mount}/file", "{url}"
ARGUMENTS = {
    "mount": ["--help"],
    "umount": ["--json", DIR],
    "status": [DIR],
    "wait": ["--json", FILE],
    "flush": ["--json", DIR],
    "warm": [DIR],
    "check": [DIR],
    "recover": [URL],
    "explain": [FILE],
    "list": ["--json"],
    "top": ["--once", DIR],
    "doctor": [URL],
    "abort": ["--help"],
    "features": [URL],
    "auth": ["--help"],
    "config": ["show"],
    "metrics": [DIR],
    "install": ["--root={other}"],
    "set": [DIR],
    "trace": ["--help"],
    "bundle": ["-o", "{other}/bundle", DIR],
}
"""What lets each command say something."""
WATCHING = (["status", "--watch", DIR], ["top", DIR], ["top", "--json", DIR])
CALLS = [*([name, *each] for name, each in ARGUMENTS.items()), *WATCHING]


def test_every_command_is_tried(store: Store) -> None:
    """A new one as well."""
    assert set(ARGUMENTS) == set(build_parser()[1])


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_output_that_no_disk_takes_is_told_in_a_sentence(
    mounter: Mounter, store: Store, tmp_path: Path, call: list[str]
) -> None:
    """With exit code 74, and no traceback; what the command does is done."""
    (tmp_path / "other").mkdir()
    mount = mounter(store)
    (mount.path / "file").write_bytes(b"bytes")
    arguments = [
        each.format(mount=mount.path, url=store.url, other=tmp_path / "other")
        for each in call
    ]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [*COMMAND, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
            timeout=60,
        )

    assert process.returncode == os.EX_IOERR, process.stderr
    refused = "mountfs: standard output cannot be written: No space left on device\n"
    assert process.stderr.endswith(refused)
    assert "Traceback" not in process.stderr
    if call[0] == "umount":
        assert mount.process.wait(60) == 0


def test_what_is_watched_ends_with_the_room_for_it(
    mounter: Mounter, store: Store
) -> None:
    """`mountfs trace` says nothing before there is something to say."""
    mount = mounter(store)
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(
            [*COMMAND, "trace", str(mount.path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        while process.poll() is None:
            mount.path.joinpath("file").write_bytes(b"bytes")
        _, said = process.communicate(timeout=60)

    assert process.returncode == os.EX_IOERR, said
    assert said.count("\n") == 1
