"""Points between two durable steps, where a test may let the process die.

A crash is only proven harmless where it was tried. Code that takes several steps to
make something durable calls `reached` between them; a test sets `MOUNTFS_TEST_DIE_AT`
to the name of such a point, or `name:n` for the n-th time that it is reached, and the
process ends there as by `kill -9`. Without the variable this does nothing.
"""

import os
import signal

_VARIABLE = "MOUNTFS_TEST_DIE_AT"

_wanted, _, _times = os.environ.get(_VARIABLE, "").partition(":")
_left = int(_times or 1)


def reached(phase: str) -> None:
    """Say that a point between two durable steps was reached."""
    global _left
    if phase == _wanted:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
