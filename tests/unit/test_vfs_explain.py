"""What `mountfs explain` tells of a file: object, form, attributes, what is here."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mountfs.storage.body import BytesBody
from mountfs.storage.errors import PermissionDenied, Unreachable
from mountfs.storage.health import Cause, Health
from mountfs.storage.types import (
    Attributes,
    Features,
    Metadata,
    Object,
    ObjectKind,
    OfflinePolicy,
)
from mountfs.storage.watched import HealthStorager
from mountfs.vfs.attributes import Defaults, effective
from mountfs.vfs.origins import Told, origins
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene

FEATURES = replace(Features.for_mounts(), virtual_xattr=True, virtual_hard_link=True)
BLIND = tiny_store(move=False, attributes=False, list_metadata=False)


def watched(scene: Scene) -> Health:
    """Let the scene see its store as a mount does; return the health of it."""
    health = Health()
    scene.fs.volume.watched = HealthStorager(scene.store, health, OfflinePolicy.EIO)
    scene.fs.volume.url_of = lambda key: f"store://{key}"
    return health


async def explained(scene: Scene, path: str) -> dict[str, Any]:
    """Explain a path; what is told can be sent over a socket."""
    told = await scene.fs.explainer.explain(path.encode())
    again: dict[str, Any] = json.loads(json.dumps(told))
    return again


async def test_a_file_of_another_tool_tells_whose_attributes_it_has(
    tmp_path: Path,
) -> None:
    """What stands in the metadata is named with its pair, the rest with its option."""
    user = {"mode": "100640", "mtime": "1700000000.5", "colour": "red"}
    async with open_scene(tmp_path, features=FEATURES, capabilities=BLIND) as scene:
        watched(scene)
        await scene.there.write(
            "d/f", BytesBody(b"bytes"), metadata=Metadata(user=user)
        )
        told = await explained(scene, "d/f")

    found = told["attributes"]
    assert told["found"] is True
    assert told["state"] == "clean"
    assert told["object"]["key"] == "d/f"
    assert told["object"]["url"] == "store://d/f"
    assert told["object"]["size"] == 5
    assert told["object"]["user_metadata"] == user
    assert told["form"]["name"] == "object"
    assert found["mode"] == {
        "value": "0640",
        "source": "user metadata mode=100640 (rclone)",
    }
    assert found["mtime"]["value"] == "2023-11-14T22:13:20.5Z"
    assert found["uid"]["source"] == "the mount (--uid)"
    assert found["atime"]["source"] == "as mtime"


async def test_what_stands_for_a_name_is_told(tmp_path: Path) -> None:
    """The root, a directory with a marker or without, a link, one of several names."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        watched(scene)
        await scene.put("implied/file", b"x")
        await scene.fs.namespace.mkdir(scene.root, b"made", 0o755, CALLER)
        await scene.fs.namespace.symlink(scene.root, b"link", b"made", CALLER)
        node = await scene.make("one", b"bytes")
        await scene.fs.namespace.link(node, scene.root, b"two")
        paths = ("", "implied", "made", "link", "one")
        told = {path: await explained(scene, path) for path in paths}

    assert {path: each["form"]["name"] for path, each in told.items()} == {
        "": "root",
        "implied": "implied",
        "made": "marker",
        "link": "link object",
        "one": "hard link",
    }
    assert told["link"]["target"] == "made"
    assert told["one"]["hard_links"]["names"] == ["one", "two"]
    assert told["made"]["form"]["gate"] == "virtual_dir"


async def test_bytes_here_and_bytes_only_here_are_told(tmp_path: Path) -> None:
    """Cached ranges follow reading; dirty ones, and the state, follow writing."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        watched(scene)
        await scene.put("file", bytes(10))
        await scene.see("file")
        before = await explained(scene, "file")
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 4, b"1234")
        during = await explained(scene, "file")
        await scene.close(opened)

    assert before["cached"] == {"bytes": 10, "ranges": [[0, 10]], "count": 1}
    assert before["dirty"] is None
    assert during["state"] == "dirty"
    assert during["dirty"]["ranges"] == [[4, 8]]
    assert during["dirty"]["from_object"] == 10
    assert during["open"] == {"handles": 1, "writing": 1}


async def test_a_refusal_is_told_with_the_permission_that_lacks(tmp_path: Path) -> None:
    """Status, request and permission are those of the last request that failed."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        watched(scene)
        error = PermissionDenied("no", key="file", code="AccessDenied")
        error.status, error.request, error.request_id = 403, "PutObject", "R1"
        error.permission = "s3:PutObject on arn:aws:s3:::b/file"
        opened = await scene.create(scene.root, "file", b"bytes")
        scene.store.refused["write"] = error
        with pytest.raises(PermissionDenied):
            await scene.close(opened)
        assert scene.fs.volume.watched is not None
        scene.fs.volume.watched.refusals.note(error)
        told = await explained(scene, "file")
        scene.store.refused.clear()

    assert told["state"] == "failed"
    assert told["object"]["in_store"] is False
    assert told["form"]["name"] == "nothing yet"
    assert told["pending"][0]["error"] == str(error)
    assert told["error"]["http_status"] == 403
    assert told["error"]["request_id"] == "R1"
    assert told["error"]["request"] == "PutObject"
    assert told["error"]["needs"] == "s3:PutObject on arn:aws:s3:::b/file"


async def test_what_waits_in_the_journal_is_told(tmp_path: Path) -> None:
    """What is to be done, how often that failed, and that the store is out of reach."""
    async with open_scene(
        tmp_path, features=FEATURES, ttl_s=60, journaled=True
    ) as scene:
        health = watched(scene)
        scene.store.refused["write"] = Unreachable("no route")
        await scene.make("file", b"bytes")
        assert not await scene.drain()
        waiting = await explained(scene, "file")
        health.begin_offline(Cause.UNREACHABLE, "no route")
        offline = await explained(scene, "file")
        scene.store.refused.clear()
        health.settled()

    assert waiting["state"] == "pending"
    assert waiting["pending"][0]["change"] == "bytes"
    assert waiting["pending"][0]["attempts"] >= 1
    assert waiting["pending"][0]["error"] == "no route"
    assert waiting["pending"][0]["next_try_s"] is not None
    assert waiting["object"]["etag"] is None
    assert offline["object"]["in_store"] is None
    assert "no route" in offline["object"]["not_asked"]
    assert offline["pending"][0]["waits_for_store"] is True
    assert offline["pending"][0]["next_try_s"] is None


async def test_an_absent_path_tells_where_it_was_looked_for(tmp_path: Path) -> None:
    """The first name that is missing, and why the way ends there."""
    async with open_scene(tmp_path, features=FEATURES, ttl_s=60) as scene:
        watched(scene)
        await scene.put("d/file", b"x")
        await scene.fs.namespace.symlink(scene.root, b"link", b"d", CALLER)
        absent = await explained(scene, "d/none/below")
        behind_file = await explained(scene, "d/file/x")
        behind_link = await explained(scene, "link/file")
        hidden = await explained(scene, ".mountfs")

    assert absent["found"] is False
    assert absent["missing"] == "d/none"
    assert absent["looked_up"] == ["store://d/none", "store://d/none/"]
    assert behind_file["why"] == "d/file is no directory"
    assert "link is a symbolic link to d:" in behind_link["why"]
    assert "hidden" in hidden["why"]


async def test_unknown_is_not_absent(tmp_path: Path) -> None:
    """While the store is out of reach nobody says that a name is not there."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        health = watched(scene)
        health.begin_offline(Cause.UNREACHABLE, "no route")
        scene.store.refused["stat"] = Unreachable("no route")
        told = await explained(scene, "file")
        health.settled()

    assert told["found"] is None
    assert "no route" in told["why"]


async def test_what_is_known_is_told_while_the_store_is_silent(tmp_path: Path) -> None:
    """A file that was seen is there, with what was seen of it."""
    async with open_scene(tmp_path, features=FEATURES) as scene:
        watched(scene)
        await scene.make("file", b"bytes")
        scene.store.refused["stat"] = Unreachable("no route")
        told = await explained(scene, "file")
        scene.store.refused.clear()

    assert told["found"] is True
    assert told["object"]["in_store"] is None
    assert told["object"]["not_asked"] == "no route"
    assert told["attributes"]["uid"]["source"] == "known here; the store was not asked"


async def test_a_removal_that_waits_is_told(tmp_path: Path) -> None:
    """The store still has the object; programs here do not see it any more."""
    async with open_scene(
        tmp_path, features=FEATURES, ttl_s=60, journaled=True
    ) as scene:
        watched(scene)
        await scene.put("file", b"x")
        await scene.lookup("file")
        scene.store.refused["delete"] = Unreachable("no route")
        scene.store.refused["delete_many"] = Unreachable("no route")
        await scene.fs.namespace.unlink(scene.root, b"file")
        told = await explained(scene, "file")
        scene.store.refused.clear()

    assert told["found"] is False
    assert told["why"] == "it was removed here; the store has yet to do so"
    assert told["pending"][0]["change"] == "removal"


def _sources(told: Told, seen: Attributes) -> Mapping[str, str]:
    defaults = Defaults(uid=1, gid=2, time_ns=3)
    found = origins(seen, told, defaults, is_changed=False)
    return {name: each.source for name, each in found.items()}


def test_each_attribute_names_who_says_so() -> None:
    """Index, store, dialect, default: the source is the one that is believed."""
    defaults = Defaults(uid=1, gid=2, time_ns=3)
    kept = Attributes(mode=0o100600, uid=7, mtime_ns=10**9)
    bare = Object(key="k", mtime_ns=5, metadata=Metadata(attributes=kept))
    seen = effective(bare, defaults)
    user = {"goog-reserved-posix-mode": "600", "uid": "7", "gcsfuse_mtime": "x"}

    native = _sources(Told(object=bare, user={}, is_native=True), seen)
    mixed = _sources(Told(object=bare, user=user, is_native=False), seen)
    indexed = _sources(Told(object=bare, user={}, is_native=False, index=kept), seen)

    assert native["mode"] == "the store itself"
    assert native["gid"] == "the mount (--gid)"
    assert mixed["mode"] == "user metadata goog-reserved-posix-mode=600 (gcloud)"
    assert mixed["uid"] == "user metadata uid=7 (s3fs)"
    assert indexed["uid"] == "the attribute index of its directory"


def test_a_mode_that_is_not_believed_is_not_the_source() -> None:
    """A zero of a program that knows no modes gives way to the mount's."""
    kept = Attributes(mode=0)
    bare = Object(
        key="k", kind=ObjectKind.FILE, mtime_ns=5, metadata=Metadata(attributes=kept)
    )
    seen = effective(bare, Defaults(uid=1, gid=2))
    told = Told(object=bare, user={"mode": "0"}, is_native=False, is_read=False)

    found = _sources(told, seen)

    assert found["mode"] == ("the mount (--file-mode; virtual_object_metadata is off)")
    assert found["mtime"].startswith("the store's time of change")
