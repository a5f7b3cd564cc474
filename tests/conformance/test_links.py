"""Symbolic links, native or emulated: text that is kept and never followed."""

import pytest

from mountfs.storage.errors import InvalidRequest, NotFound, Unsupported, WrongKind
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Metadata, Object, ObjectKind
from tests.conformance.steps import (
    can_make_links,
    get,
    is_absent,
    keys_of,
    list_all,
    put,
    unless_unsupported,
)

TARGETS = {
    "relative": "file",
    "up": "../../elsewhere/file",
    "absolute": "/etc/passwd",
    "missing": "not/there",
    "trailing-slash": "dir/",
    "dots": "./a/../b//c",
    "spaces": " a b ",
    "newline": "a\nb",
    "not-ascii": "caf\u00e9/\U0001f40d",
    "decomposed": "cafe\u0301",
    "not-utf8": "caf\udce9",
    "percent": "a%20b\\c",
    "long": "x/" * 1000 + "y",
}


async def _make(store: Storager, key: str, target: str) -> Object | None:
    return await unless_unsupported(
        can_make_links(store), lambda: store.make_link(key, target)
    )


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_the_target_is_kept_verbatim(store: Storager, target: str) -> None:
    """A link returns its text as it was given, resolved by nobody."""
    made = await _make(store, "dir/link", target)
    if made is None:
        return

    found = await store.stat("dir/link")
    for link in (made, found):
        assert link.kind is ObjectKind.LINK
        assert link.link_target == target
        assert link.key == "dir/link"
    assert await keys_of(store, "dir/") == ["dir/link"]


async def test_a_link_replaces_a_link(store: Storager) -> None:
    """Making a link where one is gives it the new text."""
    if await _make(store, "link", "first") is None:
        return
    await store.make_link("link", "second")

    assert (await store.stat("link")).link_target == "second"


async def test_a_link_and_a_file_replace_each_other(store: Storager) -> None:
    """A write replaces the link itself, never what it names; and the reverse."""
    await put(store, "target", b"untouched")
    if await _make(store, "name", "target") is None:
        return
    await put(store, "name", b"a file now")
    assert (await store.stat("name")).kind is ObjectKind.FILE
    assert await get(store, "name") == b"a file now"
    await store.make_link("name", "target")

    assert (await store.stat("name")).link_target == "target"
    assert await get(store, "target") == b"untouched"


async def test_no_link_takes_the_place_of_a_native_directory(store: Storager) -> None:
    """A native directory raises `WrongKind`; on key stores both keys exist."""
    await put(store, "dir/file", b"bytes")
    if store.capabilities.native_dirs:
        with pytest.raises(WrongKind if can_make_links(store) else Unsupported):
            await store.make_link("dir", "target")
    elif await _make(store, "dir", "target"):
        assert await keys_of(store) == ["dir", "dir/"]
    assert await get(store, "dir/file") == b"bytes"


async def test_links_are_not_followed(store: Storager) -> None:
    """Keys below a link do not exist, whatever the link names."""
    await put(store, "dir/file", b"bytes")
    if await _make(store, "link", "dir") is None:
        return

    with pytest.raises(NotFound):
        await store.read("link/file")
    assert await is_absent(store, "link/file")
    await store.delete("link/file")
    assert await get(store, "dir/file") == b"bytes"
    if store.capabilities.native_dirs:
        with pytest.raises(WrongKind):
            await put(store, "link/new", b"bytes")
        assert await keys_of(store, "dir/") == ["dir/file"]


async def test_deleting_a_link_leaves_its_target(store: Storager) -> None:
    """Delete removes the link alone."""
    await put(store, "target", b"bytes")
    if await _make(store, "link", "target") is None:
        return
    await store.delete("link")

    assert await is_absent(store, "link")
    assert await get(store, "target") == b"bytes"


async def test_listings_tell_links_where_they_can(store: Storager) -> None:
    """With metadata in listings, or native links, an entry says that it is a link."""
    if await _make(store, "link", "target") is None:
        return
    (entry,) = await list_all(store)

    if store.capabilities.native_links or store.capabilities.list_metadata:
        assert entry.kind is ObjectKind.LINK


async def test_an_empty_target_is_refused(store: Storager) -> None:
    """A link must name something."""
    with pytest.raises((InvalidRequest, Unsupported)):
        await store.make_link("link", "")

    assert await is_absent(store, "link")


async def test_links_keep_metadata_where_the_store_says_so(store: Storager) -> None:
    """With `link_metadata` what was given with a link comes back."""
    metadata = Metadata(user={"color": "red"})
    if not await unless_unsupported(
        can_make_links(store),
        lambda: store.make_link("link", "target", metadata=metadata),
    ):
        return
    found = await store.stat("link")

    assert found.metadata is not None
    kept = found.metadata.user.get("color")
    assert kept == ("red" if store.capabilities.link_metadata else None)
