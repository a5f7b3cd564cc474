"""Nothing is sent while changes follow each other closely, unless somebody waits."""

from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache.burst import LONGEST_S, QUIET_S, Burst
from mountfs.cache.drain import Drain
from tests.fakes.volume import open_scene


async def test_a_burst_is_over_when_nothing_changes_any_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    burst = Burst(trio.current_time)
    began_s = trio.current_time()
    for _ in range(3):
        burst.note()
        await trio.sleep(QUIET_S / 2)
    await burst.over()
    assert trio.current_time() - began_s >= 2 * QUIET_S

    before_s = trio.current_time()
    await burst.over()
    assert trio.current_time() == before_s


async def test_a_burst_that_does_not_end_is_waited_for_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    burst = Burst(trio.current_time)
    began_s = trio.current_time()
    waited_s = 0.0
    for _ in range(200):
        burst.note()
        before_s = trio.current_time()
        with trio.move_on_after(QUIET_S / 2):
            await burst.over()
        waited_s += trio.current_time() - before_s
        await trio.sleep(QUIET_S / 4)
    assert trio.current_time() - began_s > LONGEST_S
    assert waited_s <= LONGEST_S + QUIET_S


async def test_there_is_one_look_at_many_removals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is news, also when they go on for so long that nothing waits for them."""
    looks: list[int] = []
    take_off = Drain._take_off

    def counted(self: Drain) -> float:
        looks.append(1)
        return take_off(self)

    async with open_scene(tmp_path, journaled=True) as scene:
        for number in range(50):
            await scene.make(f"file{number}", b"bytes")
        assert await scene.drain()
        monkeypatch.setattr("mountfs.cache.burst.LONGEST_S", 0.0)
        monkeypatch.setattr("mountfs.cache.burst.QUIET_S", 30.0)
        monkeypatch.setattr(Drain, "_take_off", counted)
        scene.ledger.burst = Burst()
        for number in range(50):
            await scene.fs.namespace.unlink(scene.root, f"file{number}".encode())
        assert len(looks) < 5
        assert await scene.drain()  # who waits is not made to wait for the rest of it
        assert await scene.keys() == set()


async def test_who_waits_for_the_store_cuts_a_burst_short(
    autojump_clock: trio.testing.MockClock,
) -> None:
    burst = Burst(trio.current_time)
    burst.note()
    before_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(burst.over)
        await trio.testing.wait_all_tasks_blocked()
        burst.cut_short()
    assert trio.current_time() == before_s

    burst.note()  # goes on, and whoever waits still does
    await burst.over()
    assert trio.current_time() == before_s


async def test_nothing_is_sent_in_the_middle_of_a_burst(tmp_path: Path) -> None:
    async with open_scene(tmp_path, journaled=True) as scene:
        scene.ledger.burst = Burst(clock=lambda: 0.0)  # in which no time passes
        for number in range(20):
            await scene.make(str(number), b"bytes")
        await trio.sleep(0.2)
        assert scene.store.asked["write"] == 0
        assert len(scene.ledger.table) == 20

        await scene.settling.settle_name("3")
        assert scene.store.asked["write"] > 0
        assert await scene.content("3") == b"bytes"
