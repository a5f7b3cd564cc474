"""Write docs/reference/licences.md from the metadata of what .venv holds."""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "reference" / "licences.md"
HEAD = """\
# Licences

mountfs itself is under the Apache License 2.0 (LICENSE). This page is written by
`scripts/licences.py` from what the packages say of themselves; a test compares it with
constraints.txt.

Not Python packages, taken from the system: libfuse 3 (LGPL-2.1-only), its fusermount3
(GPL-2.0-only). pyfuse3 is under the LGPL and is used as a library, unchanged.
"""


def main() -> None:
    """Write the page."""
    pinned = sorted(pins())
    needed = set(closure("mountfs", frozenset()))
    run = [name for name in pinned if canonical(name) in needed]
    test = [name for name in pinned if canonical(name) not in needed]
    PAGE.write_text(
        f"{HEAD}\n## Needed to run\n\n{table(run)}\n"
        f"\n## Needed to test and to build\n\n{table(test)}\n"
    )


def pins() -> Iterator[str]:
    """Yield the names in constraints.txt."""
    for line in (CHECKOUT / "constraints.txt").read_text().splitlines():
        yield line.partition("==")[0]


def canonical(name: str) -> str:
    """Return the one spelling of a project's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name: str, extras: frozenset[str]) -> Iterator[str]:
    """Yield what a package needs to run, itself included."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonical(name), extras)]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        yield name
        for text in metadata.requires(name) or ():
            wanted = Requirement(text)
            contexts = [{"extra": extra} for extra in (extras or {""})]
            if wanted.marker is None or any(map(wanted.marker.evaluate, contexts)):
                waiting.append((canonical(wanted.name), frozenset(wanted.extras)))


def table(names: list[str]) -> str:
    """Return a table of packages, versions and licences."""
    rows = [
        f"| {name} | {metadata.version(name)} | {licence(name)} |" for name in names
    ]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows])


def licence(name: str) -> str:
    """Return the licence as the package states it, in the best form it has."""
    found = metadata.metadata(name)
    if "License-Expression" in found:
        return found["License-Expression"]
    prefix = "License :: OSI Approved :: "
    classified = [
        each.removeprefix(prefix)
        for each in found.get_all("Classifier") or ()
        if each.startswith(prefix)
    ]
    text = found["License"].strip().splitlines() if "License" in found else []
    return ", ".join(classified) or (text[0][:60] if text else "not stated")


if __name__ == "__main__":
    main()
