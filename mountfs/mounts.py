"""The kernel's list of mounts, and which of them are ours.

Reads /proc only; nothing here touches a path inside a mount, which could wait for a
daemon that does not answer.
"""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FSTYPE = "fuse.mountfs"
MOUNTINFO = Path("/proc/self/mountinfo")
COMMAND_TIMEOUT_S = 60
LINKS_MAX = 40
"""As many as the kernel follows in one path."""
UMOUNT_HELPER = Path("/sbin/umount.fuse.mountfs")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of /proc/self/mountinfo."""

    mount_point: Path
    fstype: str
    source: str
    device: str
    """MAJOR:MINOR, as in `st_dev`."""
    user_id: int | None
    """Who mounted it, if it is a FUSE mount."""


def parse_mountinfo(text: str) -> list[MountEntry]:
    """Return the entries of a mountinfo file, in the order of mounting."""
    entries = []
    for line in text.split("\n"):  # not splitlines(): a name may have a form feed
        left, separator, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 2:
            continue
        user = re.search(r"(?:^|,)user_id=(\d+)", rest[-1])
        entries.append(
            MountEntry(
                mount_point=Path(unescape(fields[4])),
                fstype=rest[0],
                source=unescape(rest[1]),
                device=fields[2],
                user_id=int(user[1]) if user else None,
            )
        )
    return entries


def unescape(text: str) -> str:
    """Return a field of mountinfo with its octal escapes resolved."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def all_mounts() -> list[MountEntry]:
    """Return the mounts that this process sees."""
    return parse_mountinfo(os.fsdecode(MOUNTINFO.read_bytes()))


def mount_at(mount_point: Path) -> MountEntry | None:
    """Return the topmost mount at exactly this path."""
    found = [each for each in all_mounts() if each.mount_point == mount_point]
    return found[-1] if found else None


def is_mounted_as(mount_point: Path, device: int | None) -> bool:
    """Tell whether this device, or any if it is not known, is mounted on top here.

    True if the kernel's list cannot be read, as without a free descriptor: whoever ends
    a mount then tries to unmount it.
    """
    try:
        entry = mount_at(mount_point)
    except OSError:
        return True
    if entry is None or device is None:
        return entry is not None
    return entry.device == f"{os.major(device)}:{os.minor(device)}"


def is_automount(mount_point: Path) -> bool:
    """Tell whether what lies at this path is to be mounted when somebody goes there.

    Whoever opens it then waits for the mount, and so would the one who mounts.
    """
    entry = mount_at(mount_point)
    return entry is not None and entry.fstype == "autofs"


def is_dead(mount_point: Path) -> bool:
    """Tell whether the daemon of a FUSE mount has ended."""
    try:
        os.statvfs(mount_point)  # never answered from the kernel's cache
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def mount_of(path: Path) -> MountEntry | None:
    """Return the mount that an existing path lies on."""
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    found = [each for each in all_mounts() if each.device == device]
    return found[-1] if found else None


def find_ours(path: str) -> tuple[MountEntry, str] | None:
    """Return our mount that a path lies in, and the path below it; None if none.

    The path itself is read only where it lies outside of our mounts: links in it are
    followed as far as the mount, and not in it.
    """
    entries = all_mounts()
    plain = os.path.abspath(path)  # noqa: PTH100 - without a look at any file
    waiting, real, links = plain.split("/")[::-1], "/", 0
    while True:
        found = _innermost(entries, real)
        if found is not None and found.fstype == FSTYPE:
            return _within(entries, os.path.normpath("/".join([real, *waiting[::-1]])))
        if not waiting:
            return None
        name = waiting.pop()
        target = _link_target(f"{real.rstrip('/')}/{name}") if name else None
        if name == "..":
            real = os.path.dirname(real)  # noqa: PTH120 - of any bytes
        elif target is None:
            real = f"{real.rstrip('/')}/{name}" if name not in ("", ".") else real
        elif (links := links + 1) > LINKS_MAX:
            return None
        else:
            waiting += target.split("/")[::-1]
            real = "/" if target.startswith("/") else real


def real_place(path: Path) -> Path:
    """Return where something would be mounted, links resolved.

    A mount of ours that is there already is not looked at: its daemon may hang.
    """
    found = find_ours(str(path))
    if found is not None and found[1] == "":
        return found[0].mount_point
    return Path(os.path.realpath(path))


def _within(entries: list[MountEntry], path: str) -> tuple[MountEntry, str] | None:
    """Return our mount that a path without links is in, and the path below it."""
    found = _innermost(entries, path)
    if found is None or found.fstype != FSTYPE:
        return None
    below = os.path.relpath(path, found.mount_point)
    return found, "" if below == "." else below


def _link_target(path: str) -> str | None:
    """Return what a symbolic link says; None for everything else."""
    try:
        return os.readlink(path)  # noqa: PTH115 - Path would normalise the text
    except OSError:
        return None


def _innermost(entries: list[MountEntry], path: str) -> MountEntry | None:
    best: MountEntry | None = None
    for entry in entries:
        top = str(entry.mount_point)
        if path != top and not path.startswith(f"{top.rstrip('/')}/"):
            continue
        if best is None or len(top) >= len(str(best.mount_point)):
            best = entry  # of two at one place the later one is on top
    return best


def unmount(mount_point: Path, *, is_lazy: bool = False) -> str | None:
    """Unmount by the system's own command; return what it said if that failed."""
    if os.geteuid() == 0:
        command = ["umount", "-i", *(["-l"] if is_lazy else []), str(mount_point)]
    else:
        flags = "-uz" if is_lazy else "-u"
        program = shutil.which("fusermount3") or "fusermount3"
        command = [program, flags, str(mount_point)]
    return _run(command)


def _run(command: Sequence[str]) -> str | None:
    """Run a command of the system; return what it said if it failed."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and paths are arguments
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {COMMAND_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    return (
        os.fsdecode(done.stderr).strip() or f"{command[0]} ended with {done.returncode}"
    )


def note_umount_helper(source: str, mount_point: Path) -> str | None:
    """Let root's `umount DIR` find the helper that waits for the store.

    Without a note in /run/mount/utab umount(8) asks statfs(2) for the type, which tells
    of all FUSE mounts alike. The note is made by mount(8) itself, which mounts nothing
    with -f. Returns what it said if that failed.
    """
    if os.geteuid() != 0 or not UMOUNT_HELPER.exists():
        return None
    options = ["-i", "-f", "--no-canonicalize", "-t", FSTYPE, "-o", "uhelper=mountfs"]
    return _run(["mount", *options, source, str(mount_point)])


def holders(mount_point: Path) -> list[tuple[int, str]]:
    """Return the processes (number, name) that hold something below the mount point.

    This process is left out: it stands where it was called, and is about to end.
    Only links under /proc are read: to look at the files themselves could wait.
    """
    names = (entry.name for entry in Path("/proc").iterdir())
    processes = sorted(int(name) for name in names if name.isdigit())
    return [
        (pid, _process_name(Path(f"/proc/{pid}")))
        for pid in processes
        if pid != os.getpid() and _holds(Path(f"/proc/{pid}"), mount_point)
    ]


def _holds(process: Path, mount_point: Path) -> bool:
    links = [process / "cwd", process / "root", process / "exe"]
    # It may have ended, or be another user's: the other links may still tell.
    with suppress(OSError):
        links += (process / "fd").iterdir()
    return any(_points_into(link, str(mount_point)) for link in links)


def _points_into(link: Path, mount_point: str) -> bool:
    try:
        target = os.readlink(link)  # noqa: PTH115 - Path would normalise the text
    except OSError:
        return False
    return target == mount_point or target.startswith(f"{mount_point}/")


def _process_name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
