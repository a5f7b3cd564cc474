"""The log: one line an event, and never a credential."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountfs import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Give pytest its handlers back."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    for handler in handlers:
        root.removeHandler(handler)
    yield
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


def test_the_journal_gets_no_second_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under systemd the journal adds the time of each line."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    logs.set_up("info", None)

    logging.getLogger("mountfs.mount").info("mounted")

    assert capsys.readouterr().err == "INFO mountfs.mount: mounted\n"


def test_our_own_log_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that nobody named is rotated before it fills the disk."""
    monkeypatch.setattr(logs, "FILE_SIZE_MAX", 1000)
    logs.set_up("info", tmp_path / "log", is_rotated=True)

    for _ in range(100):
        logging.getLogger("mountfs").info("x" * 100)

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
