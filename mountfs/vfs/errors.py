"""How the file system says no: an OSError with the errno that POSIX names for it."""

import os
from typing import NoReturn


def fail(code: int, reason: str = "") -> NoReturn:
    """Raise the OSError for an errno; the reason is for the debug log."""
    raise OSError(code, reason or os.strerror(code))
