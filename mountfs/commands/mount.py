"""`mountfs mount`."""

import argparse
import os
import sys

from mountfs.commands._parser import (
    Commands,
    add_options,
    config_file,
    mount_config,
)
from mountfs.configuration import effective
from mountfs.errors import UsageError
from mountfs.logs import told


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "mount",
        help="mount a store at a directory",
        description="Mount the store at URL at the directory DIR, in the background."
        " A NAME stands for both if a configuration file has a mount of that name.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "url",
        metavar="URL|NAME",
        nargs="?",
        help="s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, dropbox:///FOLDER,"
        " file:///DIRECTORY or memory://, or the name of a mount",
    )
    parser.add_argument(
        "mount_point", metavar="DIR", nargs="?", help="an empty directory"
    )
    parser.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="mount all that have a name and are not mounted yet",
    )
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay, and log to stderr"
    )
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    add_options(parser, is_mount=True)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs import daemon

    if parsed.all:
        return _mount_all(parsed)
    settings = mount_config(parsed, parsed.url, parsed.mount_point)
    if parsed.foreground:
        return daemon.run_in_place(settings, parsed.ready_fd)
    return daemon.start(settings, parsed.arguments)


def _mount_all(parsed: argparse.Namespace) -> int:
    """Mount what has a name; one that cannot be does not keep the others from it."""
    from mountfs import daemon, mounts

    if parsed.url is not None or parsed.foreground:
        raise UsageError("--all goes with neither a URL, a NAME nor --foreground")
    options = [each for each in parsed.arguments if each not in ("-a", "--all")]
    names = effective.all_names(config_file(parsed), os.environ)
    if not names:
        raise UsageError("no mount has a name: see `mountfs config show`")
    code = os.EX_OK
    for name in names:
        try:
            settings = mount_config(parsed, name, None)
            entry = mounts.mount_at(settings.mount_point)
            if entry is not None and entry.source == settings.url:
                continue
            code = max(code, daemon.start(settings, [*options, name]))
        except UsageError as error:
            print(f"mountfs: {name}: {told(str(error))}", file=sys.stderr)
            code = max(code, error.exit_code)
    return code
