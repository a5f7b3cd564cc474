"""The store refuses a change of a name: everything is as it was before."""

import errno
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace as replaced
from pathlib import Path

import pytest

from mountfs.storage.errors import InvalidRequest, PermissionDenied
from mountfs.storage.types import Features, Object
from mountfs.vfs import unlinked
from mountfs.vfs.names import Entry
from mountfs.vfs.node import Node
from mountfs.vfs.rename import EXCHANGE
from tests.fakes.cache_stack import tiny_store
from tests.fakes.volume import CALLER, Scene, open_scene


async def unlink(scene: Scene) -> None:
    await scene.fs.namespace.unlink(scene.root, b"file")


async def replace(scene: Scene) -> None:
    new = (scene.root, b"file")
    await scene.fs.renames.rename((scene.root, b"other"), new, 0)


ENTRY = Entry("file")
losses = pytest.mark.parametrize(
    ("loss", "refused"),
    [(unlink, "delete"), (replace, "copy"), (unlink, "copy")],
)
Loss = Callable[[Scene], Awaitable[None]]


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("is_dirty", [False, True])
@losses
async def test_open_file_keeps_its_name_when_that_cannot_go(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss: Loss,
    refused: str,
    is_dirty: bool,
    is_large: bool,
) -> None:
    """What is written to a file after its unlink failed is stored under its name."""
    if is_large:
        monkeypatch.setattr(unlinked, "SPOOLED_SIZE_MAX", 1)
    async with open_scene(tmp_path) as scene:
        await scene.make("file", b"old bytes")
        await scene.make("other", b"other")
        opened = await scene.open(await scene.lookup("file"))
        if is_dirty:
            await scene.fs.files.write(opened, 0, b"NEW")
        scene.store.refused[refused] = PermissionDenied("no")
        if refused == "copy" and loss is unlink:
            scene.store.refused["delete"] = PermissionDenied("no")

        with pytest.raises(PermissionDenied):
            await loss(scene)
        scene.store.refused.clear()
        expected = b"NEW bytes" if is_dirty else b"old bytes"
        assert await scene.fs.files.read(opened, 0, 100) == expected
        await scene.fs.files.write(opened, 4, b"BYTES")
        await scene.close(opened)

        assert await scene.content("file") == expected[:4] + b"BYTES"
        assert await scene.see("file") == expected[:4] + b"BYTES"
        assert await scene.content("other") == b"other"
        assert isinstance(await scene.fs.resolver.child(scene.root, ENTRY), Object)


EMPTY = b"mountfs%"
"""The name of the component of no bytes: a file of it would be the marker `d/`."""


async def make_special(scene: Scene, parent: Node) -> None:
    await scene.fs.namespace.mknod(parent, EMPTY, stat.S_IFREG | 0o644, 0, CALLER)


async def make_second_name(scene: Scene, parent: Node) -> None:
    await scene.fs.namespace.link(await scene.lookup("file"), parent, EMPTY)


async def move(scene: Scene, parent: Node) -> None:
    await scene.fs.renames.rename((scene.root, b"file"), (parent, EMPTY), 0)


async def exchange(scene: Scene, parent: Node) -> None:
    await scene.fs.namespace.mkdir(parent, EMPTY, 0o755, CALLER)
    ends = (scene.root, b"file"), (parent, EMPTY)
    await scene.fs.renames.rename(*ends, EXCHANGE)


async def exchange_back(scene: Scene, parent: Node) -> None:
    await scene.fs.namespace.mkdir(parent, EMPTY, 0o755, CALLER)
    ends = (parent, EMPTY), (scene.root, b"file")
    await scene.fs.renames.rename(*ends, EXCHANGE)


@pytest.mark.parametrize(
    "deed",
    [
        lambda scene, parent: scene.fs.namespace.create(parent, EMPTY, 0o644, CALLER),
        lambda scene, parent: scene.fs.namespace.symlink(parent, EMPTY, b"t", CALLER),
        make_special,
        make_second_name,
        move,
        exchange,
        exchange_back,
    ],
)
async def test_no_file_gets_the_key_of_the_directory_it_is_in(
    tmp_path: Path, deed: Callable[[Scene, Node], Awaitable[object]]
) -> None:
    """A rename to that name had put the bytes in the place of the marker."""
    features = replaced(Features.for_mounts(), virtual_hard_link=True)
    async with open_scene(tmp_path, features=features) as scene:
        await scene.make("file", b"bytes")
        parent = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)

        with pytest.raises(OSError, match="reserved") as caught:
            await deed(scene, parent)

        assert caught.value.errno == errno.EPERM
        assert await scene.see("file") == b"bytes"
        assert await scene.content("d/") == b""


async def test_a_directory_can_have_the_name_of_the_empty_component(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path) as scene:
        parent = await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
        await scene.fs.namespace.mkdir(parent, b"e", 0o755, CALLER)
        await scene.fs.renames.rename((parent, b"e"), (parent, EMPTY), 0)

        assert await scene.keys() == {"d/", "d//"}


def refuse_line_breaks(key: str) -> None:
    """Take no key with a line break, as Google Cloud Storage does."""
    if "\n" in key:
        raise InvalidRequest("no line breaks", key=key)


async def make_directory(scene: Scene) -> None:
    await scene.fs.namespace.mkdir(scene.root, b"a\nb", 0o755, CALLER)


async def move_directory(scene: Scene) -> None:
    await scene.fs.renames.rename((scene.root, b"d"), (scene.root, b"a\nb"), 0)


@pytest.mark.parametrize(
    "deed",
    [
        lambda scene: scene.create(scene.root, "a\nb"),
        make_directory,
        move_directory,
    ],
)
async def test_the_journal_takes_no_name_that_the_store_never_will(
    tmp_path: Path, deed: Callable[[Scene], Awaitable[object]]
) -> None:
    """It would be tried again for ever, and no unmount would end well."""
    able = tiny_store(move=False, attributes=False, key_check=refuse_line_breaks)
    async with open_scene(tmp_path, capabilities=able, journaled=True) as scene:
        await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)

        with pytest.raises(InvalidRequest):
            await deed(scene)

        assert await scene.drain()
        assert await scene.keys() == {"d/"}
