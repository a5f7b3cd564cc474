"""Places for requests: programs first, work ahead bounded, and nobody left behind."""

import trio
import trio.testing

from mountfs.cache.lanes import Lanes, Place


async def enter(lanes: Lanes, place: Place) -> None:
    """Stand in line and wait."""
    lanes.queue(place)
    await lanes.wait(place)


async def test_work_ahead_leaves_places_to_programs() -> None:
    """However much is ahead, a program finds a place at once."""
    lanes = Lanes(4, reserve=1, ahead_bytes_max=100)
    async with trio.open_nursery() as nursery:
        ahead = [Place(1, is_ahead=True) for _ in range(9)]
        for place in ahead:
            nursery.start_soon(enter, lanes, place)
        await trio.testing.wait_all_tasks_blocked()
        assert [place.granted.is_set() for place in ahead].count(True) == 3

        with trio.fail_after(5):
            await enter(lanes, Place(1, is_ahead=False))
        nursery.cancel_scope.cancel()


async def test_bytes_ahead_are_bounded() -> None:
    """Large requests ahead wait for each other; one is always let through."""
    lanes = Lanes(9, reserve=1, ahead_bytes_max=100)
    first, second = Place(500, is_ahead=True), Place(60, is_ahead=True)
    await enter(lanes, first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter, lanes, second)
        await trio.testing.wait_all_tasks_blocked()
        assert not second.granted.is_set()

        lanes.leave(first)
        await second.granted.wait()


async def test_what_a_program_waits_for_is_hurried() -> None:
    """A request ahead that a program has come to want overtakes the others."""
    lanes = Lanes(2, reserve=1, ahead_bytes_max=100)
    await enter(lanes, Place(1, is_ahead=True))
    waiting = [Place(1, is_ahead=True) for _ in range(5)]
    async with trio.open_nursery() as nursery:
        for place in waiting:
            nursery.start_soon(enter, lanes, place)
        await trio.testing.wait_all_tasks_blocked()

        lanes.hurry(waiting[3])
        assert [place.granted.is_set() for place in waiting] == [0, 0, 0, 1, 0]
        lanes.hurry(waiting[3])  # once more does nothing
        nursery.cancel_scope.cancel()


async def test_who_stops_waiting_takes_no_place() -> None:
    """A cancelled request gives back what it had, granted or not."""
    lanes = Lanes(1, reserve=0, ahead_bytes_max=100)
    held = Place(1, is_ahead=False)
    await enter(lanes, held)
    for is_ahead in (True, False):
        with trio.move_on_after(0):
            await enter(lanes, Place(1, is_ahead=is_ahead))
    lanes.leave(held)

    with trio.fail_after(5):
        await enter(lanes, Place(1, is_ahead=True))
