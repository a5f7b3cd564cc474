"""Trees of real files to copy, and how to compare what became of them."""

import os
import shutil
import stat
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {"__pycache__", "site-packages", "test", "idlelib", "lib-dynload"}


def copy_standard_library(target: Path, *, files_max: int) -> Path:
    """Copy the running Python's standard library, at most so many files of it."""
    source = Path(sysconfig.get_path("stdlib"))
    skipped = SKIPPED if files_max < 5000 else {"site-packages"}
    for number, path in enumerate(_files(source, skipped)):
        if number == files_max:
            break
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return target


def _files(directory: Path, skipped: set[str]) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or path.name in skipped:
            continue
        if path.is_dir():
            yield from _files(path, skipped)
        elif path.is_file():
            yield path


def attributes_of(directory: Path, *, link_times: bool = True) -> dict[str, object]:
    """Return what `cp -a` keeps of everything below a directory, by path."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        target = os.fsdecode(path.readlink()) if kind == stat.S_IFLNK else ""
        size = status.st_size if kind == stat.S_IFREG else 0
        is_timeless = kind == stat.S_IFLNK and not link_times
        times = 0 if is_timeless else status.st_mtime_ns
        owner = status.st_uid, status.st_gid
        name = str(path.relative_to(directory))
        found[name] = (oct(status.st_mode), owner, size, times, target)
    return found
