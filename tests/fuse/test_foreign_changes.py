"""What another program changes in the store, seen through the mount.

The time to live is 0 in most of these mounts, so nothing has to be waited for.
"""

import errno
import os
import random
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.stores import Store

MIB = 1 << 20
AT_ONCE = "--ttl=0"


def test_created_file_appears(mounter: Mounter, store: Store) -> None:
    """A new object is a new file, also after its name was asked for in vain."""
    path = mounter(store, AT_ONCE).path
    assert not (path / "file").exists()
    assert list(path.iterdir()) == []

    store.there.write("file", b"foreign")

    assert (path / "file").read_bytes() == b"foreign"
    assert [each.name for each in path.iterdir()] == ["file"]


def test_created_tree_appears(mounter: Mounter, store: Store) -> None:
    """A key with slashes makes directories."""
    path = mounter(store, AT_ONCE).path
    store.there.write("a/b/c", b"deep")

    assert (path / "a" / "b" / "c").read_bytes() == b"deep"
    assert (path / "a").is_dir()


@pytest.mark.parametrize("content", [b"shorter", b"same size", b"much longer than it"])
def test_replaced_file_is_read_anew(
    mounter: Mounter, store: Store, content: bytes
) -> None:
    """A foreign overwrite is seen by the next open, whatever its size."""
    path = mounter(store, AT_ONCE).path
    (path / "file").write_bytes(b"old bytes")
    assert (path / "file").read_bytes() == b"old bytes"

    store.there.write("file", content)

    assert (path / "file").read_bytes() == content
    assert (path / "file").stat().st_size == len(content)


def test_replaced_file_is_appended_to(mounter: Mounter, store: Store) -> None:
    """An append goes to the end of the foreign bytes, not into them."""
    path = mounter(store, AT_ONCE).path
    (path / "file").write_bytes(b"old")
    store.there.write("file", b"foreign and longer")

    with (path / "file").open("ab") as file:
        file.write(b" tail")

    assert store.there.read("file") == b"foreign and longer tail"


def test_deleted_file_disappears(mounter: Mounter, store: Store) -> None:
    """A foreign delete is ENOENT."""
    path = mounter(store, AT_ONCE).path
    (path / "file").write_bytes(b"x")

    store.there.delete("file")

    assert not (path / "file").exists()
    with pytest.raises(FileNotFoundError):
        (path / "file").read_bytes()
    assert list(path.iterdir()) == []


def test_change_is_seen_when_the_time_to_live_ends(
    mounter: Mounter, store: Store
) -> None:
    """With a time to live of 300 ms an overwrite is seen soon without a remount."""
    path = mounter(store, "--ttl=300ms").path
    (path / "file").write_bytes(b"old")

    store.there.write("file", b"brand new")

    # Each look asks anew once the last answer is too old; it must end well.
    while (path / "file").read_bytes() == b"old":
        os.sched_yield()
    assert (path / "file").read_bytes() == b"brand new"


def test_open_file_never_mixes_versions(mounter: Mounter, store: Store) -> None:
    """A reader keeps its version or gets ESTALE, and never sees both."""
    old, new = (random.Random(seed).randbytes(24 * MIB) for seed in (1, 2))
    store.there.write("file", old)
    path = mounter(store, AT_ONCE, "--cache-size=16M").path

    with (path / "file").open("rb", buffering=0) as file:
        begin = os.pread(file.fileno(), 1000, 0)
        store.there.write("file", new)
        seen, code = read_to_the_end(file.fileno())

    assert begin == old[:1000]
    assert seen == old[: len(seen)]
    assert code == (None if len(seen) == len(old) else errno.ESTALE)
    assert (path / "file").read_bytes() == new


def read_to_the_end(descriptor: int) -> tuple[bytes, int | None]:
    """Return what can be read, and the error that ended it, if one did."""
    seen = b""
    while True:
        try:
            piece = os.pread(descriptor, MIB, len(seen))
        except OSError as error:
            return seen, error.errno
        if not piece:
            return seen, None
        seen += piece


def test_losing_a_race_keeps_the_foreign_bytes(mounter: Mounter, store: Store) -> None:
    """Closing an edit of an object that was replaced meanwhile is an error, and the
    foreign bytes stay; ours are kept in the state directory.
    """
    mount = mounter(store, AT_ONCE, "--conflict=fail")
    for pattern in ("file", "flush", "not in the store"):
        mount.announce(pattern)
    (mount.path / "file").write_bytes(b"common ground")

    file = (mount.path / "file").open("r+b", buffering=0)
    file.write(b"OURS")
    store.there.write("file", b"theirs, foreign")
    with pytest.raises(OSError, match=r"."):
        file.close()

    assert store.there.read("file") == b"theirs, foreign"
    mount.process.terminate()
    mount.process.wait(60)
    assert b"OURSon ground" in bytes_below(mount.state_dir)


def test_name_of_a_lost_race_shows_the_foreign_bytes(
    mounter: Mounter, store: Store
) -> None:
    """Who lost is told once: the name goes on with what is in the store, and can be
    written again, which ends what was kept of it.
    """
    mount = mounter(store, AT_ONCE, "--conflict=fail")
    mount.announce(r"file|flush|not in the store")
    (mount.path / "file").write_bytes(b"common ground")
    file = (mount.path / "file").open("wb", buffering=0)
    store.there.write("file", b"theirs")
    with pytest.raises(OSError, match=r"."):
        file.close()

    assert (mount.path / "file").read_bytes() == b"theirs"
    (mount.path / "file").write_bytes(b"newer")
    assert store.there.read("file") == b"newer"
    mount.unmount()  # which fails if anything waits


def test_bytes_that_the_kernel_brings_too_late_are_kept(
    mounter: Mounter, store: Store
) -> None:
    """Bytes lie in the kernel until the close; the file was found replaced before."""
    mount = mounter(store, AT_ONCE, "--conflict=fail")
    mount.announce(r"file|flush|not in the store")
    (mount.path / "file").write_bytes(b"common ground")

    file = (mount.path / "file").open("r+b", buffering=0)
    file.write(b"OURS")
    store.there.write("file", b"theirs, foreign")
    assert (mount.path / "file").read_bytes() == b"theirs, foreign"
    with pytest.raises(OSError, match=r".") as caught:
        file.close()

    assert caught.value.errno == errno.ESTALE
    assert (mount.path / "file").read_bytes() == b"theirs, foreign"
    mount.process.terminate()
    mount.process.wait(60)
    assert b"OURS" in bytes_below(mount.state_dir)


@pytest.mark.parametrize("mode", ["wb", "ab", "xb"])
def test_creating_over_an_unseen_object_keeps_it(
    mounter: Mounter, store: Store, mode: str
) -> None:
    """A name that is remembered as absent may have been taken: its bytes stay."""
    mount = mounter(store, "--ttl=1h", "--conflict=fail")
    mount.announce(r".")
    assert not (mount.path / "file").exists()
    store.there.write("file", b"foreign")

    try:
        with (mount.path / "file").open(mode) as file:
            file.write(b"ours")
    except OSError:
        expected = b"foreign"
    else:
        expected = {"wb": b"ours", "ab": b"foreignours"}[mode]

    assert store.there.read("file") == expected
    mount.process.terminate()
    mount.process.wait(60)


def test_object_deleted_while_it_is_edited(mounter: Mounter, store: Store) -> None:
    """The edit is stored, or the close fails and the bytes are kept here."""
    mount = mounter(store, AT_ONCE)
    mount.announce(r".")
    (mount.path / "file").write_bytes(b"common ground")

    file = (mount.path / "file").open("r+b", buffering=0)
    file.write(b"OURS")
    store.there.delete("file")
    try:
        file.close()
    except OSError:
        assert "file" not in store.there.listing()
    else:
        assert store.there.read("file") == b"OURSon ground"
    mount.process.terminate()
    mount.process.wait(60)
    kept = bytes_below(mount.state_dir)
    assert "file" in store.there.listing() or b"OURS" in kept


def test_foreign_directory_removed_and_made_again(
    mounter: Mounter, store: Store
) -> None:
    """Directories that others make and empty come and go."""
    path = mounter(store, AT_ONCE).path
    store.there.write("d/one", b"1")
    assert [each.name for each in (path / "d").iterdir()] == ["one"]

    store.there.write("d/two", b"2")
    store.there.delete("d/one")

    assert [each.name for each in (path / "d").iterdir()] == ["two"]
    assert (path / "d" / "two").read_bytes() == b"2"


def test_kind_of_a_name_changes(mounter: Mounter, store: Store) -> None:
    """A file that others replaced by a directory is one at the next look."""
    path = mounter(store, AT_ONCE).path
    store.there.write("name", b"file")
    assert (path / "name").read_bytes() == b"file"

    store.there.delete("name")
    store.there.write("name/child", b"x")

    assert (path / "name").is_dir()
    assert (path / "name" / "child").read_bytes() == b"x"


def bytes_below(directory: Path) -> bytes:
    """Return the bytes of all files below a directory."""
    return b"\n".join(
        path.read_bytes() for path in directory.rglob("*") if path.is_file()
    )


def test_two_mounts_of_one_store(mounter: Mounter, store: Store) -> None:
    """What one mount closed, the other opens: close-to-open between mounts."""
    one, two = (mounter(store, AT_ONCE, at=name).path for name in ("one", "two"))

    for number in range(5):
        (one / "file").write_bytes(b"from one %d" % number)
        assert (two / "file").read_bytes() == b"from one %d" % number
        (two / "file").write_bytes(b"from two, %d" % number)
        assert (one / "file").read_bytes() == b"from two, %d" % number

    (one / "d").mkdir()
    (two / "d" / "child").touch()
    (one / "d" / "child").rename(one / "moved")
    assert sorted(path.name for path in two.iterdir()) == ["d", "file", "moved"]
