"""Attributes of everything in the index, on a store that keeps no metadata."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.indexed_files import ALL_KINDS, IndexedFiles
from mountfs.cache.records import gates_of
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import VersionChanged
from mountfs.storage.types import Attributes, Features, ListMode, Metadata, ObjectKind
from mountfs.storage.virtual import VirtualStorager

BARE = dataclasses.replace(
    MEMORY_CAPABILITIES,
    metadata=False,
    attributes=False,
    xattrs=False,
    specials=False,
    dir_metadata=False,
    list_metadata=False,
    set_metadata=False,
    pairs=frozenset(),
)
SOME = Attributes(mode=0o100640, uid=7, gid=8, mtime_ns=5)
FEATURES = Features.for_mounts()


def of(attributes: Attributes | None) -> Metadata:
    return Metadata(attributes=attributes)


@pytest.fixture
def inner() -> MemoryStore:
    """What other programs see."""
    return MemoryStore(capabilities=BARE)


@asynccontextmanager
async def opened(inner: MemoryStore) -> AsyncIterator[IndexedFiles]:
    """A mount of it."""
    store = VirtualStorager(inner, FEATURES)
    gates = gates_of(FEATURES)
    async with AttributeIndex(store, gates, ALL_KINDS, ttl_s=0.0) as index:
        yield IndexedFiles(store, index)


async def attributes_in(inner: MemoryStore, key: str) -> Attributes | None:
    """Return what another mount is told, by a look and by a listing."""
    async with opened(inner) as other:
        found = (await other.stat(key)).attributes
        directory = key.rpartition("/")[0]
        page = await other.list(f"{directory}/" if directory else "")
        (listed,) = [each for each in page.objects if each.key == key]
        assert listed.attributes == found
        return found


async def test_files_keep_what_they_are_written_with(inner: MemoryStore) -> None:
    """And what they are given later, by every way that writes bytes."""
    async with opened(inner) as store:
        assert store.capabilities.attributes
        made = await store.write("put", BytesBody(b"bytes"), metadata=of(SOME))
        assert made.attributes == SOME
        upload = await store.create_multipart("parts", metadata=of(SOME))
        part = await store.write_part(upload, 0, BytesBody(b"part"))
        await store.complete_multipart(upload, [part])
        base = await store.write("log", BytesBody(b"one"), metadata=of(SOME))
        append = await store.create_append("log", base=base)
        await store.commit_append(await store.write_append(append, BytesBody(b"two")))
        plain = await store.write("plain", BytesBody(b"plain"))
        await store.set_metadata(plain, of(SOME), condition=plain.version)
        with pytest.raises(VersionChanged):
            await store.set_metadata(plain, of(SOME), condition=made.version)
    for key in ("put", "parts", "log", "plain"):
        assert await attributes_in(inner, key) == SOME


async def test_what_is_kept_follows_copies_and_moves(inner: MemoryStore) -> None:
    """Of links, too, which are files to others."""
    async with opened(inner) as store:
        file = await store.write("file", BytesBody(b"bytes"), metadata=of(SOME))
        await store.copy("file", "copy", source_version=file.version)
        await store.move("file", "moved", source_version=file.version)
        link = await store.make_link("link", "some/where", metadata=of(SOME))
        assert link.kind is ObjectKind.LINK
        await store.move("link", "other", source_version=link.version)
        found = await store.stat("other")
        assert (found.kind, found.link_target) == (ObjectKind.LINK, "some/where")
    assert await attributes_in(inner, "copy") == SOME
    assert await attributes_in(inner, "moved") == SOME
    assert await attributes_in(inner, "other") == SOME
    assert (await inner.read("other")).data == b"some/where"


async def test_bytes_of_others_have_none_of_it(inner: MemoryStore) -> None:
    """Whether they replaced a file or a link; a tree's listing tells nothing."""
    async with opened(inner) as store:
        await store.write("file", BytesBody(b"bytes"), metadata=of(SOME))
        await store.make_link("link", "target", metadata=of(SOME))
        page = await store.list("", mode=ListMode.PREFIX)
        told = {each.key: each.metadata for each in page.objects}
        assert told["file"] is None
    for key in ("file", "link"):
        await inner.write(key, BytesBody(b"theirs"))
        assert await attributes_in(inner, key) is None
    async with opened(inner) as store:
        assert (await store.stat("link")).kind is ObjectKind.FILE
