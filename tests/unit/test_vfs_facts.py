"""What `user.mountfs.*` tells of a file."""

import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mountfs.cache.conflicts import Policy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import PermissionDenied, Unreachable
from mountfs.storage.types import Features, Metadata
from mountfs.vfs.inodes import Node
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

FEATURES = replace(
    Features.for_mounts(), virtual_xattr=True, virtual_hard_link=True, virtual_pair=True
)
BLIND = tiny_store(move=False, attributes=False, list_metadata=False)
NAMES = ("key", "url", "etag", "state", "last_error", "group", "content-type")


async def fact(scene: Scene, node: Node, name: str) -> str | None:
    """Return a fact, or None for ENODATA."""
    try:
        value = await scene.fs.xattrs.get(node, b"user.mountfs." + name.encode())
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return None
    return value.decode()


async def facts(scene: Scene, node: Node, names: Sequence[str]) -> list[str | None]:
    return [await fact(scene, node, name) for name in names]


async def test_key_and_url_are_those_of_the_object(tmp_path: Path) -> None:
    """Of directories with a slash, of escaped names as they are in the store."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        scene.fs.volume.url_of = lambda key: f"store://{key}"
        await scene.put("d//file", b"bytes")
        file = await scene.lookup("d/mountfs%/file")
        directory = await scene.lookup("d")

        assert await facts(scene, file, ["key", "url"]) == [
            "d//file",
            "store://d//file",
        ]
        assert await fact(scene, directory, "key") == "d/"
        assert await fact(scene, scene.root, "key") == ""


async def test_removed_file_has_no_key(tmp_path: Path) -> None:
    """Who has it open still may ask."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        opened = await scene.create(scene.root, "file", b"bytes")
        await scene.fs.namespace.unlink(scene.root, b"file")

        assert await facts(scene, opened.node, ["key", "url"]) == [None, None]
        await scene.close(opened)


async def test_etag_is_the_content_version_in_the_store(tmp_path: Path) -> None:
    """A file that was never stored has none; a change of metadata leaves it."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        opened = await scene.create(scene.root, "file", b"bytes")
        before = await fact(scene, opened.node, "etag")
        await scene.close(opened)
        await scene.fs.xattrs.set(opened.node, b"user.a", b"1")

        version = (await scene.there.stat("file")).version
        assert before is None
        assert version is not None
        assert await fact(scene, opened.node, "etag") == version.content


async def test_state_follows_the_bytes(tmp_path: Path) -> None:
    """Clean, dirty while bytes are only here, failed with the reason, clean again."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        node = await scene.make("file", b"bytes")
        opened = await scene.open(node)
        states = [await facts(scene, node, ["state", "last_error"])]
        await scene.fs.files.write(opened, 0, b"BYTES")
        states.append(await facts(scene, node, ["state", "last_error"]))
        scene.store.refused["write"] = Unreachable("out of reach")
        with pytest.raises(Unreachable):
            await scene.close(opened)
        states.append(await facts(scene, node, ["state", "last_error"]))
        scene.store.refused.clear()
        await scene.fs.files.fsync(node)
        states.append(await facts(scene, node, ["state", "last_error"]))

        assert states == [
            ["clean", None],
            ["dirty", None],
            ["failed", "out of reach"],
            ["clean", None],
        ]


async def test_what_an_earlier_mount_could_not_store_is_failed(tmp_path: Path) -> None:
    """Its bytes are in the state directory, under the name of the file."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        opened = await scene.create(scene.root, "file", b"ours")
        scene.store.refused["write"] = Unreachable("out of reach")
        with pytest.raises(Unreachable):
            await scene.close(opened)
    await scene.there.write("file", BytesBody(b"theirs"))

    async with open_scene(
        tmp_path, features=FEATURES, there=scene.there, conflict=Policy.FAIL
    ) as again:
        node = await again.lookup("file")

        assert await fact(again, node, "state") == "failed"
        assert await fact(again, node, "last_error")
        assert await again.see("file") == b"theirs"


async def test_headers_and_user_metadata_are_told(tmp_path: Path) -> None:
    """Those that other programs gave the object, asked for if a listing hid them."""
    metadata = Metadata(
        user={"colour": "blau ä"},
        pairs={"content-type": "text/x", "cache-control": "no-store"},
    )
    names = ["content-type", "pair.cache-control", "meta.colour", "meta.x", "pair.x"]
    async with open_scene(
        tmp_path, features=FEATURES, capabilities=BLIND, ttl_s=60
    ) as scene:
        await scene.there.write("file", None, metadata=metadata)
        node = await scene.lookup("file")

        expected = ["text/x", "no-store", "blau ä", None, None]
        assert await facts(scene, node, names) == expected


async def test_group_is_the_id_of_the_hard_links(tmp_path: Path) -> None:
    """The same of every name, and none of a file that has one."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        one = await scene.make("one", b"bytes")
        before = await fact(scene, one, "group")
        await scene.fs.namespace.link(one, scene.root, b"two")

        id = await fact(scene, await scene.lookup("two"), "group")
        keys = await scene.keys()
        assert before is None
        assert f".mountfs/links/{id}" in keys


async def test_facts_are_never_listed_and_cannot_be_changed(tmp_path: Path) -> None:
    """So no program copies them from one file to another."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        node = await scene.make("file", b"bytes")
        await scene.fs.xattrs.set(node, b"user.own", b"1")
        xattrs = scene.fs.xattrs

        for name in (*NAMES, "invented"):
            full = b"user.mountfs." + name.encode()
            for deed in (xattrs.set(node, full, b"x"), xattrs.remove(node, full)):
                with pytest.raises(PermissionError):
                    await deed

        assert await xattrs.names(node, 0) == (b"user.own",)
        assert await fact(scene, node, "invented") is None


async def test_facts_of_what_is_no_file(tmp_path: Path) -> None:
    """Directories and links are clean; nothing of them is only here."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        directory = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        link = await scene.fs.namespace.symlink(scene.root, b"l", b"target", CALLER)

        assert await facts(scene, directory, ["key", "state"]) == ["d/", "clean"]
        assert await facts(scene, link, ["key", "state"]) == ["l", "clean"]


async def test_store_that_does_not_answer_is_no_absence(tmp_path: Path) -> None:
    """What cannot be asked for is an error and not ENODATA."""
    async with open_scene(
        tmp_path, features=FEATURES, capabilities=BLIND, ttl_s=60
    ) as scene:
        for number in range(40):
            await scene.put(f"file-{number:02}", b"bytes")
        opened = scene.fs.directories.open(scene.root)
        entries = await scene.fs.directories.entries(opened, anew=True)
        name, what = entries[-1]
        node = scene.fs.directories.node_of(scene.root, name, what)
        scene.store.refused["stat"] = PermissionDenied("no")
        assert node is not None

        with pytest.raises(PermissionDenied):
            await fact(scene, node, "content-type")
        scene.fs.directories.release(opened.handle)


async def test_what_is_known_here_asks_nobody(tmp_path: Path) -> None:
    """Bytes that are here and only here, the version, what waits: no request."""
    async with open_scene(
        tmp_path, features=FEATURES, ttl_s=60, journaled=True
    ) as scene:
        scene.store.refused["write"] = Unreachable("no route")
        node = await scene.make("file", b"bytes")
        assert not await scene.drain()
        scene.store.asked.clear()
        names = ["size", "dirty", "etag", "version", "state", "error", "pending"]
        told = dict(zip(names, await facts(scene, node, names), strict=True))
        asked = dict(scene.store.asked)
        scene.store.refused.clear()
        assert await scene.drain()
        stored = await facts(scene, node, ["state", "cached", "dirty", "pending"])
        version = (await scene.there.stat("file")).version
        assert version is not None
        assert await facts(scene, node, ["etag", "version"]) == [
            version.content,
            " ".join(filter(None, (version.content, version.attributes))),
        ]

    (waiting,) = json.loads(told.pop("pending") or "")
    assert asked == {}
    assert told == {
        "size": "5",
        "dirty": "0-4",
        "etag": None,
        "version": None,
        "state": "pending",
        "error": None,
    }
    assert (waiting["change"], waiting["error"]) == ("bytes", "no route")
    assert stored == ["clean", "0-4", None, None]


async def test_everything_is_told_at_once(tmp_path: Path) -> None:
    """As `mountfs explain` tells it, of a file that lost its name as well."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        node = await scene.make("file", b"bytes")
        told = json.loads(await fact(scene, node, "explain") or "")
        again = await scene.fs.explainer.explain(b"file")
        opened = await scene.open(node)
        await scene.fs.namespace.unlink(scene.root, b"file")
        nameless = json.loads(await fact(scene, node, "explain") or "")
        await scene.close(opened)

    assert told["object"]["key"] == "file"
    assert told.items() <= again.items()
    assert nameless.keys() == {"kind", "state"}
