"""Settings of a real mount that change while it lives."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run_command
from tests.fuse.stores import Store

MIB = 1 << 20


def status_of(mount: Mount) -> dict[str, object]:
    """Return what programs are told of a mount."""
    told = json.loads(run_command("status", "--json", str(mount.path)).stdout)
    assert isinstance(told[0], dict)
    return told[0]


def wait_until(mount: Mount, field: str, value: object) -> None:
    """Return when the status has this value."""
    until_s = time.monotonic() + 30
    while status_of(mount)[field] != value:
        assert time.monotonic() < until_s, status_of(mount)
        time.sleep(0.05)


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_a_mount_is_changed_by_hand_and_by_its_file(
    mounter: Mounter, store: Store, tmp_path: Path
) -> None:
    """A smaller cache gives bytes back; a file with an error changes nothing."""
    file = tmp_path / "mountfs.toml"
    file.write_text("[mount]\nttl = 5\n")
    mount = mounter(store, f"--config={file}")
    content = bytes(range(256)) * (40 * MIB // 256)
    (mount.path / "file").write_bytes(content)
    assert status_of(mount)["cache_used"] == 40 * MIB

    done = run_command("set", str(mount.path), "cache-size=16M", "log-level=debug")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cache-size: 512M -> 16M\nlog-level: info -> debug\n"
    told = status_of(mount)
    assert told["cache_limit"] == 16 * MIB
    assert isinstance(told["cache_used"], int)
    assert told["cache_used"] <= 16 * MIB
    assert (mount.path / "file").read_bytes() == content

    refused = run_command("set", str(mount.path), "ttl=1s", "durability=journal")
    assert refused.returncode == 2
    assert refused.stderr.startswith("mountfs: durability cannot change while")

    mount.announce("nothing was changed")
    file.write_text("[mount]\nttl = 'soon'\n")
    mount.process.send_signal(signal.SIGHUP)
    problem = f"{file}:2: ttl in [mount] cannot be 'soon': it takes a time such as"
    wait_until(mount, "needs_attention", True)
    assert str(status_of(mount)["config_problem"]).startswith(problem)
    assert f"not taken at the last reload: {problem}" in mount.look()

    mount.announce("durability cannot change while it is mounted")
    file.write_text("[mount]\nttl = 6\ndurability = 'journal'\n")
    mount.process.send_signal(signal.SIGHUP)
    wait_until(mount, "config_problem", "")
    assert status_of(mount)["config_waiting"] == ["durability"]
    assert "ttl: 6s\n" in run_command("set", str(mount.path)).stdout
