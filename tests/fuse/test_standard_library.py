"""A real source tree goes in, and comes out of a fresh mount with an empty cache."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount, run
from tests.fuse.stores import Store, files_of
from tests.fuse.trees import copy_standard_library

AMOUNTS = [
    pytest.param(800, id="some"),
    pytest.param(
        1_000_000, id="whole", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]
    ),
]


@pytest.mark.parametrize("files_max", AMOUNTS)
def test_standard_library_survives_a_remount(
    mounter: Mounter,
    store: Store,
    remounter: Callable[[Mount], Mount],
    tmp_path: Path,
    files_max: int,
) -> None:
    """`cp -r`, `diff -r`, remount with nothing kept here, `diff -r`: all the same, and
    every file is one plain object under its own key, beside markers of directories.
    """
    source = copy_standard_library(tmp_path / "source", files_max=files_max)
    mount = mounter(store, life_s=1500)
    run("cp", "-r", source, mount.path / "lib", timeout=900)
    run("diff", "-r", source, mount.path / "lib", timeout=900)

    again = remounter(mount)
    again.watch(1500)

    run("diff", "-r", source, again.path / "lib", timeout=900)
    check_objects(store, source, "lib")


def check_objects(store: Store, source: Path, name: str) -> None:
    """Compare what the store holds with what was copied in."""
    expected = {f"{name}/{key}": content for key, content in files_of(source).items()}
    directories = {f"{name}/{path.relative_to(source)}/" for path in source.rglob("*/")}
    keys = {key for key in store.there.listing() if not key.startswith(".mountfs/")}

    assert keys - directories - {f"{name}/"} == expected.keys()
    for key, content in expected.items():
        assert store.there.read(key) == content, key


@pytest.mark.slow
@pytest.mark.parametrize("files_max", [pytest.param(300, id="some")])
def test_standard_library_in_memory(
    directory: Path, tmp_path: Path, files_max: int
) -> None:
    """`cp -r` and `diff -r` within one mount."""
    source = copy_standard_library(tmp_path / "source", files_max=files_max)

    run("cp", "-r", source, directory / "lib")

    run("diff", "-r", source, directory / "lib")
