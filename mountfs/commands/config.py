"""`mountfs config`."""

import argparse
import os
from pathlib import Path

from mountfs.commands._parser import (
    Commands,
    Parser,
    add_json,
    add_options,
    config_file,
    mount_config,
)
from mountfs.configuration.urls import is_url


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "config",
        help="check the configuration, or show what it comes to",
        description="Check the configuration files, or show what counts for a mount.",
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="check|show", required=True)
    _add_check(
        kinds.add_parser(
            "check",
            help="tell all that is wrong",
            description="Tell all that is wrong with FILE, or with each file that is"
            " there. The exit code is 2 if anything is.",
            allow_abbrev=False,
        )
    )
    _add_show(
        kinds.add_parser(
            "show",
            help="tell which settings count, and where each comes from",
            description="Tell which settings count for the mount NAME, or for a mount"
            " of URL, and where each comes from. Without one, list all that have a"
            " name.",
            allow_abbrev=False,
        )
    )


def _add_check(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", help="a TOML file")
    parser.set_defaults(carry_out=_check)


def _add_show(parser: Parser) -> None:
    parser.add_argument(
        "target", metavar="NAME|URL", nargs="?", help="a mount's name, or a store"
    )
    add_json(parser)
    add_options(parser, is_mount=True)
    parser.set_defaults(carry_out=_show)


def _check(parsed: argparse.Namespace) -> int:
    from mountfs.actions import configuring

    path = Path(parsed.file).absolute() if parsed.file is not None else None
    lines, code = configuring.check(path, os.environ)
    print("\n".join(lines))
    return code


def _show(parsed: argparse.Namespace) -> int:
    from mountfs.actions import configuring

    if parsed.target is None:
        path = config_file(parsed)
        print(configuring.names(path, os.environ, as_json=parsed.json))
        return os.EX_OK
    # Nothing is mounted: a URL needs no place, and a name has its own.
    mount_point = "/" if is_url(parsed.target) else None
    settings = mount_config(parsed, parsed.target, mount_point)
    print(configuring.show(settings, as_json=parsed.json))
    return os.EX_OK
