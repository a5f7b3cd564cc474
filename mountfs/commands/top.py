"""`mountfs top`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_json, directory_of


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "top",
        help="show live what programs ask of mounts, and mounts of stores",
        description="Show, by operation and by request to the store, how often, how"
        " long and with what errors, of the mount that DIR is in or of all of this"
        " user, until Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "directory", metavar="DIR|NAME", nargs="?", help="a path in a mount, or a name"
    )
    add_json(parser)
    parser.add_argument(
        "--once",
        action="store_true",
        help="print it once: since the mount began, or of one interval",
    )
    parser.add_argument("--interval", metavar="SECONDS", help="how often (default 1)")
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import top
    from mountfs.actions.watch import read_interval
    from mountfs.terminal import is_screen

    directory = parsed.directory and directory_of(parsed.directory)
    interval_s = read_interval(parsed.interval) if parsed.interval else None
    if parsed.once:
        return top.once(directory, interval_s, as_json=parsed.json, out=sys.stdout)
    if parsed.json or not is_screen(sys.stdout):
        lines = top.Lines(sys.stdout, as_json=parsed.json)
        return top.watch(directory, interval_s or 1.0, screen=lines)
    from mountfs.actions import top_picture

    with top_picture.Screen(sys.stdout) as screen:
        return top.watch(directory, interval_s or 1.0, screen=screen)
