"""The store refuses a change of a name: everything is as it was before."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mountfs.storage.errors import PermissionDenied
from mountfs.storage.types import Object
from mountfs.vfs import unlinked
from mountfs.vfs.names import Entry
from tests.fakes.volume import Scene, open_scene


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
