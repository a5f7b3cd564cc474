"""`mountfs features`."""

import argparse
import os

from mountfs.commands._parser import Commands, add_json, add_options, store_config


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "features",
        help="tell what a store can do by itself and what is emulated",
        description="Tell, per operation, what the store does natively, what is"
        " emulated, and the limits.",
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", help="the URL of a store")
    add_json(parser)
    add_options(parser, is_mount=False)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import features

    settings = store_config(parsed, parsed.url)
    print(features.report(settings, as_json=parsed.json))
    return os.EX_OK
