"""SIGKILL while a directory is renamed: the next mount finishes it, forward."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.stores import OtherSide, Store, objects_of

FILES = 400 if "AT_LENGTH" in os.environ else 200
pytestmark = pytest.mark.fuse


def rename(old: Path, new: Path) -> None:
    """Rename, and take whatever the crash makes of it."""
    with suppress(OSError):
        old.rename(new)


def wait_for_a_key_below(there: OtherSide, prefix: str) -> None:
    """Return when the first key below a prefix is there; the test's limit bounds it."""
    while not any(
        key.startswith(prefix) and not key.endswith("/") for key in there.listing()
    ):
        pass


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_directory_rename_is_finished_by_the_next_mount(
    mounter: Mounter, store: Store
) -> None:
    """After a crash between the first copy and the last delete every file is under the
    new name, once, with its bytes.
    """
    for number in range(FILES):
        store.there.write(f"old/d{number % 3}/{number}", b"%d" % number)
    mount = mounter(store)
    deed = (mount.path / "old", mount.path / "new")
    renaming = threading.Thread(target=rename, args=deed)
    renaming.start()
    wait_for_a_key_below(store.there, "new/")
    mount.end(signal.SIGKILL)
    renaming.join(60)

    again = mounter(store)
    again.announce("cleaning up")

    found = objects_of(store.there)
    found = {key: found[key] for key in found if not key.startswith(".mountfs/")}
    expected = {f"new/d{n % 3}/{n}": b"%d" % n for n in range(FILES)}
    assert found == expected
    assert {path.name for path in again.path.iterdir()} == {"new"}
    assert len(list((again.path / "new" / "d0").iterdir())) == len(range(0, FILES, 3))
