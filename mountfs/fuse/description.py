"""What a request of the kernel is about, for whoever looks: a path, and the rest."""

import os
from collections.abc import Sequence

import pyfuse3

from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.inodes import Node

UNKNOWN = "?"
"""In the place of a path that nobody can tell."""

_OF_A_NAME = frozenset(
    {"lookup", "create", "mkdir", "symlink", "unlink", "rmdir", "rename", "mknod"}
)
_OF_A_DIRECTORY = frozenset({"readdir", "releasedir", "fsyncdir"})
_OF_A_FILE = frozenset({"read", "write", "flush", "fsync", "release"})


def describe(
    filesystem: FileSystem, name: str, arguments: Sequence[object]
) -> tuple[str, str]:
    """Return the path that a handler is called for, and what else matters.

    `arguments` are those of the handler, in its order.
    """
    try:
        return _path(filesystem, name, arguments), _detail(filesystem, name, arguments)
    except (KeyError, OSError, pyfuse3.FUSEError):
        return UNKNOWN, ""


def _path(fs: FileSystem, name: str, arguments: Sequence[object]) -> str:
    if name == "statfs":
        return ""
    if name in _OF_A_NAME:
        return _below(fs, arguments[0], arguments[1])
    if name in _OF_A_DIRECTORY:
        return _path_of(fs.directories.get(_number(arguments[0])).node)
    if name in _OF_A_FILE:
        return _path_of(fs.files.get(_number(arguments[0])).node)
    return _path_of(fs.volume.inodes.get(_number(arguments[0])))


def _detail(fs: FileSystem, name: str, arguments: Sequence[object]) -> str:
    match name:
        case "rename":
            return f"to {_below(fs, arguments[2], arguments[3])}"
        case "link":
            return f"as {_below(fs, arguments[1], arguments[2])}"
        case "read":
            return f"{arguments[2]} bytes at {arguments[1]}"
        case "write":
            return f"{_size(arguments[2])} bytes at {arguments[1]}"
        case "readdir":
            return f"from entry {arguments[1]}"
        case "getxattr" | "setxattr" | "removexattr":
            return _text(arguments[1])
        case _:
            return ""


def _below(fs: FileSystem, parent: object, name: object) -> str:
    return _path_of(fs.volume.inodes.get(_number(parent))) + _text(name)


def _path_of(node: Node) -> str:
    top = node
    while top.parent is not None:
        top = top.parent
    is_named = top.inode == pyfuse3.ROOT_INODE
    return node.key() if is_named else f"(removed, inode {node.inode})"


def _number(argument: object) -> int:
    assert isinstance(argument, int)
    return argument


def _size(argument: object) -> int:
    assert isinstance(argument, bytes)
    return len(argument)


def _text(argument: object) -> str:
    assert isinstance(argument, bytes)
    return os.fsdecode(argument)
