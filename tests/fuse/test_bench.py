"""The benchmark itself, as small as it gets: it runs, checks, and leaves nothing."""

from pathlib import Path

import pytest

from bench import run, scale
from bench.rows import ROWS
from mountfs import mounts
from tests.fakes.s3_servers import S3Server

BY_NAME = {row.name: row for row in ROWS}


@pytest.mark.slow
def test_rows_run_and_are_checked(
    seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are taken, requests counted; who is fast and wrong fails; all is ended."""
    words = ["--tiny", "--rtt-ms=0", "--systems=mountfs-journal,bare"]
    arguments = run.parsed(words)

    with run.started(arguments, seaweedfs_server) as bench:
        bench.take(BY_NAME["create"], 0)
        monkeypatch.setattr("bench.running.Run.content", lambda *_: b"other bytes")
        bench.take(BY_NAME["append"], 0)
        told = run.told(arguments, bench)

    assert [mounts.mount_at(system.root) for system in bench.systems] == [None]
    taken = {(each.row, each.system): each for each in bench.taken}
    ours, bare = taken["create", "mountfs-journal"], taken["create", "bare"]
    assert (ours.failed, bare.failed) == ("", "")
    assert set(ours.times) == {"close", "in the bucket"}
    assert bare.requests == 16  # 8 one by one, 8 at once
    assert ours.requests >= 8
    assert "not what was written" in taken["append", "mountfs-journal"].failed
    assert "| create 8 x 8 KiB, one thread | close |" in run.table(told)


def test_a_curve_has_points(tmp_path: Path) -> None:
    """A made-up bucket is mounted, walked and emptied."""
    (row,) = [each for each in scale.SCALES if each.name == "directory"]

    point = scale.measure(row, "mountfs-journal", 20, rtt_ms=0, base=tmp_path)

    assert point.failed == ""
    assert point.values["memory, MiB"] > 1
