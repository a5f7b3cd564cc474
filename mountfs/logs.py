"""Logging: one line an event, to the journal, stderr or a file, never a credential.

A line carries a time unless the journal adds its own, which then gets the level in its
own form. What repeats is counted (`mountfs.repeats`). Names of files may hold anything:
nothing that is not printable reaches a terminal.
"""

import atexit
import contextlib
import json
import logging
import os
import select
import sys
import threading
import time
import types
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mountfs.repeats import WINDOW_S, Repeats
from mountfs.storage.secrets import redact as redact
from mountfs.storage.secrets import remember_secret

if TYPE_CHECKING:
    from io import TextIOWrapper

    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

FILE_SIZE_MAX = 10 << 20
FILES_KEPT = 3
SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "MOUNTFS_SSE_C_KEY",
    "DROPBOX_ACCESS_TOKEN",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")

_JOURNAL_LEVELS = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
"""The lowest level of ours, and syslog's number for it; below all of them 7."""


def printable(text: str) -> str:
    """Return the text with nothing in it that moves a cursor or breaks a line."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def told(text: str) -> str:
    """Return what a command says, line by line: no credentials, nothing that acts.

    A store and its names have their say in it, and the terminal would obey them.
    """
    return "\n".join(printable(redact(line)) for line in text.split("\n"))


class OneLineFormatter(logging.Formatter):
    """Formats an event as one line; a traceback follows behind ` | `."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, credentials blotted out."""
        return printable(redact(" | ".join(super().format(record).splitlines())))


class JsonFormatter(logging.Formatter):
    """Formats an event as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, credentials blotted out."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(redact(record.getMessage())),
        }
        if record.exc_info:
            fields["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(fields)


class ForJournal(logging.Formatter):
    """Adds to a line what systemd takes for its level: see sd-daemon(3)."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with the level in front."""
        levels = (each for least, each in _JOURNAL_LEVELS if record.levelno >= least)
        return f"<{next(levels, 7)}>{self._inner.format(record)}"


class _Patient(logging.Handler):
    """Drops lines that a full or failing disk does not take: they must cost nothing."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Complain of what is not the disk's fault, as logging does."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class _ToStream(_Patient, _StreamHandler):
    pass


class ToReader(_ToStream):
    """Writes to a stream, and waits for nobody who may not read it.

    A terminal can be stopped, and a pipe be full: a mount must not stop with it.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        self._room: select.poll | None = None
        with contextlib.suppress(OSError, ValueError):  # it is no file: it never waits
            descriptor = stream.fileno()
            self._room = select.poll()
            self._room.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the event if there is room for it; else count it."""
        if self._room is not None and not self._room.poll(0):
            self._lost += 1
            return
        if self._lost:
            text = "%d lines before this were lost: nobody read the log"
            told = (__name__, logging.WARNING, "", 0, text, (self._lost,), None)
            self._lost = 0
            super().emit(logging.LogRecord(*told))
        super().emit(record)


class _Private(logging.FileHandler):
    """Writes a file that only its owner can read: it has the names of files."""

    def _open(self) -> "TextIOWrapper":
        descriptor = os.open(
            self.baseFilename,
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        return os.fdopen(descriptor, "a", encoding=self.encoding)


class _ToRotated(_Patient, _Private, RotatingFileHandler):
    pass


class _ToWatched(_Patient, _Private, WatchedFileHandler):
    pass


class Thrifty(_Patient):
    """Hands events on to another handler, and only counts what repeats.

    At debug level nothing is held back: who asks for all gets all.
    """

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self.target = target
        self._repeats = Repeats()
        self._timer: threading.Timer | None = None
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the event, or count it. Called with the handler's lock."""
        now_s = time.monotonic()
        self._tell_due(now_s)
        if record.levelno <= logging.DEBUG:
            self._write(record)
            return
        sort = (record.name, record.levelno, str(record.msg))
        if self._repeats.may_write(sort, _message(record), now_s):
            self._write(record)
        elif self._timer is None:
            self._wait()

    def close(self) -> None:
        """Tell what was held back, and close the other handler too."""
        atexit.unregister(self.close)
        with self.lock or threading.Lock():
            if self._timer is not None:
                self._timer.cancel()
            self._tell_due(time.monotonic() + WINDOW_S)
        with contextlib.suppress(OSError):  # a disk that fails took no event, either
            self.target.close()
        super().close()

    def _tell_later(self) -> None:
        """Tell what is due although nothing else happens; in a thread of its own."""
        with self.lock or threading.Lock():
            self._timer = None
            self._tell_due(time.monotonic())
            if self._repeats.is_holding:
                self._wait()

    def _tell_due(self, now_s: float) -> None:
        for held in self._repeats.due(now_s):
            name, level, _ = held.sort
            told = logging.LogRecord(name, level, "", 0, "%s", (str(held),), None)
            self._write(told)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self.target.handle(record)
        except Exception:  # noqa: BLE001 - a line must not cost what it tells of
            self.handleError(record)

    def _wait(self) -> None:
        """Let a thread tell what is due, should nothing else happen."""
        self._timer = threading.Timer(WINDOW_S, self._tell_later)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # no thread can be had: the next event tells it
            self._timer = None


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit are told by who writes
        return str(record.msg)


def current_file() -> Path | None:
    """Return the file that is logged to; None if it is a stream."""
    for handler in logging.getLogger().handlers:
        target = handler.target if isinstance(handler, Thrifty) else handler
        if isinstance(target, logging.FileHandler):
            return Path(target.baseFilename)
    return None


def set_up_for_commands() -> None:
    """Show warnings on stderr, as the command's own messages look."""
    handler = _ToStream(sys.stderr)
    handler.setFormatter(OneLineFormatter("mountfs: %(message)s"))
    _install(handler, "warning")


def set_up(
    level: str, file: Path | None, *, is_rotated: bool = False, form: str = "text"
) -> None:
    """Send the log to `file`, or to stderr. Raises `OSError` if it cannot be opened.

    `is_rotated` bounds the file's size here; else it is left to logrotate, and a
    file that was moved away is opened anew. `form` is `text` or `json`.
    """
    _remember_environment()
    handler: logging.Handler
    if file is None:
        handler = ToReader(sys.stderr)
    elif is_rotated:
        handler = _ToRotated(
            file, maxBytes=FILE_SIZE_MAX, backupCount=FILES_KEPT, encoding="utf-8"
        )
    else:
        handler = _ToWatched(file, encoding="utf-8")
    handler.setFormatter(
        _formatter(form, is_for_journal=file is None and _is_journal())
    )
    _install(Thrifty(handler), level)
    sys.excepthook = _log_uncaught


def set_level(level: str) -> None:
    """Let through what is at least of this level from now on."""
    logging.getLogger("mountfs").setLevel(level.upper())


def _formatter(form: str, *, is_for_journal: bool) -> logging.Formatter:
    if form == "json":
        made: logging.Formatter = JsonFormatter()
    else:
        # The journal has the time and the level of each line already.
        before = "" if is_for_journal else "%(asctime)s %(levelname)s "
        made = OneLineFormatter(f"{before}%(name)s: %(message)s")
    return ForJournal(made) if is_for_journal else made


def _is_journal() -> bool:
    """Tell whether stderr is the journal's: systemd.exec(5) says how to know.

    The variable alone says nothing of a stderr that was sent elsewhere since.
    """
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _remember_environment() -> None:
    remember_secret(*(os.environ.get(name) for name in SECRET_VARIABLES))
    for name in (*_PROXIES, *map(str.upper, _PROXIES)):
        before, at, _ = os.environ.get(name, "").rpartition("@")
        if at:
            remember_secret(before.partition("://")[2].partition(":")[2])


def _install(handler: logging.Handler, level: str) -> None:
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
