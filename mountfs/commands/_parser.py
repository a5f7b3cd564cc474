"""What the parsers of all commands share."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from mountfs import config
from mountfs.config import MountConfig, Setting, StoreConfig
from mountfs.errors import UsageError
from mountfs.options import OPTIONS

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
            group.add_argument(name, metavar=option.metavar, help=option.help)


def layer_of(parsed: argparse.Namespace) -> dict[str, Setting]:
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


def mount_config(
    parsed: argparse.Namespace, url: str, mount_point: str = "/"
) -> MountConfig:
    """Return the settings of a mount as this command line and all else gives them."""
    return config.mount_config(
        url,
        mount_point,
        layer_of(parsed),
        config_file=_config_file(parsed),
        environ=os.environ,
    )


def store_config(parsed: argparse.Namespace, url: str) -> StoreConfig:
    """Return the settings of a store as this command line and all else gives them."""
    return config.store_config(
        url, layer_of(parsed), config_file=_config_file(parsed), environ=os.environ
    )
