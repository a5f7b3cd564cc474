"""`mountfs check`."""

import argparse
import os
import sys

from mountfs import mounts
from mountfs.commands._parser import (
    Commands,
    add_json,
    add_options,
    config_file,
    directory_of,
    is_name,
    layer_of,
    mount_config,
)
from mountfs.configuration.urls import is_url


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="compare what mountfs keeps, here and in the store",
        description="Compare cache, journal and what lies under .mountfs/ with the"
        " store. The exit code is 1 if anything is wrong.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "place",
        metavar="URL|DIR|NAME",
        help="a store, a path in its mount, or the name of a mount",
    )
    parser.add_argument(
        "--repair", action="store_true", help="mend what can be; explains, then asks"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_options(parser, is_mount=False, others=("state-dir", "cache-dir"))
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Check, and after that, if it is wanted and agreed to, check and mend."""
    code = _check_once(parsed, is_repair=parsed.repair and parsed.yes)
    is_settled = not parsed.repair or parsed.yes or code == os.EX_OK
    if is_settled or parsed.json:
        return code
    if not sys.stdin.isatty():
        print("nothing was changed: say --yes to mend what can be mended")
        return code
    if input("mend what can be mended? [y/N] ").strip().lower() in ("y", "yes"):
        return _check_once(parsed, is_repair=True)
    return code


def _check_once(parsed: argparse.Namespace, *, is_repair: bool) -> int:
    from mountfs.actions import check

    mounted = _mounted(parsed)
    if mounted is not None:
        layer_of(parsed)  # refuses what is wrong
        return check.check_mount(
            mounted, is_repair=is_repair, out=sys.stdout, as_json=parsed.json
        )
    settings = mount_config(parsed, parsed.place)
    return check.check_store(
        settings, is_repair=is_repair, out=sys.stdout, as_json=parsed.json
    )


def _mounted(parsed: argparse.Namespace) -> str | None:
    """Return a path in the mount that is meant; None for a store that is not mounted.

    A name stands for its mount, and for its store where nothing is mounted.
    """
    if is_url(parsed.place):
        return None
    file = config_file(parsed)
    directory = directory_of(parsed.place, file)
    if mounts.find_ours(directory) is not None:
        return directory
    instead = "the directory of the mount, or the URL of the store"
    return None if is_name(parsed.place, file, instead=instead) else parsed.place
