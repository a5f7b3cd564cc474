"""A mount as a service: what its manager hears, by the very commands of the unit."""

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mountfs import control, mounts
from mountfs.actions import umount
from tests.fakes.service_manager import Message, ServiceManager
from tests.fuse.conftest import Mounter
from tests.fuse.stores import Store

WATCHDOG_S = 2.0
LEAVE = control.Request("leave")

# The daemon, which may be put out of order by SIGUSR1.
PROGRAM = """
import signal, sys, threading, time
import pyfuse3, trio
from mountfs.serving import service
from mountfs.backends.local import LocalStore
from mountfs.cache import journal
from mountfs.cli import main
from mountfs.fuse.operations import Operations
from mountfs.storage.errors import Unreachable

service.STATUS_INTERVAL_S = 0.05
never = threading.Event()

async def wait_for_ever(*_):
    await trio.sleep_forever()

async def find_nobody(*_, **options):
    raise Unreachable("no route to host")

async def wait_for_itself(_, parent, name, ctx):
    pyfuse3.invalidate_entry(parent, name)

async def write_slowly(*arguments, write=LocalStore.write, **options):
    await trio.sleep(0.3 if sys.argv[1] == "slow" else 100)
    return await write(*arguments, **options)

def get_out_of_order(*_):
    match sys.argv[1]:
        case "journal":
            journal._transact = lambda *_: never.wait()
        case "mount":
            Operations.statfs = wait_for_ever
        case "deadlock":
            Operations.lookup = wait_for_itself
        case "away":
            for name in ("stat", "list", "read", "write"):
                setattr(LocalStore, name, find_nobody)
        case "slow" | "very slow":
            LocalStore.write = write_slowly
    print("out of order", file=sys.stderr, flush=True)
    if sys.argv[1] == "loop":
        never.wait()

signal.signal(signal.SIGUSR1, get_out_of_order)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServiceManager]:
    """A service manager that knows the mount `data`."""
    way = getattr(request, "param", "none")
    for name in ("store", "mnt"):
        (tmp_path / name).mkdir()
    config = tmp_path / "mountfs.toml"
    config.write_text(f"""
[mount]
cache-size = "64M"
durability = "journal"
offline = "eio"

[mounts.data]
url = "file://{tmp_path}/store"
mount-point = "{tmp_path}/mnt"
state-dir = "{tmp_path}/state"
cache-dir = "{tmp_path}/cache"
""")
    program = (sys.executable, "-P", "-c", PROGRAM, way)
    with ServiceManager(
        tmp_path, config, program=program, watchdog_s=WATCHDOG_S
    ) as manager:
        yield manager


def is_sign_of_life(message: Message) -> bool:
    return message.get("WATCHDOG") == "1"


def statuses(said: list[Message]) -> list[str]:
    return [each["STATUS"] for each in said if "STATUS" in each]


def put_out_of_order(manager: ServiceManager) -> None:
    """Return when the daemon is: then nothing of it has happened after that."""
    assert manager.process is not None
    manager.process.send_signal(signal.SIGUSR1)
    while "out of order" not in manager.log():
        os.sched_yield()


def test_the_life_of_a_service(manager: ServiceManager, tmp_path: Path) -> None:
    """READY when the mount answers, signs of life, a status, then STOPPING."""
    manager.start()
    is_mounted = mounts.mount_at(tmp_path / "mnt") is not None
    manager.wait_for_status("mounted", "the store has everything")
    for _ in range(3):
        manager.wait_for(is_sign_of_life)
    left_alone = manager.run_after()
    (tmp_path / "mnt" / "file").write_text("text")
    code = manager.stop()

    said = manager.rest()
    assert is_mounted
    assert "lives: nothing was done" in left_alone
    assert code == 0
    assert (tmp_path / "store" / "file").read_text() == "text"
    assert [each for each in said if "STOPPING" in each]
    assert statuses(said)[-1] == "unmounted; the store has everything"
    assert mounts.mount_at(tmp_path / "mnt") is None


@pytest.mark.parametrize(
    ("manager", "part"),
    [
        ("loop", ""),
        pytest.param("journal", "the journal", marks=pytest.mark.slow),
        pytest.param("mount", "the mount", marks=pytest.mark.slow),
    ],
    indirect=["manager"],
)
def test_what_is_stuck_gives_no_sign_of_life(
    manager: ServiceManager, part: str
) -> None:
    """A daemon of which a part does not answer gives no sign of life."""
    manager.start()
    manager.wait_for(is_sign_of_life)

    put_out_of_order(manager)
    if part:
        manager.wait_for_status("STUCK", part)
    manager.rest()
    said = manager.rest(silence_s=WATCHDOG_S)
    assert manager.process is not None
    manager.process.send_signal(signal.SIGABRT)

    assert not list(filter(is_sign_of_life, said))
    assert manager.process.wait(30) == -signal.SIGABRT
    assert "most recent call first" in manager.log()  # where each thread was


@pytest.mark.slow
@pytest.mark.parametrize("manager", ["away"], indirect=True)
def test_a_store_that_is_away_is_no_reason_to_restart(
    manager: ServiceManager, tmp_path: Path
) -> None:
    """The status says OFFLINE, and the signs of life go on."""
    manager.start()
    put_out_of_order(manager)
    for number in range(4):
        with suppress(OSError):  # not known to be OFFLINE yet, or already
            (tmp_path / "mnt" / f"unknown-{number}").stat()

    manager.wait_for_status("mounted", "OFFLINE", "no route to host")
    for _ in range(4):
        manager.wait_for(is_sign_of_life)

    assert manager.process is not None
    assert manager.process.poll() is None


@pytest.mark.parametrize("manager", ["slow"], indirect=True)
def test_a_slow_drain_is_not_cut_short(manager: ServiceManager, tmp_path: Path) -> None:
    """A drain asks for more time as it gets on, and says what is still to go."""
    manager.start()
    put_out_of_order(manager)
    (tmp_path / "mnt" / "first").write_text("slow")
    manager.wait_for_status("mounted", "not in the store yet: 1 file, 4 B")
    for number in range(40):
        (tmp_path / "mnt" / f"file-{number}").write_text("slow")

    code = manager.stop()

    said = manager.rest()
    begun = next(n for n, each in enumerate(said) if "STOPPING" in each)
    asked = [each for each in said[begun:] if "EXTEND_TIMEOUT_USEC" in each]
    assert code == 0
    assert len(asked) >= 3
    assert any("draining; not in the store yet" in each for each in statuses(said))
    assert len(list((tmp_path / "store").glob("file-*"))) == 40


def test_a_service_that_was_killed_is_mounted_anew(
    manager: ServiceManager, tmp_path: Path
) -> None:
    """After SIGKILL programs get errors, and never the directory below, until
    the next start mounts again.
    """
    manager.start()
    (tmp_path / "mnt" / "file").write_text("kept")

    manager.kill()
    after = manager.run_after()
    with pytest.raises(OSError, match="not connected"):
        os.statvfs(tmp_path / "mnt")
    manager.start()

    assert after == ""
    assert (tmp_path / "mnt" / "file").read_text() == "kept"
    assert manager.stop() == 0


@pytest.mark.parametrize("manager", ["deadlock"], indirect=True)
@pytest.mark.parametrize(
    "way",
    [
        "unit",
        pytest.param("unit, detached", marks=pytest.mark.slow),
        pytest.param("umount", marks=pytest.mark.slow),
        pytest.param("mount", marks=pytest.mark.slow),
    ],
)
def test_programs_are_let_go_of_a_daemon_that_cannot_be_killed(
    manager: ServiceManager, tmp_path: Path, way: str
) -> None:
    """When a killed daemon does not end, what the unit runs then ends it, or we do."""
    manager.start()
    assert manager.process is not None
    inside = subprocess.Popen(
        ["sh", "-c", "read line && stat name"],
        cwd=tmp_path / "mnt",
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if way == "unit, detached":
        mounts.unmount(tmp_path / "mnt", is_lazy=True)
    put_out_of_order(manager)
    assert inside.stdin is not None
    inside.stdin.write("\n")
    inside.stdin.flush()
    manager.wait_until_asleep()
    manager.process.kill()
    with pytest.raises(subprocess.TimeoutExpired):
        manager.process.wait(0.5)

    killed = manager.process
    if way.startswith("unit"):
        assert "ended the connection" in manager.run_after()
    elif way == "mount":
        manager.start()  # without ExecStopPost
    else:
        umount.umount(str(tmp_path / "mnt"), is_lazy=False, out=io.StringIO())

    assert killed.wait(30) == -signal.SIGKILL
    assert "cannot stat" in inside.communicate(timeout=30)[1]


@pytest.mark.parametrize("manager", ["very slow"], indirect=True)
def test_an_upgrade_leaves_what_is_pending_to_the_next_daemon(
    manager: ServiceManager, tmp_path: Path
) -> None:
    """`umount --keep` ends a daemon that would drain for long; nothing is lost."""
    manager.start()
    put_out_of_order(manager)
    for number in range(40):
        (tmp_path / "mnt" / f"file-{number}").write_text("slow")
    file = (tmp_path / "mnt" / "open").open("wb", buffering=0)
    file.write(b"written")

    left = manager.mountfs("umount", "--keep", "--lazy", "data")
    code = manager.ended()
    stored = len(list((tmp_path / "store").glob("file-*")))
    manager.start()
    seen = (tmp_path / "mnt" / "open").read_bytes()
    names = os.listdir(tmp_path / "mnt")

    assert (left.returncode, code) == (75, 75)
    assert "the next mount" in left.stderr
    assert stored < 40
    assert seen == b"written"
    assert len(names) == 41
    with pytest.raises(OSError, match="not connected"):
        file.close()
    assert manager.stop() == 0
    assert len(list((tmp_path / "store").glob("file-*"))) == 40


def test_an_upgrade_keeps_the_times_of_directories(
    manager: ServiceManager, tmp_path: Path
) -> None:
    """Those of the last second, too, which no request has taken to the store yet."""
    manager.start()
    folder = tmp_path / "mnt" / "folder"
    folder.mkdir()
    (folder / "old").touch()
    manager.mountfs("wait", str(tmp_path / "mnt"))
    (folder / "old").rename(tmp_path / "mnt" / "new")
    changed_ns = folder.stat().st_mtime_ns

    assert list(control.carry_out(control.socket_path(tmp_path / "mnt"), LEAVE))
    manager.ended()
    manager.start()

    assert folder.stat().st_mtime_ns == changed_ns
    assert manager.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_a_mount_in_the_background_speaks_in_nobodys_name(
    mounter: Mounter, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that mounts as one of its steps is not ready because of that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        mount = mounter(store)
        mount.unmount()

        with pytest.raises(BlockingIOError):
            listening.recv(1000)
