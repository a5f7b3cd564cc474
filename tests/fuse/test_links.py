"""Symbolic links: their targets are the user's own words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter
from tests.fuse.mounting import Mount
from tests.fuse.stores import Store

TARGETS = [
    b"file",
    b"../up/and/away",
    b"/absolute/and/missing",
    b"a//b/./c/",
    b"trailing space ",
    "ä\N{SNOWMAN}".encode(),
    b"not utf-8 \xff",
    b"new\nline",
    b"t" * 1000,
    b"x/" * 2000 + b"y",
]


def test_targets_are_kept_verbatim(
    mounter: Mounter, store: Store, remounter: Callable[[Mount], Mount]
) -> None:
    """A target is never resolved or rewritten, also after a remount."""
    mount = mounter(store)
    for number, target in enumerate(TARGETS):
        (mount.path / f"link-{number}").symlink_to(os.fsdecode(target))

    again = remounter(mount).path

    for number, target in enumerate(TARGETS):
        link = again / f"link-{number}"
        # Path.readlink() would tidy the target up.
        assert os.readlink(os.fsencode(link)) == target
        assert link.lstat().st_size == len(target)


def test_link_is_followed(directory: Path) -> None:
    """A link leads to its target, for reading and writing."""
    (directory / "file").write_bytes(b"old")
    (directory / "link").symlink_to("file")

    (directory / "link").write_bytes(b"new")

    assert (directory / "file").read_bytes() == b"new"


def test_link_to_a_directory_is_followed(directory: Path) -> None:
    """A link leads through a directory."""
    (directory / "d").mkdir()
    (directory / "link").symlink_to("d")
    (directory / "link" / "file").write_bytes(b"x")

    assert (directory / "d" / "file").read_bytes() == b"x"


def test_dangling_link_is_enoent(directory: Path) -> None:
    """A link to nothing exists by itself and leads nowhere."""
    (directory / "link").symlink_to("nowhere")

    assert (directory / "link").is_symlink()
    with pytest.raises(FileNotFoundError):
        (directory / "link").read_bytes()


def test_writing_through_a_dangling_link_makes_its_target(directory: Path) -> None:
    """A file that is made through a link has the target's name."""
    (directory / "link").symlink_to("target")
    (directory / "link").write_bytes(b"x")

    assert (directory / "target").read_bytes() == b"x"


def test_loop_of_links_is_eloop(directory: Path) -> None:
    """A link to itself is ELOOP."""
    (directory / "link").symlink_to("link")

    with pytest.raises(OSError, match="symbolic links"):
        (directory / "link").read_bytes()


def test_link_over_an_existing_name_is_eexist(directory: Path) -> None:
    """symlink(2) replaces nothing."""
    (directory / "file").touch()

    with pytest.raises(FileExistsError):
        (directory / "file").symlink_to("x")


def test_link_is_renamed_and_removed(directory: Path) -> None:
    """rename(2) and unlink(2) are about the link, not its target."""
    (directory / "file").write_bytes(b"x")
    (directory / "link").symlink_to("file")

    (directory / "link").rename(directory / "moved")
    target = (directory / "moved").readlink()
    (directory / "moved").unlink()

    assert target == Path("file")
    assert [path.name for path in directory.iterdir()] == ["file"]


def test_link_replaced_atomically(directory: Path) -> None:
    """`ln -sfn` in its safe form: a new link renamed over the old one."""
    (directory / "link").symlink_to("one")
    (directory / "link.new").symlink_to("two")

    (directory / "link.new").rename(directory / "link")

    assert (directory / "link").readlink() == Path("two")
