"""The kinds of files, and what makes one."""

from tests.fuse.posix.calls import Call, call

KINDS = ("file", "dir", "link", "fifo", "socket", "chr", "blk")
"""What `make` makes. A link leads to `target`, which is not there."""

SPECIAL = ("fifo", "socket", "chr", "blk")
NOT_DIRECTORIES = tuple(kind for kind in KINDS if kind != "dir")
WITH_MODE = tuple(kind for kind in KINDS if kind != "link")


def make(kind: str, path: str, mode: int | None = None) -> Call:
    return call("make", kind, path, mode)


def remove(kind: str, path: str) -> Call:
    return call("rmdir" if kind == "dir" else "unlink", path)


def makers(path: str) -> dict[str, Call]:
    """Every call that makes something at a path."""
    return {
        "open": call("create", path),
        "mkdir": call("mkdir", path, 0o755),
        "mkfifo": call("mkfifo", path, 0o644),
        "mknod chr": call("mknod", path, "chr"),
        "mknod blk": call("mknod", path, "blk"),
        "symlink": call("symlink", "target", path),
        "bind": call("bind", path),
    }
