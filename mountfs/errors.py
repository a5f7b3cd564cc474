"""How commands fail: their exit codes, and errors that are one sentence.

All exit codes are in the docstring of `mountfs.cli`.
"""

import os
from typing import ClassVar

EXIT_FAILED = 1
EXIT_TROUBLE = os.EX_IOERR
"""All is stored, and something had gone wrong that no program was told."""
EXIT_PENDING = os.EX_TEMPFAIL
"""Something is not stored yet; it is tried again, or waits for the next mount."""


class UsageError(Exception):
    """The user can mend this; the text is one sentence that says how.

    The command prints the sentence and ends with `exit_code`.
    """

    exit_code: ClassVar[int] = 2


class DaemonFailed(UsageError):
    """The mount could not start, or ended, for no reason that the user gave."""

    exit_code: ClassVar[int] = 1


class StoreAway(UsageError):
    """The store cannot be used now, and later the same may work (EX_UNAVAILABLE)."""

    exit_code: ClassVar[int] = 69


def with_exit_code(code: int, sentence: str) -> UsageError:
    """Return the error that another process has ended with."""
    kinds = {kind.exit_code: kind for kind in (UsageError, StoreAway)}
    return kinds.get(code, DaemonFailed)(sentence)
