"""`mountfs list`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_json


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "list",
        help="tell which mounts there are, a line each",
        description="Tell which mounts of this user there are (for root: of all), and"
        " which daemons are unmounted and still send.",
        allow_abbrev=False,
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import listing

    return listing.show(as_json=parsed.json, out=sys.stdout)
