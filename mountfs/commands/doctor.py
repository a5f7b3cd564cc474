"""`mountfs doctor`."""

import argparse
import os
import sys

from mountfs.commands._parser import Commands, add_json, add_options, mount_config


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="tell whether this host and a store are ready for a mount",
        description="Look at this host, the credentials, what they allow, the bucket"
        " and the speed of the store, harmlessly, and tell what to mend. The exit code"
        " is 1 if a mount would not work.",
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", help="the URL of a store")
    add_json(parser)
    parser.add_argument(
        "--policy",
        action="store_true",
        help="print the least that must be allowed, and send nothing",
    )
    add_options(
        parser,
        is_mount=False,
        others=("read-only", "allow-other", "cache-dir", "state-dir"),
    )
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.doctor import run

    settings = mount_config(parsed, parsed.url)
    if parsed.policy:
        print(run.policy(settings))
        return os.EX_OK
    return run.examine(settings, as_json=parsed.json, out=sys.stdout)
