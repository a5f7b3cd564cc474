"""What a mount shows of itself while programs use it: metrics and the trace."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount
from tests.fuse.processes import COMMAND
from tests.fuse.stores import Store


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _metrics(port: int) -> dict[tuple[object, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as told:
        text = told.read().decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def trace(mounted: tuple[Mount, int]) -> Iterator["subprocess.Popen[str]"]:
    """`mountfs trace --json`, which listens already."""
    mount, _ = mounted
    command = [*COMMAND, "trace", "--json", str(mount.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            _wait_for_trace(process, mount.path)
            yield process
        finally:
            process.kill()


def _wait_for_trace(process: "subprocess.Popen[str]", path: Path) -> None:
    """Do something until it is told."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    for _ in range(200):
        os.statvfs(path)
        if process.stdout.readline():
            break
        process.poll()
        signal.sigtimedwait([], 0.05)
    else:
        raise AssertionError("nothing was told")
    os.set_blocking(process.stdout.fileno(), True)


@pytest.fixture
def mounted(tmp_path: Path, mounter: Mounter) -> tuple[Mount, int]:
    """A mount of a directory that serves its metrics, and the port."""
    (tmp_path / "store").mkdir()
    store = Store(f"file://{tmp_path / 'store'}")
    port = _free_port()
    return mounter(store, f"--metrics-port={port}", "--virtual=all"), port


def test_what_programs_do_is_counted_and_traced(
    mounted: tuple[Mount, int], trace: "subprocess.Popen[str]"
) -> None:
    """Each operation is told with its path and errno, and counted once."""
    mount, port = mounted
    path = mount.path / "d"
    path.mkdir()
    (path / "a").write_bytes(b"0123456789")
    os.rename(path / "a", path / "b")
    os.link(path / "b", path / "c")
    with pytest.raises(FileNotFoundError):
        (path / "none").read_bytes()
    with pytest.raises(OSError, match="not empty"):
        path.rmdir()
    os.setxattr(path / "b", "user.x", b"1")
    os.listdir(path)
    for name in ("b", "c"):
        (path / name).unlink()
    path.rmdir()
    os.statvfs(mount.path)

    trace.send_signal(signal.SIGINT)
    assert trace.stdout is not None
    told = [json.loads(line) for line in trace.stdout]
    assert trace.wait(10) == 0
    done = [(each["operation"], each["path"], each["error"]) for each in told]
    for expected in (
        ("mkdir", "d", ""),
        ("create", "d/a", ""),
        ("write", "d/a", ""),
        ("rename", "d/a", ""),
        ("link", "d/b", ""),
        ("rmdir", "d", "ENOTEMPTY"),
        ("setxattr", "d/b", ""),
        ("opendir", "d/", ""),
        ("unlink", "d/c", ""),
    ):
        assert expected in done
    details = {each["operation"]: each["detail"] for each in told}
    assert details["rename"] == "to d/b"
    assert details["link"] == "as d/c"
    assert details["write"] == "10 bytes at 0"
    assert details["setxattr"] == "user.x"
    numbers = [each["number"] for each in told]
    assert len(set(numbers)) == len(numbers)

    metrics = _metrics(port)
    assert metrics["mountfs_operations_total", "mkdir", "ok"] == 1
    assert metrics["mountfs_operations_total", "ENOTEMPTY", "rmdir"] == 1
    assert metrics["mountfs_operations_total", "ok", "unlink"] == 2
    assert metrics["mountfs_operation_duration_seconds_count", "rmdir"] == 2
    assert metrics["mountfs_written_bytes_total",] == 10
    assert metrics["mountfs_store_state", "online"] == 1
    assert metrics["mountfs_store_calls_total", "foreground", "ok", "upload"] >= 1
