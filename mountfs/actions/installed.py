"""What lies outside of Python's reach: where mount(8), systemd, man and shells look.

`mountfs install` puts it there, `mountfs install --remove` takes it away. It may be
said again at any time, and after each upgrade. All is below one root, `/` or another
one for a package that is built.
"""

import os
import re
import sysconfig
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mountfs import mounts
from mountfs.errors import UsageError

HELPERS = (
    "mount.mountfs",
    "mount.fuse.mountfs",
    "umount.mountfs",
    "umount.fuse.mountfs",
)
PARTS = ("helpers", "units", "man", "completion", "updatedb")
COMMAND_OF_UNITS = b"/usr/bin/mountfs"
UPDATEDB = Path("etc/updatedb.conf")
PRUNED = re.compile(r'^(\s*PRUNEFS\s*=\s*")([^"\n]*)(")', re.MULTILINE)

# By part: where setuptools has put it below `share` of the prefix (`data-files` in
# pyproject.toml), where it lies in a checkout, what is ours there, and where an
# administrator's own additions belong, below /usr/local.
SHARED = {
    "man": (
        ("man/man1", "docs/man", "*mountfs*.1", "share/man/man1"),
        ("man/man5", "docs/man", "*mountfs*.5", "share/man/man5"),
        ("man/man8", "docs/man", "*mountfs*.8", "share/man/man8"),
    ),
    "completion": (
        (
            "bash-completion/completions",
            "docs/completion",
            "mountfs",
            "share/bash-completion/completions",
        ),
        (
            "zsh/site-functions",
            "docs/completion",
            "_mountfs",
            "share/zsh/site-functions",
        ),
        (
            "fish/vendor_completions.d",
            "docs/completion",
            "mountfs.fish",
            "share/fish/vendor_completions.d",
        ),
    ),
    "units": (
        ("mountfs/systemd/system", "systemd", "*.service", "lib/systemd/system"),
        ("mountfs/systemd/user", "systemd/user", "*.service", "lib/systemd/user"),
    ),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where this mountfs has its own files."""

    scripts: Path
    """The directory of the commands."""
    prefix: Path
    """Above `share`."""
    checkout: Path | None = None
    """What it runs from, if it is not installed but for its commands (`pip -e`)."""

    @classmethod
    def of_this_python(cls) -> "Origin":
        """Return that of the mountfs which runs."""
        scripts, prefix = map(sysconfig.get_path, ("scripts", "data"))
        above = Path(__file__).resolve().parents[1]
        is_checkout = (above / "docs" / "man").is_dir()
        return cls(Path(scripts), Path(prefix), above if is_checkout else None)

    def place(self, installed: str, in_checkout: str) -> Path:
        """Return the directory that is called so here or there."""
        if self.checkout is not None:
            return self.checkout / in_checkout
        return self.prefix / "share" / installed


class Installer:
    """Puts the parts below a root, and takes them away; tells each deed in a line."""

    def __init__(self, root: Path, origin: Origin, out: TextIO) -> None:
        self._root = root
        self._origin = origin
        self._out = out
        self._told = 0

    def install(self, parts: Collection[str]) -> None:
        """Put these parts where they are looked for. Raises `UsageError`."""
        with _in_a_sentence():
            for link, target in self._links(parts):
                self._link(link, target)
            for source, target in self._files(parts):
                self._copy(source, target)
            if "updatedb" in parts:
                self._edit_updatedb(with_type)
        if not self._told:
            self._tell("everything is in its place already")

    def remove(self, parts: Collection[str]) -> None:
        """Take these parts away; what is not ours stays. Raises `UsageError`."""
        with _in_a_sentence():
            links = [link for link, _ in self._links(parts) if _is_our_link(link)]
            files = [target for _, target in self._files(parts) if target.exists()]
            for path in (*links, *files):
                path.unlink()
                self._tell(f"removed {path}")
            if "updatedb" in parts:
                self._edit_updatedb(without_type)

    def _links(self, parts: Collection[str]) -> Iterator[tuple[Path, Path]]:
        """Yield the links of the helpers, and what they lead to."""
        if "helpers" not in parts:
            return
        # mount(8) knows /sbin alone, which nearly everywhere is a link.
        sbin = self._root / "sbin"
        if sbin.is_symlink() or not sbin.exists():
            sbin = self._root / "usr/sbin"
        for name in HELPERS:
            yield sbin / name, self._origin.scripts / name

    def _files(self, parts: Collection[str]) -> Iterator[tuple[Path, Path]]:
        """Yield our files below the prefix, and where they go."""
        local = self._root / "usr/local"
        for part in sorted(set(parts) & set(SHARED)):
            for installed, in_checkout, pattern, target in SHARED[part]:
                # The directory may be that of all packages of this system.
                place = self._origin.place(installed, in_checkout)
                for path in sorted(place.glob(pattern)):
                    wanted = local / target / path.name
                    if wanted != path:  # else pip has put it there, and takes it away
                        yield path, wanted

    def _link(self, link: Path, target: Path) -> None:
        if not target.exists():
            raise UsageError(f"{target} is missing: install mountfs anew")
        if _is_our_link(link):
            if link.readlink() == target:
                return
            link.unlink()
        elif os.path.lexists(link):
            raise UsageError(
                f"{link} is there and no link of ours: remove the package that it"
                " belongs to"
            )
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        self._tell(f"linked {link} to {target}")

    def _copy(self, source: Path, target: Path) -> None:
        text = source.read_bytes()
        if source.suffix == ".service":
            command = os.fsencode(self._origin.scripts / "mountfs")
            text = text.replace(COMMAND_OF_UNITS, command)
        if target.exists() and target.read_bytes() == text:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, text, mode=0o644)
        self._tell(f"wrote {target}")

    def _edit_updatedb(self, edit: Callable[[str], str]) -> None:
        """Change the list of file systems that no index of names is made of."""
        path = self._root / UPDATEDB
        if not path.exists():
            return
        before = path.read_text()
        after = edit(before)
        if after != before:
            _replace(path, after.encode(), mode=path.stat().st_mode & 0o777)
            self._tell(f"changed PRUNEFS in {path}")

    def _tell(self, deed: str) -> None:
        self._told += 1
        self._out.write(f"{deed}\n")


def _is_our_link(link: Path) -> bool:
    return link.is_symlink() and link.readlink().name == link.name


def with_type(text: str) -> str:
    """Return the text of an updatedb.conf that leaves our mounts out."""
    found = PRUNED.search(text)
    if found is None:
        end = "" if text.endswith("\n") or not text else "\n"
        return f'{text}{end}PRUNEFS="{mounts.FSTYPE}"\n'
    if mounts.FSTYPE in found[2].split():
        return text
    types = f"{found[2]} {mounts.FSTYPE}".strip()
    return f"{text[: found.start(2)]}{types}{text[found.end(2) :]}"


def without_type(text: str) -> str:
    """Return the text of an updatedb.conf that does not know our mounts."""
    found = PRUNED.search(text)
    if found is None or mounts.FSTYPE not in found[2].split():
        return text
    types = " ".join(each for each in found[2].split() if each != mounts.FSTYPE)
    return f"{text[: found.start(2)]}{types}{text[found.end(2) :]}"


def _replace(path: Path, text: bytes, *, mode: int) -> None:
    """Put a file in the place of another, whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
        try:
            new.write(text)
            new.flush()
            os.fchmod(new.fileno(), mode)
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink()
            raise


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise UsageError(
            f"{error.filename2 or error.filename} may not be changed by this user: run"
            f" `{Path(sysconfig.get_path('scripts')) / 'mountfs'} install` as root"
        ) from error
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
