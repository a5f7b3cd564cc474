"""`make proof`: run every suite at length and write down what was proven.

The record, docs/explanation/proof.md, names the commit, the versions, the seed and the
counts of each suite. It is written only if all of them passed, and only for a tree
without changes, so that it belongs to a commit. Commit the record afterwards;
tests/unit/test_proof_record.py demands one of an ancestor. A suite that has passed at
this commit is not run again, so that one failure does not cost all the others. Suites
named in PROOF_SAMPLED are run as `make test` runs them, and the record says so.

All of it is meant to take two to three hours on two cores that do nothing else: half
an hour to an hour each for fuse, recovery and fsx, a quarter of one for model, some
minutes for the others. What makes it longer is how often the loops of `tests/recovery`
and `tests/fsx` go round (`AT_LENGTH`).
"""

import os
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
RECORD = CHECKOUT / "docs" / "explanation" / "proof.md"
BIN = Path(sys.executable).parent
SUITES = ("unit", "conformance", "model", "semantics", "fuse", "fsx", "recovery")
SEED = 20_260_101
SAMPLED = frozenset(os.environ.get("PROOF_SAMPLED", "").split())
VERSIONS = ("mountfs", "pyfuse3", "trio", "boto3", "hypothesis", "pytest", "moto")


@dataclass(frozen=True, slots=True)
class Result:
    """What one suite came to."""

    suite: str
    passed: int
    skipped: int
    failed: int
    took_s: float


def main() -> int:
    """Run, write, and return the exit code."""
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no"):
        print("proof: commit your changes first, so that the record has a commit")
        return 2
    results = [run(suite, commit) for suite in SUITES if has_tests(suite)]
    for result in results:
        print(f"{result.suite}: {result.passed} passed, {result.failed} failed")
    if any(result.failed or not result.passed for result in results):
        print("proof: something failed; no record is written")
        return 1
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(text_of(commit, results))
    print(f"proof: wrote {RECORD.relative_to(CHECKOUT)}; commit it")
    return 0


def has_tests(suite: str) -> bool:
    """Tell whether there is anything to run."""
    return any((CHECKOUT / "tests" / suite).glob("**/test_*.py"))


def run(suite: str, commit: str) -> Result:
    """Run one suite, at length: every parameter, many more random examples."""
    report = CHECKOUT / ".pytest_cache" / f"proof-{commit}-{suite}.xml"
    report.parent.mkdir(exist_ok=True)
    if report.exists() and not (known := result_of(suite, report)).failed:
        return known
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        **({} if suite in SAMPLED else {"AT_LENGTH": "1"}),  # see tests/conftest.py
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as in scripts/test
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--quiet", "-n", "2"),
            *("--dist", "worksteal", "--timeout", "3600"),
            *(("-m", "not slow") if suite in SAMPLED else ()),
            *(f"--hypothesis-seed={SEED}", f"--junitxml={report}", f"tests/{suite}"),
            # It asks for the record that is about to be written.
            "--deselect=tests/unit/test_proof_record.py",
        ],
        cwd=CHECKOUT,
        check=False,
        env=environment,
    )
    return result_of(suite, report)


def result_of(suite: str, report: Path) -> Result:
    """Read pytest's report; one that is missing is a failure."""
    if not report.exists():
        return Result(suite, 0, 0, 1, 0.0)
    root = ElementTree.parse(report).getroot()
    found = root if root.tag == "testsuite" else root.find("testsuite")
    counts = dict(found.attrib) if found is not None else {"errors": "1"}
    failed = int(counts.get("failures", 0)) + int(counts.get("errors", 0))
    skipped = int(counts.get("skipped", 0))
    total = int(counts.get("tests", 0))
    took_s = float(counts.get("time", 0))
    return Result(suite, total - failed - skipped, skipped, failed, took_s)


def text_of(commit: str, results: list[Result]) -> str:
    """Return the record."""
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    rows = [
        f"| {each.suite} | {each.passed} | {each.skipped} | {each.took_s / 60:.1f} |"
        f" {'a sample' if each.suite in SAMPLED else 'at length'} |"
        for each in results
    ]
    versions = [f"{name} {metadata.version(name)}" for name in VERSIONS]
    weed = subprocess.run(
        [BIN / "weed", "version"], check=False, capture_output=True, text=True
    ).stdout
    found = re.search(r"version \S+ ([\d.]+)", weed)
    versions += [
        f"SeaweedFS {found[1] if found else 'unknown'}",
        f"Python {platform.python_version()}",
        f"Linux {platform.release()}",
    ]
    return "\n".join(
        [
            "# What was proven",
            "",
            "Written by `make proof`, which runs every suite, at length unless the",
            "table says otherwise, and only if all of it passed. `make test` demands",
            "that this record is of an ancestor.",
            "",
            f"* Commit: {commit}",
            f"* Date: {now}",
            f"* Seed: {SEED}",
            f"* Versions: {', '.join(versions)}",
            "",
            "| suite | passed | skipped | minutes | how |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(
        ["git", *arguments], cwd=CHECKOUT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
