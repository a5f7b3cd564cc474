"""What all tests share: the S3 servers, and the rule that nothing is left behind.

Every process that a test run starts, daemons included, inherits a mark in its
environment. Mounts below the run's temporary directory and marked processes that are
there at the end are ended, and make the run fail.
"""

import os
import select
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from mountfs import control
from tests.fuse import processes

pytest_plugins = [
    "tests.fakes.dropbox_fixtures",
    "tests.fakes.s3_fixtures",
    "tests.fakes.gcs_fixtures",
    "tests.fuse.counting",
]

FIRST = ("recovery", "model", "fuse", "semantics", "fsx")
"""The suites that wait most, while the others, which compute, fill the processors."""
LONGEST = (
    "test_uploads",
    "test_day",
    "test_every_request",
    "test_kill_at_random",
    "test_outcomes",
    "test_power_cut",
    "test_proxy_faults",
)
MARK = "MOUNTFS_TEST_RUN"
END_S = 3.0

# `make test` samples with fixed seeds; `make proof` sets AT_LENGTH and looks further.
hypothesis.settings.register_profile(
    "sample", max_examples=50, derandomize=True, deadline=None
)
hypothesis.settings.register_profile("length", max_examples=2000, deadline=None)
hypothesis.settings.load_profile("length" if "AT_LENGTH" in os.environ else "sample")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("MOUNTFS_")]:
        if name != MARK:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _no_daemons_are_forked_any_more() -> Iterator[None]:
    """End the program that daemons were forked off."""
    yield
    processes.stop()


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays_mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail if a test left a mount, and remove it."""
    yield
    left = list(_mounts_below(tmp_path_factory.getbasetemp()))
    for mount_point in left:
        subprocess.run(["umount", "-l", mount_point], check=False, timeout=60)
    assert not left, f"still mounted at the end: {left}"


def _remove_dead_sockets() -> None:
    """Remove the control sockets of daemons that tests have killed."""
    for path in control.runtime_dir(os.geteuid(), os.environ).glob("*.sock"):
        if not control.is_alive(path):
            path.unlink(missing_ok=True)
            path.with_suffix(".connection").unlink(missing_ok=True)


def _mounts_below(directory: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount_point = line.split(" ")[4]
        if mount_point.startswith(f"{directory}/"):
            yield mount_point


def pytest_configure(config: pytest.Config) -> None:
    """Mark the processes that this run will start."""
    if not hasattr(config, "workerinput"):
        os.environ[MARK] = uuid.uuid4().hex


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: nobody is to be alone with it at the end."""
    items.sort(key=_turn_of)


def _turn_of(item: pytest.Item) -> tuple[int, int]:
    suite, _, rest = item.nodeid.removeprefix("tests/").partition("/")
    file = rest.partition(".py")[0]
    return (
        FIRST.index(suite) if suite in FIRST else len(FIRST),
        LONGEST.index(file) if file in LONGEST else len(LONGEST),
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for every process that it leaves behind, and end them."""
    if hasattr(session.config, "workerinput"):
        return
    _remove_dead_sockets()
    processes = [each for each in _marked_processes() if not _ends_soon(each[0])]
    for pid, _ in processes:
        os.kill(pid, signal.SIGKILL)
    if processes:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.section("left running", red=True)
            for pid, command in processes:
                reporter.write_line(f"{pid}: {command}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _ends_soon(pid: int) -> bool:
    """Give a process that is on its way out the time to end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([handle], [], [], END_S)
    os.close(handle)
    return bool(ended)


def _marked_processes() -> Iterator[tuple[int, str]]:
    """Yield the processes that this run started and that still live."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            yield int(entry.name), os.fsdecode(command)[:200]
