"""What a row does not hold of a file is on the disk, synced."""

import os
from pathlib import Path

import pytest

from mountfs.cache import entry_text, gathered, ledger
from mountfs.cache.spool import IN_MEMORY_MAX
from mountfs.storage.errors import Unreachable
from mountfs.vfs.attributes import Change
from tests.fakes.volume import open_scene

SIZE = 1000


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the inodes of the files that a power cut does not take."""
    inodes: set[int] = set()
    monkeypatch.setattr(os, "fdatasync", lambda fd: inodes.add(os.fstat(fd).st_ino))
    return inodes


async def test_a_row_that_lost_its_bytes_to_the_spool_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: set[int]
) -> None:
    """To be sent a file is filled up, and is too large for its next row then."""
    for module in (entry_text, ledger):
        monkeypatch.setattr(module, "INLINE_SIZE_MAX", 10)
    monkeypatch.setattr(gathered, "GATHERED_MAX", 0)
    spools = tmp_path / "state" / "spool"
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        await scene.put("file", bytes(SIZE))
        for call in ("write", "write_part"):
            scene.store.refused[call] = Unreachable("no route")
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 500, b"edit")
        await scene.close(opened)
        assert not await scene.drain()

        await scene.fs.attributes.apply(opened.node, Change(mode=0o600), is_echo=False)
    for path in spools.glob("*.spool"):
        if path.stat().st_ino not in synced:
            path.unlink()
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert await scene.see("file") == bytes(500) + b"edit" + bytes(496)


async def test_a_row_with_its_bytes_needs_no_room_on_the_disk(tmp_path: Path) -> None:
    """At the next mount the disk may be full; what is there of them goes."""
    spools = tmp_path / "state" / "spool"
    async with open_scene(tmp_path, journaled=True) as scene:
        there = scene.there
        await scene.put("file", bytes(2 * IN_MEMORY_MAX))
        opened = await scene.open(await scene.lookup("file"))
        await scene.fs.files.write(opened, 500, b"edit")
        await scene.close(opened)
        assert not await scene.drain()  # it is too large for this store
        (name,) = scene.journaled.queue.spools()
    (spools / name).write_bytes(b"some of it, not synced")
    async with open_scene(tmp_path, there=there, journaled=True) as scene:
        assert not list(spools.glob("*.spool"))
        opened = await scene.open(await scene.lookup("file"), os.O_RDONLY)
        assert await scene.fs.files.read(opened, 500, 4) == b"edit"
        await scene.close(opened)
