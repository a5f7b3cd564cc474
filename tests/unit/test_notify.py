"""What is said to a service manager, and to whom."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mountfs.serving.notify import STATUS_SIZE_MAX, Manager


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


@pytest.fixture
def manager(tmp_path: Path, listening: socket.socket) -> Manager:
    """That manager."""
    return Manager(str(tmp_path / "notify"))


def test_a_message_is_one_datagram(manager: Manager, listening: socket.socket) -> None:
    """All that is said at once arrives at once."""
    manager.tell(READY=1, STATUS="mounted")

    assert listening.recv(1000) == b"READY=1\nSTATUS=mounted"


def test_a_status_is_one_short_line(manager: Manager, listening: socket.socket) -> None:
    """No text from a store begins a line of its own, or controls a terminal."""
    manager.tell(STATUS="a\nWATCHDOG=1 \x1b[2J" + "x" * 1000)

    said = listening.recv(2000)
    assert said.startswith(b"STATUS=a WATCHDOG=1 ?[2Jxx")
    assert b"\n" not in said
    assert len(said) == len("STATUS=") + STATUS_SIZE_MAX


def test_what_is_not_taken_is_said_later(tmp_path: Path) -> None:
    """A manager that is away hears the newest of everything when it is back."""
    manager = Manager(str(tmp_path / "notify"))
    manager.tell(READY=1, STATUS="first")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))

        manager.tell(STATUS="second")

        assert listening.recv(1000) == b"READY=1\nSTATUS=second"


def test_a_busy_manager_holds_nobody_up(
    manager: Manager, listening: socket.socket
) -> None:
    """What a full socket does not take is said when there is room."""
    for number in range(10_000):
        manager.tell(STATUS=number)
    with suppress(BlockingIOError):
        while listening.recv(1000):
            pass

    manager.tell(WATCHDOG=1)

    assert listening.recv(1000) == b"STATUS=9999\nWATCHDOG=1"


def test_an_abstract_address() -> None:
    """`@` stands for the byte 0, as in NOTIFY_SOCKET."""
    name = f"mountfs-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")

        Manager(f"@{name}").tell(READY=1)

        assert listening.recv(1000) == b"READY=1"


def test_time_is_asked_for_in_microseconds(
    manager: Manager, listening: socket.socket
) -> None:
    """As sd_notify(3) has it."""
    manager.extend(1.5)

    assert listening.recv(1000) == b"EXTEND_TIMEOUT_USEC=1500000"


def test_a_reload_carries_its_time(manager: Manager, listening: socket.socket) -> None:
    """Type=notify-reload wants the time of the monotonic clock."""
    manager.tell_reloading()

    said = dict(each.split("=") for each in listening.recv(1000).decode().split("\n"))
    assert said["RELOADING"] == "1"
    assert int(said["MONOTONIC_USEC"]) > 0


def test_the_environment_is_taken() -> None:
    """What this process starts does not speak in its name."""
    environ = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }

    manager = Manager.take_from(environ)

    assert manager.is_there
    assert manager.watchdog_s == 3
    assert environ == {"HOME": "/root"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "often"},
    ],
)
def test_a_watchdog_that_is_not_ours(environ: dict[str, str]) -> None:
    """No sign of life is wanted, or from another process."""
    assert Manager.take_from(environ).watchdog_s is None


def test_without_a_manager_all_is_said_to_nobody() -> None:
    """Which is not an error."""
    manager = Manager.take_from({})

    manager.tell(READY=1)

    assert not manager.is_there
