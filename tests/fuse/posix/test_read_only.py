"""EROFS: what a file system that may only be read answers to every change."""

import subprocess
from collections.abc import Callable, Iterator
from os import O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY
from pathlib import Path

import pytest

from tests.fuse.marks import needs_root
from tests.fuse.mounting import TEST_S, Mount
from tests.fuse.posix.calls import ALICE, OK, Call, Case, call, case
from tests.fuse.posix.conftest import JUDGE, tmpfs
from tests.fuse.posix.kinds import makers
from tests.fuse.posix.place import Place
from tests.fuse.stores import Store

pytestmark = needs_root

THERE = "there"
FILE, DIRECTORY, LINK = "file", "dir", "link"
FILLED = [
    call("fill", FILE, "bytes"),
    call("mkdir", DIRECTORY, 0o755),
    call("symlink", FILE, LINK),
]


def reading() -> Iterator[tuple[Call, str]]:
    yield call("content", FILE), "bytes"
    yield call("open", FILE, O_RDONLY), OK
    yield call("open", FILE, O_RDONLY | O_CREAT), OK
    yield call("list", DIRECTORY), ""
    yield call("readlink", LINK), "file"
    yield call("look", FILE, "kind mode"), "file 0644"


def changing() -> Iterator[Call]:
    for flags in (O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_CREAT):
        yield call("open", FILE, flags)
    yield from (
        call("chmod", FILE, 0o600),
        call("chown", FILE, ALICE.uid, ALICE.gid),
        call("lchown", LINK, ALICE.uid, ALICE.gid),
        call("truncate", FILE, 0),
        call("utimens", FILE, "1.0", "2.0"),
        call("touch", FILE),
        call("unlink", FILE),
        call("unlink", LINK),
        call("rmdir", DIRECTORY),
        call("rename", FILE, f"{DIRECTORY}/new"),
        call("link", FILE, f"{DIRECTORY}/new"),
    )
    yield from makers(f"{DIRECTORY}/new").values()


@pytest.fixture(params=(JUDGE, "local", "s3"))
def read_only(
    request: pytest.FixtureRequest,
    make_store: Callable[[str], Store],
    tmp_path: Path,
) -> Iterator[Path]:
    """A file system with a few things in it that may be read and not changed."""
    if request.param == JUDGE:
        with tmpfs(tmp_path):
            _fill(tmp_path)
            remount = ["mount", "-o", "remount,ro", str(tmp_path)]
            subprocess.run(remount, check=True, timeout=30)
            yield tmp_path
        return
    store = make_store(request.param)
    options = (*store.options, "--cache-size=512M", "--virtual=all")
    with Mount(store.url, tmp_path / "rw", options, life_s=TEST_S) as mount:
        _fill(mount.path)
    options = (*options, "--read-only")
    with Mount(store.url, tmp_path / "ro", options, life_s=TEST_S) as mount:
        yield mount.path


def _fill(path: Path) -> None:
    with Place(path, lambda: None) as place:
        place.check([case("fill", FILLED)], at=THERE)


def test_read_only_file_system_is_read_only(read_only: Path) -> None:
    """Reading works, and every change is EROFS."""
    with Place(read_only, lambda: None) as place:
        steps = [*reading(), *((made, "EROFS") for made in changing())]
        place.check([Case("read only", tuple(steps))], at=THERE)
