"""Logging: one line an event, to stderr or a file, never a credential.

The lines carry a time in a file; on stderr only if no journal adds its own.
"""

import logging
import os
import re
import sys
import types
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

FILE_SIZE_MAX = 10 << 20
FILES_KEPT = 3

# What an AWS signature, an access key, a bearer token or our own options look like in
# the text of a foreign library's message. What is kept is the name of the thing.
SECRETS = re.compile(
    r"(?P<name>Signature=|Credential=|X-Amz-Signature=|X-Amz-Credential="
    r"|X-Amz-Security-Token['\"]?[=:]\s*b?['\"]?"
    r"|server-side-encryption-customer-key['\"]?[=:]\s*b?['\"]?"
    r"|(?:aws_?)?secret_?(?:access_?)?key['\"]?\s*[=:]\s*['\"]?"
    r"|(?:aws_?)?session_?token['\"]?\s*[=:]\s*['\"]?"
    r"|(?:refresh|access)_token['\"]?\s*[=:]\s*['\"]?"
    r"|password['\"]?\s*[=:]\s*['\"]?"
    r"|Bearer\s+"
    r"|://(?=[^/\s@]+@))"
    r"[^\s,;&'\"@]+"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return the text with everything that looks like a credential blotted out."""
    return SECRETS.sub(lambda found: f"{found['name'] or ''}[redacted]", text)


class OneLineFormatter(logging.Formatter):
    """Formats an event as one line; a traceback follows behind ` | `."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, credentials blotted out."""
        return redact(" | ".join(super().format(record).splitlines()))


class _Patient(logging.Handler):
    """Drops lines that a full or failing disk does not take: they must cost nothing."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Complain of what is not the disk's fault, as logging does."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class _ToStream(_Patient, _StreamHandler):
    pass


class _ToRotated(_Patient, RotatingFileHandler):
    pass


class _ToWatched(_Patient, WatchedFileHandler):
    pass


def set_up_for_commands() -> None:
    """Show warnings on stderr, as the command's own messages look."""
    _install(_ToStream(sys.stderr), "mountfs: %(message)s", "warning")


def set_up(level: str, file: Path | None, *, is_rotated: bool = False) -> None:
    """Send the log to `file`, or to stderr. Raises `OSError` if it cannot be opened.

    `is_rotated` bounds the file's size here; else it is left to logrotate, and a
    file that was moved away is opened anew.
    """
    handler: logging.Handler
    if file is None:
        handler = _ToStream(sys.stderr)
    elif is_rotated:
        handler = _ToRotated(
            file, maxBytes=FILE_SIZE_MAX, backupCount=FILES_KEPT, encoding="utf-8"
        )
    else:
        handler = _ToWatched(file, encoding="utf-8")
    # The journal has the time of each line already.
    has_time = file is not None or "JOURNAL_STREAM" not in os.environ
    time = "%(asctime)s " if has_time else ""
    _install(handler, f"{time}%(levelname)s %(name)s: %(message)s", level)
    sys.excepthook = _log_uncaught


def set_level(level: str) -> None:
    """Let through what is at least of this level from now on."""
    logging.getLogger("mountfs").setLevel(level.upper())


def _install(handler: logging.Handler, line: str, level: str) -> None:
    handler.setFormatter(OneLineFormatter(line))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(True)


def _log_uncaught(
    kind: type[BaseException],
    error: BaseException,
    traceback: types.TracebackType | None,
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("mountfs").critical(
        "this is a bug in mountfs: %s", error, exc_info=(kind, error, traceback)
    )
