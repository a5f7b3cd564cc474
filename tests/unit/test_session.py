"""What a session makes of what pyfuse3 tells."""

import errno
import logging
import os
import threading
from pathlib import Path
from typing import cast

import pytest
import trio

from mountfs.fuse.operations import Operations
from mountfs.fuse.session import Session, is_worth_telling

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


async def test_a_mount_that_fails_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody answers the first question then, until the session is closed."""
    stat, closed, has_answer = os.stat, threading.Event(), threading.Event()

    def frozen(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path == tmp_path:
            closed.wait(10)
            has_answer.set()
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "stat", frozen)
    session = Session(cast("Operations", None), tmp_path)

    with trio.move_on_after(0.02) as waiting:
        await session.wait_until_it_answers()

    assert waiting.cancelled_caught
    assert not has_answer.is_set()
    closed.set()
