"""`umount.mountfs`: what umount(8) runs for a mount of ours.

    umount.mountfs DIR [-flnrv] [-N NAMESPACE] [-t TYPE]

It ends when the store has everything, so that `umount DIR && poweroff` is safe. Lazy
and forced unmounts are umount(8)'s own: who asks for them does not want to wait. The
exit codes are those of umount(8).
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mountfs import __version__, logs, mounts
from mountfs.actions import remount, umount
from mountfs.commands._parser import Parser
from mountfs.errors import EXIT_PENDING, EXIT_TROUBLE, UsageError
from mountfs.mount_helper import Exit, add_common, check_type, complain

CODES = {
    os.EX_OK: Exit.DONE,
    # The store has everything, and the late errors were told: nothing is left to do.
    EXIT_TROUBLE: Exit.DONE,
    umount.EXIT_BUSY: Exit.FAILED,
    EXIT_PENDING: Exit.FAILED,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Unmount as umount(8) asks; return its exit code."""
    logs.set_up_for_commands()
    try:
        call = _read_call(arguments)
    except UsageError as error:
        return complain(error, Exit.USAGE)
    try:
        if call.is_lazy or call.is_forced or not _is_ours(call.directory):
            return _as_usual(call)
        return _unmount(call)
    except UsageError as error:
        return complain(error, Exit.FAILED)
    except KeyboardInterrupt:
        print(
            "umount.mountfs: `mountfs status` tells what is still sent", file=sys.stderr
        )
        return Exit.INTERRUPTED


def _read_call(arguments: Sequence[str] | None) -> argparse.Namespace:
    call, unknown = _parser().parse_known_args(arguments)
    if unknown:
        raise UsageError(f"{unknown[0]} is no option of umount(8)'s helpers")
    check_type(call.type, call.namespace)
    return call


def _unmount(call: argparse.Namespace) -> Exit:
    """Unmount and wait for the store; with -r be content with read-only."""
    code = umount.umount(call.directory, is_lazy=False, out=sys.stderr)
    done = "is unmounted"
    if code == umount.EXIT_BUSY and call.is_read_only_else:
        remount.remount(Path(os.path.realpath(call.directory)), ["ro"])
        code, done = os.EX_OK, "is in use, and read-only from now on"
    if CODES[code] is Exit.DONE and call.is_verbose:
        print(f"umount.mountfs: {call.directory} {done}")
    return CODES[code]


def _parser() -> Parser:
    parser = Parser(
        prog="umount.mountfs",
        description="Unmount, and wait for the store; umount(8) runs this.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mountfs {__version__}")
    parser.add_argument("directory", metavar="DIR", help="a mount point")
    add_common(parser)
    for flag, name, meaning in (
        ("-l", "is_lazy", "take the name away, and do not wait"),
        ("-f", "is_forced", "break the connection, and do not wait"),
        ("-r", "is_read_only_else", "make it read-only if it is in use"),
    ):
        parser.add_argument(flag, dest=name, action="store_true", help=meaning)
    return parser


def _is_ours(directory: str) -> bool:
    entry = umount.find(directory)
    return entry is not None and entry.fstype == mounts.FSTYPE


def _as_usual(call: argparse.Namespace) -> int:
    """Let umount(8) do what it does without a helper; return its exit code."""
    flags = {"-l": call.is_lazy, "-f": call.is_forced}
    words = [flag for flag, is_on in flags.items() if is_on]
    command = ["umount", "-i", *words, call.directory]
    return subprocess.run(command, check=False).returncode  # noqa: S603
