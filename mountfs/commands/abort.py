"""`mountfs abort`."""

import argparse
import os
import sys
from pathlib import Path

from mountfs.commands._parser import Commands, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "abort",
        help="let go of a mount whose daemon was killed and does not end",
        description="End the kernel's connection of the mount at DIR if its daemon was"
        " killed and does not end, so that programs get errors instead of waiting. What"
        " was acknowledged is taken up by the next mount. A daemon that lives is left"
        " alone.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "mount_point", metavar="DIR|NAME", help="where it is mounted, or its name"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="even if the daemon lives: it loses what programs have not written out",
    )
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs import abort

    place = Path(directory_of(parsed.mount_point)).absolute()
    # Without a look at the mount itself, which might wait.
    mount_point = Path(os.path.realpath(place.parent), place.name)
    return abort.abort(mount_point, is_forced=parsed.force, out=sys.stderr)
