"""The command: arguments in, one call, an exit code out. No logic lives here.

Exit codes: 0 done; 1 it failed, or somebody should look; 2 the user can mend it, and
one sentence says how; 69 the store is away, and may be back; 74 all is stored, and
something had gone wrong unseen, or nobody takes what there is to say; 75 something is
not stored yet; 130 interrupted.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mountfs import __version__, logs, output
from mountfs.commands import (
    abort,
    auth,
    bundle,
    check,
    config,
    doctor,
    explain,
    features,
    install,
    listing,
    metrics,
    mount,
    recover,
    setting,
    status,
    top,
    trace,
    umount,
    waiting,
    warm,
)
from mountfs.commands._parser import Commands, Parser
from mountfs.configuration.options import refuse_credentials
from mountfs.configuration.values import suggestion
from mountfs.errors import UsageError

_MODULES = (
    mount,
    umount,
    status,
    waiting,
    warm,
    check,
    recover,
    explain,
    listing,
    top,
    doctor,
    abort,
    features,
    auth,
    config,
    metrics,
    install,
    setting,
    trace,
    bundle,
)
_PLACES = ("directory", "file", "mount_point", "path", "paths", "place", "target")
_NO_OPTIONS = {"o", "url", "mount_point", "command", "ready_fd", "carry_out"}
EPILOG = """\
examples:
  mountfs mount s3://bucket/prefix /mnt/bucket
  mountfs mount --endpoint-url http://localhost:8333 s3://bucket /mnt/bucket
  mountfs status
  mountfs explain /mnt/bucket/file
  mountfs umount /mnt/bucket
  mountfs features s3://bucket

Credentials come from where the AWS tools look for them: ~/.aws, the environment or a
role. Options may also stand in a TOML file (--config) and in the environment
(--cache-size is MOUNTFS_CACHE_SIZE)."""


def build_parser() -> tuple[argparse.ArgumentParser, tuple[str, ...]]:
    """Return the parser of the whole command line, and the names of the commands."""
    parser = Parser(
        prog="mountfs",
        description="Mount an object store as a directory; every file stays one plain"
        " object.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mountfs {__version__}")
    commands: Commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True
    )
    for each in _MODULES:
        each.add(commands)
    return parser, tuple(commands.choices)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command that is asked for. Raises `UsageError`."""
    parser, names = build_parser()
    first = next((each for each in arguments if not each.startswith("-")), None)
    if first is not None and first not in names:
        raise UsageError(
            f"{first!r} is not a command{suggestion(first, names)};"
            f" there are {', '.join(names)}"
        )
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        dashed = [each for each in unknown if each.startswith("-")]
        name = (dashed or unknown)[0].partition("=")[0]
        refuse_credentials(name)
        if not dashed:
            raise UsageError(f"there is one argument too many: {name!r}")
        known = [f"--{each.replace('_', '-')}" for each in _option_names(parsed)]
        hint = suggestion(name, known)
        if name in known:
            hint = f"; write it behind `{parsed.command}`"
        raise UsageError(f"{name} is not an option of `mountfs {parsed.command}`{hint}")
    if parsed.command != "mount":  # which has sentences of its own
        _refuse_empty_places(parsed)
    parsed.arguments = arguments[arguments.index(parsed.command) + 1 :]
    return parsed


def _refuse_empty_places(parsed: argparse.Namespace) -> None:
    """Raise if a place is named "", as by a shell's variable that is not set.

    It would be taken for the directory that one stands in.
    """
    for name in _PLACES:
        said = getattr(parsed, name, None)
        if said == "" or (isinstance(said, list) and "" in said):
            raise UsageError(
                f"the name that `mountfs {parsed.command}` is given is empty: perhaps a"
                " variable is not set"
            )


def _option_names(parsed: argparse.Namespace) -> tuple[str, ...]:
    named = set(vars(parsed)) - _NO_OPTIONS
    return ("help", *sorted(named))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    output.set_up()
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    finally:
        output.drop_what_is_refused(sys.stderr)


def _run(arguments: Sequence[str]) -> int:
    logs.set_up_for_commands()
    code = os.EX_OK
    try:
        code = _carry_out(arguments)
        sys.stdout.flush()
    except UsageError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except FileNotFoundError:
        if _stands_somewhere():
            raise
        _say(
            "the directory that this is called from is gone, or is in a mount that is:"
            " go to another one (`cd /`), or name whole paths"
        )
        return UsageError.exit_code
    except BrokenPipeError:
        # Who was reading (`| head`) has seen enough. Nothing is left to be flushed at
        # the exit, which would say so again.
        output.drop_what_is_refused(sys.stdout)
        return 128 + signal.SIGPIPE
    except output.OutputRefused as error:
        output.drop_what_is_refused(sys.stdout)
        _say(str(error))
        return code or os.EX_IOERR
    return code


def _carry_out(arguments: Sequence[str]) -> int:
    try:
        parsed = parse(arguments)
    except SystemExit as shown:  # the help, or the version
        return int(shown.code or os.EX_OK)
    return int(parsed.carry_out(parsed))


def _stands_somewhere() -> bool:
    """Tell whether the directory that relative paths begin at has a name."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # the exit code says it, too
        print(f"mountfs: {logs.told(sentence)}", file=sys.stderr)
