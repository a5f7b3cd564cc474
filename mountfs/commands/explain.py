"""`mountfs explain`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_json, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain",
        help="tell what a file is in the store, what of it is here, and why",
        description="Tell what PATH is in the store, where its attributes come from,"
        " what of it is here, what the store does not have yet, and what went wrong."
        " Links in a mount are not followed. The exit code is 1 if nothing is there,"
        " 75 if nobody can say.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "path", metavar="PATH|NAME", help="a path in a mount, or its name"
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import explaining

    path = directory_of(parsed.path)
    return explaining.explain(path, as_json=parsed.json, out=sys.stdout)
