"""What extended attributes and special files cost, counted on the wire and in the log.

`moto` counts requests to the store; the debug log of a mount counts those of the
kernel.
"""

import os
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.s3_servers import S3Server
from tests.fuse.conftest import GATED, Mounter
from tests.fuse.counting import Counted, CountingShim, store_behind
from tests.fuse.mounting import TEST_S, Mount, run
from tests.fuse.stores import Store

GATES = (
    "virtual_dir,virtual_link,virtual_move,virtual_append,virtual_object_metadata,"
    "virtual_xattr,virtual_special"
)
FILES = 1000


@pytest.fixture(scope="module")
def gated_counted(
    moto_server: S3Server,
    counting_shim: CountingShim,
    counting_bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Counted]:
    """As `counted`, with extended attributes and special files."""
    store = store_behind(counting_shim, moto_server, counting_bucket)
    base = tmp_path_factory.mktemp("counted")
    options = (*store.options, "--cache-size=1G", "--ttl=3600", f"--virtual={GATES}")
    with Mount(store.url, base, options, life_s=TEST_S) as mount:
        yield Counted(mount, store, counting_shim)
        mount.watch(3600)


@pytest.fixture
def there(gated_counted: Counted) -> Iterator[Path]:
    """A new directory in that mount: complete, empty, with a marker."""
    gated_counted.mount.watch()
    path = gated_counted.path / uuid.uuid4().hex[:12]
    path.mkdir()
    yield path
    gated_counted.mount.check_log()


def test_setxattr_of_a_stored_file_is_one_copy(
    gated_counted: Counted, there: Path
) -> None:
    """As chmod is, and so is a removal; reading what is known costs nothing."""
    (there / "file").write_bytes(b"bytes")

    with gated_counted.requests() as setting:
        os.setxattr(there / "file", "user.a", b"1")
    with gated_counted.requests() as reading:
        assert os.getxattr(there / "file", "user.a") == b"1"
        assert os.listxattr(there / "file") == ["user.a"]
        assert os.getxattr(there / "file", "user.mountfs.etag")
    with gated_counted.requests() as removing:
        os.removexattr(there / "file", "user.a")

    assert setting == removing == {"CopyObject": 1}
    assert not reading


def test_setting_what_is_set_sends_nothing(gated_counted: Counted, there: Path) -> None:
    """The same value again, and a change that is refused, are free."""
    (there / "file").write_bytes(b"bytes")
    os.setxattr(there / "file", "user.a", b"1")

    with gated_counted.requests() as tally:
        os.setxattr(there / "file", "user.a", b"1")
        with pytest.raises(FileExistsError):
            os.setxattr(there / "file", "user.a", b"2", os.XATTR_CREATE)
        with pytest.raises(OSError, match=r"No data|attribute"):
            os.removexattr(there / "file", "user.b")

    assert not tally


def test_attributes_of_a_new_file_travel_with_it(
    gated_counted: Counted, there: Path, tmp_path: Path
) -> None:
    """cp -a of a file with attributes is one PUT, as of any file."""
    (tmp_path / "file").write_bytes(b"bytes")
    os.setxattr(tmp_path / "file", "user.a", b"1")

    with gated_counted.requests() as tally:
        run("cp", "-a", tmp_path / "file", there / "file")

    assert tally == {"PutObject": 1}
    assert os.getxattr(there / "file", "user.a") == b"1"


def test_writing_asks_the_store_for_no_attribute(
    gated_counted: Counted, there: Path
) -> None:
    """The kernel asks for security.capability before every write(2); we know."""
    with gated_counted.requests() as tally, (there / "file").open("wb", 0) as file:
        for _ in range(100):
            file.write(b"x" * 4096)

    assert tally == {"PutObject": 1}


def test_attributes_that_metadata_have_no_room_for(
    gated_counted: Counted, there: Path
) -> None:
    """One PUT more for the object that holds them, once for the same attributes."""
    for name in ("one", "two"):
        (there / name).write_bytes(b"bytes")

    with gated_counted.requests() as first:
        os.setxattr(there / "one", "user.large", b"x" * 4096)

    assert first == {"PutObject": 1, "CopyObject": 1}


def test_special_file_is_one_put(gated_counted: Counted, there: Path) -> None:
    """Like a file; a change of its mode is one COPY."""
    with gated_counted.requests() as making:
        os.mkfifo(there / "pipe")
    with gated_counted.requests() as changing:
        (there / "pipe").chmod(0o600)

    assert making == {"PutObject": 1}
    assert changing == {"CopyObject": 1}


def test_attributes_that_a_listing_did_not_tell_are_one_head(
    mounter: Mounter, gated_counted: Counted, there: Path
) -> None:
    """For each file, once, if somebody asks for them."""
    objects = gated_counted.there(there)
    for number in range(40):
        objects.write(f"file-{number:02}", b"bytes")
    store = Store(gated_counted.store.url, gated_counted.store.options)
    mount = mounter(store, "--ttl=3600", f"--virtual={GATES}", at="other")
    other = Counted(mount, gated_counted.store, gated_counted.shim)
    directory = mount.path / there.name
    run("ls", "-l", directory)

    with other.requests() as tally:
        for _ in range(3):
            assert os.listxattr(directory / "file-39") == []

    assert tally == {"HeadObject": 1}


def asked_in(mount: Mount, *command: str | Path) -> Counter[str]:
    """Return what the kernel asked for while a command ran, by handler."""
    before = len(mount.log())
    run(*command)
    os.statvfs(mount.path)
    lines = re.findall(r"the kernel asks: (\w+)", mount.log()[before:])
    return Counter(name for name in lines if name not in {"statfs", "forget"})


@pytest.mark.parametrize("gates", [(), GATED], ids=["default", "all"])
def test_long_listing_that_is_known_asks_little(
    mounter: Mounter, gates: tuple[str, ...]
) -> None:
    """ls -l reads the directory, and asks for at most two attributes of each entry."""
    options = ("--ttl=3600", "--log-level=debug")
    mount = mounter(Store("memory://"), *options, *gates)
    directory = mount.path / "d"
    directory.mkdir()
    for number in range(FILES):
        (directory / f"{number:04}").write_bytes(b"x")
    run("ls", "-l", directory)

    asked = asked_in(mount, "ls", "-l", directory)

    reading = {"opendir", "readdir", "releasedir", "getattr", "lookup"}
    limit = 2 * FILES + 1 if gates else 0
    assert asked.pop("getxattr", 0) + asked.pop("listxattr", 0) <= limit
    assert set(asked) <= reading
    assert asked["getattr"] + asked["lookup"] <= 2
