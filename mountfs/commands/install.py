"""`mountfs install`."""

import argparse
import sys
from pathlib import Path

from mountfs.commands._parser import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "install",
        help="let mount(8), systemd, man and shells find mountfs (as root)",
        description="Link the helpers of mount(8) and umount(8) in /sbin, copy units,"
        " man pages and completion to /usr/local, and keep updatedb out of mounts. It"
        " can be said again at any time; --remove takes all of it away.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--remove", action="store_true", help="take away what was installed"
    )
    parser.add_argument(
        "--only",
        metavar="PART",
        action="append",
        choices=("helpers", "units", "man", "completion", "updatedb"),
        help="this part: helpers, units, man, completion or updatedb",
    )
    parser.add_argument(
        "--root", metavar="DIR", default="/", help="install below DIR, for packages"
    )
    parser.set_defaults(carry_out=carry_out)


def carry_out(parsed: argparse.Namespace) -> int:
    """Carry it out; return the exit code."""
    from mountfs.actions.installed import PARTS, Installer, Origin

    root = Path(parsed.root).absolute()
    installer = Installer(root, Origin.of_this_python(), sys.stdout)
    parts = frozenset(parsed.only or PARTS)
    if parsed.remove:
        installer.remove(parts)
    else:
        installer.install(parts)
    return 0
