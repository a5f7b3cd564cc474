"""Links of rclone and directories of Hadoop: what they are, and under which name."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import NotFound
from mountfs.storage.foreign_names import named_key, other_key, shown_as
from mountfs.storage.types import Features, Metadata, ObjectKind
from mountfs.storage.virtual import VirtualStorager
from mountfs.vfs.attributes import Change
from mountfs.vfs.directories import OpenDirectory
from mountfs.vfs.rename import EXCHANGE
from tests.fakes.cache_stack import tiny_store
from tests.fakes.flat_store import FlatStore
from tests.fakes.volume import CALLER, Scene, open_scene

MOUNT = Features.for_mounts()


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("a.rclonelink", "a"),
        ("d/a.b.rclonelink", "d/a.b"),
        ("a.rclonelink.rclonelink", "a.rclonelink"),
        ("d_$folder$", "d/"),
        ("x/d_$folder$", "x/d/"),
        (".rclonelink", None),
        ("d/.rclonelink", None),
        ("d/_$folder$", None),
        ("a.rclonelinks", None),
        ("a.rclonelink/", None),
    ],
)
def test_key_tells_the_name(key: str, wanted: str | None) -> None:
    """The suffix alone is no name; everything before it is one."""
    assert named_key(key) == wanted
    if wanted is not None:
        assert other_key(wanted) == key


@pytest.mark.parametrize(
    ("key", "data", "user"),
    [
        pytest.param("a.rclonelink", b"", {}, id="link-without-target"),
        pytest.param("a.rclonelink", b"x" * 4096, {}, id="target-too-long"),
        pytest.param("a.rclonelink", b"x\0", {}, id="no-target"),
        pytest.param("a.rclonelink", b"x", {"mode": "33188"}, id="file-of-s3fs"),
        pytest.param("a.rclonelink", b"x", {"mode": "100644"}, id="file-of-rclone"),
        pytest.param("a.rclonelink", b"x", {"mode": "41471"}, id="link-of-s3fs"),
        pytest.param("a.rclonelink", b"x", {"mode": "rwx"}, id="mode-is-garbage"),
        pytest.param("a.rclonelink", b"x", {"mountfs-commit": "1"}, id="ours"),
        pytest.param("d_$folder$", b"x", {}, id="folder-with-bytes"),
        pytest.param("d_$folder$", b"", {"mode": "33188"}, id="file-like-a-folder"),
        pytest.param("d_$folder$", b"", {"mountfs-commit": "1"}, id="our-empty-file"),
    ],
)
async def test_object_that_is_something_else_keeps_its_name(
    key: str, data: bytes, user: dict[str, str]
) -> None:
    """The key is no proof: bytes, a mode or a commit id of ours say otherwise."""
    flat = FlatStore()
    flat.put(key, data, Metadata(user=user))

    found = await VirtualStorager(flat, MOUNT).stat(key)

    assert shown_as(found) is None


@pytest.mark.parametrize("user", [{}, {"mode": "120777", "mtime": "1.5"}])
async def test_link_of_rclone_is_a_link(user: dict[str, str]) -> None:
    """Its body is the target; it answers under its own key and tells its name."""
    flat = FlatStore()
    flat.put("d/a.rclonelink", b"../t\xff", Metadata(user=user))
    store = VirtualStorager(flat, MOUNT)

    found = await store.stat("d/a.rclonelink")

    assert (found.kind, shown_as(found)) == (ObjectKind.LINK, "d/a")
    assert found.link_target == "../t\udcff"


async def test_what_listings_have_shown_is_asked_for() -> None:
    """A name that is not there costs one request more once such keys were seen."""
    flat = FlatStore()
    flat.put("d/a.rclonelink", b"t")
    flat.put("d/e_$folder$")
    store = VirtualStorager(flat, MOUNT)
    with pytest.raises(NotFound):
        await store.stat("d/a")
    with pytest.raises(NotFound):
        await store.stat("d/e/", kind=ObjectKind.DIRECTORY)
    assert flat.requests == ["stat", "list"]
    await store.list("d/")

    link = await store.stat("d/a")
    directory = await store.stat("d/e/", kind=ObjectKind.DIRECTORY)

    assert (link.key, link.link_target) == ("d/a.rclonelink", "t")
    assert (directory.key, directory.kind) == ("d/e/", ObjectKind.DIRECTORY)
    flat.put("d/ours.rclonelink", b"t", Metadata(user={"mode": "33188"}))
    for key, kind in (
        ("d/b", None),
        ("d/e", None),
        ("d/e/", None),
        ("d/ours", None),
        ("d/f/", ObjectKind.DIRECTORY),
    ):
        with pytest.raises(NotFound):
            await store.stat(key, kind=kind)


@pytest.mark.parametrize("gate", ["virtual_link", "virtual_dir"])
async def test_without_its_gate_it_is_a_file(gate: str) -> None:
    """Closed gates leave both forms as the plain objects they are."""
    flat = FlatStore()
    flat.put("a.rclonelink", b"t")
    flat.put("d_$folder$")
    store = VirtualStorager(flat, Features(**{gate: True}))
    await store.list("")

    link, folder = await store.stat("a.rclonelink"), await store.stat("d_$folder$")

    assert (shown_as(link) is None) == (gate == "virtual_dir")
    assert (shown_as(folder) is None) == (gate == "virtual_link")


# In a mount.


@pytest.fixture(params=[True, False], ids=["metadata-listed", "metadata-asked"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    able = tiny_store(move=False, attributes=False, list_metadata=request.param)
    async with open_scene(
        tmp_path, capabilities=able, features=Features.all(), ttl_s=60
    ) as scene:
        yield scene


async def names(scene: Scene, path: str = "") -> list[str]:
    """List a directory as a program does."""
    node = await scene.lookup(path) if path else scene.root
    opened: OpenDirectory = scene.fs.directories.open(node)
    found = await scene.fs.directories.entries(opened, anew=True)
    shown = [
        name.decode()
        for name, what in found
        if scene.fs.directories.node_of(node, name, what) is not None
    ]
    scene.fs.directories.release(opened.handle)
    return shown


async def readlink(scene: Scene, path: str) -> bytes:
    return await scene.fs.namespace.readlink(await scene.lookup(path))


async def rename(scene: Scene, old: str, new: str, flags: int = 0) -> None:
    ends = [(scene.root, name.encode()) for name in (old, new)]
    await scene.fs.renames.rename(ends[0], ends[1], flags)


async def test_link_is_listed_and_found_under_its_name(scene: Scene) -> None:
    """`a.rclonelink` is the link `a`, for readdir, lookup and readlink."""
    await scene.put("a.rclonelink", b"target")

    assert await names(scene) == ["a"]
    assert await readlink(scene, "a") == b"target"
    assert await readlink(scene, "a.rclonelink") == b"target"
    assert await scene.keys() == {"a.rclonelink"}


@pytest.mark.parametrize("other", ["a", "a/child"])
async def test_link_whose_name_is_taken_keeps_its_own(scene: Scene, other: str) -> None:
    """A file or directory of that name wins; both are shown."""
    await scene.put("a.rclonelink", b"target")
    await scene.put(other, b"bytes")

    assert await names(scene) == ["a", "a.rclonelink"]
    assert await scene.see(other) == b"bytes"
    assert await readlink(scene, "a.rclonelink") == b"target"


async def test_link_is_removed_under_its_name(scene: Scene) -> None:
    """unlink deletes the object, whatever its key."""
    await scene.put("a.rclonelink", b"target")
    await names(scene)

    await scene.fs.namespace.unlink(scene.root, b"a")

    assert await scene.keys() == set()
    assert await names(scene) == []


async def test_renamed_link_becomes_ours(scene: Scene) -> None:
    """After a rename it is a link in our form under the new name, and nothing else."""
    await scene.put("a.rclonelink", b"target")
    await names(scene)

    await rename(scene, "a", "b")

    assert await scene.keys() == {"b"}
    assert await names(scene) == ["b"]
    assert await readlink(scene, "b") == b"target"


async def test_link_with_a_long_name_becomes_ours(scene: Scene) -> None:
    """Also one whose name is shown in a short form stays a link."""
    await scene.put("x" * 300 + ".rclonelink", b"target")
    (name,) = await names(scene)

    await rename(scene, name, "b")

    assert await scene.keys() == {"b"}
    assert await readlink(scene, "b") == b"target"


async def test_link_in_a_renamed_directory_is_found(scene: Scene) -> None:
    """A directory takes the links in it along as they are, and under their names."""
    await scene.put("d/a.rclonelink", b"target")
    await names(scene, "d")

    await rename(scene, "d", "e")

    assert await names(scene, "e") == ["a"]
    assert await readlink(scene, "e/a") == b"target"
    node = await scene.lookup("e/a")
    await scene.fs.attributes.apply(node, Change(uid=5), is_echo=False)
    assert await scene.keys() - {"d/", "e/"} == {"e/a"}


async def test_link_with_its_own_name_is_renamed_as_a_link(scene: Scene) -> None:
    """Also one whose name is taken stays a link under any other name."""
    await scene.put("a.rclonelink", b"target")
    await scene.put("a", b"bytes")
    await names(scene)

    await rename(scene, "a.rclonelink", "b")

    assert await names(scene) == ["a", "b"]
    assert await readlink(scene, "b") == b"target"


@pytest.mark.parametrize("flags", [0, EXCHANGE])
async def test_link_that_is_replaced_leaves_nothing(scene: Scene, flags: int) -> None:
    """A rename over it, or in exchange for it, takes the foreign key away."""
    await scene.put("a.rclonelink", b"target")
    await scene.make("f", b"bytes")
    await names(scene)

    await rename(scene, "f", "a", flags)

    assert await scene.keys() == ({"a", "f"} if flags else {"a"})
    assert await scene.see("a") == b"bytes"


async def test_changed_link_becomes_ours(scene: Scene) -> None:
    """An owner of its own gives it our form under the key of its name."""
    await scene.put("a.rclonelink", b"target")
    await names(scene)
    node = await scene.lookup("a")

    await scene.fs.attributes.apply(node, Change(uid=5), is_echo=False)

    assert await scene.keys() == {"a"}
    assert await readlink(scene, "a") == b"target"
    assert node.attributes.uid == 5


async def test_name_of_a_link_cannot_be_made_again(scene: Scene) -> None:
    """What is there is there, under both of its names."""
    await scene.put("a.rclonelink", b"target")
    await names(scene)

    for name in (b"a", b"a.rclonelink"):
        with pytest.raises(OSError) as caught:  # noqa: PT011  # errno is checked below
            await scene.fs.namespace.mkdir(scene.root, name, 0o755, CALLER)
        assert caught.value.errno == errno.EEXIST


async def test_file_of_ours_may_have_such_a_name(scene: Scene) -> None:
    """What a program here calls `a.rclonelink` or `d_$folder$` is what it wrote."""
    await scene.make("a.rclonelink", b"bytes")
    await scene.make("d_$folder$", b"")
    await scene.fs.namespace.symlink(scene.root, b"l.rclonelink", b"t", CALLER)
    scene.fs.volume.metadata.forget_below("")

    assert await names(scene) == ["a.rclonelink", "d_$folder$", "l.rclonelink"]
    assert await scene.see("a.rclonelink") == b"bytes"
    assert await readlink(scene, "l.rclonelink") == b"t"


async def test_directory_of_hadoop_is_a_directory(scene: Scene) -> None:
    """Its object is not shown; rmdir takes it away."""
    await scene.put("d_$folder$", b"")
    await scene.put("full_$folder$", b"")
    await scene.put("full/child", b"bytes")

    assert await names(scene) == ["d", "full"]
    assert await names(scene, "d") == []
    assert await names(scene, "full") == ["child"]
    await scene.fs.namespace.rmdir(scene.root, b"d")
    await scene.fs.namespace.unlink(await scene.lookup("full"), b"child")
    await scene.fs.namespace.rmdir(scene.root, b"full")

    assert await scene.keys() == set()
    assert await names(scene) == []


async def test_directory_of_hadoop_is_no_child_beside_itself(tmp_path: Path) -> None:
    """Who removes the only directory in another leaves that other behind."""
    async with open_scene(tmp_path, ttl_s=3600) as scene:
        await scene.put("d/e_$folder$", b"")
        assert await names(scene, "d") == ["e"]
        await scene.lookup("d/e")
        await scene.fs.namespace.rmdir(await scene.lookup("d"), b"e")

        assert await scene.keys() == {"d/"}


async def test_directory_of_hadoop_is_renamed(scene: Scene) -> None:
    """An empty one becomes ours under its new name, and leaves no trace."""
    await scene.put("d_$folder$", b"")
    await names(scene)

    await rename(scene, "d", "e")

    assert await scene.keys() == {"e/"}
    assert await names(scene) == ["e"]


async def test_directory_of_hadoop_with_a_marker_is_renamed(scene: Scene) -> None:
    """One that has both objects leaves neither behind."""
    await scene.put("d_$folder$", b"")
    await scene.put("d/", b"")
    await scene.put("d/file", b"bytes")
    await names(scene)

    await rename(scene, "d", "e")

    assert await scene.keys() == {"e/", "e/file"}


async def test_directory_of_hadoop_can_be_filled(scene: Scene) -> None:
    """Files are made in it as in any directory."""
    await scene.put("d_$folder$", b"")
    await names(scene)

    await scene.make("d/file", b"bytes")

    assert await scene.see("d/file") == b"bytes"
    assert await scene.keys() == {"d_$folder$", "d/file"}


async def test_name_is_still_found_when_knowledge_is_old(tmp_path: Path) -> None:
    """After the time to live the store is asked again, under both keys."""
    there = MemoryStore(
        capabilities=tiny_store(move=False, attributes=False, list_metadata=False)
    )
    await there.write("a.rclonelink", BytesBody(b"target"))
    await there.write("d_$folder$", None)
    async with open_scene(tmp_path, there=there) as scene:
        assert await names(scene) == ["a", "d"]

        assert await readlink(scene, "a") == b"target"
        assert await names(scene, "d") == []
        assert os.fsencode("a") in scene.root.children
