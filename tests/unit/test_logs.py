"""The log: one line an event, and never a credential."""

import fcntl
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from mountfs import logs
from mountfs.storage import secrets


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Give pytest its handlers back."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    for handler in handlers:
        root.removeHandler(handler)
    known = secrets._known.copy()
    yield
    secrets._known.clear()
    secrets._known.update(known)
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("mountfs").setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    sys.excepthook = hook


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("key AKIAIOSFODNN7EXAMPLE was refused", "AKIAIOSFODNN7EXAMPLE"),
        ("GET /b?X-Amz-Signature=0123abcd&x=1", "0123abcd"),
        ("GET /b?X-Amz-Credential=AKID%2F2026%2Fs3 now", "AKID%2F2026"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AB/s3, Signature=fe09", "fe09"),
        ("{'X-Amz-Security-Token': b'FQoGZXIvYXdzE'}", "FQoGZXIvYXdzE"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
        ("'aws_session_token': 'abc.def'", "abc.def"),
        ("refresh_token=xyzzy", "xyzzy"),
        ("'client_secret': 'xyzzy'", "xyzzy"),
        ("{'Proxy-Authorization': b'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
        ("GET /b/k?X-Goog-Signature=0123abcd", "0123abcd"),
        ("{'x-goog-encryption-key': 'c2VjcmV0'}", "c2VjcmV0"),
        ("{'SSECustomerKey': b'c2VjcmV0'}", "c2VjcmV0"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEv\n-----END PRIVATE KEY-----", "MIIEv"),
        ("Authorization: Bearer sl.abcdef", "sl.abcdef"),
        ("http://user:geheim@proxy:3128/", "geheim"),
        (
            "{'x-amz-server-side-encryption-customer-key': 'c2VjcmV0'}",
            "c2VjcmV0",
        ),
    ],
)
def test_credentials_are_blotted_out(text: str, secret: str) -> None:
    """What looks like a credential does not survive, its name does."""
    clean = logs.redact(text)

    assert secret not in clean
    assert "[redacted]" in clean


@pytest.mark.parametrize(
    "text",
    [
        "mounted s3://bucket/prefix at /mnt/x",
        "upload of a/b@c.txt took 3 s",
        "the token of page 3 is gone",
        "retry 2 of 5: Throttled: key 'a', SlowDown",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Nothing is blotted out of a line that holds no secret."""
    assert logs.redact(text) == text


def test_an_event_is_one_line_even_with_a_traceback(tmp_path: Path) -> None:
    """Line breaks in a message or a traceback do not break the line."""
    log = tmp_path / "log"
    logs.set_up("info", log)

    try:
        int("a\nb")
    except ValueError as error:
        error.add_note("a\nb")
        logging.getLogger("mountfs.test").exception("it\nfailed")

    (line,) = log.read_text().splitlines()
    assert "ERROR mountfs.test: it | failed | Traceback" in line
    assert line.endswith(" | a | b")


def test_the_level_is_ours_alone(tmp_path: Path) -> None:
    """At debug our own events appear, those of the SDKs do not."""
    log = tmp_path / "log"
    logs.set_up("debug", log)

    logging.getLogger("mountfs.cache").debug("ours")
    logging.getLogger("botocore.auth").debug("theirs")

    assert "ours" in log.read_text()
    assert "theirs" not in log.read_text()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TextIO]:
    """A file to put in the place of stderr, which pytest does after the fixtures."""
    with (tmp_path / "err").open("w") as opened:
        yield opened


def _say_what_the_journal_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = path.stat()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")


def test_the_journal_gets_levels_in_its_own_form_and_no_second_time(
    monkeypatch: pytest.MonkeyPatch, file: TextIO, tmp_path: Path
) -> None:
    """Under systemd the journal adds the time of each line, and knows levels."""
    monkeypatch.setattr(sys, "stderr", file)
    _say_what_the_journal_is(tmp_path / "err", monkeypatch)
    logs.set_up("debug", None)

    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, 50):
        logging.getLogger("mountfs.mount").log(level, "mounted")

    assert (tmp_path / "err").read_text().splitlines() == [
        f"<{number}>mountfs.mount: mounted" for number in (7, 6, 4, 3, 2)
    ]


def test_a_stderr_that_was_sent_elsewhere_is_not_the_journal(
    monkeypatch: pytest.MonkeyPatch, file: TextIO, tmp_path: Path
) -> None:
    """The variable is inherited by whoever sends its stderr to a file."""
    monkeypatch.setattr(sys, "stderr", file)
    _say_what_the_journal_is(tmp_path, monkeypatch)
    logs.set_up("info", None)

    logging.getLogger("mountfs.mount").info("mounted")

    assert re.fullmatch(
        r"20\d\d-\S+ \S+ INFO mountfs.mount: mounted\n", (tmp_path / "err").read_text()
    )


def test_a_program_can_read_the_log(tmp_path: Path) -> None:
    """As JSON each line is one object, without credentials like all else."""
    logs.set_up("info", tmp_path / "log", form="json")

    try:
        int("a")
    except ValueError:
        logging.getLogger("mountfs.x").exception("token: Bearer abcdefgh\n%s", "\x1b")

    (line,) = (tmp_path / "log").read_text().splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+\+00:00", told.pop("time"))
    assert told.pop("exception").startswith("Traceback")
    assert told == {
        "level": "error",
        "logger": "mountfs.x",
        "message": "token: Bearer [redacted]\\n\\x1b",
    }


def test_a_name_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    """What would move the cursor, or the direction of writing, is spelled out."""
    logs.set_up("info", tmp_path / "log")

    logging.getLogger("mountfs").warning("%s", "a\x1b[2Jb\u202ec\udcff\x9b")

    line = (tmp_path / "log").read_text()
    assert line.endswith("a\\x1b[2Jb\\u202ec\\udcff\\x9b\n")


def test_a_secret_that_was_read_is_known_wherever_it_stands(tmp_path: Path) -> None:
    """No pattern is needed for what this process has read itself."""
    secrets.remember_secret("wholly/innocent+words", None, "short")
    logs.set_up("info", tmp_path / "log")

    logging.getLogger("mountfs").info("GET /?x=wholly%2Finnocent%2Bwords short")
    logging.getLogger("mountfs").info("see wholly/innocent+words.")

    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("GET /?x=[redacted] short")
    assert second.endswith("see [redacted].")


def test_secrets_are_renewed_for_years(tmp_path: Path) -> None:
    """The newest are known, and not more than some."""
    for number in range(1000):
        secrets.remember_secret(f"secret-number-{number}")

    assert secrets.blotted("secret-number-999") == secrets.BLOT
    assert len(secrets._known) <= secrets.KEPT_MAX


def test_secrets_of_the_environment_are_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those of the AWS tools, and the passwords of proxies."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefghijklmnop")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:letmein-now@proxy:3128")
    logs.set_up("info", tmp_path / "log")

    assert logs.redact("'abcdefghijklmnop', 'letmein-now'") == (
        "'[redacted]', '[redacted]'"
    )


def test_what_repeats_is_one_line_and_a_count(tmp_path: Path) -> None:
    """The count comes at the latest when the log is closed."""
    logs.set_up("info", tmp_path / "log")
    log = logging.getLogger("mountfs.fuse")

    for _ in range(215):
        log.warning("read: %s -> EIO", "refused")
    log.warning("write: %s -> EIO", "refused")
    (handler,) = logging.getLogger().handlers
    handler.close()

    first, other, count = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("WARNING mountfs.fuse: read: refused -> EIO")
    assert other.endswith("write: refused -> EIO")
    assert "WARNING mountfs.fuse: read: refused -> EIO (repeated 214 times" in count


def test_who_asks_for_all_gets_all(tmp_path: Path) -> None:
    """At debug level nothing is held back."""
    logs.set_up("debug", tmp_path / "log")

    for _ in range(100):
        logging.getLogger("mountfs").debug("the same")

    assert len((tmp_path / "log").read_text().splitlines()) == 100


def test_a_line_that_cannot_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the thread that was to count it."""

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    logs.set_up("info", tmp_path / "log")
    monkeypatch.setattr("threading.Timer.start", no_thread)
    monkeypatch.setattr(logging, "raiseExceptions", False)

    for _ in range(3):
        logging.getLogger("mountfs").info("the same")


def test_our_own_log_is_for_its_owner(tmp_path: Path) -> None:
    """It has the names of files."""
    logs.set_up("info", tmp_path / "log", is_rotated=True)
    logging.getLogger("mountfs").info("a")

    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_our_own_log_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that nobody named is rotated before it fills the disk."""
    monkeypatch.setattr(logs, "FILE_SIZE_MAX", 1000)
    logs.set_up("debug", tmp_path / "log", is_rotated=True)

    for number in range(100):
        logging.getLogger("mountfs").debug("%100d", number)

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["log", "log.1", "log.2", "log.3"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_a_bug_is_logged_as_one_line(tmp_path: Path) -> None:
    """An exception that nobody caught ends in the log, not in the void."""
    log = tmp_path / "log"
    logs.set_up("info", log)

    sys.excepthook(ValueError, ValueError("oops"), None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)

    (line,) = log.read_text().splitlines()
    assert "CRITICAL mountfs: this is a bug in mountfs: oops" in line


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    """Lines are lost, and counted, while a pipe is full."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    with os.fdopen(writing, "w") as stream:
        handler = logs.ToReader(stream)
        record = logging.LogRecord("mountfs.x", logging.INFO, "", 0, "told", (), None)
        os.write(writing, bytes(size))
        handler.emit(record)
        handler.emit(record)
        os.read(reading, size)
        handler.emit(record)

    text = os.read(reading, size).decode()
    os.close(reading)
    assert text == "2 lines before this were lost: nobody read the log\ntold\n"
