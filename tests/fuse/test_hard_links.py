"""Hard links on real mounts: one inode, several names, every name a plain object."""

import os
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import run
from tests.fuse.stores import OtherSide, Store

ALL = "--virtual=all"


@pytest.fixture
def there(gated_store: Store, gated_directory: Path) -> OtherSide:
    """`gated_directory` as others see it."""
    return gated_store.below(gated_directory.name)


on_shared_stores = pytest.mark.parametrize(
    "gated_store", ["local", "s3"], indirect=True
)


def test_link_is_the_same_file(gated_directory: Path) -> None:
    """Both names have one inode number, two links, and the same everything."""
    one, two = gated_directory / "one", gated_directory / "two"
    one.write_bytes(b"bytes")

    two.hardlink_to(one)

    assert one.stat() == two.stat()
    assert one.stat().st_nlink == 2
    assert two.read_bytes() == b"bytes"
    listed = {entry.name: entry.inode() for entry in os.scandir(gated_directory)}
    assert listed["one"] == listed["two"] == one.stat().st_ino


@on_shared_stores
def test_every_name_is_a_plain_object(gated_directory: Path, there: OtherSide) -> None:
    """Other tools read the bytes under each name, and new ones as well."""
    one, two = gated_directory / "one", gated_directory / "two"
    one.write_bytes(b"old")
    two.hardlink_to(one)
    with two.open("ab") as file:
        file.write(b" and new")

    assert there.read("one") == b"old and new" == there.read("two")


def test_writing_through_one_name_shows_under_the_other(gated_directory: Path) -> None:
    """An open descriptor of one name and a reader of the other share the bytes."""
    one, two = gated_directory / "one", gated_directory / "two"
    one.write_bytes(b"x" * 10_000)
    two.hardlink_to(one)

    with one.open("r+b") as file:
        file.write(b"head")
        file.flush()
        assert two.read_bytes() == b"head" + b"x" * 9_996
    assert two.stat().st_size == 10_000


def test_link_of_an_open_new_file(gated_directory: Path) -> None:
    """A file can get its second name before it was ever closed."""
    one, two = gated_directory / "one", gated_directory / "two"
    with one.open("wb") as file:
        file.write(b"first")
        file.flush()
        two.hardlink_to(one)
        file.write(b" second")

    assert two.read_bytes() == b"first second" == one.read_bytes()


def test_unlinking_counts_down(gated_directory: Path) -> None:
    """Each name that goes takes one from the count; the last leaves an open file."""
    names = [gated_directory / name for name in ("one", "two", "three")]
    names[0].write_bytes(b"bytes")
    for name in names[1:]:
        name.hardlink_to(names[0])
    with names[0].open("r+b") as file:
        counts = []
        for name in names:
            counts.append(os.fstat(file.fileno()).st_nlink)
            name.unlink()
        counts.append(os.fstat(file.fileno()).st_nlink)
        file.write(b"still")

        assert counts == [3, 2, 1, 0]
        file.seek(0)
        assert file.read() == b"still"
    assert os.listdir(gated_directory) == []


def test_name_made_again_after_the_first_went(gated_directory: Path) -> None:
    """A name that was given up can be linked to the same file once more."""
    one, two = gated_directory / "one", gated_directory / "two"
    one.write_bytes(b"bytes")
    two.hardlink_to(one)
    one.unlink()
    one.hardlink_to(two)

    assert one.stat() == two.stat()
    assert one.stat().st_nlink == 2


def test_links_across_directories_follow_renames(gated_directory: Path) -> None:
    """Renaming a name, or a directory above one, keeps the file one file."""
    (gated_directory / "d").mkdir()
    one, two = gated_directory / "one", gated_directory / "d" / "two"
    one.write_bytes(b"old")
    two.hardlink_to(one)
    one = one.rename(gated_directory / "uno")
    (gated_directory / "d").rename(gated_directory / "e")
    two = gated_directory / "e" / "two"
    two.write_bytes(b"new")

    assert one.read_bytes() == b"new"
    assert one.stat() == two.stat()
    assert one.stat().st_nlink == 2


def test_attributes_belong_to_the_file(gated_directory: Path) -> None:
    """Mode, owner and times that are set under one name show under the other."""
    one, two = gated_directory / "one", gated_directory / "two"
    one.write_bytes(b"x")
    two.hardlink_to(one)

    one.chmod(0o640)
    os.chown(two, 12, 34)
    os.utime(one, ns=(1_000_000_001, 2_000_000_002))

    found = two.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, 12, 34)
    assert found.st_mtime_ns == 2_000_000_002


def test_symbolic_link_gets_a_second_name(gated_directory: Path) -> None:
    """link(2) names the symbolic link itself, and its attributes are one."""
    (gated_directory / "link").symlink_to("target")
    two = gated_directory / "two"

    os.link(gated_directory / "link", two, follow_symlinks=False)
    os.chown(two, 12, 34, follow_symlinks=False)

    assert two.is_symlink()
    assert os.readlink(two) == "target"
    assert two.lstat().st_nlink == 2
    assert (gated_directory / "link").lstat() == two.lstat()
    (gated_directory / "link").unlink()
    assert two.lstat().st_nlink == 1


def test_linked_symbolic_links_survive_a_remount(
    mounter: Mounter, store: Store
) -> None:
    """They are one inode, with one owner, in a mount that has nothing but the store."""
    first = mounter(store, ALL)
    (first.path / "one").symlink_to("target")
    os.link(first.path / "one", first.path / "two", follow_symlinks=False)
    os.chown(first.path / "two", 12, 34, follow_symlinks=False)
    first.unmount()

    again = mounter(store, ALL, at="elsewhere").path
    found = [(again / name).lstat() for name in ("one", "two")]

    assert found[0] == found[1]
    assert (found[0].st_nlink, found[0].st_uid, found[0].st_gid) == (2, 12, 34)


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_bare_symbolic_link_has_one_name(mounter: Mounter, store: Store) -> None:
    """A symbolic link of a disk has no place for a mark but the index: without it a
    second name is EPERM.
    """
    path = mounter(store, "--virtual=hard-link").path
    (path / "link").symlink_to("target")

    with pytest.raises(PermissionError):
        os.link(path / "link", path / "two", follow_symlinks=False)


def test_directories_have_one_name(gated_directory: Path) -> None:
    """A hard link of a directory is EPERM."""
    (gated_directory / "d").mkdir()

    with pytest.raises(PermissionError):
        os.link(gated_directory / "d", gated_directory / "e")


def test_taken_name_stays(gated_directory: Path) -> None:
    """A link never replaces what has the name."""
    (gated_directory / "one").write_bytes(b"1")
    (gated_directory / "two").write_bytes(b"2")

    with pytest.raises(FileExistsError):
        (gated_directory / "two").hardlink_to(gated_directory / "one")


def test_links_survive_a_mount_with_nothing_but_the_store(
    mounter: Mounter, store: Store
) -> None:
    """Another host sees one inode and the right count, by listing and by lookup."""
    first = mounter(store, ALL)
    (first.path / "d").mkdir()
    (first.path / "one").write_bytes(b"bytes")
    (first.path / "d" / "two").hardlink_to(first.path / "one")
    first.unmount()

    again = mounter(store, ALL, at="elsewhere")
    two = (again.path / "d" / "two").stat()

    assert two.st_nlink == 2
    assert (again.path / "one").stat() == two
    (again.path / "one").unlink()
    assert (again.path / "d" / "two").stat().st_nlink == 1
    assert (again.path / "d" / "two").read_bytes() == b"bytes"


def test_two_mounts_share_a_group(mounter: Mounter, store: Store) -> None:
    """What one mount links and writes, another sees when its time to live has ended."""
    here = mounter(store, ALL, "--ttl=0", at="here")
    there = mounter(store, ALL, "--ttl=0", at="there")
    (here.path / "one").write_bytes(b"1")
    (there.path / "two").hardlink_to(there.path / "one")
    (here.path / "three").hardlink_to(here.path / "one")

    assert {(at.path / "two").stat().st_nlink for at in (here, there)} == {3}
    (there.path / "three").write_bytes(b"from there")
    assert (here.path / "one").read_bytes() == b"from there"
    (here.path / "two").write_bytes(b"from here")
    assert (there.path / "three").read_bytes() == b"from here"


def test_cp_and_rsync_keep_links(gated_directory: Path) -> None:
    """`cp -a` and `rsync -H` copy hard links as hard links."""
    source = gated_directory / "source"
    source.mkdir()
    (source / "one").write_bytes(b"bytes")
    (source / "two").hardlink_to(source / "one")

    run("cp", "-a", source, gated_directory / "copy")
    run("rsync", "-aH", f"{source}/", gated_directory / "sync")

    for made in ("copy", "sync"):
        one, two = (gated_directory / made / name for name in ("one", "two"))
        assert one.stat().st_ino == two.stat().st_ino
        assert one.stat().st_nlink == 2
