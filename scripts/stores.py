"""Write the tables of docs/reference/backends.md from what the stores say.

With `--check` nothing is written: the exit code tells whether the page is up to date.
`COSTS` is what `tests/unit/test_store_costs.py` counts.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mountfs.actions.features import Row, rows
from mountfs.backends import open_store
from mountfs.configuration.values import format_size
from mountfs.storage.types import Capabilities, Features

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "reference" / "backends.md"
BEGIN = "<!-- written by scripts/stores.py from here -->"
END = "<!-- to here -->"

COSTS: Mapping[str, tuple[int, int, int]] = {
    "stat": (1, 1, 1),
    "list": (1, 1, 1),
    "read": (1, 1, 1),
    "write": (1, 1, 2),
    "delete": (1, 1, 1),
    "delete_many": (1, 1, 1),
    "copy": (1, 1, 2),
    "move": (3, 3, 2),
    "make_dir": (1, 1, 1),
    "make_link": (1, 1, 2),
    "set_metadata": (1, 1, 1),
    "append": (4, 3, 2),
    "multipart": (4, 5, 6),
}
"""Requests of one operation on `s3`, `gs` and `dropbox`. 0: there is none."""
NOTES: Mapping[str, str] = {
    "list": "a page",
    "read": "all that is asked for, in one range",
    "write": "1 on Dropbox too if it is said what is replaced, as a mount does",
    "delete_many": "up to the limit above; on Dropbox also its checks",
    "move": "a file; 2 if its version is known, as to a mount",
    "make_link": "1 on Dropbox too, as of a write",
    "append": "to a large file whose metadata are known",
    "multipart": "of two parts",
}


def main() -> int:
    """Write or check the page; return the exit code."""
    if sys.argv[1:] == ["--check"]:
        return int(PAGE.read_text() != page())
    PAGE.write_text(page())
    return 0


def page() -> str:
    """Return the page as it should be."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables()}\n{END}{tail}"


def tables() -> str:
    """Return the three tables."""
    able = capabilities()
    return "\n\n".join((_operations(able), _limits(able), _costs()))


def capabilities() -> dict[str, Capabilities]:
    """Return what each store can do, by scheme; nothing is sent."""
    with tempfile.TemporaryDirectory() as directory:
        urls: dict[str, tuple[str, dict[str, object]]] = {
            "memory": ("memory://", {}),
            "file": (f"file://{directory}", {}),
            "s3": ("s3://bucket", {}),
            "gs": ("gs://bucket", {}),
            "dropbox": ("dropbox:///", {"access_token": "none"}),
        }
        return {
            scheme: open_store(url, options).capabilities
            for scheme, (url, options) in urls.items()
        }


def _operations(able: Mapping[str, Capabilities]) -> str:
    found: dict[str, dict[str, Row]] = {}
    for scheme, each in able.items():
        for row in rows(each, Features()):
            found.setdefault(row.operation, {})[scheme] = row
    lines = [_line("operation", *(f"`{scheme}`" for scheme in able), "gate")]
    lines.append(_line(*("---",) * (len(able) + 2)))
    for operation, by_scheme in found.items():
        gates = {row.gate for row in by_scheme.values() if row.gate}
        lines.append(
            _line(
                operation,
                *(_how(by_scheme.get(scheme)) for scheme in able),
                *([f"`{gate}`" for gate in gates] or [""]),
            )
        )
    return "\n".join(lines)


def _how(row: Row | None) -> str:
    return row.how if row is not None else "none"


def _limits(able: Mapping[str, Capabilities]) -> str:
    lines = [_line("limit", *(f"`{scheme}`" for scheme in able))]
    lines.append(_line(*("---",) * (len(able) + 1)))
    for name, read in _LIMITS.items():
        lines.append(_line(name, *(read(each) for each in able.values())))
    return "\n".join(lines)


def _bytes(size: int | None) -> str:
    return "no limit" if size is None else format_size(size)


def _parts(able: Capabilities) -> str:
    parts = able.multipart
    if parts is None:
        return "none"
    sizes = f"{format_size(parts.part_size_min)} to {format_size(parts.part_size_max)}"
    return f"{parts.parts_max:,} of {sizes}".replace(",", " ")


def _pairs(able: Capabilities) -> str:
    return ", ".join(sorted(able.pairs)) or "none"


_LIMITS: Mapping[str, Callable[[Capabilities], str]] = {
    "bytes of a key, with the prefix": lambda able: str(
        able.key_size_max or "no limit"
    ),
    "keys": lambda able: "UTF-8" if able.utf8_keys else "any bytes",
    "an object": lambda able: _bytes(able.object_size_max),
    "one write": lambda able: _bytes(able.write_size_max),
    "one request for a copy": lambda able: _bytes(able.copy_size_max),
    "parts": _parts,
    "user metadata": lambda able: _bytes(able.metadata_size_max),
    "pairs": _pairs,
    "keys of a page": lambda able: str(able.list_page_max),
    "deletions of a request": lambda able: str(able.delete_many_max),
}


def _costs() -> str:
    head = _line("requests", "`s3`", "`gs`", "`dropbox`", "")
    lines = [head, _line(*("---",) * 5)]
    for operation, costs in COSTS.items():
        cells = (str(cost) if cost else "none" for cost in costs)
        lines.append(_line(operation, *cells, NOTES.get(operation, "")))
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
