"""`mountfs status`."""

import argparse
import sys
from contextlib import ExitStack

from mountfs.commands._parser import Commands, add_json, directory_of
from mountfs.errors import UsageError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "status",
        help="tell how mounts do, and what the store does not have yet",
        description="Tell how the mount that DIR is in does, or all of this user. The"
        " exit code is 1 if somebody should look at one of them.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "directory", metavar="DIR|NAME", nargs="?", help="a path in a mount, or a name"
    )
    add_json(parser)
    parser.add_argument(
        "--watch", action="store_true", help="show it live, until Ctrl-C"
    )
    parser.add_argument(
        "--interval", metavar="SECONDS", help="how often with --watch (default 1)"
    )
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import overview, watch
    from mountfs.terminal import is_screen

    if parsed.directory is not None:
        parsed.directory = directory_of(parsed.directory)
    is_drawn = is_screen(sys.stdout) and not parsed.json
    if not parsed.watch:
        if parsed.interval is not None:
            raise UsageError("--interval goes with --watch: add that, or leave it out")
        if is_drawn:
            from mountfs.actions import picture

            return picture.show(parsed.directory, sys.stdout)
        return overview.show(parsed.directory, as_json=parsed.json, out=sys.stdout)
    interval_s = watch.read_interval(parsed.interval or "1")
    with ExitStack() as stack:
        screen = None
        if is_drawn:
            from mountfs.actions import picture

            screen = stack.enter_context(picture.Screen(sys.stdout))
        return watch.watch(
            parsed.directory,
            interval_s,
            as_json=parsed.json,
            out=sys.stdout,
            screen=screen,
        )
