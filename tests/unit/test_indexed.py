"""Attributes of what a store keeps none of: links, directories and the root."""

import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mountfs.backends.local import LocalStore
from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.indexed import IndexedStorager, kinds_without_metadata
from mountfs.cache.records import gates_of
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import NotFound, VersionChanged
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    Attributes,
    Features,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
)
from mountfs.storage.virtual import VirtualStorager

ALL = Features.all()
SOME = Attributes(mode=0o120777, uid=7, gid=8, mtime_ns=5, xattrs={})
OTHER = Attributes(
    mode=0o120777, uid=9, gid=10, mtime_ns=6, xattrs={b"trusted.a": b"1"}
)


def of(attributes: Attributes) -> Metadata:
    return Metadata(attributes=attributes)


@dataclass
class Place:
    """One store, opened by several mounts."""

    inner: Storager

    @asynccontextmanager
    async def open(self, features: Features = ALL) -> AsyncIterator[IndexedStorager]:
        store = VirtualStorager(self.inner, features)
        kinds = kinds_without_metadata(store.capabilities)
        async with AttributeIndex(store, gates_of(features), kinds, ttl_s=0.0) as index:
            yield IndexedStorager(store, index)


@pytest.fixture
def disk(tmp_path: Path) -> Place:
    """A directory: its links are links, and keep no attributes."""
    root = tmp_path / "root"
    root.mkdir()
    return Place(LocalStore(root))


@pytest.fixture
def forgetful() -> Place:
    """A key store that keeps no metadata of directories."""
    able = dataclasses.replace(MEMORY_CAPABILITIES, dir_metadata=False)
    return Place(MemoryStore(capabilities=able))


async def attributes_of(store: Storager, key: str) -> Attributes | None:
    kind = ObjectKind.DIRECTORY if key.endswith("/") or not key else None
    found = (await store.stat(key, kind=kind)).attributes
    directory = key.rstrip("/").rpartition("/")[0]
    if key:
        page = await store.list(f"{directory}/" if directory else "")
        [listed] = [object for object in page.objects if object.key == key]
        assert listed.attributes == found, "a listing says the same"
    return found


# --- links --------------------------------------------------------------------------


async def test_link_keeps_its_attributes(disk: Place) -> None:
    """Those that it was made with, and those that it was given later."""
    async with disk.open() as store:
        made = await store.make_link("a", "target", metadata=of(SOME))
        assert made.attributes == SOME
        assert await attributes_of(store, "a") == SOME
    async with disk.open() as store:
        assert await attributes_of(store, "a") == SOME
        changed = await store.set_metadata(made, of(OTHER), condition=made.version)
        assert (changed.attributes, changed.link_target) == (OTHER, "target")
    async with disk.open() as store:
        assert await attributes_of(store, "a") == OTHER


async def test_link_that_another_program_made_has_its_own(
    disk: Place, tmp_path: Path
) -> None:
    """An entry counts for the link that it was made for, and for no other."""
    async with disk.open() as store:
        made = await store.make_link("a", "target", metadata=of(SOME))
    os.unlink(tmp_path / "root" / "a")
    os.symlink("target", tmp_path / "root" / "a")
    async with disk.open() as store:
        assert await attributes_of(store, "a") is None
        with pytest.raises(VersionChanged):
            await store.set_metadata(made, of(OTHER), condition=made.version)
        with pytest.raises(NotFound):
            await store.set_metadata(Object(key="b", kind=ObjectKind.LINK), of(OTHER))


async def test_link_made_again_has_new_attributes(disk: Place) -> None:
    """Deleting it forgets the old ones, one at a time or many at once."""
    async with disk.open() as store:
        for name in ("a", "b"):
            await store.make_link(name, "target", metadata=of(SOME))
        await store.delete("a")
        assert await store.delete_many(["b"]) == {}
        for name in ("a", "b"):
            await store.make_link(name, "target")
            assert await attributes_of(store, name) is None


async def test_moved_link_takes_its_attributes_along(disk: Place) -> None:
    """Also over another link, and into another directory."""
    async with disk.open() as store:
        await store.make_dir("d/")
        await store.make_link("a", "target", metadata=of(SOME))
        await store.make_link("d/b", "other", metadata=of(OTHER))
        moved = await store.move("a", "d/b")
        assert moved.attributes == SOME
        await store.make_link("a", "target")
    async with disk.open() as store:
        assert await attributes_of(store, "d/b") == SOME
        assert await attributes_of(store, "a") is None


async def test_moved_file_has_nothing_in_the_index(disk: Place) -> None:
    """Files keep their attributes themselves, and so does a link that is a file."""
    file = dataclasses.replace(SOME, mode=0o100640)
    async with disk.open() as store:
        await store.write("a", BytesBody(b"x"), metadata=of(file))
        await store.move("a", "b")
        assert (await store.stat("b")).attributes == file
        await store.write("c", BytesBody(b"target"), metadata=of(SOME))
        assert (await store.stat("c")).attributes == SOME
        page = await store.list(".mountfs/", mode=ListMode.PREFIX)
        assert [each.key for each in page.objects if "index" in each.key] == []


async def test_links_below_a_moved_directory_keep_their_attributes(
    disk: Place,
) -> None:
    """A directory moves in one step; the indexes below it follow."""
    async with disk.open() as store:
        for key in ("old/", "old/sub/", "older/"):
            await store.make_dir(key)
        for key in ("old/a", "old/sub/b", "older/c"):
            await store.make_link(key, "target", metadata=of(SOME))
        await store.move("old/", "new/")
        await store.make_dir("old/")
        await store.make_link("old/a", "target")
        assert await attributes_of(store, "old/a") is None
    async with disk.open() as store:
        for key in ("new/a", "new/sub/b", "older/c"):
            assert await attributes_of(store, key) == SOME
        await store.move("new/", "newer/")
        assert await attributes_of(store, "newer/sub/b") == SOME


async def test_directory_without_an_index_moves(disk: Place) -> None:
    """Where nothing was ever kept, nothing is there to be moved."""
    async with disk.open() as store:
        await store.make_dir("old/")
        moved = await store.move("old/", "new/")

    assert (moved.key, moved.kind) == ("new/", ObjectKind.DIRECTORY)


async def test_damaged_index_does_not_hold_up_a_move(disk: Place) -> None:
    """What is no index is of no directory."""
    await disk.inner.write(".mountfs/index/junk/0", BytesBody(b"junk"))
    async with disk.open() as store:
        await store.make_dir("old/")
        await store.make_link("old/a", "target", metadata=of(SOME))
        await store.move("old/", "new/")
        assert await attributes_of(store, "new/a") == SOME


# --- directories --------------------------------------------------------------------


async def test_directory_keeps_its_attributes(forgetful: Place) -> None:
    """A marker that keeps nothing, and no marker at all."""
    given = dataclasses.replace(SOME, mode=0o40700)
    async with forgetful.open() as store:
        made = await store.make_dir("d/", metadata=of(given))
        assert made.attributes == given
        await store.write("e/file", BytesBody(b"x"))
        implicit = await store.stat("e/", kind=ObjectKind.DIRECTORY)
        assert implicit.attributes is None
        await store.set_metadata(implicit, of(given))
    async with forgetful.open() as store:
        assert await attributes_of(store, "d/") == given
        assert await attributes_of(store, "e/") == given
        again = await store.make_dir("d/")
        assert again.attributes == given


async def test_mount_without_extended_attributes_keeps_them(forgetful: Place) -> None:
    """A closed gate hides what it would show, and takes nothing away."""
    full = dataclasses.replace(SOME, mode=0o40700, xattrs={b"user.a": b"1"})
    less = dataclasses.replace(full, uid=99, xattrs=None)
    closed = dataclasses.replace(ALL, virtual_xattr=False)
    async with forgetful.open() as store:
        await store.make_dir("d/", metadata=of(full))
    async with forgetful.open(closed) as store:
        found = await store.stat("d/", kind=ObjectKind.DIRECTORY)
        assert found.attributes == dataclasses.replace(full, xattrs=None)
        await store.set_metadata(found, of(less))
    async with forgetful.open() as store:
        found = await store.stat("d/", kind=ObjectKind.DIRECTORY)
        assert found.attributes == dataclasses.replace(full, uid=99)


async def test_attributes_without_extended_ones_have_none(forgetful: Place) -> None:
    """As for an object whose metadata name none: empty, not unknown."""
    async with forgetful.open() as store:
        given = Attributes(mode=0o40700)
        await store.make_dir("d/", metadata=of(given))
        found = await store.stat("d/", kind=ObjectKind.DIRECTORY)
        assert found.attributes == dataclasses.replace(given, xattrs={})


async def test_file_in_the_place_of_a_directory_inherits_nothing(
    forgetful: Place,
) -> None:
    """Names of files and of directories are never the same entry."""
    async with forgetful.open() as store:
        await store.make_dir("d/", metadata=of(SOME))
        await store.write("d", BytesBody(b"x"))
        assert (await store.stat("d")).attributes is None


# --- the root -------------------------------------------------------------------------


async def test_root_keeps_its_attributes(disk: Place, forgetful: Place) -> None:
    """On every store, and at no request but those for the index."""
    root = Object(key="", kind=ObjectKind.DIRECTORY)
    given = dataclasses.replace(SOME, mode=0o40711)
    for place in (disk, forgetful):
        async with place.open() as store:
            assert store.capabilities.root_metadata
            assert await attributes_of(store, "") is None
            await store.set_metadata(root, of(given))
        async with place.open() as store:
            assert await attributes_of(store, "") == given


# --- what is not ours -----------------------------------------------------------------


async def test_store_that_keeps_no_attributes_is_left_alone() -> None:
    """Without the gates for attributes there is nothing to be kept."""
    nothing = Place(MemoryStore())
    async with nothing.open(Features(virtual_dir=True, virtual_index=True)) as store:
        assert kinds_without_metadata(store.capabilities) == frozenset()
        assert not store.capabilities.root_metadata
        await store.make_dir("d/")
        assert (await store.stat("", kind=ObjectKind.DIRECTORY)).key == ""


async def test_our_own_keys_have_no_index(disk: Place) -> None:
    """What lies below `.mountfs/` is no entry of anybody's directory."""
    async with disk.open() as store:
        await store.make_link(".mountfs/a", "target", metadata=of(SOME))
        await store.delete(".mountfs/a")
        page = await store.list(".mountfs/", mode=ListMode.PREFIX)
        assert not any("index" in each.key for each in page.objects)


async def test_what_could_not_be_deleted_keeps_its_attributes(disk: Place) -> None:
    """Only what is gone is forgotten."""
    async with disk.open() as store:
        for key in ("full/", "full/sub/"):
            await store.make_dir(key)
        await store.make_link("full/a", "target", metadata=of(SOME))
        failed = await store.delete_many(["full/"])
        assert failed.keys() == {"full/"}
        assert await attributes_of(store, "full/a") == SOME
