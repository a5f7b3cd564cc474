"""`mountfs list`: a line for each mount."""

import io
import json
import os
import socket
import time
from pathlib import Path

import pytest

from mountfs import control
from mountfs.actions import listing, overview
from mountfs.actions.overview import Place
from mountfs.status import State, Status

SINCE = time.struct_time((2026, 1, 2, 3, 4, 5, 0, 0, -1))
PLACES = [
    Place(
        Path("/m/a"),
        "s3://b",
        Path("/s"),
        Status(
            url="s3://b",
            mount_point="/m/a",
            pid=12,
            state=State.MOUNTED,
            since_ns=int(time.mktime(SINCE)) * 10**9,
            pending_files=2,
            pending_bytes=2048,
        ),
    ),
    Place(Path("/m/long\x1bname"), "gs://c", Path("/t")),
]


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where the command prints; two mounts are there."""
    monkeypatch.setattr(listing, "look", lambda directory, is_seen: PLACES)
    return io.StringIO()


def test_columns_stand_below_each_other(out: io.StringIO) -> None:
    """A dead mount has dashes; no name reaches the terminal as it is."""
    assert listing.show(as_json=False, out=out) == 0

    assert out.getvalue().splitlines() == [
        "URL     DIRECTORY        STATE    STORE   PID  SINCE             PENDING",
        "s3://b  /m/a             mounted  online  12   2026-01-02 03:04  2, 2 KiB",
        r"gs://c  /m/long\x1bname  dead     -       -    -                 -",
    ]


def test_programs_get_the_same(out: io.StringIO) -> None:
    """Numbers stay numbers, and a dead mount says that somebody should look."""
    listing.show(as_json=True, out=out)

    alive, dead = json.loads(out.getvalue())
    assert (alive["pid"], alive["pending_bytes"]) == (12, 2048)
    assert not alive["needs_attention"]
    assert (dead["url"], dead["state"], dead["needs_attention"]) == (
        "gs://c",
        "dead",
        True,
    )


def test_no_mount_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence for people, an empty list for programs."""
    monkeypatch.setattr(listing, "look", lambda directory, is_seen: [])
    said, told = io.StringIO(), io.StringIO()
    listing.show(as_json=False, out=said)
    listing.show(as_json=True, out=told)

    assert said.getvalue() == "nothing is mounted\n"
    assert json.loads(told.getvalue()) == []


def test_a_daemon_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody may want to look at its process, or to end it."""
    path = tmp_path / "socket"
    monkeypatch.setattr(control, "socket_path", lambda *_, **__: path)
    monkeypatch.setattr(control, "LOOK_TIMEOUT_S", 0.01)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        (place,) = overview.look(str(tmp_path), is_seen=False)

    assert overview.fields_of(place)["pid"] == os.getpid()
    assert f"process {os.getpid()}, does not answer" in overview.advice(place)
    monkeypatch.setattr(listing, "look", lambda directory, is_seen: [place])
    listing.show(as_json=False, out=(out := io.StringIO()))
    assert out.getvalue().split()[-5:-2] == ["silent", "-", str(os.getpid())]
