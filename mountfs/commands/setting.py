"""`mountfs set`."""

import argparse
import sys

from mountfs.commands._parser import Commands, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "set",
        help="change settings of a mount while it lives",
        description="Change settings of the mount that DIR is in, all or none, until"
        " it ends. An empty value takes back what was set. Without any, tell what can"
        " be set, and how it is.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "directory", metavar="DIR|NAME", help="a path in a mount, or a name"
    )
    parser.add_argument(
        "pairs",
        metavar="NAME=VALUE",
        nargs="*",
        default=[],
        help="an option of `mountfs mount` without its dashes, such as ttl=10s",
    )
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import adjusting

    return adjusting.adjust(
        directory_of(parsed.directory),
        parsed.pairs,
        out=sys.stdout,
        errors=sys.stderr,
    )
