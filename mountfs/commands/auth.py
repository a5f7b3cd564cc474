"""`mountfs auth`."""

import argparse
import sys

from mountfs.commands._parser import Commands, add_options, store_config


def add(commands: Commands) -> None:
    """Add the command."""
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
    parser.add_argument(
        "--keyring",
        action="store_true",
        help="keep the token in the keyring of the desktop, not in a file",
    )
    add_options(parser, is_mount=False)
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions import auth

    settings = store_config(parsed, f"{parsed.service}:///")
    return auth.authorize(
        parsed.service,
        parsed.app_key,
        settings.store_options,
        in_keyring=parsed.keyring,
        ask=input,
        out=sys.stdout,
    )
