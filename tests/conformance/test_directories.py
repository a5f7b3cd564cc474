"""Directories, native or as markers, and what they and files say to each other."""

import pytest

from mountfs.storage.errors import (
    DirectoryNotEmpty,
    InvalidRequest,
    Unsupported,
    WrongKind,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Metadata, ObjectKind
from tests.conformance.steps import (
    can_make_dirs,
    get,
    is_absent,
    keys_of,
    put,
    unless_unsupported,
)


async def test_a_directory_can_be_made_twice(store: Storager) -> None:
    """Making a directory again is success and changes nothing in it."""
    can_do = can_make_dirs(store)
    made = await unless_unsupported(can_do, lambda: store.make_dir("dir/"))
    if made is None:
        return
    await put(store, "dir/file", b"bytes")
    second = await store.make_dir("dir/")

    for found in (made, second, await store.stat("dir/", kind=ObjectKind.DIRECTORY)):
        assert found.key == "dir/"
        assert found.kind is ObjectKind.DIRECTORY
    assert await get(store, "dir/file") == b"bytes"


async def test_an_empty_directory_is_there(store: Storager) -> None:
    """A directory without entries is found, listed, and empty."""
    if await unless_unsupported(
        can_make_dirs(store), lambda: store.make_dir("dir/empty/")
    ):
        assert await keys_of(store, "dir/") == ["dir/empty/"]
        assert await keys_of(store, "dir/empty/") == []
        found = await store.stat("dir/empty/", kind=ObjectKind.DIRECTORY)
        assert found.kind is ObjectKind.DIRECTORY


async def test_a_directory_is_deleted_twice(store: Storager) -> None:
    """Deleting a directory that is gone is success."""
    if not await unless_unsupported(
        can_make_dirs(store), lambda: store.make_dir("dir/")
    ):
        await put(store, "dir/")
    await store.delete("dir/")
    await store.delete("dir/")

    assert await is_absent(store, "dir/", ObjectKind.DIRECTORY)


async def test_deleting_a_directory_leaves_what_is_in_it(store: Storager) -> None:
    """A native directory with entries refuses; a marker goes, and no key below it."""
    await put(store, "dir/file", b"bytes")

    if store.capabilities.native_dirs:
        with pytest.raises(DirectoryNotEmpty):
            await store.delete("dir/")
    else:
        await store.delete("dir/")

    assert await get(store, "dir/file") == b"bytes"
    assert not await is_absent(store, "dir/", ObjectKind.DIRECTORY)


async def test_the_last_file_leaves_a_native_directory(store: Storager) -> None:
    """Native directories may be empty; on key stores they end with their keys."""
    await put(store, "dir/file", b"bytes")
    await store.delete("dir/file")

    is_gone = await is_absent(store, "dir/", ObjectKind.DIRECTORY)
    assert is_gone != store.capabilities.native_dirs


async def test_a_directory_by_its_plain_name(store: Storager) -> None:
    """`stat("dir")` finds a native directory; a key store has no such object."""
    await put(store, "dir/file", b"bytes")

    if store.capabilities.native_dirs:
        found = await store.stat("dir")
        assert (found.key, found.kind) == ("dir/", ObjectKind.DIRECTORY)
    else:
        assert await is_absent(store, "dir")
    assert await is_absent(store, "dir", ObjectKind.FILE)


async def test_a_file_is_no_directory(store: Storager) -> None:
    """The key of a file with a slash names nothing, and deleting it deletes nothing."""
    await put(store, "file", b"bytes")

    assert await is_absent(store, "file/", ObjectKind.DIRECTORY)
    assert await is_absent(store, "file/")
    await store.delete("file/")
    assert await get(store, "file") == b"bytes"


async def test_a_file_and_a_directory_of_one_name(store: Storager) -> None:
    """Key stores hold both; stores with directories refuse the second."""
    await put(store, "name", b"file")
    await put(store, "other/below", b"below")

    if store.capabilities.native_dirs:
        with pytest.raises(WrongKind):
            await put(store, "name/below", b"below")
        with pytest.raises(WrongKind):
            await put(store, "other", b"file")
        with pytest.raises(WrongKind):
            await store.make_dir("name/")
        with pytest.raises(WrongKind):
            await store.delete("other")
        with pytest.raises(WrongKind):
            await store.read("other")
        return
    await put(store, "name/below", b"below")
    assert await keys_of(store) == ["name", "name/", "other/"]
    assert await get(store, "name") == b"file"
    assert await get(store, "name/below") == b"below"


async def test_a_directory_needs_its_slash(store: Storager) -> None:
    """`make_dir` of a key without slash is refused."""
    with pytest.raises((InvalidRequest, Unsupported)):
        await store.make_dir("dir")

    assert await keys_of(store) == []


async def test_directories_keep_metadata_where_the_store_says_so(
    store: Storager,
) -> None:
    """With `dir_metadata` what was given with a directory comes back."""
    metadata = Metadata(user={"color": "red"})
    if not await unless_unsupported(
        can_make_dirs(store), lambda: store.make_dir("dir/", metadata=metadata)
    ):
        return
    found = await store.stat("dir/", kind=ObjectKind.DIRECTORY)

    assert found.metadata is not None
    kept = found.metadata.user.get("color")
    assert kept == ("red" if store.capabilities.dir_metadata else None)
