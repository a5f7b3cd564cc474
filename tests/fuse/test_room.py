"""A mount that is told to keep few names, through the kernel."""

import json
import time
from pathlib import Path

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import Store

FILES = 1500
NAMES_MAX = 1000


def names_of(mount: Mount) -> int:
    """Return how many names the mount has in memory."""
    told = json.loads(run_command("status", "--json", str(mount.path)).stdout)
    return int(told[0]["names"])


def test_a_tree_of_more_names_than_are_kept(mounter: Mounter, tmp_path: Path) -> None:
    """The kernel gives names back; whatever is asked for afterwards is right."""
    source = tmp_path / "there"
    source.mkdir()
    for number in range(FILES):
        (source / f"{number:04}").write_bytes(b"%d" % number)
    store = Store(f"file://{source}")
    mount = mounter(store, f"--names-max={NAMES_MAX}", "--ttl=3600")
    first = {each.name: each.stat().st_ino for each in mount.path.iterdir()}

    with (mount.path / "0000").open("rb") as opened:
        while names_of(mount) > NAMES_MAX:
            time.sleep(0.1)
        assert opened.read() == b"0"

    assert {each.name: each.stat().st_ino for each in mount.path.iterdir()} == first
    assert (mount.path / "0700").read_bytes() == b"700"
