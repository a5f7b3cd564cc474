"""The benchmark's arithmetic: medians, ratios, the rule; and that charts are charts."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import chart, page
from bench.report import Line, Taken, lines, markdown, shown, summary
from bench.rows import ROWS


def line(**seconds: float) -> Line:
    """Return a line; names have _ for -."""
    times = {name.replace("_", "-"): value for name, value in seconds.items()}
    return Line("row", "a row", "close", times)


def test_a_line_has_the_median_of_each_system() -> None:
    """One slow run in three changes nothing."""
    taken = [Taken("row", "bare", {"close": each}) for each in (1.0, 9.0, 2.0)]

    (found,) = lines(taken, {"row": "a row"})
    assert (found.title, found.seconds) == ("a row", {"bare": 2.0})


def test_rows_keep_the_order_in_which_they_were_taken() -> None:
    """What only one system tells stands with the rest of its row."""
    taken = [
        Taken("b", "bare", {"close": 1.0}),
        Taken("a", "bare", {"close": 1.0}),
        Taken("b", "s3fs", {"close": 1.0, "stored": 1.0}),
    ]

    found = [(each.row, each.what) for each in lines(taken, {})]
    assert found == [("b", "close"), ("b", "stored"), ("a", "close")]


@pytest.mark.parametrize(
    ("rclone", "passes"), [(2.0, True), (1.99, False), (10.0, True)]
)
def test_journal_must_be_twice_as_fast(rclone: float, passes: bool) -> None:
    """The rule against a peer that acknowledges early."""
    assert line(mountfs_journal=1.0, rclone=rclone).journal_passes() is passes


@pytest.mark.parametrize(
    ("s3fs", "bare", "passes"),
    [(2.0, 0.1, True), (1.0, 0.8, True), (1.0, 0.7, False), (0.1, 1.0, True)],
)
def test_store_must_be_twice_as_fast_or_near_the_floor(
    s3fs: float, bare: float, passes: bool
) -> None:
    """The rule against a peer that acknowledges late."""
    assert line(mountfs_store=1.0, s3fs=s3fs, bare=bare).store_passes() is passes


def test_a_peer_that_fails_is_beaten_and_we_are_not_if_we_fail() -> None:
    """Who cannot do the work has no time to compare."""
    good, bad = Taken("r", "mountfs-store", {"x": 1.0}), "it broke"
    (beaten,) = lines([good, Taken("r", "s3fs", {}, failed=bad)], {})
    (lost,) = lines(
        [Taken("r", "mountfs-store", {"x": 1.0}, failed=bad), Taken("r", "s3fs", {})],
        {},
    )

    assert beaten.store_passes() is True
    assert lost.store_passes() is False
    assert lost.seconds == {}


def test_nothing_is_said_where_there_is_nothing_to_compare() -> None:
    """A line without a peer neither holds nor breaks the rule."""
    alone = line(mountfs_store=1.0, mountfs_journal=1.0)

    assert (alone.store_passes(), alone.journal_passes()) == (None, None)
    assert summary([alone]) == (
        "journal: 0 of 0 lines hold the rule;"
        " journal against rclone that sends 0.1 s later: 0 of 0 lines hold the rule;"
        " store: 0 of 0 lines hold the rule."
    )


def test_peer_that_sends_later_counts_only_where_it_was_measured() -> None:
    """Where it makes no difference, the peer itself is what is compared with."""
    both = line(mountfs_journal=1.0, rclone=3.0, rclone_later=1.0)
    one = line(mountfs_journal=1.0, rclone=3.0)

    assert (both.journal_passes(), both.journal_passes_lazy()) == (True, False)
    assert (one.journal_passes(), one.journal_passes_lazy()) == (True, True)


def test_variants_of_a_system_take_the_rows_that_are_theirs() -> None:
    """What differs in nothing is not measured twice."""
    every = {row.name: row for row in ROWS}

    assert every["create"].is_for("mountfs-store-noxattr")
    assert not every["git"].is_for("mountfs-store-noxattr")
    assert every["git"].is_for("rclone-later")
    assert not every["read"].is_for("rclone-later")
    assert every["read"].is_for("rclone")


def test_the_table_has_a_cell_for_each_system() -> None:
    """A head, a rule, a row; each with as many cells."""
    found = line(mountfs_store=1.0, s3fs=3.0, bare=0.5)
    found.failed = {"rclone"}
    table = markdown([found], ["mountfs-store", "rclone", "s3fs"]).splitlines()

    assert {row.count("|") for row in table} == {10}
    assert table[2] == "| a row | close | 1 | fails | 3 |  |  | 3x | - / yes |"


def test_numbers_are_short() -> None:
    """Two digits that count, and no exponent."""
    assert [shown(n) for n in (0.00001, 0.0123, 1.26, 55.4, 1234.5)] == [
        "0",
        "0.012",
        "1.3",
        "55",
        "1234",
    ]


def test_charts_are_well_formed_and_show_each_line() -> None:
    """Names are escaped; a ratio beyond the scale stays within the picture."""
    found = line(mountfs_journal=0.001, rclone=100.0)
    found.title = "a < b & c"
    drawn = chart.ratios([found, line(mountfs_store=1.0, s3fs=0.01)], "caption")
    tree = ElementTree.fromstring(drawn)
    right = [
        float(each.get("x", "0")) + float(each.get("width", "0"))
        for each in tree.iter("{http://www.w3.org/2000/svg}rect")
    ]

    assert max(right) <= chart.WIDTH
    assert "a < b & c: close" in [each.text for each in tree.iter()]


def test_curves_are_well_formed() -> None:
    """Several points, one point, and none."""
    many: list[list[tuple[float, float]]] = [[(10, 1), (100, 9)], [(1, 1)], []]
    for points in many:
        ElementTree.fromstring(chart.curves("title", "unit", {"a": points}))


def test_a_page_keeps_what_is_around_its_measured_part(tmp_path: Path) -> None:
    """Only what lies between the marks is written anew."""
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")

    page.write(path, "new\n")
    page.write(path, "newer\n")

    text = f"before\n{page.BEGIN}\n\nnewer\n\n{page.END}\nafter\n"
    assert path.read_text() == text
