"""What the user must mend: errors that are one sentence and an exit code."""

from typing import ClassVar


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
