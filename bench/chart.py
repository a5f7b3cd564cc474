"""Two charts as SVG, written by hand: ratios of rows, and curves of what grows."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from bench.report import EARLY_PEER, JOURNAL, LATE_PEER, STORE, Line, shown

WIDTH = 900
LEFT, RIGHT, TOP, STEP = 370, 60, 70, 30
LEAST, MOST = 0.25, 256.0
BLUE, ORANGE, GREY, INK = "#1f6fb4", "#d9822b", "#d5d9de", "#22272e"
COLOURS = (BLUE, ORANGE, "#3a9a5b", "#8a5bb5", "#c0392b", "#6b7785", "#b8860b")


def ratios(lines: Sequence[Line], caption: str) -> str:
    """Return a chart of how many times as fast mountfs is, on a logarithmic scale."""
    lines = [each for each in lines if each.is_compared()]
    height = TOP + STEP * len(lines) + 50
    parts = [
        _text(20, 28, "How many times as fast as the peer", size=17, weight="bold"),
        _text(20, 48, caption, size=12),
        _key(500, 20, BLUE, "journal against rclone"),
        _key(690, 20, ORANGE, "store against s3fs"),
    ]
    for power in range(-2, 9):
        value = 2.0**power
        x = _x(value)
        dash = "" if value in (1, 2) else ' stroke-dasharray="2 4"'
        colour = INK if value == 1 else ("#3a9a5b" if value == 2 else GREY)
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 40}" '
            f'stroke="{colour}"{dash}/>'
        )
        label = f"{value:g}x"
        parts.append(_text(x, height - 24, label, anchor="middle", size=11))
    parts.append(
        _text(_x(2), height - 8, "the rule", anchor="middle", size=11, fill="#3a9a5b")
    )
    for number, line in enumerate(lines):
        y = TOP + STEP * number + STEP / 2
        name = f"{line.title}: {line.what}"
        parts.append(_text(LEFT - 10, y + 4, name, anchor="end", size=12))
        parts += _bar(line.ratio(EARLY_PEER, JOURNAL), y - 11, BLUE)
        parts += _bar(line.ratio(LATE_PEER, STORE), y + 1, ORANGE)
    return _svg(height, parts)


def curves(
    title: str, unit: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Return curves on logarithmic scales, with a line for what grows linearly."""
    height, bottom, right = 420, 360, WIDTH - 190
    points = [point for each in series.values() for point in each if point[1] > 0]
    if not points:
        return _svg(60, [_text(20, 30, f"{title}: nothing was measured")])
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = math.log10(min(ys)) - 0.2, math.log10(max(ys)) + 0.2
    start, end = math.log10(min(xs)), math.log10(max(xs))
    end = end if end > start else start + 1

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - start) / (end - start)
        up = (math.log10(y) - low) / (high - low)
        return 80 + along * (right - 80), bottom - up * (bottom - 60)

    parts = [_text(20, 28, title, size=17, weight="bold"), _text(20, 48, unit, size=12)]
    for power in range(math.ceil(low), math.floor(high) + 1):
        _, y = place(xs[0], 10.0**power)
        parts.append(f'<line x1="80" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" '
                     f'stroke="{GREY}"/>')  # fmt: skip
        parts.append(_text(72, y + 4, f"{10.0**power:g}", anchor="end", size=11))
    for x_value in sorted(set(xs)):
        x, _ = place(x_value, ys[0])
        parts.append(_text(x, bottom + 20, f"{x_value:,.0f}", anchor="middle", size=11))
    names = []
    for number, (name, each) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(x, y) for x, y in each if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                     'stroke-width="2"/>')  # fmt: skip
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
            for x, y in placed
        ]
        if placed:
            names.append((placed[-1][1], name, colour))
    y_last = -math.inf
    for y, name, colour in sorted(names):  # labels beside the ends, none over another
        y_last = max(y, y_last + 15)
        parts.append(_text(right + 10, y_last + 4, name, size=12, fill=colour))
    return _svg(height, parts)


def _bar(ratio: float | None, y: float, colour: str) -> list[str]:
    if ratio is None:
        return []
    start, end = sorted((_x(1), _x(ratio)))
    shape = (
        f'<rect x="{start:.1f}" y="{y:.1f}" width="{max(end - start, 1):.1f}" '
        f'height="10" fill="{colour}" fill-opacity="{1 if ratio >= 2 else 0.45}"/>'
    )
    x = max(end, _x(1)) + 4
    return [shape, _text(x, y + 9, f"{shown(ratio)}x", size=10)]


def _x(ratio: float) -> float:
    part = math.log2(min(max(ratio, LEAST), MOST) / LEAST) / math.log2(MOST / LEAST)
    return LEFT + part * (WIDTH - RIGHT - LEFT)


def _key(x: float, y: float, colour: str, name: str) -> str:
    box = f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>'
    return box + _text(x + 18, y + 10, name, size=12)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 13,
    anchor: str = "start",
    weight: str = "normal",
    fill: str = INK,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}" fill="{fill}">{escape(text)}</text>'
    )


def _svg(height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" '
        'font-family="Helvetica, Arial, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
