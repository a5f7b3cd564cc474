"""mount(8), umount(8) and fstab, with the helpers where they look for them."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountfs import control
from tests.fuse.system import NOBODY, USERS, System, system

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces")


class Place:
    """A store, a mount point, and the system that mounts them."""

    def __init__(self, base: Path, system: System) -> None:
        self.system = system
        self.store = base / "store"
        self.mount_point = base / "mnt"
        self.url = f"file://{self.store}"
        self.store.mkdir()
        self.mount_point.mkdir()
        self.socket = control.socket_path(self.mount_point)

    def options(self) -> set[str]:
        """Return the options of the mount as the kernel has them."""
        code, said = self.system.run(
            "findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", self.mount_point
        )
        assert code == 0
        source, fstype, options = said.split()
        assert (source, fstype) == (self.url, "fuse.mountfs")
        return set(options.split(","))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose daemon, if a test leaves one, is ended."""
    with system(tmp_path) as made:
        place = Place(tmp_path, made)
        yield place
        status = control.ask(place.socket, "unmount")
        if status is not None:
            for _ in control.follow(place.socket):
                pass


def test_a_line_of_fstab_mounts_remounts_and_unmounts(place: Place) -> None:
    """The whole life of a line, with the commands that administrators use.

    `umount` ends after the daemon, and so after the store has everything.
    """
    run, shell, mount_point = place.system.run, place.system.shell, place.mount_point
    words = "_netdev,nofail,x-systemd.automount,X-mount.mkdir,comment=a,uid=1,ttl=0"
    place.system.write_fstab(
        f"{place.url} {mount_point} mountfs {words},noexec,durability=journal 0 0"
    )

    assert run("mount", mount_point) == (0, "")
    assert {"rw", "noexec", "nosuid", "nodev"} <= place.options()
    assert run("mount", "-a") == (0, "")
    assert "already mounted" in run("mount", "-a", "-v")[1]

    assert shell(f"echo before > {mount_point}/file")[0] == 0
    assert run("mount", "-o", "remount,ro", mount_point) == (0, "")
    assert (place.store / "file").read_text() == "before\n"
    assert {"ro", "noexec", "nosuid", "nodev"} <= place.options()
    assert "Read-only" in shell(f"echo x > {mount_point}/file")[1]
    look = f"stat -c %x {mount_point}/file"
    atime, read, then = shell(f"{look}; cat {mount_point}/file; {look}")[1].split("\n")
    assert (read, then) == ("before", atime)
    assert run("mount", "-o", "remount,rw", mount_point) == (0, "")
    code, said = shell(f"exec 5> {mount_point}/file; mount -o remount,ro {mount_point}")
    assert (code, "has a file open for writing" in said) == (32, True)

    assert shell(f"echo after > {mount_point}/file")[0] == 0
    assert run("umount", mount_point) == (0, "")
    assert not control.is_alive(place.socket)
    assert (place.store / "file").read_text() == "after\n"
    assert run("findmnt", mount_point)[0] == 1


@pytest.mark.slow
def test_umount_has_the_codes_of_umount(place: Place) -> None:
    """Busy is 32 and names who; a mount begun read-only stays so; -l does not wait, nor
    does a second place of a mount, which goes on at the first.
    """
    run, shell, mount_point = place.system.run, place.system.shell, place.mount_point
    mount = ("mount", "-v", "-t", "fuse.mountfs", place.url, mount_point)
    code, said = run(*mount, "-o", "ro")
    assert (code, f"mounted {place.url} at" in said) == (0, True)

    code, said = run("mount", "-o", "remount,rw", mount_point)
    assert (code, "was begun read-only" in said) == (32, True)
    assert "ro" in place.options()
    code, said = shell(f"cd {mount_point} && umount {mount_point}")
    assert (code, "is in use by" in said) == (32, True)
    code, said = run(*mount)
    assert (code, "is mounted already" in said) == (32, True)

    second = mount_point.with_name("second")
    second.mkdir()
    assert run("mount", "--bind", mount_point, second) == (0, "")
    assert run("umount", second) == (0, "")

    assert run("umount", "--lazy", mount_point) == (0, "")
    assert run("findmnt", mount_point)[0] == 1


@pytest.mark.slow
def test_a_mount_whose_daemon_died_is_unmounted_with_an_error(place: Place) -> None:
    """`umount && poweroff` must not go on if nobody knows what the store has."""
    mount_point = place.mount_point
    assert place.system.run("mount", "-t", "mountfs", place.url, mount_point)[0] == 0
    status = control.ask(place.socket, "status")
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)

    code, said = place.system.run("umount", mount_point)

    assert (code, "whose daemon had died" in said) == (32, True)
    assert place.system.run("findmnt", mount_point)[0] == 1
    place.socket.unlink()


@pytest.mark.slow
@pytest.mark.skipif(
    "autofs" not in Path("/proc/filesystems").read_text(), reason="no autofs"
)
def test_an_automount_point_is_mounted_when_somebody_goes_there(place: Place) -> None:
    """Until then the kernel lets nobody pass but the one who mounts, and its group."""
    (place.store / "file").touch()
    program = Path(__file__).with_name("automount.py")
    mount = ("mount", "-t", "mountfs", place.url, place.mount_point)

    code, said = place.system.run(sys.executable, program, place.mount_point, *mount)

    assert (code, said) == (0, "file")
    status = control.ask(place.socket, "status")
    assert status is not None
    assert os.getsid(status.pid) == status.pid
    assert place.system.run("umount", place.mount_point) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("fusermount3") is None, reason="users mount by fusermount3"
)
def test_a_user_mounts_a_line_that_says_user(place: Place) -> None:
    """The mount is that user's alone, no program in it runs, and the user ends it."""
    system, directory = place.system, USERS / "dir"
    system.let_users_in()
    own = f"state-dir={USERS}/home/state,cache-dir={USERS}/home/cache"
    system.write_fstab(f"file://{USERS}/store {directory} mountfs user,{own} 0 0")

    code, said = system.run_as_user("mount", directory)
    assert code == 0, said
    try:
        _, options = system.run("findmnt", "-n", "-o", "OPTIONS", directory)
        wanted = {"noexec", "nosuid", "nodev", f"user_id={NOBODY}"}
        assert wanted <= set(options.split(","))
        assert system.run_as_user("touch", directory / "file") == (0, "")
        assert "Permission denied" in system.run("ls", directory)[1]
        code, said = system.run_as_user("mount", "-o", "remount,ro", directory)
        assert (code, "only root can remount" in said) == (32, True)
        assert system.run_as_user("umount", directory) == (0, "")
        assert system.run("ls", USERS / "store") == (0, "file")
    finally:
        system.run("umount", "-i", "-l", directory)
