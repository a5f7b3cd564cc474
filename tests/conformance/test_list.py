"""Listing: pages, order, depth, tokens."""

import pytest

from mountfs.backends._tokens import key_bytes
from mountfs.storage.errors import InvalidRequest, NotFound
from mountfs.storage.protocol import Storager
from mountfs.storage.types import ListMode, ObjectKind
from tests.conformance.steps import (
    can_make_dirs,
    get,
    is_absent,
    keys_of,
    list_all,
    put,
    put_all,
)

TREE = ["a", "dir-b/x", "dir/deep/er/y", "dir/deep/z", "dir/f", "dir0", "dir/b c", "z"]


async def test_a_directory_lists_its_children(store: Storager) -> None:
    """One level: files as they are, deeper keys as directories, each once."""
    await put_all(store, TREE)

    assert await keys_of(store) == ["a", "dir-b/", "dir/", "dir0", "z"]
    assert await keys_of(store, "dir/") == ["dir/b c", "dir/deep/", "dir/f"]
    assert await keys_of(store, "dir/deep/") == ["dir/deep/er/", "dir/deep/z"]


async def test_kinds_are_told(store: Storager) -> None:
    """Directories end in a slash and are directories; the others are files."""
    await put_all(store, TREE)

    for found in await list_all(store):
        is_directory = found.kind is ObjectKind.DIRECTORY
        assert is_directory == found.key.endswith("/")


async def test_a_prefix_lists_every_key(store: Storager) -> None:
    """Prefix mode is flat and starts anywhere in a name."""
    await put_all(store, TREE)

    async def files(prefix: str) -> list[str]:
        keys = await keys_of(store, prefix, ListMode.PREFIX)
        assert keys == sorted(keys, key=key_bytes)
        return [key for key in keys if not key.endswith("/")]

    assert await files("") == sorted(TREE, key=key_bytes)
    assert await files("dir/") == ["dir/b c", "dir/deep/er/y", "dir/deep/z", "dir/f"]
    assert await files("dir") == [
        "dir-b/x",
        "dir/b c",
        "dir/deep/er/y",
        "dir/deep/z",
        "dir/f",
        "dir0",
    ]
    assert await files("dir/de") == ["dir/deep/er/y", "dir/deep/z"]
    assert await files("dir/deep/z") == ["dir/deep/z"]


async def test_a_prefix_never_matches_a_longer_name(store: Storager) -> None:
    """The directory `pre/` has nothing of `pre2/` and of `pre-`."""
    await put_all(store, ["pre/a", "pre2/b", "pre-c", "pre"[:2] + "/d"])

    assert await keys_of(store, "pre/") == ["pre/a"]
    assert await keys_of(store, "pre/", ListMode.PREFIX) in (
        ["pre/a"],
        ["pre/", "pre/a"],
    )


async def test_an_absent_directory_has_no_entries(store: Storager) -> None:
    """Key stores list nothing; stores with directories of their own say `NotFound`."""
    await put(store, "file", b"bytes")
    for prefix in ("absent/", "file/", "absent/deeper/"):
        if store.capabilities.native_dirs:
            with pytest.raises(NotFound):
                await store.list(prefix)
        else:
            assert await keys_of(store, prefix) == []

        assert await keys_of(store, prefix, ListMode.PREFIX) == []


async def test_an_empty_store_lists_nothing(store: Storager) -> None:
    """The root is there before anything is in it."""
    for mode in ListMode:
        assert await keys_of(store, "", mode) == []


async def test_the_marker_is_no_child_of_its_own(store: Storager) -> None:
    """A directory that was made lists no entry for itself, and its parent lists it."""
    if not can_make_dirs(store):
        await put(store, "dir/")
    else:
        await store.make_dir("dir/")
    assert await keys_of(store, "dir/") == []
    await put(store, "dir/file", b"bytes")

    assert await keys_of(store, "dir/") == ["dir/file"]
    assert await keys_of(store) == ["dir/"]
    assert await keys_of(store, "dir/", ListMode.PREFIX) == ["dir/", "dir/file"]


@pytest.mark.parametrize("mode", ListMode)
@pytest.mark.parametrize("limit", [None, 1, 7, 200])
async def test_pages_join_to_the_whole(
    store: Storager, mode: ListMode, limit: int | None
) -> None:
    """201 entries come once each, in byte order, whatever the size of the page."""
    if limit == 1:
        keys = [f"dir/{number:03}/x" for number in range(21)]
    else:
        keys = [f"dir/{number:03}" for number in range(201)]
    await put_all(store, keys)

    found = await list_all(store, "dir/", mode, limit)

    names = [entry.key for entry in found]
    if mode is ListMode.DIRECTORY and limit == 1:
        assert names == [key.removesuffix("x") for key in keys]
    else:
        assert [name for name in names if not name.endswith("/")] == keys
    assert names == sorted(set(names), key=key_bytes)


async def test_over_a_thousand_entries_are_listed(store: Storager) -> None:
    """1001 entries come once each with the page size of the store itself."""
    keys = [f"{number:04}" for number in range(1001)]
    await put_all(store, keys)

    assert await keys_of(store) == keys
    assert await keys_of(store, "", ListMode.PREFIX) == keys


@pytest.mark.parametrize("mode", ListMode)
async def test_a_token_resumes_in_another_store_object(
    store: Storager, again: Storager, mode: ListMode
) -> None:
    """A token goes on where its page ended, although the opener never saw the page."""
    keys = [f"dir/{number:02}" for number in range(30)]
    await put_all(store, keys)
    seen: list[str] = []
    token: str | None = None
    for turn in range(100):
        reader = (store, again)[turn % 2]
        page = await reader.list("dir/", mode=mode, token=token, limit=4)
        seen.extend(found.key for found in page.objects)
        token = page.token
        if token is None:
            break

    assert [key for key in seen if not key.endswith("/")] == keys


async def test_a_listing_survives_deletions(store: Storager) -> None:
    """Deleting what was listed, the last entry too, makes no other entry vanish."""
    keys = [f"{number:02}" for number in range(20)]
    await put_all(store, keys)
    seen: list[str] = []
    token: str | None = None
    for _ in range(100):
        page = await store.list("", token=token, limit=3)
        seen.extend(found.key for found in page.objects)
        await store.delete_many([found.key for found in page.objects])
        token = page.token
        if token is None:
            break

    assert seen == keys


async def test_listings_carry_what_stat_says(store: Storager) -> None:
    """Size, content version and time of a file are in the listing; metadata may be."""
    await put(store, "dir/file", b"bytes")

    known = await store.stat("dir/file")
    for mode in ListMode:
        entry = (await list_all(store, "dir/", mode))[-1]
        assert entry.key == "dir/file"
        assert entry.size == known.size
        assert entry.mtime_ns == known.mtime_ns
        assert entry.version is not None
        assert known.version is not None
        assert entry.version.content == known.version.content
        assert (entry.metadata is not None) == store.capabilities.list_metadata


async def test_deep_trees_are_listed(store: Storager) -> None:
    """A key of a hundred levels is found from the top and level by level."""
    parts = ["d"] * 100
    key = "/".join([*parts, "file"])
    await put(store, key, b"bytes")

    assert await keys_of(store) == ["d/"]
    assert await keys_of(store, "d/" * 100) == [key]
    assert (await keys_of(store, "", ListMode.PREFIX))[-1] == key
    assert await get(store, key) == b"bytes"


async def test_a_directory_is_there_by_its_children(store: Storager) -> None:
    """`stat` of a directory finds what a marker or any child makes a directory."""
    await put(store, "dir/deep/file", b"bytes")

    for key in ("dir/", "dir/deep/"):
        found = await store.stat(key, kind=ObjectKind.DIRECTORY)
        assert found.key == key
        assert found.kind is ObjectKind.DIRECTORY
    assert await is_absent(store, "dir/de/", ObjectKind.DIRECTORY)
    assert await is_absent(store, "di/", ObjectKind.DIRECTORY)


async def test_the_root_is_a_directory(store: Storager) -> None:
    """The empty key is the directory that everything is in."""
    found = await store.stat("", kind=ObjectKind.DIRECTORY)

    assert found.key == ""
    assert found.kind is ObjectKind.DIRECTORY


async def test_a_listing_that_makes_no_sense_is_refused(store: Storager) -> None:
    """A page of no objects, and a directory without its slash, are refused."""
    await put(store, "dir/file")
    for prefix, limit in (("", 0), ("", -1), ("dir", None)):
        with pytest.raises(InvalidRequest):
            await _turn_two_pages(store, prefix, limit)


async def _turn_two_pages(store: Storager, prefix: str, limit: int | None) -> None:
    page = await store.list(prefix, limit=limit)
    await store.list(prefix, token=page.token, limit=limit)
