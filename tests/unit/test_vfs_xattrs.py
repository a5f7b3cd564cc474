"""Extended attributes: what they cost, and that none is lost or made up."""

import errno
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mountfs.storage import xattrs as stored
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import PermissionDenied
from mountfs.storage.types import Features, Metadata, ObjectKind
from mountfs.storage.xattrs import LIST_SIZE_MAX, TOTAL_SIZE_MAX
from mountfs.vfs.attributes import Change
from mountfs.vfs.inodes import Node
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

FEATURES = replace(Features.for_mounts(), virtual_xattr=True)
BLIND = tiny_store(move=False, attributes=False, list_metadata=False)
"""A store whose listings carry no metadata."""


@asynccontextmanager
async def scene_with_file(directory: Path) -> AsyncIterator[tuple[Scene, Node]]:
    """Yield a file system that knows everything for a while, and a file in it."""
    async with open_scene(directory, features=FEATURES, ttl_s=60) as scene:
        node = await scene.make("file", b"bytes")
        scene.store.asked.clear()
        yield scene, node


async def put_with(scene: Scene, key: str, **xattrs: bytes) -> None:
    """Put an object with extended attributes, as another program does."""
    named = {b"user." + name.encode(): value for name, value in xattrs.items()}
    user = {"xattr": stored.to_header(named), "uid": "4711"}
    await scene.there.write(key, BytesBody(b"bytes"), metadata=Metadata(user=user))


async def xattrs_of(scene: Scene, key: str) -> dict[bytes, bytes] | None:
    """Return what the store has with an object."""
    metadata = (await scene.there.stat(key)).metadata
    assert metadata is not None
    return stored.from_header(metadata.user.get("xattr", ""))


async def code_of(deed: Coroutine[Any, Any, object]) -> int | None:
    """Return the errno that something raises."""
    with pytest.raises(OSError, match=r".") as caught:
        await deed
    return caught.value.errno


async def list_root(scene: Scene) -> dict[bytes, Node]:
    """List the root and let the kernel know its entries."""
    opened = scene.fs.directories.open(scene.root)
    entries = await scene.fs.directories.entries(opened, anew=True)
    nodes = {
        name: scene.fs.directories.node_of(scene.root, name, what)
        for name, what in entries
    }
    found = {name: node for name, node in nodes.items() if node is not None}
    for node in found.values():
        node.lookups += 1
    scene.fs.directories.release(opened.handle)
    return found


async def test_a_change_of_a_stored_file_is_one_request(tmp_path: Path) -> None:
    """As chmod is: the bytes stay where they are."""
    async with scene_with_file(tmp_path) as (scene, node):
        await scene.fs.xattrs.set(node, b"user.a", b"1")
        await scene.fs.xattrs.set(node, b"user.b", b"2")
        await scene.fs.xattrs.remove(node, b"user.a")

        assert scene.store.asked == {"set_metadata": 3}
        assert await xattrs_of(scene, "file") == {b"user.b": b"2"}
        assert await scene.content("file") == b"bytes"


async def test_changes_of_a_file_that_is_being_written_travel_with_it(
    tmp_path: Path,
) -> None:
    """No request before the close, and none more than that."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        opened = await scene.create(scene.root, "file", b"bytes")
        scene.store.asked.clear()

        await scene.fs.xattrs.set(opened.node, b"user.a", b"1")
        before = dict(scene.store.asked)
        await scene.close(opened)

        assert before == {}
        assert scene.store.asked == {"write": 1}
        assert await xattrs_of(scene, "file") == {b"user.a": b"1"}


async def test_reading_costs_nothing_when_the_file_is_known(tmp_path: Path) -> None:
    """The kernel asks for security.capability before every write(2)."""
    async with scene_with_file(tmp_path) as (scene, node):
        await scene.fs.xattrs.set(node, b"user.a", b"1")
        scene.store.asked.clear()

        for _ in range(10):
            missing = scene.fs.xattrs.get(node, b"security.capability")
            assert await code_of(missing) == errno.ENODATA
            assert await scene.fs.xattrs.get(node, b"user.a") == b"1"
            assert await scene.fs.xattrs.names(node, 0) == (b"user.a",)

        assert scene.store.asked == {}


async def test_new_bytes_keep_extended_attributes(tmp_path: Path) -> None:
    """An edit is a new object, with all attributes of the old one."""
    async with scene_with_file(tmp_path) as (scene, node):
        await scene.fs.xattrs.set(node, b"user.a", b"1")
        opened = await scene.open(node)
        await scene.fs.files.write(opened, 0, b"BYTES")
        await scene.close(opened)

        assert await xattrs_of(scene, "file") == {b"user.a": b"1"}


async def test_changing_ctime_goes_with_it(tmp_path: Path) -> None:
    """setxattr(2) is a change of the inode."""
    async with scene_with_file(tmp_path) as (scene, node):
        before = node.attributes
        scene.fs.volume.now_ns = lambda: 1 << 62

        await scene.fs.xattrs.set(node, b"user.a", b"1")

        assert node.attributes.ctime_ns == 1 << 62
        assert node.attributes.mtime_ns == before.mtime_ns


async def test_what_a_listing_did_not_tell_is_asked_for_once(tmp_path: Path) -> None:
    """One question, whatever is read then, and however often."""
    async with open_scene(
        tmp_path, features=FEATURES, capabilities=BLIND, ttl_s=60
    ) as scene:
        for number in range(40):
            await scene.put(f"plain-{number:02}", b"bytes")
        await put_with(scene, "unlike", a=b"1")
        node = (await list_root(scene))[b"unlike"]
        scene.store.asked.clear()

        for _ in range(3):
            assert await scene.fs.xattrs.get(node, b"user.a") == b"1"
            missing = scene.fs.xattrs.get(node, b"security.capability")
            assert await code_of(missing) == errno.ENODATA

        assert scene.store.asked == {"stat": 1}


@pytest.mark.parametrize("name", ["chmod", "setxattr", "removexattr", "write"])
async def test_a_change_keeps_what_a_listing_did_not_tell(
    tmp_path: Path, name: str
) -> None:
    """Nothing that the store keeps is replaced by what was not known of it."""
    async with open_scene(
        tmp_path, features=FEATURES, capabilities=BLIND, ttl_s=60
    ) as scene:
        for number in range(40):
            await scene.put(f"plain-{number:02}", b"bytes")
        await put_with(scene, "unlike", a=b"1", b=b"2")
        node = (await list_root(scene))[b"unlike"]

        expected = {b"user.a": b"1", b"user.b": b"2"}
        match name:
            case "chmod":
                await scene.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)
            case "setxattr":
                await scene.fs.xattrs.set(node, b"user.c", b"3")
                expected[b"user.c"] = b"3"
            case "removexattr":
                await scene.fs.xattrs.remove(node, b"user.b")
                del expected[b"user.b"]
            case _:
                opened = await scene.open(node)
                await scene.fs.files.write(opened, 0, b"BYTES")
                await scene.close(opened)

        metadata = (await scene.there.stat("unlike")).metadata
        assert metadata is not None
        assert metadata.user["uid"] == "4711"
        assert await xattrs_of(scene, "unlike") == expected


async def test_lost_attributes_are_an_error_and_not_none(tmp_path: Path) -> None:
    """Whoever copies the file is told; its bytes are there all the same."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        node = await scene.make("file", b"bytes")
        await scene.fs.xattrs.set(node, b"user.large", b"x" * 4000)
        sidecars = [key for key in await scene.keys() if key.startswith(".mountfs/x")]
        await scene.there.delete(*sidecars)

    async with open_scene(
        tmp_path / "again", features=FEATURES, there=scene.there
    ) as again:
        node = await again.lookup("file")
        get, names = again.fs.xattrs.get, again.fs.xattrs.names
        change = again.fs.xattrs.set
        stats = again.store.asked["stat"]
        codes = [
            await code_of(get(node, b"user.large")),
            await code_of(get(node, b"security.capability")),
            await code_of(names(node, 0)),
            await code_of(change(node, b"user.other", b"1")),
        ]
        await again.fs.attributes.apply(node, Change(mode=0o600), is_echo=False)

        assert codes == [errno.EIO] * 4
        assert again.store.asked["stat"] <= stats + 1
        assert await again.see("file") == b"bytes"
        metadata = (await again.there.stat("file")).metadata
        assert metadata is not None
        assert metadata.user["mountfs-xattr"] in sidecars[0]


async def test_refused_change_changes_nothing(tmp_path: Path) -> None:
    """If the store refuses it, programs go on seeing what is stored."""
    async with scene_with_file(tmp_path) as (scene, node):
        await scene.fs.xattrs.set(node, b"user.a", b"1")
        scene.store.refused["set_metadata"] = PermissionDenied("no")
        with pytest.raises(PermissionDenied):
            await scene.fs.xattrs.set(node, b"user.a", b"2")

        assert await scene.fs.xattrs.get(node, b"user.a") == b"1"


@pytest.mark.parametrize(
    "xattrs",
    [
        {b"user.%03d" % number + b"n" * 240: b"" for number in range(300)},
        {b"user.%03d" % number: b"x" * (1 << 16) for number in range(20)},
    ],
    ids=["names", "values"],
)
async def test_too_many_are_refused_when_they_are_set(
    tmp_path: Path, xattrs: dict[bytes, bytes]
) -> None:
    """What listxattr(2) could not return is ENOSPC, and so is what is too large."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        opened = await scene.create(scene.root, "file")
        kept: list[bytes] = []

        async def set_all() -> None:
            for name, value in xattrs.items():
                await scene.fs.xattrs.set(opened.node, name, value)
                kept.append(name)

        assert await code_of(set_all()) == errno.ENOSPC
        names = await scene.fs.xattrs.names(opened.node, 0)

        assert names == tuple(sorted(kept))
        assert sum(len(name) + 1 for name in names) <= LIST_SIZE_MAX
        assert sum(len(name) + len(xattrs[name]) for name in kept) <= TOTAL_SIZE_MAX
        await scene.close(opened)


def _store_without(scene_kind: ObjectKind) -> dict[str, Any]:
    """Return the capabilities of a store that keeps nothing of one kind."""
    if scene_kind is ObjectKind.DIRECTORY:
        return {"dir_metadata": False}
    return {"set_metadata": False}


@pytest.mark.parametrize("kind", [ObjectKind.DIRECTORY, ObjectKind.FILE])
async def test_what_the_store_has_no_place_for_is_refused(
    tmp_path: Path, kind: ObjectKind
) -> None:
    """An attribute that would be gone tomorrow is not taken in today."""
    able = tiny_store(move=False, attributes=False, **_store_without(kind))
    async with open_scene(tmp_path, features=FEATURES, capabilities=able) as scene:
        if kind is ObjectKind.DIRECTORY:
            node = await scene.fs.namespace.mkdir(scene.root, b"it", 0o755, CALLER)
            node.lookups += 1
        else:
            node = await scene.make("it", b"bytes")

        refused = scene.fs.xattrs.set(node, b"user.a", b"1")
        assert await code_of(refused) == errno.EOPNOTSUPP
        assert await scene.fs.xattrs.names(node, 0) == ()


async def test_root_has_none_without_an_index(tmp_path: Path) -> None:
    """It has no object that could carry them."""
    async with scene_with_file(tmp_path) as (scene, _):
        refused = scene.fs.xattrs.set(scene.root, b"user.a", b"1")

        assert await code_of(refused) == errno.EOPNOTSUPP
        assert await scene.fs.xattrs.names(scene.root, 0) == ()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"system.posix_acl_access", errno.EOPNOTSUPP),
        (b"system.posix_acl_default", errno.EOPNOTSUPP),
        (b"system.nfs4_acl", errno.EOPNOTSUPP),
        (b"security.selinux", errno.EOPNOTSUPP),
        (b"btrfs.compression", errno.EOPNOTSUPP),
        (b"name", errno.EOPNOTSUPP),
        (b"user", errno.EOPNOTSUPP),
        (b"user.", errno.EINVAL),
        (b"user.absent", errno.ENODATA),
    ],
)
async def test_names_that_are_not_offered(
    tmp_path: Path, name: bytes, code: int
) -> None:
    """Access lists above all: who is refused one falls back to the mode."""
    async with scene_with_file(tmp_path) as (scene, node):
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: scene.fs.xattrs.get(node, name),
            lambda: scene.fs.xattrs.remove(node, name),
        ]
        if code != errno.ENODATA:
            calls.append(lambda: scene.fs.xattrs.set(node, name, b""))

        assert {await code_of(call()) for call in calls} == {code}


async def test_only_root_sees_trusted_names(tmp_path: Path) -> None:
    """And what other programs keep under names that are not offered, nobody."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        named = {
            b"user.a": b"1",
            b"trusted.t": b"2",
            b"security.s": b"3",
            b"system.posix_acl_access": b"4",
        }
        user = {"xattr": stored.to_header(named)}
        await scene.there.write("file", None, metadata=Metadata(user=user))
        node = await scene.lookup("file")

        as_root = await scene.fs.xattrs.names(node, 0)
        as_other = await scene.fs.xattrs.names(node, 1000)
        await scene.fs.xattrs.remove(node, b"user.a")

        assert as_root == (b"security.s", b"trusted.t", b"user.a")
        assert as_other == (b"security.s", b"user.a")
        del named[b"user.a"]
        assert await xattrs_of(scene, "file") == named
