"""`mountfs recover`."""

import argparse
import sys
from pathlib import Path

from mountfs.commands._parser import (
    Commands,
    add_json,
    add_options,
    config_file,
    is_name,
    layer_of,
    mount_config,
)
from mountfs.configuration.urls import is_url


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "recover",
        help="tell what earlier mounts left in the state directory, and save it",
        description="Tell what earlier mounts of a store could not store. Nothing is"
        " changed without --yes. The exit code is 1 while something is left.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "place",
        metavar="URL|NAME|STATE-DIR",
        help="a store, the name of its mount, or what a journal lies in",
    )
    parser.add_argument(
        "--export", metavar="DIR", help="write the bytes that are kept as plain files"
    )
    parser.add_argument(
        "--drop", metavar="NAME", action="append", default=[], help="give one up"
    )
    parser.add_argument(
        "--rescue",
        action="store_true",
        help="put a new journal in the place of a damaged one, which is kept",
    )
    parser.add_argument(
        "--yes", action="store_true", help="do it, after it was explained"
    )
    add_options(parser, is_mount=False, others=("state-dir",))
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import recover

    wanted = recover.Wanted(
        export=Path(parsed.export).absolute() if parsed.export else None,
        drop=tuple(parsed.drop),
        is_rescue=parsed.rescue,
        is_agreed=parsed.yes,
    )
    place = Path(parsed.place).absolute()
    if not is_url(parsed.place) and not _is_named(parsed, place):
        layer_of(parsed)  # refuses what is wrong
        directories = recover.state_dirs(place)
        return recover.recover(
            directories, wanted, None, out=sys.stdout, as_json=parsed.json
        )
    settings = mount_config(parsed, parsed.place)
    return recover.recover(
        [recover.state_dir_of(settings)],
        wanted,
        settings,
        out=sys.stdout,
        as_json=parsed.json,
    )


def _is_named(parsed: argparse.Namespace, place: Path) -> bool:
    """Tell whether a mount's name is meant; a directory with state goes before it."""
    from mountfs.actions import recover

    if recover.holds_state(place):
        return False
    instead = "the URL of the store"
    return is_name(parsed.place, config_file(parsed), instead=instead)
