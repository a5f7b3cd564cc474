"""`mountfs wait` and `mountfs flush`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_json, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "wait",
        help="return when the store has these paths",
        description="Return when the store has what was written to each PATH. The exit"
        " code is 75 if something could not be sent yet, 1 if the store refused it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="a path in a mount, or its name"
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)
    parser = commands.add_parser(
        "flush",
        help="return when the store has everything below a directory",
        description="Return when the store has everything at and below each DIR, as"
        " `wait` does for single paths.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths", metavar="DIR", nargs="+", help="a path in a mount, or its name"
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import waiting

    below = parsed.command == "flush"
    json_out = sys.stdout if parsed.json else None
    paths = [directory_of(each) for each in parsed.paths]
    return waiting.wait(paths, below=below, out=sys.stderr, json_out=json_out)
