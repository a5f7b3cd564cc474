"""`mountfs metrics`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_json, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "metrics",
        help="show the metrics of a mount, as Prometheus reads them",
        description="Show the metrics of the mount that DIR is in, in Prometheus's"
        " text format.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "directory", metavar="DIR|NAME", help="a path in a mount, or its name"
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import asking
    from mountfs.control import Request

    request = Request("metrics")
    directory = directory_of(parsed.directory)
    return asking.show(directory, request, as_json=parsed.json, out=sys.stdout)
