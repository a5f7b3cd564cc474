"""`mountfs warm`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_json, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "warm",
        help="fetch files into the cache before programs want them",
        description="Fetch each PATH, of a directory all below it, into the cache of"
        " its mount, as far as that has room. The exit code is 1 if something is"
        " missing after that, 75 if it may succeed later.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="a path in a mount, or its name"
    )
    parser.add_argument(
        "-j", "--jobs", metavar="N", help="requests at once, 1 to 12 (default 8)"
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import warming

    jobs = warming.read_jobs(parsed.jobs)
    return warming.warm(
        [directory_of(each) for each in parsed.paths],
        jobs=jobs,
        out=sys.stdout,
        progress=sys.stderr,
        as_json=parsed.json,
    )
