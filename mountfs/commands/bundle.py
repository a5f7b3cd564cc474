"""`mountfs bundle`."""

import argparse
import sys
from pathlib import Path

from mountfs.commands._parser import Commands, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bundle",
        help="put together what somebody needs to find out what is wrong",
        description="Write an archive with versions, settings, status, metrics, the end"
        " of the log and what the daemon is doing, of the mount that DIR is in, or of"
        " all of this user. Secrets are left out, names of files unless you want them.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "directory",
        metavar="DIR|NAME",
        nargs="?",
        help="a path in a mount, or its name",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to (default: here, by the time)"
    )
    parser.add_argument(
        "--with-names", action="store_true", help="leave the names of files in it"
    )
    parser.add_argument(
        "--doctor",
        action="store_true",
        help="let `mountfs doctor` look at the store too, which sends some requests",
    )
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import bundle

    file = Path(parsed.output).absolute() if parsed.output else bundle.default_file()
    wanted = bundle.Wanted(
        file=file, has_names=parsed.with_names, asks_doctor=parsed.doctor
    )
    directory = directory_of(parsed.directory) if parsed.directory else None
    return bundle.bundle(directory, wanted, out=sys.stdout)
