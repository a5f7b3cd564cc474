"""`mountfs trace`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_json, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "trace",
        help="show each operation of a mount as it happens, with its requests",
        description="Show what programs ask of the mount that DIR is in, and what that"
        " asks of the store, until Ctrl-C. Nothing is slower while nobody looks.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "directory", metavar="DIR|NAME", help="a path in a mount, or its name"
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import trace

    return trace.trace(
        directory_of(parsed.directory), as_json=parsed.json, out=sys.stdout
    )
