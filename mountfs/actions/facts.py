"""Facts about this host and a process of ours, as text for `mountfs bundle`.

What cannot be had is said in brackets in its place.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mountfs import __version__, mounts

COMMAND_S = 20.0
LOG_LINES = 2000
LOG_SIZE = 2 << 20
PACKAGES = (
    *("pyfuse3", "trio", "boto3", "botocore", "urllib3", "google-cloud-storage"),
    *("google-auth", "dropbox", "requests", "cachetools", "xattr", "prometheus-client"),
)


def host_facts() -> dict[str, object]:
    """Return what runs here, and on what."""
    return {
        "mountfs": __version__,
        "python": sys.version,
        "executable": sys.executable,
        "platform": platform.platform(),
        "system": read("/etc/os-release"),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "uptime": read("/proc/uptime"),
        "load": os.getloadavg(),
        "memory": read("/proc/meminfo").splitlines()[:5],
        "is_root": os.geteuid() == 0,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def fuse_facts() -> str:
    """Return what this host has for FUSE."""
    device = Path("/dev/fuse")
    mode = f"{device.stat().st_mode:o}" if device.exists() else "absent"
    return "\n".join(
        [
            f"/dev/fuse: {mode}",
            f"/etc/fuse.conf:\n{read('/etc/fuse.conf')}",
            told_by(["fusermount3", "--version"]),
            told_by(["modinfo", "-F", "version", "fuse"]),
        ]
    )


def mount_facts(mount_point: Path) -> str:
    """Return the lines of the kernel about a mount, and about its connection."""
    return "\n".join(_mount_facts(mount_point)) + "\n"


def _mount_facts(mount_point: Path) -> Iterator[str]:
    for entry in mounts.all_mounts():
        if entry.mount_point != mount_point:
            continue
        yield from _lines_with(mounts.MOUNTINFO, f" {entry.device} ")
        connection = Path("/sys/fs/fuse/connections") / entry.device.partition(":")[2]
        for name in ("waiting", "max_background", "congestion_threshold"):
            yield f"{name}: {read(connection / name).strip()}"


def _lines_with(path: Path, word: str) -> Iterator[str]:
    return (line for line in read(path).splitlines() if word in line)


def process_facts(pid: int) -> str:
    """Return what the kernel knows of a process."""
    process = Path("/proc") / str(pid)
    command = read(process / "cmdline").replace("\0", " ")
    parts = [f"command: {command}", read(process / "status"), read(process / "limits")]
    return "\n".join(parts)


def disk_facts(directories: Iterable[str]) -> dict[str, object]:
    """Return how full the disks of these directories are."""
    found: dict[str, object] = {}
    for directory in directories:
        try:
            usage = shutil.disk_usage(directory)
        except OSError as error:
            found[directory] = error.strerror
        else:
            found[directory] = {"total": usage.total, "free": usage.free}
    return found


def log_tail(file: str | None, pid: int) -> str:
    """Return the last lines of the log of a process, of a file or the journal."""
    if file is not None:
        return _tail(Path(file))
    command = ["journalctl", "--no-pager", "-o", "short-iso", "-n", str(LOG_LINES)]
    return told_by([*command, f"_PID={pid}"])


def read(path: str | Path) -> str:
    """Return what a file has."""
    try:
        return Path(path).read_text(errors="backslashreplace")
    except OSError as error:
        return f"({error.strerror})"


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_SIZE))
            lines = file.read().decode(errors="backslashreplace").splitlines()
    except OSError as error:
        return f"({path}: {error.strerror})\n"
    return "\n".join(lines[-LOG_LINES:]) + "\n"


def told_by(command: list[str], *, timeout_s: float = COMMAND_S) -> str:
    """Return what a command says, or why it says nothing."""
    try:
        done = subprocess.run(  # noqa: S603  # fixed words, and options that we read
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({command[0]}: {error})\n"
    return (done.stdout + done.stderr).decode(errors="backslashreplace")
