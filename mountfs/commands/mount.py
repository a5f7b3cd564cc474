"""`mountfs mount`."""

import argparse

from mountfs.commands._parser import Commands, add_options, mount_config


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "mount",
        help="mount a store at a directory",
        description="Mount the store at URL at the directory DIR, in the background.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "url",
        metavar="URL",
        help="s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, dropbox:///FOLDER,"
        " file:///DIRECTORY or memory://",
    )
    parser.add_argument("mount_point", metavar="DIR", help="an empty directory")
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay, and log to stderr"
    )
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    add_options(parser, is_mount=True)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs import daemon

    settings = mount_config(parsed, parsed.url, parsed.mount_point)
    if parsed.foreground:
        return daemon.run_in_place(settings, parsed.ready_fd)
    return daemon.start(settings, parsed.arguments)
