"""What this host is like: FUSE, the directories, limits. Blocks; changes nothing.

For the speed of fsync(2) a file without a name is made and is gone again.
"""

import os
import platform
import re
import resource
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mountfs import checks, mounts
from mountfs.configuration.config import MountConfig
from mountfs.configuration.values import format_size
from mountfs.storage.diagnosis import Finding, State

KERNEL_MIN = (5, 4)
FILES_MIN = 4096
MEMORY_MIN = 512 << 20
FREE_MIN = 1 << 30
SYNCS = 10
SYNC_SLOW_S = 0.03
SYNC_LOOK_S = 2.0
MEMORY_INFO = Path("/proc/meminfo")


def host_findings(config: MountConfig) -> list[Finding]:
    """Return what can be told without the store."""
    return [
        _fuse(),
        _fusermount(),
        _fuse_conf(allow_other=config.allow_other),
        _kernel(),
        _open_files(),
        _memory(),
        *_directory("cache directory", config.cache_dir, is_kept=False),
        *_directory("state directory", config.state_dir, is_kept=True),
    ]


def _fuse() -> Finding:
    name = str(checks.FUSE_DEVICE)
    try:
        os.close(os.open(checks.FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        cure = "run `modprobe fuse`; for a container: --device /dev/fuse"
        return Finding(name, State.FAIL, "is missing", cure)
    except OSError as error:
        cure = "give this user access; for a container: --device /dev/fuse"
        return Finding(name, State.FAIL, f"{error.strerror}", cure)
    return Finding(name, State.OK, "can be opened")


def _fusermount() -> Finding:
    path = shutil.which("fusermount3")
    if path is None:
        state = State.WARN if os.geteuid() == 0 else State.FAIL
        text = "is missing; users cannot mount without it"
        return Finding("fusermount3", state, text, "install the package fuse3")
    if os.geteuid() != 0 and not Path(path).stat().st_mode & stat.S_ISUID:
        cure = f"run `chmod u+s {path}` as root, or install the package fuse3 anew"
        return Finding("fusermount3", State.FAIL, f"{path} is not setuid root", cure)
    return Finding("fusermount3", State.OK, path)


def _fuse_conf(*, allow_other: bool) -> Finding:
    name, cure = str(checks.FUSE_CONF), f"add user_allow_other to {checks.FUSE_CONF}"
    if checks.users_may_allow_other():
        return Finding(name, State.OK, "users may say --allow-other")
    if os.geteuid() == 0:
        return Finding(name, State.OK, "only root may say --allow-other")
    if allow_other:
        return Finding(name, State.FAIL, "--allow-other is for root alone", cure)
    text = "--allow-other is for root alone; this mount does not need it"
    return Finding(name, State.OK, text)


def _kernel() -> Finding:
    release = platform.release()
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) < KERNEL_MIN:
        text = f"{release} is older than what mountfs is tried on"
        return Finding("kernel", State.WARN, text, "use 5.4 or newer")
    return Finding("kernel", State.OK, release)


def _open_files() -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # a mount takes the hard limit
    told = f"{_count(most)} at most"
    if most != resource.RLIM_INFINITY and most < FILES_MIN:
        cure = "raise the hard limit: /etc/security/limits.conf, LimitNOFILE= in a unit"
        text = f"{told}: few, if many files are open at once"
        return Finding("open files", State.WARN, text, cure)
    return Finding("open files", State.OK, told)


def _count(limit: int) -> str:
    return "no limit" if limit == resource.RLIM_INFINITY else str(limit)


def _memory() -> Finding:
    try:
        text = MEMORY_INFO.read_text()
    except OSError as error:
        return Finding("memory", State.SKIP, f"{error.strerror}")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        return Finding("memory", State.SKIP, "the kernel does not tell")
    free = int(found[1]) << 10
    told = f"{format_size(free)} available"
    if free < MEMORY_MIN:
        cure = "lower --names-max, or end other programs"
        return Finding("memory", State.WARN, told, cure)
    return Finding("memory", State.OK, told)


def _directory(name: str, path: Path, *, is_kept: bool) -> Iterator[Finding]:
    option = "--state-dir" if is_kept else "--cache-dir"
    above = _existing(path)
    if above == path:
        yield from _private(name, path)
    try:
        slowest_s, middle_s = _sync_times(above)
    except OSError as error:
        cure = f"make it writable, or name another with {option}"
        yield Finding(name, State.FAIL, f"{above}: {error.strerror}", cure)
        return
    yield from _volatile(name, above, is_kept=is_kept)
    made = "" if above == path else f" ({path} will be made)"
    told = f"{above}: {middle_s * 1000:.1f} ms, {slowest_s * 1000:.1f} ms at most{made}"
    if is_kept and middle_s > SYNC_SLOW_S:
        cure = f"name one on a faster disk with {option}"
        yield Finding(f"{name}: fsync", State.WARN, told, cure)
    else:
        yield Finding(f"{name}: fsync", State.OK, told)
    free = shutil.disk_usage(above).free
    told = f"{format_size(free)} free"
    if free < FREE_MIN:
        yield Finding(f"{name}: space", State.WARN, told, "make room there")
    else:
        yield Finding(f"{name}: space", State.OK, told)


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _private(name: str, path: Path) -> Iterator[Finding]:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        text = f"{path} belongs to user {found.st_uid}"
        cure = "name one of your own"
        yield Finding(name, State.FAIL, text, cure)
    elif mode & 0o077:
        text = f"{path} has mode {mode:o}: others see what is in it"
        yield Finding(name, State.WARN, text, f"run `chmod 700 {path}`")
    else:
        yield Finding(name, State.OK, f"{path}, mode {mode:o}")


def _volatile(name: str, path: Path, *, is_kept: bool) -> Iterator[Finding]:
    entry = mounts.mount_of(path)
    if is_kept and entry is not None and entry.fstype in checks.VOLATILE:
        text = f"{path} is on {entry.fstype}, which a power cut empties"
        yield Finding(name, State.WARN, text, "name one on a disk with --state-dir")


def _sync_times(directory: Path) -> tuple[float, float]:
    """Return the longest and the middle time of some fsync(2) of a page."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        began = time.perf_counter()
        while len(taken) < SYNCS and time.perf_counter() - began < SYNC_LOOK_S:
            file.write(os.urandom(4096))
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    taken.sort()
    return taken[-1], taken[len(taken) // 2]
