"""`mountfs umount`."""

import argparse
import io
import json
import os
import sys
from functools import partial

from mountfs.commands._parser import Commands, add_json, directory_of
from mountfs.errors import EXIT_TROUBLE


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "umount",
        help="unmount, and wait until the store has everything",
        description="Unmount DIR and wait until the store has everything. The exit"
        " code is 75 if something could not be sent; the next mount sends it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "mount_point", metavar="DIR|NAME", help="where it is mounted, or its name"
    )
    parser.add_argument(
        "-l",
        "--lazy",
        action="store_true",
        help="detach even if it is in use, and do not wait",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave to the next mount what is in the journal (--durability=journal);"
        " with --lazy programs that use the mount lose it at once",
    )
    add_json(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import umount

    mount_point = directory_of(parsed.mount_point)
    unmount = partial(
        umount.umount, mount_point, is_lazy=parsed.lazy, is_kept=parsed.keep
    )
    if not parsed.json:
        return unmount(out=sys.stderr)
    said = io.StringIO()
    code = unmount(out=said)
    told = {
        "mount_point": mount_point,
        "exit_code": code,
        "is_stored": code in (os.EX_OK, EXIT_TROUBLE) and not parsed.lazy,
        "messages": said.getvalue().splitlines(),
    }
    print(json.dumps(told, indent=2))
    return code
