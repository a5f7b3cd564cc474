"""Make a Debian package from what .venv holds: dist/mountfs_VERSION_ARCH.deb.

Debian has some of what mountfs needs, in versions of its own. So the package brings all
of it, in the versions that the tests ran with, in an environment below /usr/lib/mountfs
whose Python is the system's; nothing else sees it. No network is needed. The system's
Python must be of the version of .venv, here and where the package goes.
"""

import compileall
import gzip
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from py_compile import PycInvalidationMode

from licences import closure

from mountfs import __version__

CHECKOUT = Path(__file__).resolve().parent.parent
HOME = Path("usr/lib/mountfs")
SYSTEM_PYTHON = Path("/usr/bin/python3")
MAJOR, MINOR = sys.version_info[:2]
COMMANDS = {
    "usr/bin": ("mountfs",),
    "usr/sbin": (
        "mount.mountfs",
        "mount.fuse.mountfs",
        "umount.mountfs",
        "umount.fuse.mountfs",
    ),
}
SHARED = {
    "share/man": "usr/share/man",
    "share/bash-completion": "usr/share/bash-completion",
    "share/zsh/site-functions": "usr/share/zsh/vendor-completions",
    "share/fish": "usr/share/fish",
    "share/mountfs/systemd/system": "usr/lib/systemd/system",
    "share/mountfs/systemd/user": "usr/lib/systemd/user",
    "share/mountfs/systemd/samples": "usr/share/doc/mountfs/examples",
}
CONTROL = """\
Package: mountfs
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size_kib}
Depends: python3 (>= {python}), python3 (<< {next_python}), fuse3, libfuse3-3,
 libc6, ca-certificates
Section: utils
Priority: optional
Description: mount an object store as a directory
 A bucket of S3, of Google Cloud Storage, or a Dropbox becomes a directory that
 programs can use without knowing it; every file stays one plain object under
 its own key, readable by every other tool.
"""
# updatedb.conf is another package's, and knows no directory of snippets.
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    mountfs install --only updatedb >/dev/null
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
fi
"""
PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ]; then
    mountfs install --only updatedb --remove >/dev/null
fi
"""


def main() -> None:
    """Make the package, in the directory that is named or in dist/."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "dist"
    check_python()
    with tempfile.TemporaryDirectory() as work:
        root = Path(work, "root")
        fill(root, build_wheel(Path(work)))
        print(pack(root, target))


def check_python() -> None:
    """End unless the system's Python can run what lies in .venv."""
    program = "import sys; print(*sys.version_info[:2], sep='.')"
    found = said(SYSTEM_PYTHON, "-c", program) if SYSTEM_PYTHON.exists() else "none"
    if found != f"{MAJOR}.{MINOR}":
        sys.exit(f"deb: {SYSTEM_PYTHON} is {found}, and .venv is {MAJOR}.{MINOR}")


def said(*command: str | Path) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def build_wheel(work: Path) -> Path:
    """Return the wheel of this checkout."""
    options = ("--wheel", "--no-isolation", "--outdir", work)
    said(sys.executable, "-P", "-m", "build", *options, CHECKOUT)
    return next(work.glob("*.whl"))


def fill(root: Path, wheel: Path) -> None:
    """Lay out what the package holds."""
    site = root / HOME / f"lib/python{MAJOR}.{MINOR}/site-packages"
    site.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (data,) = site.glob("*.data")
    for source, place in SHARED.items():
        shutil.copytree(data / "data" / source, root / place)
    shutil.rmtree(data)
    for name in sorted(set(closure("mountfs", frozenset())) - {"mountfs"}):
        for file, inside in files_of(name):
            (site / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, site / inside)
    add_environment(root)
    for page in (root / "usr/share/man").rglob("*.[158]"):
        with gzip.GzipFile(f"{page}.gz", "wb", mtime=0) as packed:
            packed.write(page.read_bytes())
        page.unlink()
    add_documents(root / "usr/share/doc/mountfs")
    # Not by the time of the sources, which an unpacked package changes.
    mode = PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        site, quiet=2, stripdir=root, prependdir="/", invalidation_mode=mode
    )


def files_of(name: str) -> Iterator[tuple[Path, Path]]:
    """Yield the modules and data of an installed package, and where they go."""
    for file in metadata.files(name) or ():
        if file.parts[0] != ".." and "__pycache__" not in file.parts:
            yield Path(str(file.locate())), Path(file)


def add_environment(root: Path) -> None:
    """Make the environment one of the system's Python, and link its commands."""
    home = root / HOME
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(SYSTEM_PYTHON)
    (home / "pyvenv.cfg").write_text(
        f"home = {SYSTEM_PYTHON.parent}\n"
        "include-system-site-packages = false\n"
        f"version = {MAJOR}.{MINOR}\n"
    )
    for directory, names in COMMANDS.items():
        (root / directory).mkdir(parents=True, exist_ok=True)
        for name in names:
            command = home / "bin" / name
            command.write_text(launcher(name))
            command.chmod(0o755)
            link = root / directory / name
            link.symlink_to(os.path.relpath(command, link.parent))


def launcher(name: str) -> str:
    """Return the text of a command."""
    (entry,) = metadata.entry_points(group="console_scripts", name=name)
    return (
        f"#!/{HOME}/bin/python3 -P\nimport sys\n"
        f"from {entry.module} import {entry.attr}\nsys.exit({entry.attr}())\n"
    )


def add_documents(place: Path) -> None:
    """Add the licences."""
    licences = (CHECKOUT / "docs/reference/licences.md").read_text()
    licence = (CHECKOUT / "LICENSE").read_text()
    (place / "copyright").write_text(f"{licences}\n---\n\n{licence}")


def pack(root: Path, target: Path) -> Path:
    """Make the package of a tree; return it."""
    architecture = said("dpkg", "--print-architecture")
    size = sum(path.lstat().st_size for path in root.rglob("*"))
    name = os.environ.get("DEBFULLNAME", "mountfs")
    mail = os.environ.get("DEBEMAIL", f"mountfs@{platform.node()}")
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        CONTROL.format(
            version=__version__,
            architecture=architecture,
            maintainer=f"{name} <{mail}>",
            size_kib=size >> 10,
            python=f"{MAJOR}.{MINOR}",
            next_python=f"{MAJOR}.{MINOR + 1}",
        )
    )
    for script, text in (("postinst", POSTINST), ("prerm", PRERM)):
        (control / script).write_text(text)
        (control / script).chmod(0o755)
    target.mkdir(parents=True, exist_ok=True)
    package = target / f"mountfs_{__version__}_{architecture}.deb"
    said("dpkg-deb", "--root-owner-group", "-Zzstd", "--build", root, package)
    return package


if __name__ == "__main__":
    main()
