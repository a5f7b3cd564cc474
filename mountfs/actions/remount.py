"""`mount -o remount`: change what the kernel lets programs do in a mount that is there.

The kernel takes ro, noexec and noatime at any time; options of the store and the cache
are no affair of it (`mountfs set`). It is asked by mount(2) and not by mount(8), which
with a new kernel interface hands FUSE words that it refuses.
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from mountfs import control, mounts
from mountfs.configuration.fstab import own_pairs
from mountfs.control import Outcome, Request
from mountfs.errors import DaemonFailed, UsageError

READ_ONLY = 1
NO_SUID = 2
NO_DEVICES = 4
FLAGS = {"read-only": READ_ONLY, "noexec": 8, "sync": 16, "noatime": 1024}
REMOUNT = 32
RELATIVE_ATIME = 1 << 21


def remount(mount_point: Path, words: Sequence[str]) -> None:
    """Give our mount at this place these options of mount(8). Raises `UsageError`."""
    entry = mounts.mount_at(mount_point)
    if entry is None or entry.fstype != mounts.FSTYPE:
        raise UsageError(f"{mount_point} is not mounted by mountfs")
    if os.geteuid() != 0:
        raise UsageError(
            "only root can remount: unmount it, and mount it anew with other options"
        )
    wanted = {name for name, _ in own_pairs((word, "") for word in words)}
    flags = sum(flag for name, flag in FLAGS.items() if name in wanted)
    socket = control.socket_path(mount_point, uid=entry.user_id)
    if not flags & READ_ONLY:
        _ask(socket, "read-write", mount_point)
    _tell_kernel(mount_point, flags)
    if flags & READ_ONLY:
        _ask(socket, "read-only", mount_point)


def _ask(socket: Path, word: str, mount_point: Path) -> None:
    """Let the daemon do its part. Raises `UsageError` with what it says."""
    try:
        said = list(control.carry_out(socket, Request(word)))
    except TimeoutError:
        said = []
    outcome = said[-1] if said and isinstance(said[-1], Outcome) else None
    if outcome is None:
        raise DaemonFailed(f"the daemon of {mount_point} does not answer")
    if outcome.error:
        raise DaemonFailed(f"{mount_point}: {outcome.error}")


def _tell_kernel(mount_point: Path, flags: int) -> None:
    """Call mount(2) for a mount that is there. No program ever gains rights by it."""
    flags |= REMOUNT | NO_SUID | NO_DEVICES
    if not flags & FLAGS["noatime"]:
        flags |= RELATIVE_ATIME
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"none", os.fsencode(mount_point), None, flags, None) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EBUSY:
        raise UsageError(
            f"{mount_point} cannot become read-only while a program has a file open for"
            " writing there: `fuser -vm` names who has files open"
        )
    raise UsageError(f"cannot remount {mount_point}: {os.strerror(number)}")
