"""Trees of real files to copy, and how to compare what became of them."""

import errno
import hashlib
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


def everything_of(directory: Path) -> dict[str, dict[str, object]]:
    """Return all that programs can see of a tree and that a copy can keep, by path.

    Left out are only what no copy can set (inode numbers themselves, ctime, atime) and
    the sizes and link counts of directories.
    """
    groups: dict[int, list[str]] = {}
    found: dict[str, dict[str, object]] = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        status = path.lstat()
        name = os.fsdecode(os.path.relpath(path, directory))
        found[name] = {
            "mode": stat.filemode(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "mtime": status.st_mtime_ns,
            "rdev": status.st_rdev,
            "xattrs": _xattrs_of(path),
        }
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] |= {"size": status.st_size, "content": content}
        if stat.S_ISLNK(status.st_mode):
            found[name]["target"] = os.readlink(path)
        if not stat.S_ISDIR(status.st_mode):
            groups.setdefault(status.st_ino, []).append(name)
            found[name] |= {"links": status.st_nlink, "names": groups[status.st_ino]}
    return found


def _xattrs_of(path: Path) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    return {
        name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)
    }


def make_whole_tree(path: Path) -> Path:
    """Make a tree of everything that a file system keeps; only root can."""
    (path / "sub" / "empty").mkdir(parents=True)
    for name, mode in {b"script": 0o755, b"set-uid": 0o6711, b"secret": 0o600}.items():
        _write(path, name, os.urandom(3000), mode)
    # Without a backslash, of which SeaweedFS makes a slash: see tests/fuse/test_names.
    for name in (b"new\nline", b" space ", b"back`tick", b"%41", "ü".encode(), b"*"):
        _write(path, name, name, 0o644)
    _write(path / "sub", b"not-utf-8-\xe9", b"latin", 0o640)
    _write(path, b"n" * 255, b"", 0o444)
    _make_sparse(path / "sparse")
    (path / "sub" / "link").symlink_to("../secret")
    (path / "dangling").symlink_to("no/where\n")
    (path / "sub" / "second").hardlink_to(path / "script")
    (path / "third").hardlink_to(path / "script")
    (path / "sub" / "empty" / "other").hardlink_to(path / "sparse")
    os.mkfifo(path / "pipe", 0o620)
    os.mknod(path / "socket", stat.S_IFSOCK | 0o777)
    os.mknod(path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(path / "sub" / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    os.chown(path / "sub" / "disk", 0, 6)
    os.chown(path / "secret", 1000, 1001)
    os.chown(path / "dangling", 1002, 1003, follow_symlinks=False)
    (path / "sub" / "empty").chmod(0o3770)
    for where, attribute, value in XATTRS:
        os.setxattr(path / where, attribute, value, follow_symlinks=False)
    found = [path, *sorted(path.rglob("*"))]
    for number, each in reversed(list(enumerate(found))):
        times = (10**18 + number, 1_234_567_890 * 10**9 + 1_000_000_007 * number)
        os.utime(each, ns=times, follow_symlinks=False)
    return path


CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
XATTRS = [
    ("script", "user.text", b"value"),
    ("script", "user.empty", b""),
    ("script", "security.capability", CAPABILITY),
    ("secret", "user.binary", bytes(range(256))),
    ("sparse", "user.large", b"l" * 3000),
    ("sub", "user.directory", "ü".encode()),
    ("sub/empty", "trusted.secret", b"only root"),
    ("dangling", "trusted.link", b"of a link"),
    ("pipe", "trusted.pipe", b"of a pipe"),
    ("null", "trusted.device", b"of a device"),
    (".", "user.top", b"of the top"),
]


def _write(directory: Path, name: bytes, content: bytes, mode: int) -> None:
    path = directory / os.fsdecode(name)
    path.write_bytes(content)
    path.chmod(mode)


def _make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"head")
        file.seek(300_000)
        file.write(b"middle")
        file.truncate(1 << 20)
