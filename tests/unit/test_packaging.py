"""The wheel holds what the tree holds, under the one name `mountfs`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from mountfs import __version__

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = ("mountfs", "backends", "cache")
SHARED = ("docs/man", "docs/completion", "systemd")
FILES = ("pyproject.toml", "README.md", "LICENSE")
PIP_OPTIONS = ("install", "--quiet", "--no-deps", "--no-index")
SCRIPTS = {
    "mountfs",
    "mount.mountfs",
    "mount.fuse.mountfs",
    "umount.mountfs",
    "umount.fuse.mountfs",
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what a build needs."""
    return copied(tmp_path / "copy")


def copied(place: Path) -> Path:
    """Copy what a build needs, links kept as links."""
    place.mkdir()
    for name in (*SOURCES, *SHARED):
        shutil.copytree(
            CHECKOUT / name,
            place / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in FILES:
        shutil.copy(CHECKOUT / name, place)
    return place


def build(place: Path, *kinds: str) -> subprocess.CompletedProcess[str]:
    """Build without a network; by default an sdist, and from that the wheel."""
    options = ("--no-isolation", "--outdir", place / "dist")
    return subprocess.run(
        [sys.executable, "-P", "-m", "build", *kinds, *options, place],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def modules_of(place: Path) -> set[str]:
    """Return the files that are to be installed, by the names they get."""
    found = {"mountfs/py.typed"}
    for source in SOURCES:
        prefix = "mountfs" if source == "mountfs" else f"mountfs/{source}"
        for folder, folders, names in os.walk(place / source):
            folders[:] = [each for each in folders if each != "__pycache__"]
            inside = Path(prefix, Path(folder).relative_to(place / source))
            found |= {str(inside / name) for name in names if name.endswith(".py")}
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an sdist, and the wheel that was built from it."""
    place = copied(tmp_path_factory.mktemp("built") / "copy")
    done = build(place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (wheel,) = (built / "dist").glob("*.whl")
    return wheel


def test_the_wheel_has_every_module_and_nothing_else(built: Path, wheel: Path) -> None:
    """No module is lost, and nothing but `mountfs` is installed."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    installed = {name for name in names if ".dist-info/" not in name}
    modules = {name for name in installed if ".data/data/" not in name}
    assert modules == modules_of(built)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_sdist_and_wheel_have_units_man_pages_and_completion(
    built: Path, wheel: Path
) -> None:
    """All that lies in these folders of the checkout is there, by its name."""
    wanted = [
        path.name
        for folder in SHARED
        for path in (CHECKOUT / folder).rglob("*")
        if path.is_file()
    ]
    with zipfile.ZipFile(wheel) as archive:
        shared = [name for name in archive.namelist() if ".data/data/share/" in name]
    assert sorted(Path(name).name for name in shared) == sorted(wanted)
    (sdist,) = (built / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = [Path(each.name).name for each in archive if each.isfile()]
    assert sorted(set(held) & set(wanted)) == sorted(set(wanted))


def test_the_wheel_works_in_an_environment_of_its_own(
    wheel: Path, tmp_path: Path
) -> None:
    """Every command is there, and what they import is all in the wheel.

    What mountfs needs of others is seen where it lies already.
    """
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    run(sys.executable, "-m", "pip", "--python", python, *PIP_OPTIONS, wheel)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    others = sysconfig.get_path("purelib")
    Path(site.strip(), "others.pth").write_text(f"{others}\n")

    assert {
        each.name for each in python.parent.iterdir() if "mount" in each.name
    } == SCRIPTS
    script = python.with_name("mountfs")
    assert run(script, "--version") == f"mountfs {__version__}\n"
    assert run(python.with_name("umount.fuse.mountfs"), "--version").startswith("mount")
    where = run(python, "-c", "import mountfs.mount as m; print(m.__file__)")
    assert where.startswith(str(tmp_path))
    root = tmp_path / "root"
    run(script, "install", "--root", root)
    unit = root / "usr/local/lib/systemd/system/mountfs@.service"
    assert f"ExecStart={script} mount" in unit.read_text()
    assert (root / "usr/sbin/mount.mountfs").readlink() == script.with_name(
        "mount.mountfs"
    )


def run(*command: str | Path) -> str:
    """Run a command outside of the checkout; return what it printed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("link", ["backends", "cache"])
def test_a_checkout_without_its_links_does_not_build(copy: Path, link: str) -> None:
    """A missing link fails the build; it never makes a wheel that lacks a folder."""
    (copy / "mountfs" / link).unlink()

    done = build(copy, "--wheel")

    assert done.returncode != 0
    assert f"mountfs/{link}" in done.stdout + done.stderr


def test_every_package_is_listed() -> None:
    """The list in pyproject.toml names each folder with an `__init__.py`."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]

    found = {
        str(Path(name).parent).replace("/", ".")
        for name in modules_of(CHECKOUT)
        if name.endswith("/__init__.py")
    }
    assert set(listed) == found


def test_every_dependency_is_pinned_for_tests() -> None:
    """constraints.txt has exact versions, and all that pyproject.toml asks for."""
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    assert all(line.count("==") == 1 and "://" not in line for line in lines)

    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {each.split(">")[0].split("[")[0].strip().lower() for each in wanted}
    assert names <= pinned


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no Debian")
def test_the_debian_package_has_all_that_it_needs(tmp_path: Path) -> None:
    """It is whole without .venv, and lies where Debian's programs look."""
    made = subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "deb.py", tmp_path],
        check=False,
        capture_output=True,
        text=True,
        timeout=800,
    )
    if made.returncode and "and .venv is" in made.stderr:
        pytest.skip(made.stderr)  # this system's Python is of another version
    assert made.returncode == 0, made.stderr
    (package,) = tmp_path.glob("*.deb")
    root = tmp_path / "root"
    run("dpkg-deb", "--extract", package, root)

    python = root / "usr/lib/mountfs/bin/python3"
    asked = "import mountfs.mount as m, boto3, dropbox, google.cloud.storage as g"
    where = run(python, "-c", f"{asked}; print(m.__file__, boto3.__file__, g.__file__)")
    assert all(each.startswith(str(root)) for each in where.split())
    assert run(python, "-m", "mountfs", "--version") == f"mountfs {__version__}\n"
    links = [root / "usr/bin/mountfs", *(root / "usr/sbin").iterdir()]
    assert {link.name for link in links} == SCRIPTS
    assert all(link.resolve().is_relative_to(root) for link in links)
    for name in (
        "usr/lib/systemd/system/mountfs@.service",
        "usr/share/man/man8/mount.mountfs.8.gz",
        "usr/share/bash-completion/completions/mountfs",
        "usr/share/doc/mountfs/copyright",
    ):
        assert (root / name).is_file()
