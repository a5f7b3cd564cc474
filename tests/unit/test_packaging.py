"""The wheel holds what the tree holds, under the one name `mountfs`."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = ("mountfs", "backends", "cache")
FILES = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what a build needs, links kept as links."""
    place = tmp_path / "copy"
    place.mkdir()
    for name in SOURCES:
        shutil.copytree(
            CHECKOUT / name,
            place / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in FILES:
        shutil.copy(CHECKOUT / name, place)
    return place


def build(place: Path) -> subprocess.CompletedProcess[str]:
    """Build the wheel without a network."""
    options = ("--wheel", "--no-isolation", "--outdir", place / "dist")
    return subprocess.run(
        [sys.executable, "-P", "-m", "build", *options, place],
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


def test_the_wheel_has_every_module_and_nothing_else(copy: Path) -> None:
    """No module is lost, and nothing but `mountfs` is installed."""
    done = build(copy)
    assert done.returncode == 0, done.stdout + done.stderr

    (wheel,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    installed = {name for name in names if ".dist-info/" not in name}
    assert installed == modules_of(copy)
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.parametrize("link", ["backends", "cache"])
def test_a_checkout_without_its_links_does_not_build(copy: Path, link: str) -> None:
    """A missing link fails the build; it never makes a wheel that lacks a folder."""
    (copy / "mountfs" / link).unlink()

    done = build(copy)

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
