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

    async def holds(self, pid: int, inode: int, name: bytes) -> bool:
        """Tell whether a process still has a file of this name open for writing."""
        if self.device is None or pid <= 0:
            return False
        try:
            # Since Linux 6.2 that is how many there are; before, 0 (proc_pid_fd(5)).
            count = os.stat(b"/proc/%d/fd" % pid).st_size  # noqa: PTH116  # bytes
        except OSError:
            return False
        if count > DESCRIPTORS_MAX:
            return False
        look = partial(_holds, pid, inode, name, self.device)
        if 0 < count <= FEW:
            return look()
        return await trio.to_thread.run_sync(look)


def _holds(pid: int, inode: int, name: bytes, device: int) -> bool:
    wanted, mounts = f"ino:\t{inode}\n", set[str]()
    try:
        descriptors = os.listdir(b"/proc/%d/fd" % pid)  # noqa: PTH208  # only names
        if len(descriptors) > DESCRIPTORS_MAX:
            return False
        for descriptor in descriptors:
            if not _leads_to(b"/proc/%d/fd/%b" % (pid, descriptor), name):
                continue
            # Nor is it looked at by stat(2): that would come back to this daemon.
            text = _read(b"/proc/%d/fdinfo/%b" % (pid, descriptor))
            if wanted not in text or not _can_write(text):
                continue
            mounts = mounts or _mounts_of(pid, device)
            if _field(text, "mnt_id:") in mounts:
                return True
    except OSError:
        return False
    return False


def _leads_to(link: bytes, name: bytes) -> bool:
    """Tell whether a descriptor is of some file of this name; the kernel knows that."""
    try:
        return os.readlink(link).endswith(b"/" + name)  # noqa: PTH115  # bytes
    except OSError:
        return False  # closed since it was listed


def _read(path: bytes) -> str:
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
    """Return the ids under which a process sees the mount (proc_pid_mountinfo(5)).

    The lines are bytes: somebody else's mount point may have a name that is no text.
    """
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    lines = Path(f"/proc/{pid}/mountinfo").read_bytes().split(b"\n")
    fields = (line.split(b" ", 3) for line in lines if line)
    return {field[0].decode() for field in fields if field[2] == wanted}
