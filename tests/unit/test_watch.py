"""`mountfs status --watch`: what is made of counters, and how it ends."""

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mountfs.actions import watch
from mountfs.actions.overview import Place
from mountfs.actions.watch import Watched
from mountfs.cache.activity import Activity
from mountfs.configuration.values import format_span
from mountfs.errors import UsageError
from mountfs.status import State, Status, decode, encode

MOUNT_POINT = "/mnt/b"


def status(*, pid: int = 1, pending: int = 0, **done: int) -> Status:
    """Return how a mount does that has done so much."""
    return Status(
        url="memory://",
        mount_point=MOUNT_POINT,
        pid=pid,
        state=State.MOUNTED,
        pending_files=1 if pending else 0,
        pending_bytes=pending,
        activity=Activity(**done),
    )


def test_counters_cross_the_socket() -> None:
    """What the daemon counts arrives; an older daemon counts nothing."""
    told = status(read_bytes=5, ahead_unused_bytes=7)
    older = json.loads(encode(told))
    del older["activity"]

    assert decode(encode(told)) == told
    assert decode(json.dumps(older).encode()) == status()


def test_rates_are_differences_of_two_looks() -> None:
    """Bytes per second, and shares of what was asked between the looks alone."""
    watched = Watched()
    first = watched.note(10.0, status(read_bytes=100, requests=7, block_misses=50))
    rates = watched.note(
        12.0,
        status(
            read_bytes=300,
            requests=27,
            block_hits=3,
            block_misses=51,
            uploaded_bytes=10,
            pending=50,
        ),
    )

    assert first is None
    assert rates is not None
    assert (rates.read_bytes, rates.requests) == (100.0, 10.0)
    assert (rates.block_hits, rates.metadata_hits) == (0.75, None)
    assert rates.pending_s == 10.0


def test_a_mount_made_anew_begins_anew() -> None:
    """Counters of another daemon are no difference to those before."""
    watched = Watched()
    watched.note(1.0, status(pid=1, read_bytes=100))

    assert watched.note(2.0, status(pid=2)) is None
    assert watched.note(3.0, status(pid=2, read_bytes=5)) is not None


def test_nothing_that_goes_has_no_end() -> None:
    """While nothing is sent nobody can tell when all is."""
    watched = Watched()
    watched.note(1.0, status(pending=10))
    rates = watched.note(2.0, status(pending=10))

    assert rates is not None
    assert rates.pending_s is None


def a_look(said: Sequence[Status | None]) -> Callable[..., list[Place]]:
    """Return a look that finds this, one after the other; at the end no mount."""
    left = iter(said)

    def look(directory: str | None, *, is_seen: bool) -> list[Place]:
        assert not is_seen
        for each in left:
            return [Place(Path(MOUNT_POINT), "memory://", Path("/s"), each)]
        raise UsageError("not in a mount")

    return look


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_for_each_look_until_it_is_unmounted(
    monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """Nothing moves the cursor where no terminal is."""
    slept: list[float] = []
    monkeypatch.setattr(watch, "look", a_look([status(), status(requests=9), None]))
    out = io.StringIO()

    code = watch.watch("x", 0.5, as_json=as_json, out=out, sleep=slept.append)

    lines = out.getvalue().splitlines()
    assert (code, len(lines), slept) == (os.EX_OK, 3, [0.5, 0.5, 0.5])
    assert "\033" not in out.getvalue()
    if as_json:
        told = [json.loads(line) for line in lines]
        assert [each["state"] for each in told] == ["mounted", "mounted", "dead"]
        assert told[0]["rates"] is None
        assert told[1]["rates"]["requests"] > 0
        assert told[1]["activity"]["requests"] == 9
    else:
        assert "store online" in lines[0]
        assert "requests/s" in lines[1]
        assert lines[2].endswith(f"{MOUNT_POINT}: dead")


def test_what_is_no_mount_from_the_beginning_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first look tells; only a later one means that it was unmounted."""
    monkeypatch.setattr(watch, "look", a_look([]))

    with pytest.raises(UsageError):
        watch.watch("x", 1, as_json=False, out=io.StringIO(), looks=1)


@pytest.mark.parametrize(("error"), [KeyboardInterrupt])
def test_an_interrupt_is_how_it_ends(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Ctrl-C is no failure."""

    def interrupted(seconds: float) -> None:
        raise error

    monkeypatch.setattr(watch, "look", a_look([status()]))

    assert watch.watch("x", 1, as_json=False, out=io.StringIO(), sleep=interrupted) == 0


def test_a_screen_is_shown_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws gets the mounts with their rates, and nothing is printed."""
    seen: list[watch.Seen] = []

    class Screen:
        def show(self, looks: watch.Seen) -> None:
            seen.append(looks)

    monkeypatch.setattr(watch, "look", a_look([status(), status(requests=3)]))
    out = io.StringIO()

    watch.watch("x", 1, as_json=False, out=out, screen=Screen(), looks=2, sleep=id)

    rates = [each for looks in seen for _, each in looks]
    assert rates[0] is None
    assert rates[1] is not None
    assert out.getvalue() == ""


@pytest.mark.parametrize("text", ["0", "0.01", "x", "nan", "inf", "4000"])
def test_an_interval_is_some_seconds(text: str) -> None:
    """Neither a busy loop nor for ever."""
    with pytest.raises(UsageError, match="give seconds"):
        watch.read_interval(text)

    assert watch.read_interval("2s") == watch.read_interval("2.0") == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (99, "99 s"), (200, "3:20 min"), (7500, "2:05 h")],
)
def test_a_span_of_time_for_people(seconds: float, text: str) -> None:
    """Seconds, minutes or hours."""
    assert format_span(seconds) == text
