"""The command: arguments in, one call, an exit code out. No logic lives here.

Exit codes: 0 done; 1 it failed, or somebody should look; 2 the user can mend it, and
one sentence says how; 74 all is stored, and something had gone wrong unseen; 75
something is not stored yet; 130 interrupted.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mountfs import __version__, config, logs
from mountfs.config import Setting
from mountfs.errors import UsageError
from mountfs.options import OPTIONS, refuse_credentials, suggestion

COMMANDS = (
    "mount",
    "umount",
    "status",
    "wait",
    "flush",
    "warm",
    "check",
    "recover",
    "features",
    "auth",
)
EPILOG = """\
examples:
  mountfs mount s3://bucket/prefix /mnt/bucket
  mountfs mount --endpoint-url http://localhost:8333 s3://bucket /mnt/bucket
  mountfs status
  mountfs umount /mnt/bucket
  mountfs features s3://bucket

Credentials come from where the AWS tools look for them: ~/.aws, the environment or a
role. Options may also stand in a TOML file (--config) and in the environment
(--cache-size is MOUNTFS_CACHE_SIZE)."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(
            r"ignored explicit argument (.*)", r"it takes no value, not \1", message
        )
        raise UsageError(f"{message}; `{self.prog} --help` tells more")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="mountfs",
        description="Mount an object store as a directory; every file stays one plain"
        " object.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mountfs {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_mount(commands)
    _add_umount(commands)
    _add_status(commands)
    _add_waiting(commands)
    _add_warm(commands)
    _add_check(commands)
    _add_recover(commands)
    _add_features(commands)
    _add_auth(commands)
    return parser


Commands = "argparse._SubParsersAction[_Parser]"


def _add_mount(commands: "argparse._SubParsersAction[_Parser]") -> None:
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
    _add_options(parser, is_mount=True)


def _add_umount(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "umount",
        help="unmount, and wait until the store has everything",
        description="Unmount DIR and wait until the store has everything. The exit"
        " code is 75 if something could not be sent; the next mount sends it.",
        allow_abbrev=False,
    )
    parser.add_argument("mount_point", metavar="DIR", help="where it is mounted")
    parser.add_argument(
        "-l",
        "--lazy",
        action="store_true",
        help="detach even if it is in use, and do not wait",
    )


def _add_status(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "status",
        help="tell how mounts do, and what the store does not have yet",
        description="Tell how the mount that DIR is in does, or all of this user. The"
        " exit code is 1 if somebody should look at one of them.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="a path in a mount")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--watch", action="store_true", help="show it live, until Ctrl-C"
    )
    parser.add_argument(
        "--interval", metavar="SECONDS", help="how often with --watch (default 1)"
    )


def _add_waiting(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "wait",
        help="return when the store has these paths",
        description="Return when the store has what was written to each PATH. The exit"
        " code is 75 if something could not be sent yet, 1 if the store refused it.",
        allow_abbrev=False,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path in a mount")
    parser = commands.add_parser(
        "flush",
        help="return when the store has everything below a directory",
        description="Return when the store has everything at and below each DIR, as"
        " `wait` does for single paths.",
        allow_abbrev=False,
    )
    parser.add_argument("paths", metavar="DIR", nargs="+", help="a path in a mount")


def _add_warm(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "warm",
        help="fetch files into the cache before programs want them",
        description="Fetch each PATH, of a directory all below it, into the cache of"
        " its mount, as far as that has room. The exit code is 1 if something is"
        " missing after that, 75 if it may succeed later.",
        allow_abbrev=False,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path in a mount")
    parser.add_argument(
        "-j", "--jobs", metavar="N", help="requests at once, 1 to 12 (default 8)"
    )


def _add_check(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "check",
        help="compare what mountfs keeps, here and in the store",
        description="Compare cache, journal and what lies under .mountfs/ with the"
        " store. The exit code is 1 if anything is wrong.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "place", metavar="URL|DIR", help="a store, or a path in its mount"
    )
    parser.add_argument(
        "--repair", action="store_true", help="mend what can be; explains, then asks"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    _add_options(parser, is_mount=False, others=("state-dir", "cache-dir"))


def _add_recover(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "recover",
        help="tell what earlier mounts left in the state directory, and save it",
        description="Tell what earlier mounts of a store could not store. Nothing is"
        " changed without --yes. The exit code is 1 while something is left.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "place", metavar="URL|STATE-DIR", help="a store, or what a journal lies in"
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
    _add_options(parser, is_mount=False, others=("state-dir",))


def _add_features(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "features",
        help="tell what a store can do by itself and what is emulated",
        description="Tell, per operation, what the store does natively, what is"
        " emulated, and the limits.",
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", help="the URL of a store")
    parser.add_argument("--json", action="store_true", help="for programs")
    _add_options(parser, is_mount=False)


def _add_auth(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "auth",
        help="let mountfs into an account: of Dropbox",
        description="Show a URL where you allow an app of yours, take the code that you"
        " are shown there, and keep a token that lasts.",
        allow_abbrev=False,
    )
    parser.add_argument("service", metavar="SERVICE", help="dropbox")
    parser.add_argument(
        "--app-key", metavar="KEY", required=True, help="the key of the app"
    )
    _add_options(parser, is_mount=False)


def _add_options(
    parser: argparse.ArgumentParser, *, is_mount: bool, others: Sequence[str] = ()
) -> None:
    parser.add_argument(
        "-o",
        metavar="OPTIONS",
        action="append",
        default=[],
        dest="o",
        help="options as in fstab: k=v,...; the names are those below",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a TOML file with options (see docs)"
    )
    for_store = parser.add_argument_group("the store")
    for_mount = parser.add_argument_group("the mount")
    for option in OPTIONS:
        is_wanted = is_mount or option.is_for_store
        if not is_wanted and option.name not in ("virtual", *others):
            continue
        group = for_store if option.is_for_store else for_mount
        name = f"--{option.name}"
        if option.metavar is None:
            group.add_argument(
                name, action="store_const", const="true", help=option.help
            )
        else:
            group.add_argument(name, metavar=option.metavar, help=option.help)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    first = next((each for each in arguments if not each.startswith("-")), None)
    if first is not None and first not in COMMANDS:
        raise UsageError(
            f"{first!r} is not a command{suggestion(first, COMMANDS)};"
            f" there are {', '.join(COMMANDS)}"
        )
    parsed, unknown = build_parser().parse_known_args(arguments)
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
    return parsed


def _option_names(parsed: argparse.Namespace) -> tuple[str, ...]:
    named = set(vars(parsed)) - {"o", "url", "mount_point", "command", "ready_fd"}
    return ("help", *sorted(named))


def _layer(parsed: argparse.Namespace) -> dict[str, Setting]:
    """Return what the command line says; long options win over `-o`."""
    pairs = [pair for each in parsed.o for pair in config.split_options(each)]
    layer = config.options_layer(pairs)
    for option in OPTIONS:
        text = getattr(parsed, option.field, None)
        if text is not None:
            layer[option.field] = Setting(text, f"--{option.name}")
    return layer


def _config_file(parsed: argparse.Namespace) -> Path | None:
    return Path(parsed.config).absolute() if parsed.config is not None else None


def _mount(parsed: argparse.Namespace, arguments: Sequence[str]) -> int:
    from mountfs import daemon

    settings = config.mount_config(
        parsed.url,
        parsed.mount_point,
        _layer(parsed),
        config_file=_config_file(parsed),
        environ=os.environ,
    )
    if parsed.foreground:
        return daemon.run_in_place(settings, parsed.ready_fd)
    return daemon.start(settings, arguments[arguments.index("mount") + 1 :])


def _umount(parsed: argparse.Namespace) -> int:
    from mountfs import umount

    return umount.umount(parsed.mount_point, is_lazy=parsed.lazy, out=sys.stderr)


def _status(parsed: argparse.Namespace) -> int:
    from mountfs import overview, watch

    if parsed.watch:
        interval_s = watch.read_interval(parsed.interval or "1")
        return watch.watch(
            parsed.directory, interval_s, as_json=parsed.json, out=sys.stdout
        )
    if parsed.interval is not None:
        raise UsageError("--interval goes with --watch: add that, or leave it out")
    text, code = overview.overview(parsed.directory, as_json=parsed.json)
    print(text)
    return code


def _wait(parsed: argparse.Namespace) -> int:
    from mountfs import waiting

    below = parsed.command == "flush"
    return waiting.wait(parsed.paths, below=below, out=sys.stderr)


def _warm(parsed: argparse.Namespace) -> int:
    from mountfs import warming

    jobs = warming.read_jobs(parsed.jobs)
    return warming.warm(parsed.paths, jobs=jobs, out=sys.stdout, progress=sys.stderr)


def _check(parsed: argparse.Namespace) -> int:
    """Check, and after that, if it is wanted and agreed to, check and mend."""
    code = _check_once(parsed, is_repair=parsed.repair and parsed.yes)
    if not parsed.repair or parsed.yes or code == os.EX_OK:
        return code
    if not sys.stdin.isatty():
        print("nothing was changed: say --yes to mend what can be mended")
        return code
    if input("mend what can be mended? [y/N] ").strip().lower() in ("y", "yes"):
        return _check_once(parsed, is_repair=True)
    return code


def _check_once(parsed: argparse.Namespace, *, is_repair: bool) -> int:
    from mountfs import check

    layer = _layer(parsed)
    if "://" not in parsed.place:
        return check.check_mount(parsed.place, is_repair=is_repair, out=sys.stdout)
    settings = config.mount_config(
        parsed.place,
        "/",
        layer,
        config_file=_config_file(parsed),
        environ=os.environ,
    )
    return check.check_store(settings, is_repair=is_repair, out=sys.stdout)


def _recover(parsed: argparse.Namespace) -> int:
    from mountfs import recover

    layer = _layer(parsed)
    is_url = "://" in parsed.place
    wanted = recover.Wanted(
        export=Path(parsed.export).absolute() if parsed.export else None,
        drop=tuple(parsed.drop),
        is_rescue=parsed.rescue,
        is_agreed=parsed.yes,
    )
    if not is_url:
        directories = recover.state_dirs(Path(parsed.place).absolute())
        return recover.recover(directories, wanted, None, out=sys.stdout)
    settings = config.mount_config(
        parsed.place,
        "/",
        layer,
        config_file=_config_file(parsed),
        environ=os.environ,
    )
    return recover.recover(
        [recover.state_dir_of(settings)], wanted, settings, out=sys.stdout
    )


def _features(parsed: argparse.Namespace) -> int:
    from mountfs import features

    settings = config.store_config(
        parsed.url,
        _layer(parsed),
        config_file=_config_file(parsed),
        environ=os.environ,
    )
    print(features.report(settings, as_json=parsed.json))
    return os.EX_OK


def _auth(parsed: argparse.Namespace) -> int:
    from mountfs import auth

    settings = config.store_config(
        f"{parsed.service}:///",
        _layer(parsed),
        config_file=_config_file(parsed),
        environ=os.environ,
    )
    return auth.authorize(
        parsed.service,
        parsed.app_key,
        settings.store_options,
        ask=input,
        out=sys.stdout,
    )


def _carry_out(parsed: argparse.Namespace, arguments: Sequence[str]) -> int:
    if parsed.command == "mount":
        return _mount(parsed, arguments)
    return _DEEDS[parsed.command](parsed)


_DEEDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "umount": _umount,
    "status": _status,
    "wait": _wait,
    "flush": _wait,
    "warm": _warm,
    "check": _check,
    "recover": _recover,
    "features": _features,
    "auth": _auth,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logs.set_up_for_commands()
    try:
        parsed = _parse(arguments)
        return _carry_out(parsed, arguments)
    except UsageError as error:
        print(f"mountfs: {logs.redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
