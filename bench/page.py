"""What is shown of a run: the measured part of the page on performance, the charts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import chart, report, scale
from bench.report import Line, Taken, shown

BEGIN = "<!-- measured: written by `make bench` -->"
END = "<!-- end of measured -->"
OURS = ("mountfs-store", "mountfs-journal")
NOXATTR = ("mountfs-store-noxattr", "mountfs-journal-noxattr")
CURVES = {
    "list, s": "list a directory",
    "walk with stat, s": "walk with stat",
    "rm -r, s": "rm -r",
    "find, s": "find",
    "open, s": "open and hold",
}


def lines_of(part: Mapping[str, Any]) -> list[Line]:
    """Return the lines of a table of rows."""
    return report.lines([Taken(**each) for each in part["taken"]], part["titles"])


def measured(found: Mapping[str, Any]) -> str:
    """Return all tables as Markdown."""
    rows = found["rows"]
    systems = [name for name in rows["systems"] if name not in NOXATTR]
    lines = lines_of(rows)
    parts = [
        _machine(rows),
        report.summary(lines),
        "![ratios](performance-ratios.svg)",
        report.markdown(lines, systems),
        "### Without virtual_xattr",
        _without_xattr(lines),
    ]
    if tls := found.get("tls"):
        parts += ["### Over TLS", report.markdown(lines_of(tls), tls["systems"])]
    if contract := found.get("contract"):
        parts += ["### The contract against the bare SDK", str(contract["table"])]
    if points := found.get("scale"):
        parts += ["### Scale", "![curves](performance-scale.svg)", _scale(points)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def charts(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the charts by name."""
    rows = found["rows"]
    where = f"{rows['rtt_ms']:g} ms round trip, {rows['machine']['time']}"
    drawn = {"ratios": chart.ratios(lines_of(rows), where)}
    series: dict[str, list[tuple[float, float]]] = {}
    for point in found.get("scale", ()):
        if point["system"] not in OURS or point["failed"]:
            continue
        for what, name in CURVES.items():
            if what in point["values"]:
                series.setdefault(name, []).append(
                    (point["size"], point["values"][what])
                )
    title = "Seconds by the number of files"
    drawn["scale"] = chart.curves(title, "both scales logarithmic", series)
    return drawn


def write(page: Path, text: str) -> None:
    """Put the measured part into the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _machine(rows: Mapping[str, Any]) -> str:
    machine, versions = rows["machine"], rows["versions"]
    limit = f"{rows['mbit']:g} Mbit/s" if rows["mbit"] else "no limit of bandwidth"
    peers = ", ".join(
        dict.fromkeys(text for name, text in versions.items() if name not in NOXATTR)
    )
    return (
        f"Measured {machine['time']} on {machine['cores']} cores, Linux "
        f"{machine['kernel']}; SeaweedFS ({machine['seaweedfs']}) behind a link of "
        f"{rows['rtt_ms']:g} ms round trip, {limit}. {peers}. Seconds, the median of "
        "each system's runs; an empty cell was not, or cannot be, measured."
    )


def _without_xattr(lines: list[Line]) -> str:
    text = "| work | until | store | without | journal | without |\n"
    text += "|---|---|---|---|---|---|\n"
    for line in lines:
        if any(name in line.seconds for name in NOXATTR):
            names = (OURS[0], NOXATTR[0], OURS[1], NOXATTR[1])
            cells = [shown(line.seconds[n]) if n in line.seconds else "" for n in names]
            text += f"| {line.title} | {line.what} | {' | '.join(cells)} |\n"
    return text


def _scale(points: list[Mapping[str, Any]]) -> str:
    names = {row.name: row.title for row in scale.SCALES}
    text = "| what | N | system | measured |\n|---|---|---|---|\n"
    for point in points:
        told = "; ".join(f"{k} {shown(v)}" for k, v in point["values"].items())
        if point["failed"]:
            why = point["failed"].splitlines()[0][:80]
            told = f"{told}; then fails: {why}" if told else f"fails: {why}"
        name = names.get(point["row"], point["row"])
        text += f"| {name} | {point['size']:,} | {point['system']} | {told} |\n"
    return text
