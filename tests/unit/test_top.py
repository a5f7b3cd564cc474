"""`mountfs top`: what is made of two looks at the counters of a mount."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mountfs.actions import top, top_picture
from mountfs.actions.overview import Place
from mountfs.actions.usage import quantile, usage_of
from mountfs.errors import UsageError
from mountfs.snapshot import Snapshot
from mountfs.status import State, Status
from mountfs.storage.counts import BOUNDS_S, Times, Timings

STATUS = Status(url="s3://b", mount_point="/m", pid=1, state=State.MOUNTED)
PLACE = Place(Path("/m"), "s3://b", Path("/s"), STATUS)


def times(*seconds: float) -> Times:
    """Return a histogram of these."""
    timings = Timings()
    for each in seconds:
        timings.note(each)
    return timings.times()


BEFORE = Snapshot(
    started_s=5.0,
    operations={("read", "ok"): 100, ("lookup", "ok"): 3},
    operation_times={"read": times(*[0.02] * 100)},
    cost={"write": 1.0},
)
AFTER = Snapshot(
    started_s=5.0,
    operations={("read", "ok"): 118, ("read", "EIO"): 2, ("lookup", "ok"): 3},
    operation_times={"read": times(*[0.02] * 100, *[0.003] * 20)},
    calls={("upload", "permission_denied", "foreground"): 1},
    call_times={"upload": times(0.2)},
    requests={
        ("PutObject", "403", "foreground"): 1,
        ("HeadObject", "404", "foreground"): 3,
        ("HeadObject", "200", "background"): 1,
    },
    request_times={"HeadObject": times(0.03, 0.03, 0.03, 0.03)},
    sent_bytes=2048,
    received_bytes=1024,
    retries=2,
    cost={"write": 1.5},
)


def test_what_was_done_is_the_difference_of_two_looks() -> None:
    """Counts, rates and latencies of the time between them, the busiest first."""
    usage = usage_of(BEFORE, AFTER, 2.0)

    (read,) = usage.operations
    assert (read.name, read.count, read.per_s, read.failed) == ("read", 20, 10.0, 2)
    assert read.mean_s == pytest.approx(0.003)
    assert read.p50_s is not None
    assert 0.0025 < read.p50_s <= 0.005
    assert [each.name for each in usage.requests] == ["HeadObject", "PutObject"]
    assert (usage.sent_bytes, usage.retries, usage.cost) == (2048, 2, 0.5)


def test_a_name_that_is_not_there_is_no_failure() -> None:
    """What was refused is."""
    head, put = usage_of(BEFORE, AFTER, 2.0).requests

    assert (head.failed, put.failed) == (0, 1)
    assert head.outcomes == {"200": 1, "404": 3}


def test_a_mount_made_anew_is_not_compared_with_the_one_before() -> None:
    """Its counters begin again."""
    other = Snapshot(started_s=9.0, operations={("read", "ok"): 7})
    watched = top.Watched()

    assert watched.note("s", BEFORE) is None
    assert watched.note("s", other) is None
    assert usage_of(BEFORE, other, 1.0).operations[0].count == 7


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ([], 0.5, None),
        ([BOUNDS_S[0]], 1.0, BOUNDS_S[0]),
        ([1e9], 0.5, BOUNDS_S[-1]),
        ([0.04] * 4, 0.5, 0.0375),
    ],
)
def test_a_quantile_lies_in_its_bucket(
    seconds: Sequence[float], share: float, expected: float | None
) -> None:
    """Spread evenly in it; never beyond the last bound, and none of nothing."""
    assert quantile(times(*seconds), share) == (
        None if expected is None else pytest.approx(expected)
    )


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what sets the answers of the daemon, one after the other."""

    def found(*snapshots: Snapshot | None) -> None:
        left = iter(snapshots)

        def look(directory: str | None, *, is_seen: bool) -> list[Place]:
            assert not is_seen
            return [PLACE]

        def snapshot(place: Place) -> Snapshot | None:
            for each in left:
                return each
            raise UsageError("not in a mount")

        monkeypatch.setattr(top, "look", look)
        monkeypatch.setattr(top, "_snapshot", snapshot)

    return found


LINES = """\
s3://b at /m
  network   in 512 B/s, out 1 KiB/s, 2 retries
  requests  about $9e+02 an hour at this pace
  operation  count  per s  failed  mean    p50     p99
  read       20     10.0   2       3.0 ms  3.8 ms  5.0 ms
  store   count  per s  failed  mean      p50       p99
  upload  1      0.5    1       200.0 ms  175.0 ms  248.5 ms
  request     count  per s  failed  mean     p50      p99
  HeadObject  4      2.0    -       30.0 ms  37.5 ms  49.8 ms
  PutObject   1      0.5    1       -        -        -
"""


def test_a_table_for_people(looks: Callable[..., None]) -> None:
    """Every class with its rate, its failures and how long it takes."""
    looks(BEFORE, AFTER)
    out, watched = io.StringIO(), top.Watched(iter([10.0, 12.0]).__next__)

    code = top.once(None, 2.0, as_json=False, out=out, watched=watched, sleep=id)

    assert code == 0
    assert out.getvalue() == LINES


def test_once_is_since_the_mount_began(looks: Callable[..., None]) -> None:
    """In one line of JSON, with all outcomes."""
    looks(AFTER)
    out = io.StringIO()

    top.once(None, None, as_json=True, out=out)

    (told,) = json.loads(out.getvalue())
    assert told["mount_point"] == "/m"
    assert told["operations"][0]["outcomes"] == {"EIO": 2, "ok": 118}
    assert told["operations"][0]["count"] == 120
    assert told["cost"] == 1.5


def test_watching_ends_with_the_mount(looks: Callable[..., None]) -> None:
    """The first look has nothing to compare with; the end is no error."""
    looks(BEFORE, AFTER)
    out = io.StringIO()

    code = top.watch("x", 1, screen=top.Lines(out, as_json=False), sleep=id)

    assert code == 0
    assert out.getvalue().startswith("s3://b at /m\n  one moment\ns3://b at /m\n")


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_a_picture_has_the_width_of_the_terminal(
    looks: Callable[..., None], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow one has fewer columns, and the names all the same."""
    monkeypatch.setenv("TERM", "dumb")
    looks(BEFORE, AFTER)
    out = io.StringIO()
    with top_picture.Screen(out, width=width) as screen:
        top.watch("x", 1, screen=screen, looks=2, sleep=id)

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= max(width, 20)
    assert any("read" in line for line in lines)
    assert any("p50" in line for line in lines) is (width >= 80)
