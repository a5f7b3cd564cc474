"""`mountfs mount` and `umount` from end to end, over a directory as the store."""

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mountfs import control, mounts

pytestmark = pytest.mark.fuse

COMMAND_TIMEOUT_S = 60


class Command:
    """The command, with directories of its own and a store in a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = place / "store"
        self.url = f"file://{self.store}"
        self.mount_point = place / "mnt"
        self.store.mkdir()
        self.mount_point.mkdir()
        self.environment = {
            **os.environ,
            "MOUNTFS_CONFIG": os.devnull,
            "MOUNTFS_STATE_DIR": str(place / "state"),
            "MOUNTFS_CACHE_DIR": str(place / "cache"),
            "MOUNTFS_CACHE_SIZE": "64M",
        }

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Start the command and return it running."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "mountfs", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.place,
        )

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        """Run the command; return its exit code and what it said on stderr."""
        with self.start(*arguments) as running:
            _, said = running.communicate(timeout=COMMAND_TIMEOUT_S)
        return running.returncode, said

    def daemon(self) -> int:
        """Return the process of the mount."""
        status = control.ask(control.socket_path(self.mount_point), "status")
        assert status is not None
        return status.pid

    def kill_daemon(self) -> None:
        """End the daemon as a crash would, and wait until it is gone."""
        handle = os.pidfd_open(self.daemon())
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        wait_for_end(handle)


def wait_for_end(handle: int) -> None:
    """Wait until the process behind a pidfd has ended."""
    ended, _, _ = select.select([handle], [], [], COMMAND_TIMEOUT_S)
    os.close(handle)
    assert ended


@pytest.fixture
def mountfs(tmp_path: Path) -> Iterator[Command]:
    """The command; what it leaves mounted is ended."""
    command = Command(tmp_path)
    yield command
    while mounts.mount_at(command.mount_point) is not None:
        mounts.unmount(command.mount_point, is_lazy=True)
    path = control.socket_path(command.mount_point)
    for _ in control.follow(path):
        pass  # until it has finished
    path.unlink(missing_ok=True)


@pytest.fixture
def mounted(mountfs: Command) -> Command:
    """The command after a good mount."""
    assert mountfs("mount", mountfs.url, mountfs.mount_point) == (0, "")
    return mountfs


def test_mount_returns_when_the_mount_answers(mounted: Command) -> None:
    """After exit code 0 the first access finds the store."""
    (mounted.store / "outside").write_text("from outside")

    assert (mounted.mount_point / "outside").read_text() == "from outside"
    entry = mounts.mount_at(mounted.mount_point)
    assert entry is not None
    assert (entry.fstype, entry.source) == ("fuse.mountfs", mounted.url)


def test_umount_returns_when_the_store_has_everything(mounted: Command) -> None:
    """After exit code 0 every file is a plain object, and the mount is gone."""
    (mounted.mount_point / "dir").mkdir()
    (mounted.mount_point / "dir" / "file").write_text("written")

    assert mounted("umount", mounted.mount_point) == (0, "")

    assert (mounted.store / "dir" / "file").read_text() == "written"
    assert mounts.mount_at(mounted.mount_point) is None
    assert not control.is_alive(control.socket_path(mounted.mount_point))


def test_relative_paths_and_trailing_slashes_are_understood(mountfs: Command) -> None:
    """Both commands take the mount point as the user writes it."""
    assert mountfs("mount", mountfs.url, "./mnt/") == (0, "")
    assert mountfs("umount", "mnt/.") == (0, "")


def test_a_mount_point_may_be_named_through_a_link(mountfs: Command) -> None:
    """A symbolic link to the mount point is as good as its name."""
    (mountfs.place / "link").symlink_to(mountfs.mount_point)

    assert mountfs("mount", mountfs.url, "link") == (0, "")
    assert mounts.mount_at(mountfs.mount_point) is not None
    assert mountfs("umount", "link") == (0, "")


def test_foreground_stays_and_logs_to_stderr(mountfs: Command) -> None:
    """With -f the command is the daemon, and its log is on stderr."""
    with mountfs.start("mount", "-f", mountfs.url, mountfs.mount_point) as running:
        assert running.stderr is not None
        first = running.stderr.readline()
        assert mountfs("umount", mountfs.mount_point) == (0, "")
        rest = running.stderr.read()

    assert running.returncode == 0
    assert f"INFO mountfs.mount: mounted {mountfs.url} at" in first
    assert "unmounted" in rest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_cleanly(mountfs: Command, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C leave no mount, and nothing unsent."""
    with mountfs.start("mount", "-f", mountfs.url, mountfs.mount_point) as running:
        assert running.stderr is not None
        running.stderr.readline()
        (mountfs.mount_point / "file").write_text("text")
        running.send_signal(number)
        running.communicate(timeout=COMMAND_TIMEOUT_S)

    assert running.returncode == 0
    assert mounts.mount_at(mountfs.mount_point) is None
    assert (mountfs.store / "file").read_text() == "text"


def test_a_background_mount_logs_to_its_file(mountfs: Command) -> None:
    """`--log-file` gets what the daemon has to say."""
    log = mountfs.place / "mountfs.log"
    options = ("--log-file", log, "--log-level", "debug")

    assert mountfs("mount", *options, mountfs.url, mountfs.mount_point) == (0, "")

    assert "INFO mountfs.mount: mounted" in log.read_text()


def test_a_busy_mount_is_kept_and_its_holders_named(mounted: Command) -> None:
    """While a program is inside, umount says which, and changes nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=mounted.mount_point,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        code, said = mounted("umount", mounted.mount_point)
        holder.kill()

    assert code == 1
    assert f"is in use by {holder.pid} (python" in said
    assert mounts.mount_at(mounted.mount_point) is not None
    assert mounted("umount", mounted.mount_point) == (0, "")


def test_lazy_detaches_what_is_busy(mounted: Command) -> None:
    """With --lazy the name is free at once, and open files go on."""
    with (mounted.mount_point / "file").open("w") as file:
        code, _ = mounted("umount", "--lazy", mounted.mount_point)
        assert mounts.mount_at(mounted.mount_point) is None
        file.write("late")

    assert code in (0, 75)
    assert mounted("umount", mounted.mount_point)[0] in (0, 2)
    assert (mounted.store / "file").read_text() == "late"


def test_a_dead_daemon_does_not_look_like_an_empty_directory(mounted: Command) -> None:
    """After a crash programs get an error, never an empty listing."""
    mounted.kill_daemon()

    with pytest.raises(OSError, match=r".*") as caught:
        list(mounted.mount_point.iterdir())

    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def test_the_next_mount_clears_a_dead_one(mounted: Command) -> None:
    """After a crash the same command mounts again, and says what it did."""
    (mounted.mount_point / "file").write_text("kept")
    mounted.kill_daemon()

    code, said = mounted("mount", mounted.url, mounted.mount_point)

    assert code == 0
    assert "cleaning up" in said
    assert (mounted.mount_point / "file").read_text() == "kept"
    assert mounted("umount", mounted.mount_point) == (0, "")
    assert mounts.mount_at(mounted.mount_point) is None


def test_umount_of_a_dead_mount_says_that_it_was_dead(mounted: Command) -> None:
    """The mount goes away, but 0 would claim that nothing is pending."""
    mounted.kill_daemon()

    code, said = mounted("umount", mounted.mount_point)

    assert code == 75
    assert "whose daemon had died" in said
    assert mounts.mount_at(mounted.mount_point) is None


def test_the_same_place_is_not_mounted_twice(mounted: Command) -> None:
    """A second mount at the same place is refused, and the first lives on."""
    code, said = mounted("mount", "memory://", mounted.mount_point)

    assert code == 2
    assert f"is mounted already, with {mounted.url}" in said
    assert list(mounted.mount_point.iterdir()) == []


def test_of_two_mounts_at_once_one_gets_the_place(mountfs: Command) -> None:
    """Two stores that are mounted at one directory together do not lie stacked."""
    other = mountfs.place / "other"
    other.mkdir()
    both = [
        mountfs.start("mount", url, mountfs.mount_point)
        for url in (mountfs.url, f"file://{other}")
    ]
    told = [started.communicate(timeout=COMMAND_TIMEOUT_S)[1] for started in both]

    assert sorted(started.returncode for started in both) == [0, 2]
    refused = max(told, key=len)
    assert "is mounted already" in refused or "try again when it is done" in refused
    mounts_there = [each.mount_point for each in mounts.all_mounts()]
    assert mounts_there.count(mountfs.mount_point) == 1


def test_the_same_store_twice_on_one_host_says_why_not(mounted: Command) -> None:
    """Two daemons over one state directory would harm each other."""
    other = mounted.place / "other"
    other.mkdir()

    code, said = mounted("mount", mounted.url, other)

    assert code == 2
    assert said.count("\n") == 1
    assert "mounted already" in said
    (url,) = mounted.place.glob("state/*/url")
    assert url.read_text() == f"{mounted.url}\n"


def test_a_cache_of_another_daemon_is_not_shared(mounted: Command) -> None:
    """A state directory of its own is not enough: the cache is in use too."""
    other = mounted.place / "other"
    other.mkdir()
    own = ("--state-dir", mounted.place / "s2")

    code, said = mounted("mount", *own, mounted.url, other)

    assert code == 2
    assert said.count("\n") == 1
    assert "--cache-dir" in said


def test_the_same_store_twice_works_with_directories_of_its_own(
    mounted: Command,
) -> None:
    """With its own state and cache a second mount sees what the first wrote."""
    other = mounted.place / "other"
    other.mkdir()
    own = ("--state-dir", mounted.place / "s2", "--cache-dir", mounted.place / "c2")

    assert mounted("mount", *own, mounted.url, other) == (0, "")
    (mounted.mount_point / "file").write_text("shared")

    assert (other / "file").read_text() == "shared"
    assert mounted("umount", other) == (0, "")


def test_options_of_fstab_work(mountfs: Command) -> None:
    """`-o ro,noexec` mount so, and fstab's own words are ignored."""
    options = "_netdev,nofail,x-systemd.automount,ro,noexec,ttl=5s"

    assert mountfs("mount", mountfs.url, mountfs.mount_point, "-o", options) == (0, "")

    lines = Path("/proc/self/mounts").read_text().splitlines()
    (given,) = (line.split() for line in lines if str(mountfs.mount_point) in line)
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(given[3].split(","))
    with pytest.raises(OSError, match="Read-only") as caught:
        (mountfs.mount_point / "file").write_text("x")
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("file:///no/such/directory", "mnt"), "does not exist"),
        (("memory://", "missing"), "does not exist: create it"),
        (("memory://", "store/file"), "is not a directory"),
        (("memory://", "store"), "is not empty"),
        (("file://{place}", "mnt"), "lie inside each other"),
        (("--cache-dir", "mnt/cache", "memory://", "mnt"), "inside the mount"),
        (("--state-dir", "store/file/x", "memory://", "mnt"), "cannot be written"),
        (("--log-file", "store/file/x", "memory://", "mnt"), "cannot be written"),
        (("--virtual", "everything", "memory://", "mnt"), "all, none or a list"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(
    mountfs: Command, arguments: tuple[str, ...], expected: str
) -> None:
    """Each is told at once, on one line, with exit code 2."""
    (mountfs.store / "file").touch()
    arguments = tuple(each.format(place=mountfs.place) for each in arguments)

    code, said = mountfs("mount", *arguments)

    assert code == 2
    assert expected in said
    assert said.startswith("mountfs: ")
    assert said.count("\n") == 1
    assert mounts.mount_at(mountfs.mount_point) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a full disk")
def test_what_cannot_be_sent_makes_umount_75_and_is_named(mountfs: Command) -> None:
    """When the store is full, umount says what waits, and the next mount sends it."""
    with small_disk(mountfs.store):
        assert mountfs("mount", mountfs.url, mountfs.mount_point) == (0, "")
        with pytest.raises(OSError, match="No space left"):
            (mountfs.mount_point / "large").write_bytes(LARGE)

        code, said = mountfs("umount", mountfs.mount_point)

        assert code == 75
        assert "1 file, 1 MiB could not be sent yet: large" in said
        resize(mountfs.store, "8m")
        assert mountfs("mount", mountfs.url, mountfs.mount_point)[0] == 0
        assert mountfs("umount", mountfs.mount_point) == (0, "")
        assert (mountfs.store / "large").read_bytes() == LARGE


LARGE = bytes(range(256)) * 4096


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """Make a directory a disk of its own that holds next to nothing."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(path)]
    subprocess.run(mount, check=True, timeout=COMMAND_TIMEOUT_S)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True, timeout=60)


def resize(path: Path, size: str) -> None:
    """Make the disk larger."""
    options = f"remount,size={size}"
    subprocess.run(["mount", "-o", options, str(path)], check=True, timeout=60)
