"""Text for people: names that may hold anything, and a line that changes in place."""

import os
from typing import TextIO

from mountfs.logs import printable
from mountfs.storage.secrets import redact


def plain(text: str) -> str:
    """Return text without credentials, and nothing in it that moves the cursor."""
    return printable(redact(text))


def is_screen(out: TextIO) -> bool:
    """Tell whether somebody looks, at what can be drawn upon."""
    return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def write_line(text: str, out: TextIO) -> None:
    """Show a line in the place of the one before, if somebody looks."""
    if out.isatty():
        out.write(f"\r\033[K{text}")
        out.flush()


def clear_line(out: TextIO) -> None:
    """Take that line away."""
    if out.isatty():
        out.write("\r\033[K")
        out.flush()
