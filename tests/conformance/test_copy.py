"""Copy and move inside the store."""

import pytest

from mountfs.storage.errors import NotFound, Unsupported, VersionChanged
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Metadata
from tests.conformance.steps import get, is_absent, keys_of, put


async def test_a_copy_has_the_bytes_and_the_metadata(store: Storager) -> None:
    """A copy is a second object, and the source stays as it was."""
    await put(store, "source", b"bytes", Metadata(user={"color": "red"}))

    copied = await store.copy("source", "dir/target")

    found = await store.stat("dir/target")
    assert copied.key == found.key == "dir/target"
    assert copied.size == found.size == len(b"bytes")
    assert copied.version is not None
    assert found.version is not None
    assert copied.version.content == found.version.content
    assert found.metadata is not None
    assert found.metadata.user["color"] == "red"
    assert await get(store, "dir/target") == b"bytes"
    assert await get(store, "source") == b"bytes"


@pytest.mark.parametrize("old", [b"", b"a much longer object than the source"])
async def test_a_copy_replaces_what_is_there(store: Storager, old: bytes) -> None:
    """The target becomes the source, whatever its size was."""
    await put(store, "source", b"bytes")
    await put(store, "target", old, Metadata(user={"old": "yes"}))

    await store.copy("source", "target")

    assert await get(store, "target") == b"bytes"
    metadata = (await store.stat("target")).metadata
    assert metadata is not None
    assert "old" not in metadata.user


async def test_an_empty_object_is_copied(store: Storager) -> None:
    """Size 0 is no special case."""
    await put(store, "source")
    await store.copy("source", "target")

    assert (await store.stat("target")).size == 0


async def test_copying_what_is_absent_says_so(store: Storager) -> None:
    """An absent source is `NotFound`, and no target appears."""
    with pytest.raises(NotFound):
        await store.copy("absent", "target")

    assert await is_absent(store, "target")


async def test_a_copy_is_pinned_to_a_version(store: Storager) -> None:
    """With `source_version` only that version is copied."""
    old = await put(store, "source", b"old")
    await store.copy("source", "first", source_version=old.version)
    await put(store, "source", b"new")

    with pytest.raises(VersionChanged):
        await store.copy("source", "second", source_version=old.version)

    assert await get(store, "first") == b"old"
    assert await is_absent(store, "second")


async def test_a_copy_with_metadata_has_those(store: Storager) -> None:
    """The metadata that are given take the place of the user metadata of the source."""
    await put(store, "source", b"bytes", Metadata(user={"color": "red"}))

    await store.copy("source", "target", metadata=Metadata(user={"color": "blue"}))

    target = (await store.stat("target")).metadata
    source = (await store.stat("source")).metadata
    assert target is not None
    assert source is not None
    assert target.user["color"] == "blue"
    assert source.user["color"] == "red"


async def test_a_copy_onto_itself_changes_metadata_only(store: Storager) -> None:
    """Source and target may be one key."""
    await put(store, "file", b"bytes", Metadata(user={"color": "red"}))

    await store.copy("file", "file", metadata=Metadata(user={"color": "blue"}))

    metadata = (await store.stat("file")).metadata
    assert metadata is not None
    assert metadata.user["color"] == "blue"
    assert await get(store, "file") == b"bytes"


async def test_a_move_leaves_nothing_behind(store: Storager) -> None:
    """After a move the object has the new key alone, metadata and all."""
    await put(store, "source", b"bytes", Metadata(user={"color": "red"}))
    if not store.capabilities.move:
        with pytest.raises(Unsupported):
            await store.move("source", "dir/target")
        assert await get(store, "source") == b"bytes"
        return

    moved = await store.move("source", "dir/target")

    found = await store.stat("dir/target")
    assert moved.key == found.key == "dir/target"
    assert found.metadata is not None
    assert found.metadata.user["color"] == "red"
    assert await get(store, "dir/target") == b"bytes"
    assert await keys_of(store) == ["dir/"]


async def test_a_move_replaces_a_file(store: Storager) -> None:
    """What was at the target is gone."""
    if not store.capabilities.move:
        return  # `test_a_move_leaves_nothing_behind` asserts the refusal
    await put(store, "source", b"bytes")
    await put(store, "target", b"a longer object")
    await store.move("source", "target")

    assert await get(store, "target") == b"bytes"
    assert await is_absent(store, "source")


async def test_a_second_move_finds_nothing(store: Storager) -> None:
    """The source of a move is gone: moving it again is `NotFound`."""
    await put(store, "source", b"bytes")
    if store.capabilities.move:
        await store.move("source", "target")

        with pytest.raises(NotFound):
            await store.move("source", "other")

        assert await get(store, "target") == b"bytes"
        assert await is_absent(store, "other")


async def test_a_move_onto_itself_changes_nothing(store: Storager) -> None:
    """Source and target may be one key; nothing is lost."""
    await put(store, "file", b"bytes")
    if store.capabilities.move:
        await store.move("file", "file")

    assert await get(store, "file") == b"bytes"


async def test_a_directory_moves_with_all_that_is_in_it(store: Storager) -> None:
    """Where `move_dir` is, a directory moves in one step; elsewhere it is refused."""
    await put(store, "old/file", b"bytes")
    await put(store, "old/deep/file", b"deep")
    await put(store, "old-not/file", b"not")
    if not store.capabilities.move_dir:
        with pytest.raises(Unsupported):
            await store.move("old/", "new/")
        assert await get(store, "old/file") == b"bytes"
        return

    before = (await store.stat("old/deep/file")).version
    await store.move("old/", "new/place/")

    after = (await store.stat("new/place/deep/file")).version
    assert before is not None
    assert after is not None
    is_kept = before.content == after.content
    assert is_kept is store.capabilities.move_dir_keeps_versions
    assert await keys_of(store) == ["new/", "old-not/"]
    assert await get(store, "new/place/file") == b"bytes"
    assert await get(store, "new/place/deep/file") == b"deep"
