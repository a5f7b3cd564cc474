"""Mounts on a terminal: drawn at any width, with and without UTF-8."""

import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mountfs.actions import overview, picture
from mountfs.actions.overview import Place
from mountfs.actions.watch import Rates
from mountfs.cache.activity import Activity
from mountfs.status import LateError, PendingPath, Refused, State, Status

SINCE = time.struct_time((2026, 1, 2, 3, 4, 5, 0, 0, -1))
SINCE_NS = int(time.mktime(SINCE)) * 10**9

STATUS = Status(
    url="s3://demo/prefix",
    mount_point="/srv/files",
    pid=4711,
    state=State.MOUNTED,
    since_ns=SINCE_NS,
    durability="journal",
    store_state="degraded",
    store_reason="the store answers with failures",
    pending_files=12,
    pending_bytes=40 << 20,
    pending=(
        PendingPath(
            path="videos/a-rather-long-name-of-a-film.mp4",
            size=40 << 20,
            sent=24 << 20,
            is_sending=True,
        ),
        PendingPath(
            path="report.txt", size=12345, error="Denied", attempts=3, next_try_s=12.5
        ),
        PendingPath(path="\u00fcbung/\x1b[2J", size=5),
    ),
    conflicts=1,
    unseen=1,
    incidents=(
        LateError(
            kind="conflict",
            path="n.md",
            text="changed there",
            time_ns=SINCE_NS,
            kept_as="n.md (conflict)",
        ),
    ),
    refused=(
        Refused(
            path="report.txt",
            text="Denied",
            time_ns=SINCE_NS,
            code="AccessDenied",
            request="PutObject",
            http_status=403,
            request_id="R1",
            needs="s3:PutObject on arn:aws:s3:::demo/report.txt",
        ),
    ),
    cache_used=3 << 30,
    cache_dirty=40 << 20,
    cache_limit=10 << 30,
    journal_size=2048,
    names=12345,
    state_dir="/state",
    activity=Activity(
        requests=9,
        read_bytes=5 << 30,
        block_hits=93,
        block_misses=7,
        fetched_bytes=1 << 30,
    ),
)
PLACE = Place(Path("/srv/files"), "s3://demo", Path("/s"), STATUS)
DEAD = Place(Path("/srv/dead"), "gs://b", Path("/s"))
RATES = Rates(
    read_bytes=5 << 20,
    written_bytes=0,
    requests=33,
    fetched_bytes=2 << 20,
    uploaded_bytes=0,
    block_hits=0.5,
    metadata_hits=None,
    pending_s=14,
)

AT_80 = """\
s3://demo/prefix at /srv/files
  state     mounted, process 4711, since 2026-01-02 03:04
  store     degraded: the store answers with failures
  promise   durability=journal
  hits      blocks \u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2591 93 %   names -
  programs  read 5 GiB, wrote 0 B, 9 requests
  network   in 1 GiB, out 0 B
  pending   12 files, 40 MiB
            report.txt           FREE         12.1 KiB again in 13 s
            videos/a-rather-lon\u2026 SENT 24 MiB of 40 MiB sending
            \u00fcbung/\\x1b[2J        FREE              5 B waiting
            report.txt: Denied
            and 9 more
  trouble   1 conflict, 0 late errors, 1 of them new
            2026-01-02 03:04:05 conflict n.md: changed there; kept as n.md
            (conflict)
  refused   2026-01-02 03:04:05 report.txt: Denied (PutObject, AccessDenied,
            HTTP 403, request R1)
            needs s3:PutObject on arn:aws:s3:::demo/report.txt
  cache     USED 3 GiB of 10 GiB, 40 MiB of that only here
  journal   2 KiB in /state
  memory    12345 names
"""
for word, full in (("FREE", 0), ("USED", 4), ("SENT", 9)):
    AT_80 = AT_80.replace(word, "\u2588" * full + "\u2591" * (16 - full))

LIVE_AT_50_IN_ASCII = """\
s3://demo/prefix at /srv/files
  state     mounted, process 4711, since
            2026-01-02 03:04
  store     degraded: the store answers with
            failures
  hits      blocks 50 %   names -
  programs  read 5 MiB/s, write 0 B/s, 33
            requests/s
  network   in 2 MiB/s, out 0 B/s
  ahead     0 B fetched, 0 B used, 0 B in vain
  pending   12 files, 40 MiB, 14 s to go
            report.         12.1 KiB again in 13 s
            videos/ 24 MiB of 40 MiB sending
            \\xfcbun              5 B waiting
            report.txt: Denied
            and 9 more
  trouble   1 conflict, 0 late errors, 1 of them
            new
            2026-01-02 03:04:05 conflict n.md:
            changed there; kept as n.md (conflict)
  refused   2026-01-02 03:04:05 report.txt: Denied
            (PutObject, AccessDenied, HTTP 403,
            request R1)
            needs s3:PutObject on
            arn:aws:s3:::demo/report.txt
  cache     3 GiB of 10 GiB, 40 MiB of that only
            here
"""


class Terminal(io.TextIOWrapper):
    """Somebody looks, with an encoding of their own."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding=encoding, errors="backslashreplace")

    def isatty(self) -> bool:
        """Tell that it is one."""
        return True

    def text(self) -> str:
        """Return what was written, without spaces at the ends of lines."""
        self.flush()
        lines = self.raw_bytes.getvalue().decode(self.encoding).splitlines()
        return "".join(f"{line.rstrip()}\n" for line in lines)


@pytest.fixture(autouse=True)
def without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that has no colours, nor any other words for them."""
    for name in ("FORCE_COLOR", "COLUMNS", "NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")


def drawn(place: Place, rates: Rates | None, width: int, encoding: str) -> str:
    """Return a mount as a terminal shows it."""
    out = Terminal(encoding)
    console = picture.console_of(out, width=width)
    console.print(picture.picture([(place, rates)], console))
    return out.text()


def test_a_mount_as_80_columns_show_it() -> None:
    """Words at the left, bars where they help, what failed first and in full."""
    assert drawn(PLACE, None, 80, "utf-8") == AT_80


def test_a_mount_that_is_watched_on_a_narrow_terminal_without_utf8() -> None:
    """Rates in the place of sums; nothing that the terminal cannot show."""
    shown = drawn(PLACE, RATES, 50, "ascii")

    assert shown == LIVE_AT_50_IN_ASCII
    assert shown.isascii()


@pytest.mark.parametrize("width", [5, 20, 33, 44, 45, 69, 70, 120, 300])
@pytest.mark.parametrize("rates", [RATES, None])
def test_no_width_is_too_small_or_too_large(width: int, rates: Rates | None) -> None:
    """Lines are as long as the terminal at most, and the names of files are there."""
    shown = drawn(PLACE, rates, width, "utf-8")

    assert max(map(len, shown.splitlines())) <= max(width, picture.WIDTH_MIN)
    assert "\x1b" not in shown
    assert "report" in shown.replace("\n", "").replace(" ", "")


def test_a_dead_mount_says_what_to_do() -> None:
    """No number is made up."""
    assert drawn(DEAD, None, 200, "utf-8").splitlines() == [
        "gs://b at /srv/dead",
        "  state     dead: its daemon has died; mount it again with the same words, and"
        " what it had not sent is sent",
    ]


def test_the_newest_look_takes_the_place_of_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a cursor can be moved it is, and it is there again at the end."""
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with picture.Screen(out, width=60) as screen:
        screen.show([(PLACE, None)])
        screen.show([(DEAD, None)])
        screen.show([])

    shown = out.text()
    assert "\x1b[1A" in shown
    assert shown.count("/srv/dead") == 1
    assert "nothing is mounted" in shown
    assert shown.rstrip().endswith("\x1b[?25h")


def test_lines_for_a_pipe_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal each fact is one line, whatever its length."""
    monkeypatch.setattr(overview, "look", lambda directory, is_seen: [PLACE, DEAD])
    out = io.StringIO()

    assert overview.show(None, as_json=False, out=out) == 1
    lines = out.getvalue().splitlines()
    assert (
        "            report.txt (12.1 KiB): Denied, tried 3 times, again in 13 s"
        in lines
    )
    assert (
        "            videos/a-rather-long-name-of-a-film.mp4 (24 MiB of 40 MiB):"
        " sending" in lines
    )
    assert "  hits      blocks 93 %, names -" in lines
    assert "            needs s3:PutObject on arn:aws:s3:::demo/report.txt" in lines


@pytest.mark.parametrize(
    ("files", "text"),
    [(1, "1 local-only file, 12 KiB, is"), (3, "3 local-only files, 12 KiB, are")],
)
def test_what_stays_here_is_told_besides(
    monkeypatch: pytest.MonkeyPatch, files: int, text: str
) -> None:
    """On a terminal and for a pipe, and only if there is any."""
    told = replace(STATUS, local_only_files=files, local_only_bytes=12 << 10)
    place = replace(PLACE, status=told)
    monkeypatch.setattr(overview, "look", lambda directory, is_seen: [place])
    out = io.StringIO()
    overview.show(None, as_json=False, out=out)
    assert f"  local     {text} kept here only\n" in out.getvalue()
    assert f"  local     {text} kept here only\n" in drawn(place, None, 80, "utf-8")
    assert "local-only" not in drawn(PLACE, None, 80, "utf-8")


def test_programs_do_not_wait_for_what_draws() -> None:
    """What answers programs does not import what only people need."""
    code = (
        "import sys; from mountfs import cli;"
        " from mountfs.actions import listing, overview, watch;"
        " assert 'rich' not in sys.modules; assert 'trio' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
