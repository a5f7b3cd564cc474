"""The whole benchmark: rows, the same over TLS, the contract, scale; and what to show.

    python -m bench                 everything, as `make bench` does (an hour at most)
    python -m bench --quick         a quarter of the work, once, as `make bench-quick`

A whole run writes `bench/results/latest.json`, and the table and charts of
`docs/explanation/performance.md`; a quick one prints, and writes where `--out` says.
It ends within `--minutes`: rows are repeated, and peers tried with more and more, as
long as there is time, and what there was none for is told.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from bench import page, run, scale
from bench.allowance import Allowance
from bench.link import CHECKOUT

RESULTS = CHECKOUT / "bench" / "results"
DOCS = CHECKOUT / "docs" / "explanation"
NOT_ALL = "mountfs-store-noxattr,mountfs-journal-noxattr"
TLS_ROWS = "write,read,create,small,ls"
ROWS_UNTIL, TLS_UNTIL, CONTRACT_UNTIL, SCALE_UNTIL = 0.55, 0.65, 0.7, 0.95
"""By which part of all time a stage ends; the rest is for ending what is mounted."""


def measured(given: argparse.Namespace) -> dict[str, object]:
    """Run all there is."""
    words = ["--rtt-ms", str(given.rtt_ms), "--mbit", str(given.mbit)]
    words += ["--quick"] if given.quick else []
    systems = ["--systems", f"{run.SYSTEMS},{NOT_ALL}"]
    allowed = Allowance(60 * given.minutes)
    found: dict[str, object] = {}
    say("rows")
    found["rows"] = run.measured(
        run.parsed([*words, *systems]), allowed=allowed.until(ROWS_UNTIL)
    )
    keep(given, found)
    say("rows over TLS")
    tls = ["--tls", "--rows", TLS_ROWS, "--repeat", "1"]
    found["tls"] = run.measured(
        run.parsed([*words, *tls]), allowed=allowed.until(TLS_UNTIL)
    )
    say("the contract")
    found["contract"] = contract(allowed.until(CONTRACT_UNTIL).left_s)
    keep(given, found)
    say("scale")
    most = 10_000 if given.quick else given.scale_max
    names = [row.name for row in scale.SCALES]
    points = scale.run(names, most, allowed=allowed.until(SCALE_UNTIL))
    found["scale"] = [asdict(each) for each in points]
    return found


def contract(limit_s: float = 900) -> dict[str, object]:
    """Take the cost of the contract against the bare SDK, if that can be taken."""
    command = [sys.executable, "-P", "-m", "bench.contract"]
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            text=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        return {"table": f"Not measured: it took longer than {limit_s:.0f} s."}
    return {"table": done.stdout} if done.stdout else {}


def results(given: argparse.Namespace) -> Path | None:
    """Return where all that is made goes, if it is kept."""
    out: Path | None = given.out or (None if given.quick else RESULTS)
    return out


def keep(given: argparse.Namespace, found: dict[str, object]) -> None:
    """Write what there is: whoever ends a run early has it, and can show it."""
    out = results(given)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=None, separators=(",", ":"))
        (out / "latest.json").write_text(text.replace('{"row"', '\n{"row"') + "\n")


def say(what: str) -> None:
    """Tell how far it is."""
    print(f"--- {what}", file=sys.stderr, flush=True)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--mbit", type=float, default=0.0, help="0: no limit")
    parser.add_argument("--scale-max", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=58.0, help="for all of it")
    parser.add_argument("--out", type=Path, help="a directory for all that is made")
    parser.add_argument("--show", type=Path, help="measure nothing; show this JSON")
    return parser.parse_args(words)


def main() -> int:
    """Run as the command line says."""
    given = parsed()
    found = json.loads(given.show.read_text()) if given.show else measured(given)
    out = results(given)
    keep(given, found)
    if out is not None:
        charts = DOCS if out == RESULTS else out
        for name, svg in page.charts(found).items():
            (charts / f"performance-{name}.svg").write_text(svg)
        if out == RESULTS:
            page.write(DOCS / "performance.md", page.measured(found))
    print(page.measured(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
