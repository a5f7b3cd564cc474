"""The page on the format is right: mountfs writes its examples byte for byte.

Each example of the page is a block ```` ```object-NAME ````: a key, headers, an empty
line, bytes. Blocks of one name are one example; a function here writes it.
"""

import dataclasses
import gzip
import os
import re
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from mountfs.backends.local_objects import XATTR, from_xattr, to_xattr
from mountfs.backends.s3_metadata import COMMIT_NAME, encode_text
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.index_format import Learnt
from mountfs.cache.indexed import IndexedStorager
from mountfs.cache.records import Record
from mountfs.storage.body import BytesBody
from mountfs.storage.types import (
    NO_METADATA,
    Attributes,
    Features,
    Metadata,
    Object,
    ObjectKind,
)
from mountfs.storage.virtual import VirtualStorager
from mountfs.vfs.groups import Groups
from mountfs.vfs.names import Names
from tests.fakes.flat_store import KEY_STORE, FlatStore

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "format.md"
NS = 10**9
COMMIT = "5b8f0a51c3d24e6f9a7b1c2d3e4f5061"
GROUP = "3f0c9a5e8b7d4c21a6e0f1d2c3b4a596"
XATTRS = {b"user.comment": "grün".encode(), "user.größe".encode(): b"\x00\xff"}
WRITE = Callable[[VirtualStorager], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class Stored:
    """One object as the page shows it."""

    headers: dict[str, str]
    body: bytes


def examples() -> dict[str, dict[str, Stored]]:
    """Return the objects of each example, by key."""
    found: dict[str, dict[str, Stored]] = {}
    blocks = re.findall(r"^```object-(\w+)\n(.*?)\n```$", PAGE.read_text(), re.M | re.S)
    for name, text in blocks:
        head, _, body = text.partition("\n\n")
        key, *lines = head.splitlines()
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        found.setdefault(name, {})[key] = Stored(headers, body.encode())
    return found


EXAMPLES = examples()


def _on_s3(flat: FlatStore) -> dict[str, Stored]:
    """Return what is in the store, with the headers that S3 would have."""
    return {
        key: _stored(entry.metadata, entry.data) for key, entry in flat.objects.items()
    }


def _stored(metadata: Metadata, data: bytes) -> Stored:
    if metadata.pairs.get("content-type") == "application/gzip":
        data = gzip.decompress(data)
    user = dict(metadata.user)
    if metadata.commit_id is not None:
        user[COMMIT_NAME] = metadata.commit_id
    headers = {name.title(): text for name, text in metadata.pairs.items()}
    headers |= {f"x-amz-meta-{name}": encode_text(text) for name, text in user.items()}
    return Stored(headers, data)


def _metadata(**attributes: object) -> Metadata:
    return NO_METADATA.with_attributes(Attributes(**attributes))  # type: ignore[arg-type]


async def _file(store: VirtualStorager) -> None:
    known = Attributes(
        mode=0o100644,
        uid=1000,
        gid=100,
        mtime_ns=1_700_000_000 * NS,
        atime_ns=1_700_000_000 * NS + NS // 4,
        ctime_ns=1_700_000_000 * NS + 1,
    )
    body = BytesBody(b"Some text.")
    metadata = Metadata(attributes=known, commit_id=COMMIT)
    await store.write("docs/notes.txt", body, metadata=metadata)


async def _directory(store: VirtualStorager) -> None:
    known = _metadata(mode=0o040755, mtime_ns=1_700_000_000 * NS)
    await store.make_dir("docs/", metadata=known)


async def _link(store: VirtualStorager) -> None:
    await store.make_link("docs/latest", "../v2/größe")


async def _device(store: VirtualStorager) -> None:
    known = _metadata(mode=stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3))
    await store.write("dev/null", None, metadata=known)


async def _photo(store: VirtualStorager) -> None:
    body = BytesBody(b"bytes")
    await store.write("docs/photo.jpg", body, metadata=_metadata(xattrs=XATTRS))


async def _hardlink(store: VirtualStorager) -> None:
    hello = "5d41402abc4b2a76b9719d911017c592"
    known = _metadata(mode=0o100644, group=GROUP)
    await store.write("a.txt", BytesBody(b"hello"), metadata=known)
    names = {"a.txt": hello, "b.txt": hello}
    await Groups(store, ttl_s=1.0).update(GROUP, lambda _: names)


async def _pair(store: VirtualStorager) -> None:
    metadata = Metadata(pairs={"content-language": "de"})
    await store.write("docs/page.html", BytesBody(b"bytes"), metadata=metadata)


async def _text(store: VirtualStorager) -> None:
    metadata = Metadata(user={"color": "grün"})
    await store.write("docs/notes.txt", BytesBody(b"bytes"), metadata=metadata)


def _at(second: int, **more: object) -> Record:
    return Record(time_ns=second * NS, gates="alxhs", **more)  # type: ignore[arg-type]


LATEST = _at(
    1_700_000_000,
    kind=ObjectKind.LINK,
    size=11,
    content="0d599f0ec05c3bda8c3b8a68c32a1b47",
    state="1700000000",
    target="../v2/größe",
    attributes=Attributes(mode=0o120777, uid=1000, gid=100, xattrs={}),
)
NOTES = _at(
    1_700_000_000,
    size=10,
    content="5d41402abc4b2a76b9719d911017c592",
    attributes=Attributes(
        mode=0o100644,
        uid=1000,
        gid=100,
        mtime_ns=1_700_000_000 * NS,
        atime_ns=1_700_000_000 * NS + NS // 4,
        ctime_ns=1_700_000_000 * NS + 1,
        xattrs={b"user.comment": "grün".encode()},
    ),
)


async def _index(store: VirtualStorager) -> None:
    kinds = frozenset({ObjectKind.DIRECTORY})
    root = Object(key="", kind=ObjectKind.DIRECTORY)
    docs = dataclasses.replace(root, key="docs/")
    async with AttributeIndex(store, "alxhs", kinds, ttl_s=1.0) as index:
        indexed = IndexedStorager(store, index)
        await indexed.set_metadata(root, _metadata(mode=0o041777, uid=0, gid=0))
        known = _metadata(mode=0o040755, uid=1000, gid=100, mtime_ns=1_700_000_000 * NS)
        await indexed.set_metadata(docs, known)
        index.note("docs/", {"latest": Learnt(LATEST), "notes.txt": Learnt(NOTES)})


WRITERS: dict[str, WRITE] = {
    "file": _file,
    "directory": _directory,
    "link": _link,
    "device": _device,
    "xattr": _photo,
    "sidecar": _photo,
    "hardlink": _hardlink,
    "index": _index,
    "pair": _pair,
    "text": _text,
}


def test_every_example_is_checked() -> None:
    """The page has no example that nothing here writes, and the reverse."""
    assert set(EXAMPLES) == set(WRITERS) | {"local"}


@pytest.mark.parametrize("name", WRITERS)
async def test_example_is_what_is_written(name: str) -> None:
    """Keys, headers and bytes are those of the page, and there is nothing besides."""
    limit = 90 if name == "sidecar" else 2048
    flat = FlatStore(dataclasses.replace(KEY_STORE, metadata_size_max=limit))

    await WRITERS[name](VirtualStorager(flat, Features.all()))

    assert _on_s3(flat) == EXAMPLES[name]


@pytest.mark.parametrize("name", ["link", "device"])
async def test_what_must_say_what_it_is_does_so_anyway(name: str) -> None:
    """Links and special files have their mode also where modes are not kept."""
    flat = FlatStore()
    gates = Features(virtual_link=True, virtual_special=True)

    await WRITERS[name](VirtualStorager(flat, gates))

    assert _on_s3(flat) == EXAMPLES[name]


def test_kinds_are_what_the_page_says() -> None:
    """The decimal modes of the examples are those that the text explains."""
    modes = {
        name: int(stored.headers["x-amz-meta-mode"])
        for name, objects in EXAMPLES.items()
        for stored in objects.values()
        if "x-amz-meta-mode" in stored.headers
    }

    assert modes["file"] == 0o100644
    assert stat.S_ISDIR(modes["directory"])
    assert modes["link"] == 0o120777
    assert modes["device"] == 0o020666


def test_local_example_is_what_is_written() -> None:
    """The extended attribute of a local file is the JSON of the page."""
    page = PAGE.read_text()
    match = re.search(r"^```object-local\n(\S+)\n(.*)\n```$", page, re.M)
    assert match is not None
    metadata = Metadata(user={"mode": "33188", "uid": "1000"}, commit_id=COMMIT)

    assert match.group(1) == XATTR
    assert match.group(2).encode() == to_xattr(metadata)
    assert from_xattr(match.group(2).encode()) == metadata


def test_names_are_those_of_the_page() -> None:
    """The table of keys and names is that of the bijection."""
    section = PAGE.read_text().partition("## Keys and names")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\S+) \| `(\S+)` \| (.*) \|$", section, re.M)
    names = Names(utf8_keys=True)
    assert len(rows) == 7

    for cell, shown, why in rows:
        component = "" if cell == "(empty)" else cell.strip("`")
        name = shown.encode()
        if "stands for" in why and component.startswith("mountfs"):
            name = unquote_to_bytes(shown)
        elif "stands for" in why:
            component = os.fsdecode(unquote_to_bytes(component))
        is_shadowed = "beside" in why
        assert names.name(component, is_shadowed=is_shadowed) == name
        entry = names.entry(name)
        assert (entry.component, entry.is_shadowed) == (component, is_shadowed)  # type: ignore[union-attr]


async def test_examples_are_read_as_what_they_are() -> None:
    """Whoever writes the examples of the page has written what it says."""
    flat = FlatStore()
    for name in ("file", "directory", "link", "device", "sidecar"):
        for key, stored in EXAMPLES[name].items():
            user = {
                header.removeprefix("x-amz-meta-"): text
                for header, text in stored.headers.items()
                if header.startswith("x-amz-meta-")
            }
            flat.put(key, stored.body, Metadata(user=user))
    store = VirtualStorager(flat, Features.all())

    kinds = {key: (await store.stat(key)).kind for key in flat.objects if key[0] == "d"}
    photo = (await store.stat("docs/photo.jpg")).attributes

    assert kinds == {
        "docs/notes.txt": ObjectKind.FILE,
        "docs/": ObjectKind.DIRECTORY,
        "docs/latest": ObjectKind.LINK,
        "dev/null": ObjectKind.SPECIAL,
        "docs/photo.jpg": ObjectKind.FILE,
    }
    assert photo is not None
    assert photo.xattrs == XATTRS
