"""Standard output that says by itself when nobody, or no disk, takes it.

Without it an `OSError` of a `print` could not be told from one of the work, and what is
left at the exit would end the command with 120 and a traceback.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_STANDARD_OUTPUT = 1


class OutputRefused(Exception):
    """Standard output takes no more; the text says why.

    No `OSError`: whoever handles those of its work is not to take it for one.
    """


class Output(io.TextIOWrapper):
    """Standard output; a reader that has seen enough stays a `BrokenPipeError`."""

    def write(self, text: str) -> int:
        """Write, or buffer. Raises `OutputRefused`."""
        with _refused():
            return super().write(text)

    def flush(self) -> None:
        """Write what is buffered. Raises `OutputRefused`."""
        with _refused():
            super().flush()


def set_up() -> None:
    """Let `sys.stdout` be an `Output`, unless a caller of ours has put another there.

    One that was closed by whoever started us takes everything.
    """
    standard = sys.stdout
    if standard is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the exit
    elif isinstance(standard, io.TextIOWrapper) and standard is sys.__stdout__:
        sys.stdout = Output(
            os.fdopen(_STANDARD_OUTPUT, "wb", closefd=False),
            encoding=standard.encoding,
            # A name that the terminal has no letters for is shown, and no traceback.
            errors="backslashreplace",
            line_buffering=standard.line_buffering,
        )


def drop_what_is_refused(stream: TextIO | None) -> None:
    """Drop what a full or broken disk, or nobody, took.

    Python would try once more at its exit, and end with 120 whatever the command did.
    Whoever started it may have closed the stream: then there is none.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, OutputRefused):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputRefused(
            f"standard output cannot be written: {error.strerror}"
        ) from error
