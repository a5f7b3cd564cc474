"""`mount.mountfs`: what mount(8) runs for `mount -t mountfs` and for lines of fstab.

    mount.mountfs URL DIR [-fnsv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]

The options are those of `mountfs mount`, and the words of mount(8); `config=FILE` is
`--config`. The exit codes are those of mount(8). What is done is `mountfs mount`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from mountfs import __version__, checks, cli, control, daemon, logs, mounts
from mountfs.actions import remount
from mountfs.commands._parser import Parser, mount_config
from mountfs.configuration.config import MountConfig
from mountfs.configuration.fstab import Pair, join_options, own_pairs
from mountfs.configuration.options import BY_FIELD
from mountfs.configuration.settings import split_options
from mountfs.errors import UsageError

TYPES = ("mountfs", mounts.FSTYPE)


class Exit(IntEnum):
    """What mount(8) and umount(8) end with."""

    DONE = 0
    USAGE = 1
    """The call is wrong, or this user may not."""
    INTERRUPTED = 8
    FAILED = 32


@dataclass(frozen=True, slots=True)
class Call:
    """What mount(8) asks for."""

    source: str
    directory: str
    words: tuple[Pair, ...]
    is_sloppy: bool
    is_fake: bool
    is_verbose: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Mount as mount(8) asks; return its exit code."""
    logs.set_up_for_commands()
    try:
        call = read_call(sys.argv[1:] if arguments is None else arguments)
        is_remount = ("remount", "") in call.words
        deed = _remount(call) if is_remount else _mount(call)
    except UsageError as error:
        return complain(error, Exit.USAGE)
    try:
        return deed()
    except UsageError as error:
        return complain(error, Exit.FAILED)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def complain(error: UsageError, code: Exit) -> Exit:
    """Say what went wrong in one line; return the code."""
    program = os.path.basename(sys.argv[0])  # noqa: PTH119 - a name, of no file
    print(f"{program}: {logs.told(str(error))}", file=sys.stderr)
    return code


def read_call(arguments: Sequence[str]) -> Call:
    """Return what is asked for. Raises `UsageError`."""
    parser = _parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(f"{unknown[0]} is no option of mount(8)'s helpers")
    check_type(parsed.type, parsed.namespace)
    words = [pair for each in parsed.options for pair in split_options(each)]
    return Call(
        source=parsed.source,
        directory=parsed.directory,
        words=tuple(words),
        is_sloppy=parsed.is_sloppy,
        is_fake=parsed.is_fake,
        is_verbose=parsed.is_verbose,
    )


def check_type(name: str | None, namespace: str | None) -> None:
    """Raise `UsageError` for another file system, or another mount namespace."""
    if name is not None and name not in TYPES:
        raise UsageError(f"{name} is not a type of mountfs: write mountfs")
    if namespace is not None:
        raise UsageError(
            "-N is not possible here, because the daemon would stay outside: run"
            f" `nsenter --mount={namespace} mountfs mount ...`"
        )


def _parser() -> Parser:
    parser = Parser(
        prog="mount.mountfs",
        description="Mount a store; mount(8) runs this for `mount -t mountfs`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mountfs {__version__}")
    parser.add_argument("source", metavar="URL", help="the URL of a store")
    parser.add_argument("directory", metavar="DIR", help="an empty directory")
    parser.add_argument(
        "-o",
        dest="options",
        metavar="OPTIONS",
        action="append",
        default=[],
        help="k=v,k,...: options of `mountfs mount` and of mount(8); config=FILE",
    )
    add_common(parser)
    parser.add_argument(
        "-s",
        dest="is_sloppy",
        action="store_true",
        help="pass over unknown options instead of refusing them",
    )
    parser.add_argument(
        "-f",
        dest="is_fake",
        action="store_true",
        help="check everything that this host can tell, and do not mount",
    )
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what the helpers of mount(8) and umount(8) both take."""
    parser.add_argument(
        "-v", dest="is_verbose", action="store_true", help="say what was done"
    )
    parser.add_argument("-n", action="store_true", help="means nothing here")
    parser.add_argument("-t", dest="type", metavar="TYPE", help=" or ".join(TYPES))
    parser.add_argument("-N", dest="namespace", metavar="NAMESPACE", help="refused")


def _mount(call: Call) -> Callable[[], Exit]:
    """Return what mounts. Raises `UsageError` for what is wrong with the call."""
    given = own_pairs(call.words)
    files = [value for name, value in given if name == "config"]
    pairs = [each for each in given if each[0] != "config"]
    if call.is_sloppy:
        pairs = [each for each in pairs if each[0].replace("-", "_") in BY_FIELD]
    arguments = ["mount", "-o", join_options(pairs)]
    if files:
        arguments += ["--config", files[-1]]
    parsed = cli.parse([*arguments, call.source, call.directory])
    settings = mount_config(parsed, parsed.url, parsed.mount_point)

    def carry_out() -> Exit:
        at = f"{settings.url} at {settings.mount_point}"
        if call.is_fake:
            checks.before_mount(settings)
            return _tell(call, f"nothing is in the way of {at}")
        if call.source != settings.url and _is_mounted(settings):
            # `mount -a` knows by the source what is mounted, and not by a mount's name.
            return _tell(call, f"mounted {at} before")
        code = daemon.start(settings, parsed.arguments)
        if code == daemon.EXIT_INTERRUPTED:
            return Exit.INTERRUPTED
        return _tell(call, f"mounted {at}; its log is {daemon.log_path(settings)}")

    return carry_out


def _is_mounted(settings: MountConfig) -> bool:
    entry = mounts.mount_at(settings.mount_point)
    is_same = entry is not None and entry.source == settings.url
    return is_same and control.is_alive(control.socket_path(settings.mount_point))


def _remount(call: Call) -> Callable[[], Exit]:
    """Return what changes a mount that is there."""
    mount_point = Path(os.path.realpath(call.directory))
    words = [name for name, _ in call.words]

    def carry_out() -> Exit:
        if not call.is_fake:
            remount.remount(mount_point, words)
        return _tell(call, f"{mount_point} has its new options")

    return carry_out


def _tell(call: Call, done: str) -> Exit:
    if call.is_verbose:
        print(f"mount.mountfs: {done}")
    return Exit.DONE
