"""What must hold on this host before a mount can start; each failure one sentence.

Only what can be known without the store: the store has its say when it is opened. A
mount that a dead daemon left at the mount point is cleared away here, at the last
moment.
"""

import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mountfs import abort, control, mounts, takeover
from mountfs.configuration.config import MountConfig
from mountfs.configuration.values import format_size
from mountfs.errors import UsageError

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONF = Path("/etc/fuse.conf")
VOLATILE = ("tmpfs", "ramfs")

logger = logging.getLogger(__name__)


def before_mount(config: MountConfig) -> None:
    """Raise `UsageError` for whatever stands in the way of this mount."""
    check_fuse(allow_other=config.allow_other)
    abort.release(config.mount_point)
    takeover.at_mount_point(config)
    if has_dead_mount(config.mount_point):
        logger.warning("cleaning up %s, whose daemon had died", config.mount_point)
    else:
        check_mount_point(config.mount_point)
    check_nesting(config)
    check_writable(config.cache_dir, "cache")
    check_writable(config.state_dir, "state")
    check_cache_size(config)
    if config.durability == "journal":
        refuse_tmpfs_state(config.state_dir)
    else:
        warn_of_volatile_state(config.state_dir)


def check_fuse(*, allow_other: bool) -> None:
    """Raise if this host, or this user, cannot mount with FUSE."""
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise UsageError(
            f"there is no {FUSE_DEVICE}: load the kernel's module (modprobe fuse), or"
            " start the container with --device /dev/fuse --cap-add SYS_ADMIN"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{FUSE_DEVICE} cannot be opened ({error.strerror}): give this user access,"
            " or start the container with --device /dev/fuse"
        ) from error
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise UsageError(
            "fusermount3 is missing, which mounts for users: install the package fuse3"
        )
    if allow_other and not users_may_allow_other():
        raise UsageError(
            "--allow-other is for root alone: drop it, or add the line"
            f" user_allow_other to {FUSE_CONF}"
        )


def users_may_allow_other() -> bool:
    """Tell whether /etc/fuse.conf lets others than root say --allow-other."""
    try:
        text = FUSE_CONF.read_text(errors="replace")
    except OSError:
        return False
    return re.search(r"^\s*user_allow_other\s*$", text, re.MULTILINE) is not None


def make_way(mount_point: Path) -> None:
    """Take away what a dead daemon left at a mount point, which must be usable then.

    Programs that use the dead mount get errors. So that they do not get the directory
    below it instead, and write there, this is done at the last moment.
    """
    clear_dead_mount(mount_point)
    check_mount_point(mount_point)


def has_dead_mount(mount_point: Path) -> bool:
    """Tell whether a daemon of ours died here. Raises `UsageError` if one lives."""
    entry = mounts.mount_at(mount_point)
    if entry is None or entry.fstype != mounts.FSTYPE:
        return False
    path = control.socket_path(mount_point, uid=entry.user_id)
    if control.is_alive(path) or not mounts.is_dead(mount_point):
        raise UsageError(
            f"{mount_point} is mounted already, with {entry.source}: use that mount, or"
            f" end it with `mountfs umount {mount_point}`"
        )
    return True


def clear_dead_mount(mount_point: Path) -> None:
    """Unmount what a daemon of ours left behind when it died."""
    if not has_dead_mount(mount_point):
        return
    problem = mounts.unmount(mount_point, is_lazy=True)
    if problem is not None:
        raise UsageError(
            f"the daemon of {mount_point} has died, and its mount cannot be removed"
            f" ({problem}): run `umount -l {mount_point}` as root"
        )


def check_mount_point(mount_point: Path) -> None:
    """Raise unless the mount point is an empty directory that is ours to use."""
    try:
        is_empty = _is_empty(mount_point)
    except FileNotFoundError:
        raise UsageError(
            f"the mount point {mount_point} does not exist: create it with"
            f" `mkdir -p {mount_point}`"
        ) from None
    except NotADirectoryError:
        raise UsageError(
            f"the mount point {mount_point} is not a directory: name an empty one"
        ) from None
    except OSError as error:
        raise UsageError(
            f"the mount point {mount_point} cannot be used: {error.strerror}"
        ) from error
    if not is_empty:
        raise UsageError(
            f"the mount point {mount_point} is not empty, and a mount would hide what"
            " is in it: name an empty directory"
        )
    if control.is_alive(control.socket_path(mount_point)):
        raise UsageError(
            f"the last mount at {mount_point} is still sending what is pending: wait"
            f" for it with `mountfs umount {mount_point}`"
        )


def _is_empty(directory: Path) -> bool:
    if mounts.is_automount(directory):
        return True
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def check_nesting(config: MountConfig) -> None:
    """Raise if the mount would lie in its own way."""
    inside = {"cache": config.cache_dir, "state": config.state_dir}
    if config.log_file is not None:
        inside["log file's"] = config.log_file.parent
    for name, path in inside.items():
        if _is_within(path, config.mount_point):
            raise UsageError(
                f"the {name} directory {path} would lie inside the mount"
                f" {config.mount_point}: name one outside"
            )
        if name != "log file's" and _is_within(config.mount_point, path):
            raise UsageError(
                f"the mount point {config.mount_point} lies inside the {name} directory"
                f" {path}: name one outside"
            )
    if _is_within(config.state_dir, config.cache_dir):
        raise UsageError(
            f"the state directory {config.state_dir} lies in the cache directory"
            f" {config.cache_dir}, which may be deleted at any time: name another with"
            " --state-dir"
        )
    if config.url.startswith("file://"):
        _check_not_in_itself(config)


def _check_not_in_itself(config: MountConfig) -> None:
    root = Path(unquote(urlsplit(config.url).path))
    if _is_within(config.mount_point, root) or _is_within(root, config.mount_point):
        raise UsageError(
            f"{config.url} and the mount point {config.mount_point} lie inside each"
            " other: name a directory outside"
        )
    for name, path in (("state", config.state_dir), ("cache", config.cache_dir)):
        if _is_within(path, root):
            raise UsageError(
                f"the {name} directory {path} lies in {config.url}, and programs would"
                f" see and change it through the mount: name another with --{name}-dir"
            )


def _is_within(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


def check_writable(directory: Path, name: str) -> None:
    """Create the directory if it is missing; raise unless files can be made in it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(
            f"the {name} directory {directory} cannot be written ({error.strerror}):"
            f" make it writable, or name another with --{name}-dir"
        ) from error


def check_cache_size(config: MountConfig) -> None:
    """Raise if the cache is to be larger than the disk it lies on."""
    total = shutil.disk_usage(config.cache_dir).total
    if config.cache_size > total:
        raise UsageError(
            f"--cache-size {format_size(config.cache_size)} is more than the disk of"
            f" {config.cache_dir} holds ({format_size(total)}): make it smaller"
        )


def warn_of_volatile_state(state_dir: Path) -> None:
    """Warn if the state directory will not survive a power cut."""
    entry = mounts.mount_of(state_dir)
    if entry is not None and entry.fstype in VOLATILE:
        logger.warning(
            "the state directory %s is on %s: data of failed uploads will not survive"
            " a restart of this host",
            state_dir,
            entry.fstype,
        )


def refuse_tmpfs_state(state_dir: Path) -> None:
    """Raise if what is acknowledged to programs would lie in memory alone."""
    entry = mounts.mount_of(state_dir)
    if entry is not None and entry.fstype in VOLATILE:
        raise UsageError(
            f"the state directory {state_dir} is on {entry.fstype}, which a power cut"
            " empties, and --durability=journal promises that it keeps what was"
            " written: name one on a disk with --state-dir"
        )
