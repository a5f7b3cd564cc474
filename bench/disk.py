"""What the local disk needs to have the same work safe: the floor of an early close.

A close that is to survive a power cut cannot return before the disk has the bytes. One
synced write stands for each acknowledgement of a row, appended to one file, with what
was to be written and 256 bytes of intent. rclone syncs nothing and has no such bound.
"""

import os
import time
from pathlib import Path

from bench import contents
from bench.contents import MIB, PAGE, SMALL, Sizes

INTENT = 256


def _pieces(sizes: Sizes) -> dict[str, tuple[str, list[int]]]:
    """Return, for rows that acknowledge changes, what is timed and what is synced."""
    tree = [len(content) for _, content in contents.tree_files(sizes.tree)]
    return {
        "write": ("close", [sizes.big]),
        "edits": ("close", [sizes.edits * PAGE]),
        "create": ("close", [SMALL] * sizes.small),
        "rename": ("rename", [0]),
        "remove": ("rm -r", [0] * sizes.small),
        "append": ("close", [PAGE] * sizes.appends),
        "untar": ("untar", tree),
        "sqlite": ("commits", [2 * PAGE] * sizes.transactions),
    }


def floor(row: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Take the time of the synced writes of a row; empty if it needs none."""
    if row not in _pieces(sizes):
        return {}
    what, pieces = _pieces(sizes)[row]
    path = directory / "synced"
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        start = time.perf_counter()
        for size in pieces:
            for offset in range(0, size, MIB):
                os.write(file, bytes(min(MIB, size - offset)))
            os.write(file, bytes(INTENT))
            os.fdatasync(file)
        return {what: time.perf_counter() - start}
    finally:
        os.close(file)
        path.unlink()
