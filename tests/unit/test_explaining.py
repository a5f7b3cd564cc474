"""`mountfs explain`: the lines for people."""

import io
import json
from pathlib import Path

import pytest

from mountfs import mounts
from mountfs.actions import explaining
from mountfs.actions.explaining import render
from mountfs.status import Outcome

FILE = {
    "found": True,
    "kind": "file",
    "state": "failed",
    "object": {
        "key": "d/f",
        "url": "s3://b/d/f",
        "in_store": True,
        "size": 2048,
        "etag": "e1",
        "modified": "2026-01-02T03:04:05Z",
        "content_type": "text/plain",
        "storage_class": "STANDARD",
        "is_newer_in_store": True,
    },
    "form": {"name": "hard link", "text": "one of several", "gate": "virtual_link"},
    "hard_links": {
        "count": 2,
        "record": ".mountfs/links/i",
        "names": ["d/f", "d/g"],
    },
    "attributes": {
        "mode": {"value": "0644", "source": "the mount (--file-mode)"},
        "uid": {"value": "1000", "source": "user metadata uid=1000 (s3fs)"},
    },
    "cached": {"bytes": 10, "ranges": [[0, 10]], "count": 1},
    "open": {"handles": 2, "writing": 1},
    "dirty": {
        "bytes": 4,
        "ranges": [[4, 8]],
        "count": 1,
        "from_object": 2048,
        "sent": 0,
    },
    "pending": [
        {
            "change": "bytes",
            "attempts": 3,
            "next_try_s": 12.2,
            "error": "Access Denied",
        }
    ],
    "incident": {
        "kind": "conflict",
        "time": "2026-01-02T03:04:05.123Z",
        "text": "changed there",
        "kept_as": "d/f (conflict)",
    },
    "error": {
        "time": "2026-01-02T03:04:06.5Z",
        "kind": "PermissionDenied",
        "text": "Access Denied",
        "code": "AccessDenied",
        "request": "PutObject",
        "http_status": 403,
        "request_id": "R1",
        "needs": "s3:PutObject on arn:aws:s3:::b/d/f",
    },
}

LINES = """\
/m/d/f: a file, failed
  object      s3://b/d/f
  key         d/f
  size        2 KiB (2048 bytes)
  version     e1
              another client has changed it since this mount looked
  modified    2026-01-02T03:04:05Z
  type        text/plain
  class       STANDARD
  form        one of several (virtual_link)
  hard links  2 names; record .mountfs/links/i
              d/f
              d/g
  attributes  mode  0644  the mount (--file-mode)
              uid   1000  user metadata uid=1000 (s3fs)
  cached      10 B: bytes 0-9
  open        by 2, of which 1 write
  only here   4 B: bytes 4-7
              on 2 KiB of the object
  waiting     bytes, next try in 13 s, failed 3 times: Access Denied
  late error  2026-01-02T03:04:05Z conflict: changed there; kept as d/f (conflict)
  last error  Access Denied
              2026-01-02T03:04:06Z, PutObject, AccessDenied, HTTP 403, request R1
  needs       s3:PutObject on arn:aws:s3:::b/d/f"""


def test_all_that_is_told_of_a_file_is_shown() -> None:
    """One line for each thing, the same word at the front as in the docs."""
    assert list(render("/m/d/f", FILE)) == LINES.splitlines()


def test_what_stays_here_says_so() -> None:
    """It has no next try, and waits for nothing."""
    entry = {"change": "bytes", "is_local_only": True, "next_try_s": None}
    lines = list(render("f", {**FILE, "pending": [entry]}))
    assert "  waiting     bytes, stays here until it is renamed (local-only)" in lines


def test_what_is_absent_says_where_it_was_looked_for() -> None:
    """The first line says so, the others why."""
    told = {"found": False, "missing": "x", "why": "no", "looked_up": ["s3://b/x"]}

    assert list(render("/m/x/y", told)) == [
        "/m/x/y: there is no such file or directory",
        "  missing     x",
        "  why         no",
        "  looked up   s3://b/x",
    ]


def test_what_nobody_knows_is_not_called_absent() -> None:
    """As while the store is out of reach."""
    told = {"found": None, "missing": "x", "why": "no route"}

    assert "nobody can say" in next(render("/m/x", told))


def test_odd_names_do_not_reach_the_terminal() -> None:
    """Names and answers of a store may hold anything."""
    told = {
        **FILE,
        "object": {"key": "a\x1b[2J", "url": "s3://b/a\x1b[2J"},
        "pending": ["nonsense"],
        "form": None,
    }

    assert not any("\x1b" in line for line in render("/m/a\x1b[2J", told))


def test_a_daemon_that_does_not_answer_is_a_document_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Programs read that nobody can say, beside the exit code."""
    entry = mounts.MountEntry(Path("/mnt/x"), mounts.FSTYPE, "s3://bucket", "0:9", 0)
    silent = Outcome(error="the daemon does not answer", is_passing=True)
    monkeypatch.setattr("mountfs.mounts.find_ours", lambda _: (entry, "a"))
    monkeypatch.setattr(explaining, "carry_out", lambda *_: silent)
    out = io.StringIO()

    assert explaining.explain("/mnt/x/a", as_json=True, out=out) == 75
    assert json.loads(out.getvalue()) == {"found": None, "error": silent.error}
