"""Removals that have waited for long: looked at first, and yet sent together."""

from pathlib import Path

import pytest

from mountfs.cache.carrier import LATE_S, Carrier
from mountfs.cache.entries import Entry
from mountfs.storage.errors import StoreError
from tests.fakes.clocks import Clock
from tests.fakes.volume import CALLER, Scene, open_scene

COUNT = 40


async def removed(scene: Scene) -> Clock:
    """Remove a directory of files, and let all of that become late."""
    await scene.fs.namespace.mkdir(scene.root, b"d", 0o755, CALLER)
    for number in range(COUNT):
        await scene.make(f"d/{number:02}", b"ours")
    assert await scene.drain()
    scene.ledger.now_s = clock = Clock()
    directory = await scene.lookup("d")
    for number in range(COUNT):
        await scene.fs.namespace.unlink(directory, f"{number:02}".encode())
    await scene.fs.namespace.rmdir(scene.root, b"d")
    clock.now_s += 60
    scene.store.asked.clear()
    return clock


async def test_late_removals_go_together_after_a_look_at_each(tmp_path: Path) -> None:
    """One request removes them all; alone they would go slower than others come."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await removed(scene)

        assert await scene.drain()

        assert await scene.keys() == set()
        assert scene.store.asked["delete_many"] == 1
        assert scene.store.asked["delete"] == 0
        assert scene.store.asked["stat"] <= COUNT + 1


async def test_what_others_wrote_since_stays_with_its_directory(
    tmp_path: Path,
) -> None:
    """It is told, and all the rest goes: what they removed is no error."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await removed(scene)
        await scene.put("d/07", b"another's")
        await scene.there.delete("d/08")

        assert await scene.drain()

        assert await scene.content("d/07") == b"another's"
        assert {key for key in await scene.keys() if key != "d/"} == {"d/07"}
        told = {each.key for each in scene.fs.volume.incidents}
        assert told == {"d/07"}


async def test_what_was_seen_does_not_get_late_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where looks take long, the first keys are removed before the last are seen."""
    async with open_scene(tmp_path, journaled=True) as scene:
        clock = await removed(scene)
        look = Carrier._check

        async def slowly(self: Carrier, entry: Entry) -> None:
            clock.now_s += LATE_S / 10
            await look(self, entry)
            if entry.key == "d/00":
                await scene.put("d/39", b"another's")  # which was looked at first

        monkeypatch.setattr(Carrier, "_check", slowly)
        await scene.drain()

        assert await scene.content("d/39") == b"another's"


async def test_a_look_that_fails_holds_up_its_own_and_what_is_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are gone; it is tried again, and then the directory goes."""
    async with open_scene(tmp_path, journaled=True) as scene:
        await removed(scene)
        look = Carrier._check

        async def fail(self: Carrier, entry: Entry) -> None:
            if entry.key == "d/05":
                raise StoreError("not now", key=entry.key)
            await look(self, entry)

        with monkeypatch.context() as patched:
            patched.setattr(Carrier, "_check", fail)
            assert not await scene.drain()
        assert await scene.keys() == {"d/", "d/05"}

        assert await scene.drain()
        assert await scene.keys() == set()
