"""Whether a process that opened a file still has another descriptor to write to it.

The kernel tells of every close(2), not of the last one. A shell that runs a loop of
commands into one file makes each of them close its copy, and a commit for each would
send the file as often. If the process that opened the file verifiably has a descriptor
left that can write to it, another close is certain to come, and that one commits. When
in doubt the answer is no, which costs a request and never a byte.
"""

import os
from functools import partial
from pathlib import Path

import trio

DESCRIPTORS_MAX = 512
"""Processes with more open files are not searched."""
FEW = 32
"""So many are looked at in less time than a worker thread takes to wake up."""
_TEXT_MAX = 4096


class Openers:
    """Looks into /proc; knows the mount by its device number."""

    def __init__(self) -> None:
        self.device: int | None = None
        """`st_dev` of the mount; unknown until it answers."""

    async def holds(self, pid: int, inode: int) -> bool:
        """Tell whether a process still has this inode open for writing."""
        if self.device is None or pid <= 0:
            return False
        folder = f"/proc/{pid}/fdinfo"
        try:
            descriptors = os.listdir(folder)  # noqa: PTH208  # names are all we need
        except OSError:
            return False
        if len(descriptors) > DESCRIPTORS_MAX:
            return False
        look = partial(_holds, pid, inode, self.device, descriptors)
        if len(descriptors) > FEW:
            return await trio.to_thread.run_sync(look)
        return look()


def _holds(pid: int, inode: int, device: int, descriptors: list[str]) -> bool:
    # Only fdinfo is read: stat(2) of /proc/PID/fd/N would come back to this daemon.
    wanted = f"ino:\t{inode}\n"
    mounts: set[str] | None = None
    try:
        for descriptor in descriptors:
            text = _read(f"/proc/{pid}/fdinfo/{descriptor}")
            if wanted not in text or not _can_write(text):
                continue
            if mounts is None:
                mounts = _mounts_of(pid, device)
            if _field(text, "mnt_id:") in mounts:
                return True
    except OSError:
        return False
    return False


def _read(path: str) -> str:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, _TEXT_MAX).decode()
        finally:
            os.close(file)
    except OSError:
        return ""  # closed since it was listed


def _can_write(text: str) -> bool:
    # Who only reads may do so for days, and is no reason to keep bytes back.
    flags = _field(text, "flags:")
    return bool(flags) and int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        if line.startswith(name):
            return line.removeprefix(name).strip()
    return ""


def _mounts_of(pid: int, device: int) -> set[str]:
    """Return the ids under which a process sees the mount (proc_pid_mountinfo(5))."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    fields = (line.split(" ", 3) for line in lines)
    return {field[0] for field in fields if field[2] == wanted}
