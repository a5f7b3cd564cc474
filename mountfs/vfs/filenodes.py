"""What a node is, as far as the bytes of its file are concerned.

No I/O, and nothing is changed.
"""

import errno

from mountfs.storage.types import ABSENT, Absent, Condition, Object, ObjectKind
from mountfs.vfs.errors import fail
from mountfs.vfs.filestate import FileState
from mountfs.vfs.inodes import Node


def regular(node: Node) -> FileState:
    """Return the bytes of a regular file. Raises EISDIR, ELOOP, and ESTALE."""
    if node.is_directory:
        fail(errno.EISDIR)
    if node.kind is ObjectKind.SPECIAL:
        # Only if the kernel took the name to be free: it looks again, and opens it
        # by itself.
        fail(errno.ESTALE)
    if node.kind is not ObjectKind.FILE or node.file is None:
        fail(errno.ELOOP)
    return node.file


def is_another(node: Node, object: Object, known: Object | Absent) -> bool:
    """Tell whether a name is known to lead to another object than its node does.

    The names of one file have versions of their own, and what is on its way to another
    name is looked after by who moves it.
    """
    if node.pins or node.group is not None:
        return False
    if not isinstance(known, Object):
        return True
    if known.version is None or object.version is None:
        return False
    return known.version.content != object.version.content


def is_unlinked(node: Node) -> bool:
    """Tell whether it lost its name here: its bytes belong to who has it open."""
    return node.is_nameless and not node.is_lost


def key_of(node: Node) -> str:
    """Return the key that the bytes are for, or were for until somebody took it."""
    if not node.is_nameless:
        return node.key()
    return node.object.key if node.object is not None else ""


def condition_of(node: Node) -> Condition:
    """Return what must hold for a commit: the version it started from, or absence."""
    if node.object is None:
        return ABSENT
    return node.object.version
