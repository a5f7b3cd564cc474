"""From what was taken to a table: medians, ratios, and what the rule says of them.

The rule: `durability=journal` against a peer that acknowledges early (rclone) must be
at least twice as fast; how it would be if that sent later is told of besides.
`durability=store` against one that acknowledges late (s3fs) must be at least twice as
fast, or within 1.3 of the floor that a bare client sets.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

JOURNAL, EARLY_PEER = "mountfs-journal", "rclone"
LAZY_PEER = "rclone-later"
"""The early one that sends nothing in the first 0.1 s, where that matters."""
STORE, LATE_PEER = "mountfs-store", "s3fs"
FLOOR = "bare"
_PAIRS = ("journal : rclone", "journal : rclone, 0.1 s", "store : s3fs")
TWICE = 2.0
NEAR = 1.3
TITLES = {
    "mountfs-store": "mountfs store",
    "mountfs-journal": "mountfs journal",
    "mountfs-store-noxattr": "store, no xattr",
    "mountfs-journal-noxattr": "journal, no xattr",
    "bare": "bare client",
    "disk": "disk, synced",
    "rclone-later": "rclone, 0.1 s",
    "juicefs": "JuiceFS",
}


@dataclass(slots=True)
class Taken:
    """What one system needed for one row, once."""

    row: str
    system: str
    times: dict[str, float]
    requests: int = 0
    up: int = 0
    down: int = 0
    cpu_s: float = 0.0
    failed: str = ""


@dataclass(slots=True)
class Line:
    """One time of one row: what each system needed."""

    row: str
    title: str
    what: str
    seconds: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def ratio(self, peer: str, ours: str) -> float | None:
        """Return how many times as fast ours is, if both were measured."""
        if peer not in self.seconds or ours not in self.seconds:
            return None
        return self.seconds[peer] / max(self.seconds[ours], 1e-4)

    def is_compared(self) -> bool:
        """Tell if there is a ratio that the rule speaks of."""
        pairs = ((EARLY_PEER, JOURNAL), (LATE_PEER, STORE))
        return any(self.ratio(*pair) is not None for pair in pairs)

    def journal_passes(self) -> bool | None:
        """Tell if the rule for journal mode holds; None: nothing to compare."""
        return self._passes(JOURNAL, EARLY_PEER)

    def journal_passes_lazy(self) -> bool | None:
        """Tell if it would hold against the peer that sends later."""
        passes = self._passes(JOURNAL, LAZY_PEER)
        return self.journal_passes() if passes is None else passes

    def store_passes(self) -> bool | None:
        """Tell if the rule for store mode holds; None: nothing to compare."""
        passes = self._passes(STORE, LATE_PEER)
        floor = self.ratio(FLOOR, STORE)
        if passes is not True and floor is not None and floor >= 1 / NEAR:
            return True
        return passes

    def _passes(self, ours: str, peer: str) -> bool | None:
        if ours in self.failed:
            return False
        if ours in self.seconds and peer in self.failed:
            return True
        ratio = self.ratio(peer, ours)
        return None if ratio is None else ratio >= TWICE


def lines(taken: Iterable[Taken], titles: Mapping[str, str]) -> list[Line]:
    """Return the lines of the table, in the order in which rows were taken."""
    found: dict[tuple[str, str], Line] = {}
    every: dict[tuple[str, str, str], list[float]] = {}
    fails: dict[str, set[str]] = {}
    for each in taken:
        if each.failed:
            fails.setdefault(each.row, set()).add(each.system)
        for what, seconds in each.times.items():
            title = titles.get(each.row, each.row)
            found.setdefault((each.row, what), Line(each.row, title, what))
            if not each.failed:
                every.setdefault((each.row, what, each.system), []).append(seconds)
    for (row, what, system), times in every.items():
        found[row, what].seconds[system] = statistics.median(times)
    for line in found.values():
        line.failed = fails.get(line.row, set()) - set(line.seconds)
    order = list(dict.fromkeys(row for row, _ in found))
    return sorted(found.values(), key=lambda line: order.index(line.row))


def markdown(found: Sequence[Line], systems: Sequence[str]) -> str:
    """Return the table."""
    heads = [TITLES.get(system, system) for system in systems]
    text = _row(["work", "until", *heads, *_PAIRS, "rule"])
    text += _row(["---"] * (len(systems) + len(_PAIRS) + 3))
    last = ""
    for line in found:
        cells = [line.title if line.row != last else "", line.what]
        last = line.row
        cells += [_seconds(line, system) for system in systems]
        cells.append(_ratio(line, EARLY_PEER, JOURNAL))
        cells.append(_ratio(line, LAZY_PEER, JOURNAL))
        cells.append(_ratio(line, LATE_PEER, STORE) + _near(line))
        cells.append(_verdict(line))
        text += _row(cells)
    return text


def summary(found: Sequence[Line]) -> str:
    """Return how many lines hold the rule, in a sentence."""
    parts = []
    for name, verdicts in (
        ("journal", [line.journal_passes() for line in found]),
        (
            "journal against rclone that sends 0.1 s later",
            [line.journal_passes_lazy() for line in found],
        ),
        ("store", [line.store_passes() for line in found]),
    ):
        known = [verdict for verdict in verdicts if verdict is not None]
        parts.append(f"{name}: {sum(known)} of {len(known)} lines hold the rule")
    return "; ".join(parts) + "."


def _verdict(line: Line) -> str:
    said = {True: "yes", False: "**no**", None: ""}
    words = [said[line.journal_passes()], said[line.store_passes()]]
    return " / ".join(word or "-" for word in words)


def _seconds(line: Line, system: str) -> str:
    if system in line.failed:
        return "fails"
    seconds = line.seconds.get(system)
    return "" if seconds is None else shown(seconds)


def _ratio(line: Line, peer: str, ours: str) -> str:
    ratio = line.ratio(peer, ours)
    return "" if ratio is None else f"{shown(ratio)}x"


def _near(line: Line) -> str:
    """Say how far store mode is from the floor where it is not twice as fast."""
    ratio, floor = line.ratio(LATE_PEER, STORE), line.ratio(FLOOR, STORE)
    if floor is None or (ratio is not None and ratio >= TWICE):
        return ""
    return f" (floor x {shown(1 / floor)})"


def shown(number: float) -> str:
    """Return a number with two digits that count."""
    if number >= 10:
        return f"{number:.0f}"
    return f"{number:.2g}" if number >= 0.001 else "0"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"
