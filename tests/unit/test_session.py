"""What a session makes of what pyfuse3 tells."""

import errno
import logging
import os

import pytest

from mountfs.fuse.session import is_worth_telling

REFUSED = "fuse_release(): fuse_reply_* failed with %s"
"""As pyfuse3 has it, for every kind of request."""


@pytest.mark.parametrize(
    ("message", "code", "is_told"),
    [
        (REFUSED, errno.ENOENT, False),
        (REFUSED, errno.EINVAL, True),
        ("could not open %s", errno.ENOENT, True),
    ],
)
def test_an_answer_that_nobody_waits_for_is_no_error(
    message: str, code: int, is_told: bool
) -> None:
    """The program was killed, or the mount is gone; all else is told."""
    text = (os.strerror(code),)
    record = logging.LogRecord("pyfuse3", logging.ERROR, "", 1, message, text, None)

    assert is_worth_telling(record) is is_told
