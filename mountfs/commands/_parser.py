"""What the parsers of all commands share."""

import argparse
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from mountfs import mounts
from mountfs.configuration import config, effective
from mountfs.configuration.config import MountConfig, StoreConfig
from mountfs.configuration.config_file import NAME
from mountfs.configuration.fstab import own_pairs
from mountfs.configuration.options import OPTIONS
from mountfs.configuration.settings import Setting, options_layer, split_options
from mountfs.errors import UsageError

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(
            r"ignored explicit argument (.*)", r"it takes no value, not \1", message
        )
        raise UsageError(f"{message}; `{self.prog} --help` tells more")


def add_options(
    parser: argparse.ArgumentParser, *, is_mount: bool, others: Sequence[str] = ()
) -> None:
    """Add the options of the store, and of the mount, or only these others of it."""
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
            action = "append" if option.is_list else "store"
            group.add_argument(
                name, action=action, metavar=option.metavar, help=option.help
            )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add what lets programs read what a command has to say."""
    parser.add_argument("--json", action="store_true", help="for programs")


def layer_of(parsed: argparse.Namespace) -> dict[str, Setting]:
    """Return what the command line says; long options win over `-o`."""
    pairs = [pair for each in parsed.o for pair in split_options(each)]
    layer = options_layer(own_pairs(pairs))
    for option in OPTIONS:
        text = getattr(parsed, option.field, None)
        if isinstance(text, list):
            text = ",".join(text)
        if text is not None:
            layer[option.field] = Setting(text, f"--{option.name}")
    return layer


def config_file(parsed: argparse.Namespace) -> Path | None:
    """Return the file that `--config` names."""
    return Path(parsed.config).absolute() if parsed.config is not None else None


def mount_config(
    parsed: argparse.Namespace, target: str | None, mount_point: str | None = "/"
) -> MountConfig:
    """Return the settings of a mount as this command line and all else gives them."""
    return config.mount_config(
        target,
        mount_point,
        layer_of(parsed),
        config_file=config_file(parsed),
        environ=os.environ,
    )


def store_config(parsed: argparse.Namespace, url: str) -> StoreConfig:
    """Return the settings of a store as this command line and all else gives them."""
    return config.store_config(
        url, layer_of(parsed), config_file=config_file(parsed), environ=os.environ
    )


def directory_of(place: str, file: Path | None = None) -> str:
    """Return the directory that is meant by a path in a mount, or by a mount's name.

    A path goes before a name, so that no file makes a script mean something else.
    """
    if not NAME.fullmatch(place) or mounts.find_ours(place) is not None:
        return place
    found = None
    with _left_to_paths(place, "the directory of the mount"):
        found = effective.mount_point_of(place, file, os.environ)
    return found or place


def is_name(place: str, file: Path | None, *, instead: str) -> bool:
    """Tell whether the files have a mount of this name.

    `instead` is what can be named where they cannot be read.
    """
    is_known = False
    with _left_to_paths(place, instead):
        if NAME.fullmatch(place):
            is_known = effective.is_known(place, file, os.environ)
    return is_known


@contextlib.contextmanager
def _left_to_paths(place: str, instead: str) -> Iterator[None]:
    """Let no file that is wrong keep anybody from looking at a directory."""
    try:
        yield
    except UsageError as error:
        if not os.path.lexists(place):
            raise UsageError(f"{error}; or name {instead}") from error
