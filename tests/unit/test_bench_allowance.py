"""The benchmark ends in time: what is taken, repeated and given up."""

import subprocess
from pathlib import Path

import pytest

import bench.__main__ as whole
from bench import scale
from bench.allowance import NO_TIME, Allowance
from bench.scale import Point, ScaleRow
from tests.fakes.clocks import Clock


def test_a_stage_has_what_is_left_until_its_part_is_gone() -> None:
    """What one stage spares, the next one has."""
    clock = Clock()
    allowed = Allowance(100, clock)
    clock.now_s += 30

    stage = allowed.until(0.5)

    assert (allowed.left_s, stage.left_s) == (70, 20)
    assert (stage.limit(180), stage.limit(5)) == (20, 5)
    assert allowed.until(0.2).is_over


def test_nothing_is_repeated_by_who_is_late() -> None:
    """With a third of the work done a third of the time may be gone."""
    clock = Clock()
    allowed = Allowance(90, clock)
    clock.now_s += 30

    assert allowed.is_ahead(1, 3)
    clock.now_s += 1
    assert not allowed.is_ahead(1, 3)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, float]]:
    """Return what is measured, of a row where rclone takes too long for 10."""
    calls: list[tuple[str, int, float]] = []

    def measure(row: ScaleRow, name: str, size: int, **given: object) -> Point:
        limit_s = given["limit_s"]
        assert isinstance(limit_s, float)
        calls.append((name, size, limit_s))
        is_slow = name == "rclone" and size == 10
        return Point(row.name, name, size, failed="took longer" if is_slow else "")

    row = ScaleRow("some", "N things", (1, 10, 100), lambda _: (), lambda *_: None)
    monkeypatch.setattr(scale, "SCALES", (row,))
    monkeypatch.setattr(scale, "measure", measure)
    return calls


def test_who_is_given_up_is_not_tried_with_more(
    taken: list[tuple[str, int, float]],
) -> None:
    """The other goes on; the table says why a point is not there."""
    points = scale.run(["some"], 1000)

    assert [(name, size) for name, size, _ in taken] == [
        *(("mountfs-journal", 1), ("rclone", 1)),
        *(("mountfs-journal", 10), ("rclone", 10)),
        ("mountfs-journal", 100),
    ]
    assert {limit_s for name, _, limit_s in taken if name == "rclone"} == {120.0}
    assert points[-1].failed == "not tried: it failed with 10"


def test_no_point_is_begun_without_time(taken: list[tuple[str, int, float]]) -> None:
    """Each has no more than what is left, and what has none is told as such."""
    clock = Clock()

    assert scale.run(["some"], 1, allowed=Allowance(50, clock))[0].failed == ""
    assert {limit_s for _, _, limit_s in taken} == {50.0}
    clock.now_s += 1
    late = scale.run(["some"], 1, allowed=Allowance(3, clock))
    assert {point.failed for point in late} == {NO_TIME}


def test_a_contract_that_hangs_costs_the_run_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told as not measured."""

    def hang(*_: object, **given: object) -> None:
        raise subprocess.TimeoutExpired("contract", 7)

    monkeypatch.setattr(subprocess, "run", hang)

    assert "longer than 7 s" in str(whole.contract(7)["table"])


def test_what_was_measured_is_kept_while_more_is(tmp_path: Path) -> None:
    """A run that is ended early leaves a file that can be shown."""
    given = whole.parsed(["--out", str(tmp_path)])

    whole.keep(given, {"rows": {}})

    assert (tmp_path / "latest.json").read_text() == '{"rows":{}}\n'
