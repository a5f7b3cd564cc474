"""Write docs/man and docs/completion from the parser and the pages of the reference.

`make pages` runs it. A test lets it write below another directory, and compares.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab
from roff import escape, page

from mountfs import __version__
from mountfs.cli import build_parser
from mountfs.configuration.options import OPTIONS

CHECKOUT = Path(__file__).resolve().parent.parent
REFERENCE = CHECKOUT / "docs" / "reference"
COMPLETIONS = {"bash": "mountfs", "zsh": "_mountfs", "fish": "mountfs.fish"}
FILE_NAMES = re.compile(r"\b(FILE|PATH|STATE-DIR)\b")
DIRECTORIES = re.compile(r"\bDIR\b")


def main() -> None:
    """Write all of them."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "docs"
    for name, text in written():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def written() -> Iterator[tuple[str, str]]:
    """Yield each file below docs/, and what is to stand in it."""
    parser, _ = build_parser()
    yield (
        "man/mountfs.1",
        page(
            "mountfs",
            1,
            "mount an object store as a directory",
            (REFERENCE / "cli.md").read_text(),
            version=__version__,
            more=_short_options(parser)
            + _see_also("mount.mountfs(8)", "mountfs.toml(5)"),
        ),
    )
    yield (
        "man/mount.mountfs.8",
        page(
            "mount.mountfs",
            8,
            "the helper of mount(8) and umount(8) for mountfs",
            (REFERENCE / "mount-helper.md").read_text(),
            version=__version__,
            more=_see_also("mountfs(1)", "mount(8)", "umount(8)", "fstab(5)"),
        ),
    )
    yield "man/umount.mountfs.8", ".so man8/mount.mountfs.8\n"
    yield (
        "man/mountfs.toml.5",
        page(
            "mountfs.toml",
            5,
            "the configuration of mountfs",
            (REFERENCE / "config.md").read_text(),
            version=__version__,
            more=_table_of_options() + _see_also("mountfs(1)", "mount.mountfs(8)"),
        ),
    )
    _complete_paths(parser)
    for shell, name in COMPLETIONS.items():
        yield f"completion/{name}", f"{shtab.complete(parser, shell).rstrip()}\n"


def _subparsers(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command and its parser, and those below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield name, inner
                yield from (
                    (f"{name} {deep}", each) for deep, each in _subparsers(inner)
                )


def _short_options(parser: argparse.ArgumentParser) -> str:
    """Return a section with what each command takes besides the options of mounts."""
    shared = {f"--{option.name}" for option in OPTIONS} | {"--help", "-o", "--config"}
    out = [".SH ALL COMMANDS"]
    for name, inner in _subparsers(parser):
        out.append(f".SS mountfs {escape(name)}")
        out.append(escape(inner.description or ""))
        for action in inner._actions:
            strings = action.option_strings
            is_shown = action.help not in (None, argparse.SUPPRESS)
            if not is_shown or shared & set(strings):
                continue
            names = ", ".join(strings) or str(action.metavar)
            value = f" {action.metavar}" if strings and action.metavar else ""
            out.append(f".TP\n\\fB{escape(names)}\\fP{escape(value)}")
            out.append(escape(action.help or ""))
    return "\n".join(line for line in out if line) + "\n"


def _table_of_options() -> str:
    """Return a section with the options as keys of the file."""
    out = [".SH KEYS", "Every option of the command is a key, without its dashes:"]
    for option in OPTIONS:
        value = escape(option.metavar or "true|false")
        out.append(
            f".TP\n\\fB{escape(option.name)}\\fP = {value}\n{escape(option.help)}"
        )
    return "\n".join(out) + "\n"


def _see_also(*names: str) -> str:
    return f".SH SEE ALSO\n{', '.join(map(escape, names))}\n"


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which values are names of files."""
    for _, inner in _subparsers(parser):
        for action in inner._actions:
            metavar = str(action.metavar or "")
            if DIRECTORIES.search(metavar):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            elif FILE_NAMES.search(metavar):
                action.complete = shtab.FILE  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
