"""A mount namespace of its own, in which the helpers are installed and fstab is ours.

mount(8) looks for helpers in /sbin alone, and reads /etc/fstab alone. Here both are
covered by mounts that nobody else sees, and that go with the namespace: nothing of
this machine is changed.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HELPERS = (
    "mount.mountfs",
    "mount.fuse.mountfs",
    "umount.mountfs",
    "umount.fuse.mountfs",
)
TIMEOUT_S = 60

_SET_UP = """\
set -eu
cd {place}
sbin=$(realpath /sbin)
mkdir bin old
mount --bind "$sbin" old
mount -t tmpfs helpers "$sbin"
cp -rs {place}/old/. "$sbin"/
cp helpers/* "$sbin"/
: > fstab
[ -e /etc/fstab ] && mount --bind fstab /etc/fstab
mkdir -p /run/mount
mount -t tmpfs notes /run/mount
echo ready
read -r line || true
"""

_HELPER = """\
#!{python} -P
import sys
sys.path.insert(0, {checkout!r})
from mountfs.{module} import main
sys.exit(main())
"""


NOBODY = 65534
USERS = Path("/mnt")
"""In the namespace: a place that users can reach."""

_LET_USERS_IN = """\
set -eu
mount -t tmpfs -o mode=755 users {users}
cd {users}
mkdir store dir home
chown {nobody} store dir home
mknod fuse c 10 229
chmod 666 fuse
mount --bind fuse /dev/fuse
for closed in {closed}; do
    mkdir -p upper$closed work$closed
    layers=lowerdir=$closed,upperdir=$PWD/upper$closed,workdir=$PWD/work$closed
    mount -t overlay -o $layers users $closed
    chmod o+x $closed
done
"""


class System:
    """What an administrator has: mount(8), umount(8) and fstab."""

    def __init__(self, place: Path, process: int, environment: dict[str, str]) -> None:
        self._place = place
        self._enter = ("nsenter", f"--target={process}", "--mount", "--")
        self._environment = environment

    def write_fstab(self, *lines: str) -> None:
        """Let these be the lines of /etc/fstab."""
        (self._place / "fstab").write_text("".join(f"{line}\n" for line in lines))

    def run(self, *command: str | Path) -> tuple[int, str]:
        """Run a command; return its exit code and what it said."""
        done = subprocess.run(
            [*self._enter, *command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            env=self._environment,
        )
        return done.returncode, done.stdout.strip()

    def let_users_in(self) -> None:
        """Let users reach /dev/fuse, this Python, and a store and directories."""
        python = Path(os.path.realpath(sys.executable))
        closed = [
            shlex.quote(str(each))
            for path in (Path(sys.executable), python, CHECKOUT)
            for each in reversed(path.parents)
            if not each.stat().st_mode & 0o001
        ]
        script = _LET_USERS_IN.format(
            users=USERS, nobody=NOBODY, closed=" ".join(dict.fromkeys(closed))
        )
        code, said = self.shell(script)
        assert code == 0, said

    def run_as_user(self, *command: str | Path) -> tuple[int, str]:
        """Run a command as nobody, from its own home."""
        become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        home = ("env", f"HOME={USERS}/home", f"XDG_RUNTIME_DIR={USERS}/home")
        return self.run(*become, *home, *command)

    def shell(self, text: str) -> tuple[int, str]:
        """Run a line of shell."""
        return self.run("sh", "-c", text)


@contextmanager
def system(place: Path) -> Iterator[System]:
    """Make a namespace whose files lie in `place`, and end it."""
    helpers = place / "helpers"
    helpers.mkdir()
    for name in HELPERS:
        module = f"{name.partition('.')[0]}_helper"
        helper = helpers / name
        helper.write_text(
            _HELPER.format(python=sys.executable, checkout=str(CHECKOUT), module=module)
        )
        helper.chmod(0o755)
    environment = {
        **os.environ,
        "MOUNTFS_CONFIG": os.devnull,
        "MOUNTFS_STATE_DIR": str(place / "state"),
        "MOUNTFS_CACHE_DIR": str(place / "cache"),
        "MOUNTFS_CACHE_SIZE": "64M",
    }
    script = _SET_UP.format(place=shlex.quote(str(place)))
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        try:
            yield System(place, keeper.pid, environment)
        finally:
            keeper.stdin.close()
