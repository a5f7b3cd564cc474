"""What operations cost on Dropbox, counted on the wire.

`docs/reference/requests.md` has the same numbers; a test fails at one request more.
What tells of changes made elsewhere is not counted: it is one question at a time.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.dropbox_fixtures import mount_options_of
from tests.fakes.dropbox_server import DropboxServer
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.stores import DropboxFiles

EVENTS = {"files/list_folder/longpoll", "files/list_folder/continue"}


@pytest.fixture(scope="module")
def server(dropbox_certificate: Path) -> Iterator[DropboxServer]:
    """A fake for the tests of this module."""
    with DropboxServer(dropbox_certificate) as made:
        # An event between the two requests of a mkdir would cost a third, sometimes.
        made.account.tells_changes = False
        there = DropboxFiles(made, "pre/")
        for number in range(20):
            there.write(f"cold/{number}", b"bytes")
        there.write("cold/dir/file", b"bytes")
        yield made


@pytest.fixture(scope="module")
def mounted(
    server: DropboxServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """A mount that believes for long what it knows."""
    base = tmp_path_factory.mktemp("dropbox-requests")
    options = (*mount_options_of(server, base), "--ttl=1h", "--cache-size=1G")
    with Mount("dropbox:///pre", base, options, life_s=TEST_S) as mount:
        os.listdir(mount.path)
        yield mount


@pytest.fixture
def directory(mounted: Mount, server: DropboxServer) -> Iterator[Path]:
    """A directory that the mount knows to be empty."""
    mounted.watch()
    path = mounted.path / uuid.uuid4().hex[:12]
    path.mkdir()
    os.listdir(path)
    server.routes.clear()
    yield path
    mounted.check_log()
    mounted.watch(3600)


def sent(server: DropboxServer) -> list[str]:
    """Return the requests since this was asked last, in order."""
    found = [each for each in server.routes if each not in EVENTS]
    server.routes.clear()
    return [each.rpartition("/")[2] for each in found]


def _set_up(directory: Path) -> None:
    (directory / "file").write_bytes(b"bytes")
    (directory / "other").write_bytes(b"other bytes")
    (directory / "dir").mkdir()
    (directory / "dir" / "below").write_bytes(b"bytes")


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" and more")


DEEDS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "stat": (lambda top: (top / "file").stat(), []),
    "new file": (lambda top: (top / "new").write_bytes(b"new"), ["upload"]),
    "mkdir": (
        lambda top: (top / "new").mkdir(),
        ["create_folder_v2", "overwrite"],
    ),
    "symlink": (lambda top: (top / "new").symlink_to("file"), ["upload"]),
    "chmod": (lambda top: (top / "file").chmod(0o600), ["overwrite"]),
    "append": (lambda top: _append(top / "file"), ["upload"]),
    "unlink": (lambda top: (top / "file").unlink(), ["delete_v2"]),
    "rename": (
        lambda top: (top / "file").rename(top / "new"),
        ["get_metadata", "move_v2"],
    ),
    "rename of a directory": (
        lambda top: (top / "dir").rename(top / "new"),
        ["get_metadata", "move_v2", "list_folder"],
    ),
}


@pytest.mark.parametrize(("deed", "expected"), DEEDS.values(), ids=DEEDS)
def test_what_an_operation_costs(
    server: DropboxServer,
    directory: Path,
    deed: Callable[[Path], object],
    expected: list[str],
) -> None:
    """The requests of one call of a program, and no other.

    On a busy machine the times of other directories may be stored just then: what
    comes by chance does not come three times.
    """
    found: list[str] = []
    for number in range(3):
        place = directory / f"{number}"
        place.mkdir()
        _set_up(place)
        sent(server)
        deed(place)
        found = sent(server)
        if found == expected:
            break

    assert found == expected


def test_a_listing_with_attributes_asks_for_no_file(
    server: DropboxServer, mounted: Mount
) -> None:
    """One request for 2 000 entries, which may have been sent ahead of the program;
    what is read then is one download each.
    """
    sent(server)
    with os.scandir(mounted.path / "cold") as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries}
    assert len(sizes) == 21
    routes = sent(server)
    assert routes.count("list_folder") <= 2
    assert routes.count("get_metadata") <= 1
    assert (mounted.path / "cold" / "7").read_bytes() == b"bytes"
    assert set(sent(server)) <= {"download"}
